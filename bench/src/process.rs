//! Programs that are started, looked at and ended.

#![expect(unsafe_code, reason = "the standard library sends no signal but SIGKILL")]

use anyhow::{Context, Result, ensure};
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// The flowd that was built beside the running program.
///
/// # Errors
/// If there is none.
pub fn flowd() -> Result<PathBuf> {
    let program = std::env::current_exe().context("find this program")?.with_file_name("flowd");
    ensure!(program.exists(), "there is no {}: cargo build --release -p flowd", program.display());
    Ok(program)
}

/// Sends a signal to a child that was not waited for yet.
///
/// # Errors
/// If it cannot be sent.
pub fn signal(child: &Child, signal: libc::c_int) -> Result<()> {
    let id = libc::pid_t::try_from(child.id()).context("a process id")?;
    // SAFETY: a system call without pointers.
    let outcome = unsafe { libc::kill(id, signal) };
    ensure!(outcome == 0, "send a signal: {}", io::Error::last_os_error());
    Ok(())
}

/// What a program prints that ends well, or with 1, which is how flowd says that nothing was
/// found.
///
/// # Errors
/// If it cannot be started or fails; then what it said on stderr.
pub fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.stdin(Stdio::null()).output().context("start a program")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let is_answer = matches!(output.status.code(), Some(0 | 1));
    ensure!(is_answer, "{:?}: {}: {said}", command, output.status);
    Ok(output.stdout)
}
