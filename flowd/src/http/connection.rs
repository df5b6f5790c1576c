//! Connections of clients: limited in number, and in how long one may say or take nothing.

use axum::serve::Listener;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

/// Clients at once. The next ones wait in the kernel.
pub(super) const CONNECTION_COUNT_MAX: usize = 64;
/// How long a client may take until an answer has begun, and until it takes more of one: so long
/// can silent ones keep others waiting, a health probe among them.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait after the system had no connection to give: no file, no memory.
const PAUSE: Duration = Duration::from_millis(500);

/// A listener that takes no more than [`CONNECTION_COUNT_MAX`] clients at once.
#[derive(Debug)]
pub(super) struct Clients {
    listener: TcpListener,
    places: Arc<Semaphore>,
    patience: Duration,
}

impl Clients {
    pub(super) fn new(listener: TcpListener) -> Self {
        let places = Arc::new(Semaphore::new(CONNECTION_COUNT_MAX));
        Self { listener, places, patience: PATIENCE }
    }
}

impl Listener for Clients {
    type Io = Client;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Client, SocketAddr) {
        loop {
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
                // Nobody closes the semaphore.
                sleep(PAUSE).await;
                continue;
            };
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    return (Client::new(stream, place, self.patience), address);
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A client's connection. It ends when the client has neither been answered nor taken any of an
/// answer for so long.
#[derive(Debug)]
pub(super) struct Client {
    stream: TcpStream,
    patience: Duration,
    deadline: Pin<Box<Sleep>>,
    /// Given back when the connection ends.
    _place: OwnedSemaphorePermit,
}

impl Client {
    fn new(stream: TcpStream, place: OwnedSemaphorePermit, patience: Duration) -> Self {
        Self { stream, patience, deadline: Box::pin(sleep(patience)), _place: place }
    }

    /// What came of reading or writing; an error once it has not been possible for too long.
    fn within_patience<T>(
        &mut self,
        outcome: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_pending() && self.deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        outcome
    }
}

impl AsyncRead for Client {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.within_patience(outcome, context)
    }
}

impl AsyncWrite for Client {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, octets);
        if outcome.is_ready() {
            self.deadline = Box::pin(sleep(self.patience));
        }
        self.within_patience(outcome, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn a_client_that_says_too_little_is_waited_for_no_longer() {
        runtime().block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let patience = Duration::from_millis(1);
            let mut clients = Clients { patience, ..Clients::new(listener) };
            let _silent = std::net::TcpStream::connect(address).unwrap();
            let (mut client, _) = clients.accept().await;
            let mut octets = [0; 8];
            let mut buffer = ReadBuf::new(&mut octets);
            let read =
                |context: &mut Context<'_>| Pin::new(&mut client).poll_read(context, &mut buffer);
            let error = poll_fn(read).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        });
    }

    #[test]
    fn no_more_clients_are_taken_than_there_are_places() {
        runtime().block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let mut clients = Clients::new(listener);
            let mut held = Vec::new();
            let _connections: Vec<_> = (0..=CONNECTION_COUNT_MAX)
                .map(|_| std::net::TcpStream::connect(address).unwrap())
                .collect();
            for _ in 0..CONNECTION_COUNT_MAX {
                held.push(clients.accept().await);
            }
            assert_eq!(clients.places.available_permits(), 0);
            held.pop();
            clients.accept().await;
        });
    }
}
