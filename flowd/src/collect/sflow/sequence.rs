//! Sample sequence numbers: each source counts its own flow samples, counter samples and
//! discarded packets.

use super::SampleCounts;
use crate::collect::sequence::{GAP_MAX, is_restart};
use crate::model::time::SysUptime;
use crate::wire::sflow::SourceId;
use std::collections::HashMap;

/// Streams that are followed, for one sub-agent: a chassis has some hundred interfaces, each of
/// which may send two.
const STREAM_COUNT_MAX: usize = 1_024;

/// What is counted by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum StreamKind {
    Flow,
    Counters,
    Discarded,
}

/// The sequences of one sub-agent.
#[derive(Debug, Default)]
pub(crate) struct SampleSequences {
    streams: HashMap<(StreamKind, SourceId), Stream>,
    uptime: Option<SysUptime>,
}

#[derive(Clone, Copy, Debug)]
struct Stream {
    /// What the next sample should bear.
    next: u32,
    /// Bit `i` is set if the sample `next - 1 - i` has come.
    recent: u64,
    /// Samples from the first one seen to `next`.
    span: u32,
    /// What the source has dropped so far, by its own count.
    drops: u32,
}

impl Stream {
    const fn begin(number: u32, drops: u32) -> Self {
        Self { next: number.wrapping_add(1), recent: 1, span: 1, drops }
    }
}

impl SampleSequences {
    /// How many sequences are followed.
    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }

    /// A datagram came: what an agent that restarted counts has nothing to do with what it
    /// counted before.
    pub(super) fn begin(&mut self, uptime: SysUptime) {
        if self.uptime.is_some_and(|last| is_restart(last, uptime)) {
            self.streams.clear();
        }
        let ahead = self.uptime.map_or(0, |last| uptime.0.wrapping_sub(last.0).cast_signed());
        if ahead >= 0 || self.streams.is_empty() {
            self.uptime = Some(uptime);
        }
    }

    /// A sample came. What it tells of loss is added to `counts`; the drops that come back are
    /// those since the source's last sample.
    pub(super) fn observe(
        &mut self,
        kind: StreamKind,
        source: SourceId,
        number: u32,
        drops: u32,
        counts: &mut SampleCounts,
    ) -> u64 {
        let key = (kind, source);
        let Some(stream) = self.streams.get_mut(&key) else {
            if self.streams.len() < STREAM_COUNT_MAX {
                self.streams.insert(key, Stream::begin(number, drops));
            } else {
                counts.untracked = counts.untracked.saturating_add(1);
            }
            return 0;
        };
        let ahead = number.wrapping_sub(stream.next).cast_signed();
        match ahead {
            0..=GAP_MAX => {
                let missing = ahead.unsigned_abs();
                counts.samples_lost = counts.samples_lost.saturating_add(u64::from(missing));
                // All bits leave the window if the jump is as wide as it.
                stream.recent = stream.recent.checked_shl(missing).unwrap_or(0) << 1 | 1;
                stream.span = stream.span.saturating_add(missing).saturating_add(1);
                stream.next = number.wrapping_add(1);
                let more = drops.wrapping_sub(stream.drops).cast_signed();
                stream.drops = drops;
                u64::try_from(more).unwrap_or(0)
            }
            -64..=-1 => {
                let behind = ahead.unsigned_abs();
                let bit = 1u64.checked_shl(behind.saturating_sub(1)).unwrap_or(0);
                let has_come = stream.recent & bit != 0;
                stream.recent |= bit;
                if has_come {
                    counts.samples_repeated = counts.samples_repeated.saturating_add(1);
                } else if behind <= stream.span {
                    // One from before the first that was seen was never missed.
                    counts.samples_late = counts.samples_late.saturating_add(1);
                }
                0
            }
            _ => {
                *stream = Stream::begin(number, drops);
                counts.restarts = counts.restarts.saturating_add(1);
                0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: SourceId = SourceId { class: 0, index: 3 };

    /// Lost, late, repeated, restarts, and drops, after samples of (number, drops so far).
    fn told(samples: &[(u32, u32)]) -> ([u64; 4], u64) {
        let mut sequences = SampleSequences::default();
        sequences.begin(SysUptime(0));
        let mut counts = SampleCounts::default();
        let mut sum = 0;
        for &(number, drops) in samples {
            sum += sequences.observe(StreamKind::Flow, SOURCE, number, drops, &mut counts);
        }
        let SampleCounts { samples_lost, samples_late, samples_repeated, restarts, .. } = counts;
        ([samples_lost, samples_late, samples_repeated, restarts], sum)
    }

    #[test]
    fn gaps_late_and_repeated_samples_are_told_apart() {
        assert_eq!(told(&[(7, 0), (8, 0), (9, 0)]).0, [0; 4]);
        assert_eq!(told(&[(7, 0), (10, 0), (8, 0), (8, 0), (10, 0)]).0, [2, 1, 2, 0]);
        assert_eq!(told(&[(u32::MAX, 0), (2, 0)]).0, [2, 0, 0, 0]);
        assert_eq!(told(&[(100, 0), (99, 0)]).0, [0; 4], "before the first nothing is missed");
        assert_eq!(told(&[(1_000, 0), (5, 0), (6, 0)]).0, [0, 0, 0, 1]);
        assert_eq!(told(&[(5, 0), (5 + (1 << 24), 0)]).0, [0, 0, 0, 1]);
        // An agent that does not count tells nothing of loss.
        assert_eq!(told(&[(0, 0), (0, 0), (0, 0)]).0, [0, 0, 2, 0]);
        // A jump as wide as the window, and wider.
        assert_eq!(told(&[(0, 0), (64, 0), (1, 0), (0, 0)]).0, [63, 1, 0, 1]);
        assert_eq!(told(&[(0, 0), (200, 0), (190, 0)]).0, [199, 1, 0, 0]);
    }

    #[test]
    fn drops_are_those_since_the_last_sample() {
        assert_eq!(told(&[(1, 500), (2, 500), (3, 507), (2, 500), (4, 508)]).1, 8);
        assert_eq!(told(&[(1, u32::MAX), (2, 1)]).1, 2);
        assert_eq!(told(&[(1, 500), (2, 3), (3, 5)]).1, 2, "began anew");
    }

    #[test]
    fn an_agent_that_restarts_has_lost_nothing() {
        let mut sequences = SampleSequences::default();
        let mut counts = SampleCounts::default();
        for (uptime, number) in [(90_000, 50), (85_000, 51), (100, 60), (200, 61), (150, 62)] {
            sequences.begin(SysUptime(uptime));
            sequences.observe(StreamKind::Flow, SOURCE, number, 0, &mut counts);
        }
        assert_eq!((counts.samples_lost, counts.restarts), (0, 0));
        sequences.begin(SysUptime(300));
        sequences.observe(StreamKind::Flow, SOURCE, 65, 0, &mut counts);
        assert_eq!(counts.samples_lost, 2);
    }

    #[test]
    fn each_source_and_kind_counts_by_itself_up_to_a_limit() {
        let mut sequences = SampleSequences::default();
        let mut counts = SampleCounts::default();
        for index in 0..2_000 {
            for kind in [StreamKind::Flow, StreamKind::Counters, StreamKind::Discarded] {
                sequences.observe(kind, SourceId { class: 0, index }, index, 0, &mut counts);
            }
        }
        assert_eq!(sequences.streams.len(), STREAM_COUNT_MAX);
        assert_eq!(counts.untracked, 6_000 - 1_024);
        assert_eq!(counts.samples_lost, 0);
    }
}
