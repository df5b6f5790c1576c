//! What became of sFlow samples: counted by the workers, read by any thread.

use super::SampleCounts;
use crate::telemetry::Counter;
use serde::{Deserialize, Serialize};

macro_rules! define_books {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counters of samples.
        #[derive(Debug, Default)]
        pub(crate) struct SampleBooks {
            $($name: Counter,)*
        }

        impl SampleBooks {
            /// Adds what a datagram's samples came to.
            pub(crate) fn count(&self, counts: &SampleCounts) {
                let SampleCounts { is_cut: _, sampling: _, $($name,)* } = *counts;
                $(if $name > 0 {
                    self.$name.add($name);
                })*
            }

            /// The counters as they stand.
            pub(crate) fn statistics(&self) -> SampleStatistics {
                let Self { $($name,)* } = self;
                SampleStatistics { $($name: $name.value(),)* }
            }
        }

        /// What became of sFlow samples: those that came are records, malformed or unknown.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct SampleStatistics {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl SampleStatistics {
            /// Adds the counters of a later run.
            pub(crate) fn add(&mut self, later: &Self) {
                let Self { $($name,)* } = *later;
                $(self.$name = self.$name.saturating_add($name);)*
            }
        }
    };
}

define_books! {
    /// Samples that came.
    samples,
    /// Records that they became.
    records,
    /// Samples that were dropped because they break the format.
    malformed,
    /// Samples of formats that are not read.
    unknown,
    /// Records within samples that are damaged; the sample became a record without them.
    parts_malformed,
    /// Records within samples whose format is not read, or which came twice in a sample.
    parts_unknown,
    /// Elements that a record had no room for.
    elements_over_limit,
    /// Samples that never came, by their sequence numbers; those that came late are among them.
    samples_lost,
    /// Samples that came after later ones.
    samples_late,
    /// Samples that came twice.
    samples_repeated,
    /// Sources that began their sequence anew.
    restarts,
    /// Samples of sources beyond those that are followed: what they lost is not known.
    untracked,
    /// Packets that agents should have sampled and did not, for want of resources.
    flow_drops,
    /// Discarded packets that agents did not tell of.
    discard_drops,
}
