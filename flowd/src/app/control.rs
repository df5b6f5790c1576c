//! STORE/control.sock: how other processes ask a running collector. One line in, one JSON object
//! out, then the connection ends.

use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

const SOCKET_NAME: &str = "control.sock";
/// A request is a word; what is longer is no request of ours.
const REQUEST_SIZE_MAX: u64 = 256;
/// A client that says nothing for this long holds up the next one no longer.
const PATIENCE: Duration = Duration::from_secs(1);

/// The socket's path by way of the directory's descriptor: a socket address holds 108 octets
/// (unix(7)), a store's path may be longer.
fn socket_path(store: &Path) -> io::Result<(File, PathBuf)> {
    let directory = File::open(store)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET_NAME}", directory.as_raw_fd()));
    Ok((directory, path))
}

/// Answers requests on a thread of its own until the process ends.
pub(super) fn serve<F>(store: &Path, answer: F) -> Result<()>
where
    F: Fn(&str) -> Option<String> + Send + 'static,
{
    let (directory, path) = socket_path(store).context("open the store's directory")?;
    remove(store);
    let listener = UnixListener::bind(&path)
        .with_context(|| format!("make {}", store.join(SOCKET_NAME).display()))?;
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
pub(super) fn remove(store: &Path) {
    // It may not be there.
    drop(fs::remove_file(store.join(SOCKET_NAME)));
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

/// Asks the collector that runs on a store; none if nobody answers.
pub(super) fn ask(store: &Path, request: &str) -> Option<String> {
    let (_directory, path) = socket_path(store).ok()?;
    let mut connection = UnixStream::connect(path).ok()?;
    connection.set_read_timeout(Some(5 * PATIENCE)).ok()?;
    writeln!(connection, "{request}").ok()?;
    let mut text = String::new();
    connection.read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_answered_and_an_unknown_one_refused() {
        let store = tempfile::tempdir().unwrap();
        let long = store.path().join("d".repeat(120));
        fs::create_dir(&long).unwrap();
        serve(&long, |request| (request == "info").then(|| "{}".to_owned())).unwrap();
        assert_eq!(ask(&long, "info").as_deref(), Some("{}\n"));
        assert!(ask(&long, "dance").unwrap().contains("unknown request"));
        remove(&long);
        assert_eq!(ask(&long, "info"), None);
    }
}
