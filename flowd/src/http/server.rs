//! The server: an address, a thread, two pages.

use super::connection::Clients;
use super::exposition::CONTENT_TYPE;
use super::metrics::{Figures, Page};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long the end waits for clients that are being answered.
const GRACE: Duration = Duration::from_secs(1);

/// Where the answers come from.
pub trait Source: Send + Sync + 'static {
    /// All counters as they stand.
    fn figures(&self) -> Figures;
    /// Does it do its work?
    fn is_well(&self) -> bool;
}

/// Why HTTP cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// Another process has the port.
    #[error(
        "http://{0} is in use: stop the process that has it \
         (`ss -tlpn 'sport = :{port}'` names it) or choose another port",
        port = .0.port()
    )]
    InUse(SocketAddr),
    /// No network of this machine has the address.
    #[error("http://{0} is no address of this machine: `ip address` lists those it has")]
    NoSuchAddress(SocketAddr),
    /// The port is one that only root may have.
    #[error("http://{0} may not be served by this user: choose a port from 1024 on")]
    NotAllowed(SocketAddr),
    /// The system refused something else.
    #[error(
        "http://{address} cannot be served ({source}): choose an address that `ip address` \
         lists; too many open files need a higher `ulimit -n`"
    )]
    System {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

impl HttpError {
    fn new(address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse(address),
            io::ErrorKind::AddrNotAvailable => Self::NoSuchAddress(address),
            io::ErrorKind::PermissionDenied => Self::NotAllowed(address),
            _ => Self::System { address, source },
        }
    }
}

/// An address that is listened at; once started, a thread that answers there.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    listener: Option<TcpListener>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Server {
    /// Takes the address. Whoever asks before [`Server::start`] waits.
    ///
    /// # Errors
    /// If it cannot be listened at.
    pub fn bind(address: SocketAddr) -> Result<Self, HttpError> {
        let bound = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        });
        let (address, listener) = bound.map_err(|error| HttpError::new(address, error))?;
        Ok(Self { address, listener: Some(listener), running: None })
    }

    /// Where it listens; the port is the one that it got.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers on a thread of its own until the server is dropped.
    ///
    /// # Errors
    /// If the system gives no thread or no way to wait for sockets.
    pub fn start(&mut self, source: Arc<dyn Source>) -> Result<(), HttpError> {
        let Some(listener) = self.listener.take() else {
            return Ok(());
        };
        let fail = |error| HttpError::new(self.address, error);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(fail)?;
        let listener = {
            let _in_runtime = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(fail)?
        };
        let (stop, stopped) = oneshot::channel();
        let work = move || {
            runtime.block_on(serve(Clients::new(listener), router(source), stopped));
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("http".into()).spawn(work).map_err(fail)?;
        self.running = Some((stop, thread));
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            // Both fail only if the thread has ended.
            stop.send(()).ok();
            drop(thread.join());
        }
    }
}

async fn serve(clients: Clients, router: Router, stopped: oneshot::Receiver<()>) {
    let (ending, ended) = oneshot::channel();
    let signal = async move {
        drop(stopped.await);
        ending.send(()).ok();
    };
    let server = axum::serve(clients, router).with_graceful_shutdown(signal);
    let grace = async move {
        drop(ended.await);
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        _ = server => {}
        () = grace => {}
    }
}

/// What the pages need.
struct Answers {
    source: Arc<dyn Source>,
    page: Mutex<Page>,
}

fn router(source: Arc<dyn Source>) -> Router {
    let answers = Arc::new(Answers { source, page: Mutex::default() });
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .fallback(nothing_here)
        .with_state(answers)
}

async fn metrics(State(answers): State<Arc<Answers>>) -> impl IntoResponse {
    let figures = answers.source.figures();
    // A thread that panicked left a list of exporters behind, which is as good as ever.
    let mut page = answers.page.lock().unwrap_or_else(PoisonError::into_inner);
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], page.write(&figures))
}

async fn health(State(answers): State<Arc<Answers>>) -> impl IntoResponse {
    if answers.source.is_well() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "ending\n")
    }
}

async fn nothing_here() -> impl IntoResponse {
    (StatusCode::NOT_FOUND, "nothing here; there are /metrics and /healthz\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Flag;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    #[derive(Default)]
    struct Fixed {
        is_ill: Flag,
    }

    impl Source for Fixed {
        fn figures(&self) -> Figures {
            Figures::default()
        }
        fn is_well(&self) -> bool {
            !self.is_ill.is_raised()
        }
    }

    fn ask(address: SocketAddr, request: &str) -> String {
        let mut connection = TcpStream::connect(address).unwrap();
        write!(connection, "{request}\r\nHost: flowd\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn pages_are_answered_and_others_named() {
        let source = Arc::new(Fixed::default());
        let mut server = Server::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        server.start(Arc::clone(&source) as Arc<dyn Source>).unwrap();
        let address = server.address();
        let metrics = ask(address, "GET /metrics HTTP/1.1");
        assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
        assert!(metrics.contains("text/plain; version=0.0.4"), "{metrics}");
        assert!(metrics.contains("\nflowd_collect_received_messages_total 0\n"), "{metrics}");
        assert!(ask(address, "GET /healthz HTTP/1.1").ends_with("\r\n\r\nok\n"));
        source.is_ill.raise();
        assert!(ask(address, "GET /healthz HTTP/1.1").starts_with("HTTP/1.1 503"));
        assert!(ask(address, "GET / HTTP/1.1").starts_with("HTTP/1.1 404"));
        assert!(ask(address, "POST /metrics HTTP/1.1").starts_with("HTTP/1.1 405"));
        assert!(ask(address, "no http").starts_with("HTTP/1.1 400"));
        // One that only waits holds the end up for no longer than the grace.
        let _waiting = TcpStream::connect(address).unwrap();
        drop(server);
        assert!(TcpStream::connect(address).is_err());
    }

    #[test]
    fn a_port_in_use_is_refused_in_words() {
        let first = Server::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = Server::bind(first.address()).unwrap_err();
        assert!(error.to_string().contains("ss -tlpn"), "{error}");
        let error = Server::bind("192.0.2.77:9100".parse().unwrap()).unwrap_err();
        assert!(matches!(error, HttpError::NoSuchAddress(_)), "{error}");
    }
}
