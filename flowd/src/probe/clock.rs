//! clock: the boot clock, by which the kernel programs count, and its distance from UTC.

#![expect(unsafe_code, reason = "clock_gettime, of which std offers other clocks only")]

/// The distance is read this often, and the reading that took least time is the best.
const READINGS: usize = 3;
const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// A moment by the boot clock, and what is to be added for Unix time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Nanoseconds since the system was booted, sleep included.
    pub(super) boot_nanos: i64,
    /// Unix time less boot clock, in nanoseconds.
    pub(super) offset_nanos: i64,
}

/// Reads both clocks. The distance changes when the system's time is set.
pub(super) fn now() -> Moment {
    let mut least_width = i64::MAX;
    let mut moment = Moment { boot_nanos: 0, offset_nanos: 0 };
    for _ in 0..READINGS {
        let before = read(libc::CLOCK_BOOTTIME);
        let unix = read(libc::CLOCK_REALTIME);
        let after = read(libc::CLOCK_BOOTTIME);
        let width = after - before;
        if width < least_width {
            least_width = width;
            let middle = before + width / 2;
            moment = Moment { boot_nanos: before, offset_nanos: unix - middle };
        }
    }
    moment
}

fn read(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of ours, which outlives the call.
    let outcome = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert_eq!(outcome, 0, "Linux has had both clocks since 2.6.39");
    time.tv_sec * NANOS_PER_SECOND + time.tv_nsec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_make_the_present() {
        let Moment { boot_nanos, offset_nanos } = now();
        let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let unix = i64::try_from(unix.as_nanos()).unwrap();
        assert!((unix - boot_nanos - offset_nanos).abs() < NANOS_PER_SECOND);
        assert!(now().boot_nanos >= boot_nanos);
    }
}
