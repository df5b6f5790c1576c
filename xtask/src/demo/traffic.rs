//! Traffic between two hosts: TCP, UDP and ICMP over IPv4 and IPv6, in both directions, through
//! real sockets.

use crate::interrupt;
use crate::netns::{self, Namespace};
use anyhow::{Context, Result, ensure};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

/// Nothing is lost between the two; who waits longer waits for ever.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often servers look whether there is more to do.
const POLL: Duration = Duration::from_millis(1);

/// One of the two, and its addresses.
pub(super) struct Host<'a> {
    pub(super) namespace: &'a Namespace,
    pub(super) ipv4: Ipv4Addr,
    pub(super) ipv6: Ipv6Addr,
}

impl Host<'_> {
    fn addresses(&self) -> [IpAddr; 2] {
        [self.ipv4.into(), self.ipv6.into()]
    }
}

/// Questions of one kind that one host asks the other.
struct Talk {
    port: u16,
    exchanges: u16,
    question_octets: u32,
    answer_octets: u32,
}

const WEB: Talk = Talk { port: 443, exchanges: 30, question_octets: 400, answer_octets: 60_000 };
const UPLOAD: Talk = Talk { port: 22, exchanges: 10, question_octets: 30_000, answer_octets: 200 };
const NAMES: Talk = Talk { port: 53, exchanges: 600, question_octets: 44, answer_octets: 120 };
const CLOCK: Talk = Talk { port: 123, exchanges: 200, question_octets: 48, answer_octets: 48 };
const ECHOES: Talk = Talk { port: 0, exchanges: 150, question_octets: 56, answer_octets: 56 };
/// No one listens there: the answer is an ICMP error.
const CLOSED: Talk = Talk { port: 9, exchanges: 5, question_octets: 20, answer_octets: 0 };

/// Lets the two talk to one another until all is said.
pub(super) fn make(left: &Host<'_>, right: &Host<'_>) -> Result<()> {
    println!(
        "\ntraffic over IPv4 and IPv6: {} TCP connections, {} UDP exchanges, {} echoes, {} \
         datagrams to a closed port",
        2 * (WEB.exchanges + UPLOAD.exchanges),
        2 * (NAMES.exchanges + CLOCK.exchanges),
        2 * 2 * ECHOES.exchanges,
        2 * CLOSED.exchanges,
    );
    for (client, server, talks) in [(left, right, [WEB, NAMES]), (right, left, [UPLOAD, CLOCK])] {
        let [streams, datagrams] = talks;
        for (from, to) in client.addresses().into_iter().zip(server.addresses()) {
            interrupt::check()?;
            talk_streams(client.namespace, server.namespace, to, &streams)?;
            talk_datagrams(client.namespace, server.namespace, to, &datagrams)?;
            client.namespace.enter(|| echo(from, to, ECHOES.exchanges))??;
        }
    }
    for to in right.addresses() {
        left.namespace.enter(|| knock(to, &CLOSED))??;
    }
    Ok(())
}

fn talk_streams(client: &Namespace, server: &Namespace, to: IpAddr, talk: &Talk) -> Result<()> {
    let listener = server.enter(|| TcpListener::bind((to, talk.port)))??;
    listener.set_nonblocking(true)?;
    serve(
        |done| {
            while let Some((mut stream, _)) = next(done, || listener.accept())? {
                stream.set_nonblocking(false)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                take(&mut stream, talk.question_octets)?;
                stream.write_all(&filled(talk.answer_octets))?;
            }
            Ok(())
        },
        || {
            client.enter(|| -> Result<()> {
                for _ in 0..talk.exchanges {
                    interrupt::check()?;
                    let address = SocketAddr::new(to, talk.port);
                    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
                    stream.set_read_timeout(Some(PATIENCE))?;
                    stream.write_all(&filled(talk.question_octets))?;
                    take(&mut stream, talk.answer_octets)?;
                }
                Ok(())
            })?
        },
    )
    .with_context(|| format!("TCP to {to} port {}", talk.port))
}

