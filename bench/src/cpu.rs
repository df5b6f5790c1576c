//! CPU time, which other work on the machine lengthens far less than the time by the clock.

#![expect(unsafe_code, reason = "clocks that std has no name for")]

use std::time::Duration;

/// What the calling thread has used, in the kernel and outside.
#[must_use]
pub fn of_thread() -> Duration {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// What all threads of the process have used.
#[must_use]
pub fn of_process() -> Duration {
    read(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn read(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that lives longer than the call.
    let status = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert_eq!(status, 0, "Linux has these clocks");
    let nanos = u32::try_from(time.tv_nsec).expect("below a second");
    Duration::new(time.tv_sec.cast_unsigned(), nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_cpu_time() {
        let before = (of_thread(), of_process());
        let mut sum = 0_u64;
        while of_thread() == before.0 {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(of_process() > before.1, "{sum} additions took none");
    }
}
