//! A network namespace for one test: the thread's own, gone when the test ends.

#![expect(unsafe_code, reason = "std has no name for unshare(2)")]

use std::process::Command;

/// Runs a test in a fresh network namespace, with a way to call `ip` in it. Where that is not
/// allowed it says so and does not run.
pub(super) fn in_namespace(test: impl FnOnce(&dyn Fn(&str)) + Send + 'static) {
    let thread = std::thread::spawn(move || {
        // SAFETY: it takes no pointers, and changes this thread and its children only.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            println!("skipped: no network namespace: {}", std::io::Error::last_os_error());
            return;
        }
        test(&|arguments| {
            let output = Command::new("ip").args(arguments.split_whitespace()).output();
            let output = output.expect("ip, of iproute2");
            let words = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "ip {arguments}: {words}");
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}