fn talk_datagrams(client: &Namespace, server: &Namespace, to: IpAddr, talk: &Talk) -> Result<()> {
    let socket = server.enter(|| UdpSocket::bind((to, talk.port)))??;
    socket.set_nonblocking(true)?;
    serve(
        |done| {
            let mut question = [0; 512];
            while let Some((_, from)) = next(done, || socket.recv_from(&mut question))? {
                socket.send_to(&filled(talk.answer_octets), from)?;
            }
            Ok(())
        },
        || {
            client.enter(|| -> Result<()> {
                let mut answer = [0; 512];
                for _ in 0..talk.exchanges {
                    interrupt::check()?;
                    // A port of its own each time, as resolvers do: a flow of its own.
                    let socket = UdpSocket::bind((any(to), 0))?;
                    socket.set_read_timeout(Some(PATIENCE))?;
                    socket.connect((to, talk.port))?;
                    socket.send(&filled(talk.question_octets))?;
                    socket.recv(&mut answer)?;
                }
                Ok(())
            })?
        },
    )
    .with_context(|| format!("UDP to {to} port {}", talk.port))
}

/// ICMP echo: the other host's kernel answers.
fn echo(from: IpAddr, to: IpAddr, count: u16) -> Result<()> {
    let (request, reply) = if to.is_ipv6() { (128, 129) } else { (8, 0) };
    let socket = netns::icmp_socket(to.is_ipv6()).context("a raw socket")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    for sequence in 1..=count {
        interrupt::check()?;
        let message = echo_message(request, from, sequence);
        socket.send_to(&message, (to, 0)).with_context(|| format!("an echo to {to}"))?;
        // The socket hears of all messages of the protocol, over IPv4 with the IP header.
        let mut heard = [0; 256];
        loop {
            let size = socket.recv(&mut heard).with_context(|| format!("{to} echoes nothing"))?;
            let start = if to.is_ipv6() { 0 } else { usize::from(heard[0] & 0x0f) * 4 };
            let message_heard = heard.get(start..size).unwrap_or_default();
            if message_heard.first() == Some(&reply) && message_heard.get(4..) == message.get(4..) {
                break;
            }
        }
    }
    Ok(())
}

/// RFC 792 and RFC 4443 section 4.1. The kernel fills in the checksum of ICMPv6.
fn echo_message(message_type: u8, from: IpAddr, sequence: u16) -> Vec<u8> {
    let mut message = vec![message_type, 0, 0, 0];
    message.extend((std::process::id() as u16).to_be_bytes());
    message.extend(sequence.to_be_bytes());
    message.extend(filled(ECHOES.question_octets));
    if from.is_ipv4() {
        let checksum = checksum(&message);
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
    }
    message
}

/// RFC 1071, of an even number of octets.
fn checksum(octets: &[u8]) -> u16 {
    let words = octets.chunks_exact(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !(((sum & 0xffff) + (sum >> 16)) as u16)
}

/// Sends to a port where no one listens, and takes the refusal.
fn knock(to: IpAddr, talk: &Talk) -> Result<()> {
    for _ in 0..talk.exchanges {
        let socket = UdpSocket::bind((any(to), 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect((to, talk.port))?;
        socket.send(&filled(talk.question_octets))?;
        let heard = socket.recv(&mut [0; 64]);
        ensure!(
            heard.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused),
            "{to} does not refuse a datagram to port {}",
            talk.port
        );
    }
    Ok(())
}

/// Runs a server beside its clients, until those are done.
fn serve(
    server: impl FnOnce(&AtomicBool) -> io::Result<()> + Send,
    clients: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let server: ScopedJoinHandle<'_, io::Result<()>> = scope.spawn(|| server(&done));
        let outcome = clients();
        // It stands for itself only: the thread is joined for all else.
        done.store(true, Ordering::Relaxed);
        let served = server.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        served.context("the server").and(outcome)
    })
}

/// What comes next at a socket that does not block; none once its clients are done.
fn next<T>(done: &AtomicBool, mut receive: impl FnMut() -> io::Result<T>) -> io::Result<Option<T>> {
    loop {
        match receive() {
            Ok(received) => return Ok(Some(received)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if done.load(Ordering::Relaxed) {
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}

/// Reads so many octets and no more.
fn take(stream: &mut TcpStream, octets: u32) -> io::Result<()> {
    let taken = io::copy(&mut stream.take(octets.into()), &mut io::sink())?;
    if taken < octets.into() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

fn filled(octets: u32) -> Vec<u8> {
    std::iter::successors(Some(0_u8), |last| Some(last.wrapping_add(7)))
        .take(octets as usize)
        .collect()
}

/// The address that stands for all of its family.
fn any(family: IpAddr) -> IpAddr {
    if family.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_sums_to_all_ones_with_its_checksum() {
        let message = echo_message(8, Ipv4Addr::LOCALHOST.into(), 7);
        assert_eq!(message.len(), 64);
        assert_eq!(checksum(&message), 0);
        assert_eq!(checksum(&[0xff, 0xff, 0, 1]), 0xfffe);
    }
}
