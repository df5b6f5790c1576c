//! An IPFIX stream: octets as TCP brings them -> whole messages.

use crate::wire::ipfix::{Header, VERSION};

/// Octets of version and length, the first two fields of a message.
const PREFIX_SIZE: usize = 4;
/// Octets that a message which began is given room for at first.
const FIRST_ROOM: usize = 512;

/// Why a stream cannot be followed any further: where its next message begins is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum StreamError {
    /// A message of another protocol, or no message.
    #[error("it sends version {0}, and only IPFIX (version 10) is sent over TCP")]
    Version(u16),
    /// A length that no message has.
    #[error("it says that a message has {0} octets, and the header alone has 16")]
    Length(u16),
}

/// What has come of a message whose end has not: at most one message, 65,535 octets.
#[derive(Debug, Default)]
pub(super) struct Stream {
    begun: Vec<u8>,
}

impl Stream {
    /// Takes octets as they came, and hands on each message that they complete. RFC 7011 section
    /// 10.4.1: messages follow one another, each as long as its header says.
    ///
    /// # Errors
    /// If the next message has no beginning that can be believed; those before it are handed on.
    pub(super) fn take(
        &mut self,
        mut octets: &[u8],
        on_message: &mut dyn FnMut(&[u8]),
    ) -> Result<(), StreamError> {
        while !self.begun.is_empty() && !octets.is_empty() {
            octets = self.go_on(octets)?;
            if message_size(&self.begun)? == Some(self.begun.len()) {
                on_message(&self.begun);
                self.begun.clear();
            }
        }
        while let Some(size) = message_size(octets)?
            && let Some((message, rest)) = octets.split_at_checked(size)
        {
            on_message(message);
            octets = rest;
        }
        while !octets.is_empty() {
            octets = self.go_on(octets)?;
        }
        Ok(())
    }

    /// Appends what belongs to the message that has begun: to the end of its prefix while its
    /// length is not known, then to its own. Returns the octets after it.
    fn go_on<'a>(&mut self, octets: &'a [u8]) -> Result<&'a [u8], StreamError> {
        let size = message_size(&self.begun)?.unwrap_or(PREFIX_SIZE);
        let lacking = size.saturating_sub(self.begun.len());
        let (more, rest) = octets.split_at_checked(lacking).unwrap_or((octets, &[]));
        let room = self.begun.capacity().saturating_sub(self.begun.len());
        if self.begun.capacity() == 0 {
            self.begun.reserve_exact(FIRST_ROOM);
        } else if room < more.len() {
            // Twice what came, rather than what the header promises: room has to be earned.
            let wanted = self.begun.len().max(more.len());
            self.begun.reserve_exact(wanted.min(lacking));
        }
        self.begun.extend_from_slice(more);
        message_size(&self.begun)?;
        Ok(rest)
    }

    /// Octets of the message that has begun.
    pub(super) fn begun_size(&self) -> usize {
        self.begun.len()
    }

    /// Octets that it takes.
    pub(super) fn room(&self) -> usize {
        self.begun.capacity()
    }

    /// Gives back room that no message needs now.
    pub(super) fn rest(&mut self) {
        if self.begun.is_empty() {
            self.begun = Vec::new();
        }
    }
}

/// The size of the message that these octets begin, once they say it.
fn message_size(octets: &[u8]) -> Result<Option<usize>, StreamError> {
    let Some((version, rest)) = octets.split_first_chunk() else {
        return Ok(None);
    };
    match u16::from_be_bytes(*version) {
        VERSION => {}
        other => return Err(StreamError::Version(other)),
    }
    let Some(length) = rest.first_chunk() else {
        return Ok(None);
    };
    let length = u16::from_be_bytes(*length);
    let size = usize::from(length);
    if size < Header::SIZE { Err(StreamError::Length(length)) } else { Ok(Some(size)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(size: u16) -> Vec<u8> {
        let mut message = vec![0xab; usize::from(size)];
        message[..2].copy_from_slice(&VERSION.to_be_bytes());
        message[2..4].copy_from_slice(&size.to_be_bytes());
        message
    }

    /// The sizes of the messages in these pieces of a stream, and the outcome.
    fn sizes(pieces: &[&[u8]]) -> (Vec<usize>, Result<(), StreamError>, Stream) {
        let (mut sizes, mut stream) = (Vec::new(), Stream::default());
        let mut outcome = Ok(());
        for piece in pieces {
            outcome = stream.take(piece, &mut |message| sizes.push(message.len()));
            if outcome.is_err() {
                break;
            }
        }
        (sizes, outcome, stream)
    }

    #[test]
    fn a_stream_is_split_into_its_messages_wherever_it_is_cut() {
        let stream = [message(16), message(40), message(17)].concat();
        for cut in 0..=stream.len() {
            for next in [cut, (cut + 1).min(stream.len()), (cut + 20).min(stream.len())] {
                let pieces = [&stream[..cut], &stream[cut..next], &stream[next..]];
                let (sizes, outcome, rest) = sizes(&pieces);
                assert_eq!((sizes, outcome), (vec![16, 40, 17], Ok(())), "cut at {cut}, {next}");
                assert_eq!(rest.begun_size(), 0);
            }
        }
        let octets: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(sizes(&octets).0, [16, 40, 17]);
    }

    #[test]
    fn the_longest_message_is_taken_and_its_room_given_back() {
        let long = message(u16::MAX);
        let pieces: Vec<&[u8]> = long.chunks(1_000).collect();
        let (sizes, outcome, mut stream) = sizes(&pieces);
        assert_eq!((sizes, outcome), (vec![65_535], Ok(())));
        assert!(stream.room() <= 65_535, "{}", stream.room());
        stream.rest();
        assert_eq!(stream.room(), 0);
    }

    #[test]
    fn a_promise_alone_takes_little_room() {
        let (_, _, stream) = sizes(&[&message(u16::MAX)[..20]]);
        assert_eq!(stream.begun_size(), 20);
        assert!(stream.room() <= FIRST_ROOM, "{}", stream.room());
    }

    #[test]
    fn what_is_no_message_ends_the_stream_as_soon_as_it_shows() {
        let good = message(16);
        for (garbage, error) in [
            (&b"GE"[..], StreamError::Version(0x4745)),
            (&[0, 9, 0, 20], StreamError::Version(9)),
            (&[0, 10, 0, 0], StreamError::Length(0)),
            (&[0, 10, 0, 15], StreamError::Length(15)),
        ] {
            for cut in 0..=garbage.len() {
                let pieces = [&good[..], &garbage[..cut], &garbage[cut..]];
                let (sizes, outcome, _) = sizes(&pieces);
                assert_eq!((sizes, outcome), (vec![16], Err(error)), "{garbage:?} cut at {cut}");
            }
        }
        assert_eq!(sizes(&[&[0, 10, 0]]).1, Ok(()));
    }

    proptest! {
        #[test]
        fn any_octets_in_any_pieces_are_split_alike(
            octets in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..200),
                proptest::collection::vec(16u16..300, 0..8)
                    .prop_map(|sizes| sizes.into_iter().flat_map(message).collect()),
            ],
            piece in 1usize..50,
        ) {
            let whole = sizes(&[&octets]);
            let pieces: Vec<&[u8]> = octets.chunks(piece).collect();
            let split = sizes(&pieces);
            prop_assert_eq!(whole.0, split.0);
            prop_assert_eq!(whole.1, split.1);
            if whole.1.is_ok() {
                prop_assert_eq!(whole.2.begun, split.2.begun);
            }
        }
    }
}
