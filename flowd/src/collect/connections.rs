//! The connections of a TCP worker: limited in number, by address, and in what waits in them.

use super::stream::Stream;
use crate::model::time::UnixMillis;
use mio::net::TcpStream;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

/// How many connections there may be, and for how long without a message.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Connections of a worker.
    pub count_max: usize,
    /// Of these from one address.
    pub count_per_address_max: usize,
    /// Octets of unfinished messages of all connections. One alone has at most 65,535.
    pub unfinished_size_max: usize,
    /// Milliseconds without a message after which a connection is closed.
    pub idle_millis_max: i64,
    /// Milliseconds that a message may take from its first octet to its last.
    pub stalled_millis_max: i64,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            count_max: 16_384,
            count_per_address_max: 256,
            unfinished_size_max: 256 << 20,
            idle_millis_max: 30 * 60 * 1_000,
            stalled_millis_max: 5 * 60 * 1_000,
        }
    }
}

/// Why there is no room for one more connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoRoom {
    /// There are so many.
    #[error(
        "{0} connections are open, and no more are held at this address: listen at one more TCP \
         address, or raise `ulimit -n` if it holds them below its own limit"
    )]
    InAll(usize),
    /// There are so many from one sender.
    #[error(
        "{0} connections are open from its address, and no more are held: end those that it no \
         longer uses, or let it send over fewer"
    )]
    OfAddress(usize),
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) messages: Stream,
    /// When the last whole message came, or else the connection.
    pub(super) heard: UnixMillis,
    /// When the message began whose end has not come.
    pub(super) begun: Option<UnixMillis>,
    /// Is it in the queue of those that may have octets to read?
    is_queued: bool,
}

/// The connections of a worker, each at a place that stays its own.
#[derive(Debug)]
pub(super) struct Connections {
    limits: ConnectionLimits,
    places: Vec<Option<Connection>>,
    free: Vec<usize>,
    by_address: HashMap<IpAddr, usize>,
    /// Places of connections that may have octets to read, in the order of their turns.
    queue: VecDeque<usize>,
    /// Octets that all unfinished messages take.
    unfinished_size: usize,
}

impl Connections {
    pub(super) fn new(limits: ConnectionLimits) -> Self {
        Self {
            limits,
            places: Vec::new(),
            free: Vec::new(),
            by_address: HashMap::new(),
            queue: VecDeque::new(),
            unfinished_size: 0,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.places.len().saturating_sub(self.free.len())
    }

    /// Is there room for one more from this address?
    pub(super) fn room_for(&self, address: IpAddr) -> Result<(), NoRoom> {
        let ConnectionLimits { count_max, count_per_address_max, .. } = self.limits;
        let of_address = self.by_address.get(&address.to_canonical()).copied().unwrap_or(0);
        if of_address >= count_per_address_max {
            return Err(NoRoom::OfAddress(count_per_address_max));
        }
        if self.count() >= count_max { Err(NoRoom::InAll(count_max)) } else { Ok(()) }
    }

    /// The place that [`Connections::insert`] will use.
    pub(super) fn next_place(&self) -> usize {
        self.free.last().copied().unwrap_or(self.places.len())
    }

    /// Takes a connection in, at the next place; it has its turn soon.
    pub(super) fn insert(&mut self, stream: TcpStream, peer: SocketAddr, now: UnixMillis) {
        let connection = Connection {
            stream,
            peer,
            messages: Stream::default(),
            heard: now,
            begun: None,
            is_queued: false,
        };
        let of_address = self.by_address.entry(peer.ip().to_canonical()).or_default();
        *of_address = of_address.saturating_add(1);
        let place = self.next_place();
        match self.places.get_mut(place) {
            Some(slot) => {
                self.free.pop();
                *slot = Some(connection);
            }
            None => self.places.push(Some(connection)),
        }
        self.enqueue(place);
    }

    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut Connection> {
        self.places.get_mut(place)?.as_mut()
    }

    /// The connection at this place may have octets to read.
    pub(super) fn enqueue(&mut self, place: usize) {
        if let Some(connection) = self.get_mut(place)
            && !connection.is_queued
        {
            connection.is_queued = true;
            self.queue.push_back(place);
        }
    }

    /// The place whose turn it is.
    pub(super) fn dequeue(&mut self) -> Option<usize> {
        while let Some(place) = self.queue.pop_front() {
            if let Some(connection) = self.get_mut(place) {
                connection.is_queued = false;
                return Some(place);
            }
        }
        None
    }

    /// Places in the queue; those of connections that ended may be among them.
    pub(super) fn queued_count(&self) -> usize {
        self.queue.len()
    }

    /// An unfinished message takes this much room now, and took that much before. Is all of it
    /// together within the limit?
    pub(super) fn note_room(&mut self, before: usize, now: usize) -> bool {
        self.unfinished_size = self.unfinished_size.saturating_sub(before).saturating_add(now);
        self.unfinished_size <= self.limits.unfinished_size_max
    }

    /// Takes a connection out.
    pub(super) fn remove(&mut self, place: usize) -> Option<Connection> {
        let connection = self.places.get_mut(place)?.take()?;
        self.free.push(place);
        self.note_room(connection.messages.room(), 0);
        let address = connection.peer.ip().to_canonical();
        if let Some(count) = self.by_address.get_mut(&address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
        Some(connection)
    }

    /// Looks at each connection; what `look` answers with is said of its place.
    pub(super) fn look<T>(
        &mut self,
        mut look: impl FnMut(&ConnectionLimits, &mut Connection) -> Option<T>,
    ) -> Vec<(usize, T)> {
        let mut found = Vec::new();
        for (place, slot) in self.places.iter_mut().enumerate() {
            let Some(connection) = slot else { continue };
            let before = connection.messages.room();
            if let Some(answer) = look(&self.limits, connection) {
                found.push((place, answer));
            }
            let given_back = before.saturating_sub(connection.messages.room());
            self.unfinished_size = self.unfinished_size.saturating_sub(given_back);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_refused_is_told_which_limit_it_was() {
        let room = |count_max, count_per_address_max| {
            let limits =
                ConnectionLimits { count_max, count_per_address_max, ..Default::default() };
            Connections::new(limits).room_for([192, 0, 2, 1].into())
        };
        assert_eq!(room(1, 1), Ok(()));
        assert_eq!(room(0, 1), Err(NoRoom::InAll(0)));
        assert_eq!(room(0, 0), Err(NoRoom::OfAddress(0)));
    }
}
