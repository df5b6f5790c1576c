//! Control sockets: how other processes ask a running one. One line in, one JSON object out, then
//! the connection ends.

use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A request is a word; what is longer is no request of ours.
const REQUEST_SIZE_MAX: u64 = 256;
/// A client that says nothing for this long holds up the next one no longer.
const PATIENCE: Duration = Duration::from_secs(1);

/// The socket's path by way of its directory's descriptor: a socket address holds 108 octets
/// (unix(7)), a path may be longer.
fn short_path(socket: &Path) -> io::Result<(File, PathBuf)> {
    let name = socket.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let directory = match socket.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?,
        _ => File::open(".")?,
    };
    let path = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    Ok((directory, path))
}

/// Answers requests at `socket` on a thread of its own until the process ends. What an earlier
/// process left there is taken over.
pub(super) fn serve<F>(socket: &Path, answer: F) -> Result<()>
where
    F: Fn(&str) -> Option<String> + Send + 'static,
{
    let make = || format!("make {}", socket.display());
    let (directory, path) = short_path(socket).with_context(make)?;
    remove(socket);
    let listener = UnixListener::bind(&path).with_context(make)?;
    drop(directory);
    std::thread::Builder::new()
        .name("control".into())
        .spawn(move || {
            for connection in listener.incoming().flatten() {
                // A client that went away has no use for the error.
                drop(reply(&connection, &answer));
            }
        })
        .context("start the control thread")?;
    Ok(())
}

/// Takes the socket away: nobody answers there any more.
pub(super) fn remove(socket: &Path) {
    // It may not be there.
    drop(fs::remove_file(socket));
}

fn reply(connection: &UnixStream, answer: &dyn Fn(&str) -> Option<String>) -> io::Result<()> {
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    let mut request = String::new();
    BufReader::new(connection.take(REQUEST_SIZE_MAX)).read_line(&mut request)?;
    let text = answer(request.trim()).unwrap_or_else(|| r#"{"error":"unknown request"}"#.into());
    let mut out = connection;
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")
}

/// Asks the process that answers at `socket`.
///
/// # Errors
/// If there is no such socket, nobody answers there, or it may not be used.
pub(super) fn ask(socket: &Path, request: &str) -> io::Result<String> {
    let (_directory, path) = short_path(socket)?;
    let mut connection = UnixStream::connect(path)?;
    connection.set_read_timeout(Some(5 * PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    writeln!(connection, "{request}")?;
    let mut text = String::new();
    connection.read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_answered_and_an_unknown_one_refused() {
        let folder = tempfile::tempdir().unwrap();
        let long = folder.path().join("d".repeat(120));
        fs::create_dir(&long).unwrap();
        let socket = long.join("control.sock");
        serve(&socket, |request| (request == "info").then(|| "{}".to_owned())).unwrap();
        assert_eq!(ask(&socket, "info").unwrap(), "{}\n");
        assert!(ask(&socket, "dance").unwrap().contains("unknown request"));
        remove(&socket);
        assert_eq!(ask(&socket, "info").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_an_earlier_process_left_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("control.sock");
        drop(UnixListener::bind(&socket).unwrap());
        assert_eq!(ask(&socket, "info").unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        serve(&socket, |_| Some("{}".to_owned())).unwrap();
        assert_eq!(ask(&socket, "info").unwrap(), "{}\n");
    }
}
