//! Sequence numbers: what came, what is missing, what came late or twice.
//!
//! Each protocol counts something else: NetFlow v9 and sFlow count messages, NetFlow v5 and v7
//! flows, IPFIX Data Records, sFlow's sources samples. All bear the number of the first unit of
//! the message and go on by its units, modulo 2^32.

use super::standing::Standing;
use crate::model::time::{SysUptime, UnixMillis};

/// A jump ahead by more than this is no loss but a sequence that began anew.
pub(super) const GAP_MAX: i32 = 1 << 20;
/// Nor is one by more than this after any absence: a sequence that begins anew at 0 seems to be
/// ahead of one that has passed the middle.
const ABSENT_GAP_MAX: i32 = 1 << 30;
/// How far back the exporter's uptime may lie without a restart: messages overtake one another.
const UPTIME_BACK_MILLIS_MAX: i32 = 10_000;
/// How far back a number may lie that is no restart: so many messages of the size at hand.
const LATE_MESSAGES_MAX: u32 = 64;
/// Gaps that are remembered; what comes late for an older one counts as a repeat.
const GAP_COUNT_MAX: usize = 16;

/// Was the exporter booted between these two uptimes?
pub(super) const fn is_restart(before: SysUptime, now: SysUptime) -> bool {
    let ahead = now.0.wrapping_sub(before.0).cast_signed();
    ahead < UPTIME_BACK_MILLIS_MAX.wrapping_neg()
}

/// What a sequence number tells of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    InOrder,
    /// So many units before it have not come.
    Gap(u32),
    /// So many units were missing until now.
    Late(u32),
    Repeated,
    /// The exporter began its sequence anew.
    Restarted,
}

/// Units that have not come.
#[derive(Clone, Copy, Debug, Default)]
struct Missing {
    first: u32,
    count: u32,
}

/// The sequence of one session.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sequence {
    /// What the next message should bear; none while that is not known.
    next: Option<u32>,
    /// Units from the first one seen to `next`.
    span: u32,
    missing: [Missing; GAP_COUNT_MAX],
    /// Where the next gap is noted.
    cursor: usize,
    sys_uptime: Option<SysUptime>,
    /// A larger jump than usual is loss for once: nobody listened for a while.
    absent_gap_max: i32,
}

impl Sequence {
    /// A sequence of an earlier collector, of which nothing was heard for a while. No exporter
    /// sends more than [`GAP_MAX`] units in a second.
    pub(super) fn resume(standing: &Standing, absent_millis: i64) -> Self {
        let seconds = i32::try_from(absent_millis / 1_000).unwrap_or(i32::MAX);
        Self {
            next: Some(standing.next),
            span: standing.span,
            sys_uptime: standing.sys_uptime,
            absent_gap_max: GAP_MAX.saturating_mul(seconds).min(ABSENT_GAP_MAX),
            ..Self::default()
        }
    }

    /// Where it stands, if that is known.
    pub(super) fn standing(
        &self,
        heard: UnixMillis,
        is_established: bool,
        booted: Option<UnixMillis>,
    ) -> Option<Standing> {
        let Self { next, span, sys_uptime, .. } = *self;
        next.map(|next| Standing { next, span, sys_uptime, heard, is_established, booted })
    }

    /// Takes note of a message: its number, how many units it has if that is known, and the
    /// exporter's uptime if the protocol tells it.
    pub(super) fn observe(
        &mut self,
        number: u32,
        units: Option<u32>,
        sys_uptime: Option<SysUptime>,
    ) -> Arrival {
        let Some(next) = self.next else {
            self.begin(number, units, sys_uptime);
            return Arrival::InOrder;
        };
        let ahead = number.wrapping_sub(next).cast_signed();
        if ahead != 0 && self.booted_anew(sys_uptime) {
            self.begin(number, units, sys_uptime);
            return Arrival::Restarted;
        }
        let gap_max = GAP_MAX.max(std::mem::take(&mut self.absent_gap_max));
        if (0..=gap_max).contains(&ahead) {
            let missing = ahead.unsigned_abs();
            self.note_gap(next, missing);
            self.go_on(number, units, missing);
            self.sys_uptime = sys_uptime;
            return if missing == 0 { Arrival::InOrder } else { Arrival::Gap(missing) };
        }
        let behind = next.wrapping_sub(number);
        let known_units = units.unwrap_or(0);
        if let Some(found) = self.fill_gap(number, known_units.max(1)) {
            return Arrival::Late(found);
        }
        // An exporter that tells no uptime begins anew at 0.
        let is_first = number == 0 && sys_uptime.is_none();
        if is_first || behind > LATE_MESSAGES_MAX.saturating_mul(known_units.max(1)) {
            self.begin(number, units, sys_uptime);
            return Arrival::Restarted;
        }
        // What lies before the first message seen overtook nothing that was counted.
        if behind > self.span { Arrival::InOrder } else { Arrival::Repeated }
    }

    fn booted_anew(&self, sys_uptime: Option<SysUptime>) -> bool {
        self.sys_uptime.zip(sys_uptime).is_some_and(|(before, now)| is_restart(before, now))
    }

