//! An input: messages one after another, each with who sends it.
//!
//! ```text
//! input   = message..
//! message = peer (1 octet), size (2 octets, big endian), octets
//! ```
//!
//! Inputs one after another are an input again.

/// Octets before those of a message.
const HEADER_SIZE: usize = 3;
/// The bit of the peer's octet that says that it has a connection.
const CONNECTION: u8 = 0x80;
/// The bit that says that the connection ends after the message.
const ENDS: u8 = 0x40;

/// One message of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent<'a> {
    /// Who sends it, and what it does besides.
    pub peer: u8,
    /// The message.
    pub octets: &'a [u8],
}

impl Sent<'_> {
    /// Does it come over a connection?
    pub const fn is_of_connection(&self) -> bool {
        self.peer & CONNECTION != 0
    }

    /// Does the connection end with it?
    pub const fn ends(&self) -> bool {
        self.peer & ENDS != 0
    }

    /// The number of the sender.
    pub const fn number(&self) -> u8 {
        self.peer & !(CONNECTION | ENDS)
    }

    /// Appends it to an input.
    pub fn write(&self, input: &mut Vec<u8>) {
        let size = u16::try_from(self.octets.len()).expect("a message is no longer");
        input.push(self.peer);
        input.extend_from_slice(&size.to_be_bytes());
        input.extend_from_slice(self.octets);
    }
}

/// The messages of an input. The last one ends with it, whatever its size says.
pub fn messages(input: &[u8]) -> impl Iterator<Item = Sent<'_>> {
    let mut rest = input;
    std::iter::from_fn(move || {
        let (&[peer, high, low], after) = rest.split_first_chunk::<HEADER_SIZE>()?;
        let size = usize::from(u16::from_be_bytes([high, low])).min(after.len());
        let (octets, after) = after.split_at(size);
        rest = after;
        Some(Sent { peer, octets })
    })
}
