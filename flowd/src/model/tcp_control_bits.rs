//! tcpControlBits (IE 6): the flags of TCP's header, RFC 9293 section 3.1.

/// TCP flags, or-ed over a flow's packets. The low twelve bits count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TcpControlBits(pub u16);

impl TcpControlBits {
    /// No more data from the sender.
    pub const FIN: u16 = 0x001;
    /// Synchronize sequence numbers.
    pub const SYN: u16 = 0x002;
    /// Reset the connection.
    pub const RST: u16 = 0x004;
    /// Push.
    pub const PSH: u16 = 0x008;
    /// The acknowledgment field is significant.
    pub const ACK: u16 = 0x010;
    /// The urgent pointer is significant.
    pub const URG: u16 = 0x020;
    /// ECN echo.
    pub const ECE: u16 = 0x040;
    /// Congestion window reduced.
    pub const CWR: u16 = 0x080;
    /// The bits that are flags; the rest of the word is the data offset.
    pub const MASK: u16 = 0xfff;

    const LETTERS: [(u16, char); 8] = [
        (Self::CWR, 'C'),
        (Self::ECE, 'E'),
        (Self::URG, 'U'),
        (Self::ACK, 'A'),
        (Self::PSH, 'P'),
        (Self::RST, 'R'),
        (Self::SYN, 'S'),
        (Self::FIN, 'F'),
    ];
}

/// nfdump's eight letters, a dot for each flag that was not seen: `...AP.SF`.
impl std::fmt::Display for TcpControlBits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text: String = Self::LETTERS
            .iter()
            .map(|&(bit, letter)| if self.0 & bit == 0 { '.' } else { letter })
            .collect();
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_the_flags_as_letters() {
        assert_eq!(TcpControlBits(0x1b).to_string(), "...AP.SF");
        assert_eq!(TcpControlBits(0).to_string(), "........");
    }
}