    fn begin(&mut self, number: u32, units: Option<u32>, sys_uptime: Option<SysUptime>) {
        *self = Self { sys_uptime, ..Self::default() };
        self.go_on(number, units, 0);
    }

    fn go_on(&mut self, number: u32, units: Option<u32>, missing: u32) {
        self.next = units.map(|units| number.wrapping_add(units));
        self.span = self.span.saturating_add(missing).saturating_add(units.unwrap_or(0));
    }

    fn note_gap(&mut self, first: u32, count: u32) {
        if count == 0 {
            return;
        }
        if let Some(slot) = self.missing.get_mut(self.cursor) {
            *slot = Missing { first, count };
        }
        self.cursor = self.cursor.saturating_add(1) % GAP_COUNT_MAX;
    }

    /// Takes the units from `number` on out of the gap that they are missing in, if they are.
    fn fill_gap(&mut self, number: u32, units: u32) -> Option<u32> {
        let gap = self.missing.iter_mut().find(|gap| number.wrapping_sub(gap.first) < gap.count)?;
        let before = number.wrapping_sub(gap.first);
        let found = units.min(gap.count.saturating_sub(before));
        let after = gap.count.saturating_sub(before).saturating_sub(found);
        gap.count = before;
        self.note_gap(number.wrapping_add(found), after);
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Observes (sequence, uptime) pairs of single messages after a first one of sequence 100 at
    /// uptime 50 s.
    fn arrivals(messages: &[(u32, u32)]) -> Vec<Arrival> {
        let mut sequence = Sequence::default();
        sequence.observe(100, Some(1), Some(SysUptime(50_000)));
        messages
            .iter()
            .map(|&(number, uptime)| sequence.observe(number, Some(1), Some(SysUptime(uptime))))
            .collect()
    }

    #[test]
    fn a_gap_is_loss_until_the_late_ones_come() {
        use Arrival::*;
        assert_eq!(
            arrivals(&[
                (101, 51_000),
                (105, 52_000),
                (103, 51_500),
                (103, 51_500),
                (104, 51_500),
                (102, 51_500),
                (105, 52_000),
                (106, 53_000),
            ]),
            [InOrder, Gap(3), Late(1), Repeated, Late(1), Late(1), Repeated, InOrder]
        );
    }

    #[test]
    fn units_are_counted_where_messages_have_several() {
        use Arrival::*;
        let mut sequence = Sequence::default();
        let mut observe = |number, units| sequence.observe(number, Some(units), None);
        assert_eq!(observe(1_000, 30), InOrder);
        assert_eq!(observe(1_030, 30), InOrder);
        assert_eq!(observe(1_120, 30), Gap(60));
        assert_eq!(observe(1_090, 30), Late(30));
        assert_eq!(observe(1_060, 30), Late(30));
        assert_eq!(observe(1_060, 30), Repeated);
        assert_eq!(observe(1_150, 10), InOrder);
        assert_eq!(observe(0, 30), Restarted);
        assert_eq!(observe(30, 30), InOrder);
    }

    #[test]
    fn a_message_of_unknown_units_is_no_reason_to_count_a_gap() {
        use Arrival::*;
        let mut sequence = Sequence::default();
        assert_eq!(sequence.observe(100, Some(10), None), InOrder);
        assert_eq!(sequence.observe(110, None, None), InOrder);
        assert_eq!(sequence.observe(500, Some(10), None), InOrder);
        assert_eq!(sequence.observe(511, Some(10), None), Gap(1));
    }

    #[test]
    fn messages_without_units_stand_where_the_next_one_does() {
        use Arrival::*;
        let mut sequence = Sequence::default();
        for (number, units) in [(100, 0), (100, 10), (110, 0), (110, 5)] {
            assert_eq!(sequence.observe(number, Some(units), None), InOrder);
        }
    }

    #[test]
    fn a_wrapped_sequence_and_a_wrapped_uptime_are_no_restart() {
        let mut sequence = Sequence::default();
        let mut observe =
            |number, uptime| sequence.observe(number, Some(1), Some(SysUptime(uptime)));
        assert_eq!(observe(u32::MAX, u32::MAX - 10), Arrival::InOrder);
        assert_eq!(observe(0, 5), Arrival::InOrder);
        assert_eq!(observe(3, 1_000), Arrival::Gap(2));
    }

    #[test]
    fn a_restart_is_no_loss() {
        use Arrival::*;
        // Uptime begins anew: near sequence numbers are no reordering either.
        assert_eq!(arrivals(&[(90, 100), (91, 200)]), [Restarted, InOrder]);
        // An exporter whose uptime tells nothing, far back and far ahead.
        assert_eq!(
            arrivals(&[(1, 50_000), (2, 50_000), (50_000_000, 50_000)]),
            [Restarted, InOrder, Restarted]
        );
        // A restart that goes on with its sequence has lost nothing.
        assert_eq!(arrivals(&[(101, 100)]), [InOrder]);
    }

    #[test]
    fn messages_before_the_first_were_never_missed() {
        assert_eq!(arrivals(&[(99, 49_900), (100, 50_000)]), [Arrival::InOrder, Arrival::Repeated]);
    }
}
