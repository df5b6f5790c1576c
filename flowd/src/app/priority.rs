//! How threads share the processors.

#![expect(unsafe_code, reason = "the standard library sets no thread's priority")]

/// How much the thread that archives stands back (nice(7)): beside threads that receive it gets a
/// tenth of a processor, and all of one that nobody else wants.
const BACKGROUND_NICE: libc::c_int = 10;

/// Lets the calling thread, and those that it starts, run when those that receive do not want to: what waits for the archive
/// is safe in the ring, and what waits in a socket's buffer is soon lost.
pub(super) fn stand_back() {
    // SAFETY: a system call without pointers. On Linux 0 is the calling thread, not its process.
    // If it is refused, the thread goes on as it was.
    let _: libc::c_int = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, BACKGROUND_NICE) };
}
