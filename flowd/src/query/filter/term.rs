//! Terms: the words that begin a condition, and which field they ask for.

use super::ast::{Comparison, Expr, Family, Subject, Term, Test};
use super::error::FilterError;
use super::lexer::TokenKind;
use super::parser::Parser;
use crate::model::Column;
use crate::query::field::{self, AddressRole, Field, Name, Pair};
use crate::query::protocol::{protocol_names, protocol_number, service_names};
use crate::query::quantity::{parse_count, shortened};

/// Words that begin a condition or belong into one, for suggestions.
const KEYWORDS: &[&str] = &[
    "any",
    "ipv4",
    "ipv6",
    "ip6",
    "inet",
    "inet6",
    "src",
    "dst",
    "in",
    "out",
    "portrange",
    "flags",
    "icmp",
    "seen",
    "first",
    "last",
    "received",
    "since",
    "until",
    "observation",
    "next",
    "prev",
    "min",
    "max",
    "ingress",
    "egress",
    "and",
    "or",
    "not",
];

/// Protocols that are a condition by their name alone, as in tcpdump.
const BARE_PROTOCOLS: &[&str] = &[
    "tcp", "udp", "icmp", "icmp6", "icmpv6", "sctp", "dccp", "udplite", "gre", "esp", "ah", "igmp",
    "pim", "vrrp", "ospf", "eigrp", "ipip",
];

/// Words that may follow a protocol, as in `tcp dst port 80`.
const AFTER_PROTOCOL: &[&str] = &["src", "dst", "host", "net", "port", "portrange"];

/// Conditions of nfdump and tcpdump that a flow record cannot answer, and why.
const UNANSWERED: &[(&str, &str)] = &[
    ("ident", "flowd keeps no ident: ask for the exporter, `router ip ADDRESS`"),
    ("count", "records have no number of their own: limit the answer with -n"),
    ("flows", "every record is one flow"),
    ("engine", "ask for the Observation Domain, `domain = N`"),
    ("engine-type", "ask for the Observation Domain, `domain = N`"),
    ("engine-id", "ask for the Observation Domain, `domain = N`"),
    ("geo", "flowd has no table of countries"),
    ("tz", "flowd has no table of time zones"),
    ("asa", "name the element, such as `firewallEvent = 3`"),
    ("nat", "name the element, such as `postNATSourceIPv4Address = 192.0.2.1`"),
    ("xlate", "name the element, such as `postNATSourceIPv4Address = 192.0.2.1`"),
    ("tun", "flowd keeps one pair of addresses a record"),
    ("mpls", "name the element, such as `mplsTopLabelStackSection`"),
    ("payload", "flow records hold no payload"),
    ("pf", "flowd reads no packet filter logs"),
    ("latency", "exporters that flowd reads send no latency"),
    ("client", "ask for `src` or `dst`"),
    ("server", "ask for `src` or `dst`"),
    ("acl", "name the element"),
    ("greater", "ask for `bytes > N` or `bpp > N`"),
    ("less", "ask for `bytes < N` or `bpp < N`"),
    ("ether", "ask for `mac ADDRESS`"),
    ("gateway", "ask for `next ip ADDRESS`"),
    ("broadcast", "flow records are not frames"),
    ("multicast", "ask for `dst net 224.0.0.0/4` or `dst net ff00::/8`"),
    ("type", "ask for `icmp-type N`"),
    ("inbound", "ask for `flowdir ingress`"),
    ("outbound", "ask for `flowdir egress`"),
];

/// Which side of a flow a condition looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Source,
    Destination,
    Either,
    Both,
    In,
    Out,
    OutSource,
    OutDestination,
    Router,
    Next,
    Prev,
    Min,
    Max,
}

impl Parser<'_> {
    /// One condition.
    pub(super) fn term(&mut self) -> Result<Expr, FilterError> {
        let token = self.peek();
        let TokenKind::Word(word) = token.kind else {
            let message = match token.kind {
                TokenKind::End => "a condition is missing here",
                TokenKind::Quoted(_) => "a text needs a field before it, such as `via = 'ipfix'`",
                _ => "expected a condition, such as `src ip 192.0.2.1` or `dst port 443`",
            };
            return Err(self.error(token, message));
        };
        let lower = word.to_ascii_lowercase();
        if let Some(expr) = self.word_term(&lower)? {
            return Ok(expr);
        }
        if self.is_address_at(0) {
            // tcpdump: an address without a word before it is a host.
            return self.test(Subject::Either(Pair::Ip), true);
        }
        if let Some(&(_, reason)) = UNANSWERED.iter().find(|(known, _)| *known == lower) {
            let message = format!("flowd cannot answer `{lower}`: {reason}");
            return Err(self.error(token, message));
        }
        match field::find(word) {
            Some(name) => {
                self.take();
                self.test(subject_of(name), lower == "net")
            }
            None => Err(self.unknown_word(word)),
        }
    }

    /// Conditions that begin with a word that is more than a field's name.
    fn word_term(&mut self, word: &str) -> Result<Option<Expr>, FilterError> {
        let expr = match word {
            "any" => self.taken(Term::Any),
            "ipv4" | "inet" => self.taken(Term::Family(Family::Ipv4)),
            "ipv6" | "inet6" => self.taken(Term::Family(Family::Ipv6)),
            "ip" if !self.is_address_test(1) => self.protocol_term(Term::Family(Family::Ipv4))?,
            "ip6" => self.protocol_term(Term::Family(Family::Ipv6))?,
            "icmp" if matches!(self.word_at(1).as_deref(), Some("type" | "code")) => {
                self.take();
                let is_type = self.take_word("type");
                let field = if is_type { Field::IcmpType } else { Field::IcmpCode };
                if !is_type {
                    self.take();
                }
                self.test(Subject::Field(field), false)?
            }
            "vlan" if !self.is_value_next(1) => {
                // tcpdump: `vlan` alone asks for frames with a tag.
                self.take();
                Expr::Term(Term::Test(
                    Subject::Either(Pair::Vlan),
                    Test::Number(Comparison::Greater, 0),
                ))
            }
            "flags" => self.flags()?,
            "portrange" => {
                self.take();
                self.test(Subject::Either(Pair::Port), false)?
            }
            "observation" => self.observation()?,
            "src" | "dst" | "in" | "out" | "ingress" | "egress" | "router" | "exporter"
            | "next" | "prev" | "min" | "max" | "bgp" => self.directed()?,
            _ if BARE_PROTOCOLS.contains(&word) => match protocol_number(word) {
                Some(number) => self.protocol_term(protocol_term(number))?,
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        Ok(Some(expr))
    }

    fn taken(&mut self, term: Term) -> Expr {
        self.take();
        Expr::Term(term)
    }

    /// A protocol or family, and perhaps a condition that it qualifies: `tcp dst port 80`.
    fn protocol_term(&mut self, term: Term) -> Result<Expr, FilterError> {
        let is_family = matches!(term, Term::Family(_));
        let first = self.taken(term);
        let next = self.word_at(0).unwrap_or_default();
        let follows = AFTER_PROTOCOL.contains(&next.as_str())
            || is_family && (next == "proto" || BARE_PROTOCOLS.contains(&next.as_str()));
        if !follows {
            return Ok(first);
        }
        let second = self.term()?;
        Ok(Expr::all(vec![first, second]))
    }

    /// Is what follows `ip` something to compare an address with?
    fn is_address_test(&self, ahead: usize) -> bool {
        match self.peek_at(ahead).kind {
            TokenKind::Comparison(_) | TokenKind::Not => true,
            TokenKind::Word(word) => {
                let lower = word.to_ascii_lowercase();
                !AFTER_PROTOCOL.contains(&lower.as_str())
                    && lower != "proto"
                    && !BARE_PROTOCOLS.contains(&lower.as_str())
            }
            _ => false,
        }
    }

    fn is_value_next(&self, ahead: usize) -> bool {
        matches!(
            self.peek_at(ahead).kind,
            TokenKind::Word(_) | TokenKind::Comparison(_) | TokenKind::Not
        )
    }

    /// `src`, `dst`, `in`, `router` and their like, with the field that they qualify.
    fn directed(&mut self) -> Result<Expr, FilterError> {
        let direction = self.direction()?;
        let token = self.peek();
        let TokenKind::Word(word) = token.kind else {
            let is_compared = matches!(token.kind, TokenKind::Comparison(_) | TokenKind::Not);
            return match implied_subject(direction) {
                Some(subject) if is_compared => self.test(subject, true),
                _ => Err(self.error(token, "expected `ip`, `net`, `port` or an address here")),
            };
        };
        let lower = word.to_ascii_lowercase();
        if let Some(subject) = directed_subject(direction, &lower) {
            self.take();
            return self.test(subject, lower == "net");
        }
        let is_value = lower == "in" || self.is_address_at(0);
        if let (Some(subject), true) = (implied_subject(direction), is_value) {
            return self.test(subject, true);
        }
        if let Some(&(_, reason)) = UNANSWERED.iter().find(|(known, _)| *known == lower) {
            let message = format!("flowd cannot answer `{lower}`: {reason}");
            return Err(self.error(token, message));
        }
        match field::find(word) {
            Some(_) => Err(self.error(token, format!("`{lower}` has no such side"))),
            None => Err(self.unknown_word(word)),
        }
    }

    fn direction(&mut self) -> Result<Direction, FilterError> {
        let first = self.word_at(0).unwrap_or_default();
        self.take();
        Ok(match first.as_str() {
            "src" | "dst" => self.source_or_destination(&first),
            "in" | "ingress" if self.take_word("src") => Direction::Source,
            "in" | "ingress" if self.take_word("dst") => Direction::Destination,
            "in" | "ingress" => Direction::In,
            "out" | "egress" if self.take_word("src") => Direction::OutSource,
            "out" | "egress" if self.take_word("dst") => Direction::OutDestination,
            "out" | "egress" => Direction::Out,
            "next" => Direction::Next,
            "prev" => Direction::Prev,
            "min" => Direction::Min,
            "max" => Direction::Max,
            "bgp" => {
                let message =
                    "name the element: `bgpNextHopIPv4Address` or `bgpNextHopIPv6Address`";
                return Err(self.error(self.peek(), message));
            }
            _ => Direction::Router,
        })
    }

    /// `src`, `dst`, `src or dst`, `src and dst`, in either order.
    fn source_or_destination(&mut self, first: &str) -> Direction {
        let joint = self.peek().kind;
        let other = if first == "src" { "dst" } else { "src" };
        let joins = matches!(joint, TokenKind::And | TokenKind::Or)
            && self.word_at(1).as_deref() == Some(other);
        if joins {
            self.take();
            self.take();
        }
        match (joins, joint, first) {
            (true, TokenKind::And, _) => Direction::Both,
            (true, _, _) => Direction::Either,
            (false, _, "src") => Direction::Source,
            (false, _, _) => Direction::Destination,
        }
    }

    /// `observation domain id N` and `observation point id N`.
    fn observation(&mut self) -> Result<Expr, FilterError> {
        self.take();
        let token = self.peek();
        let field = if self.take_word("domain") {
            Field::Provenance(field::Provenance::ObservationDomain)
        } else if self.take_word("point") {
            Field::Element(0, 138)
        } else {
            return Err(self.error(token, "expected `domain id N` or `point id N` here"));
        };
        self.take_word("id");
        self.test(Subject::Field(field), false)
    }

    fn unknown_word(&self, word: &str) -> FilterError {
        let message = if parse_count(word).is_some() {
            format!("what is {word}? Say `port {word}`, `proto {word}` or the like")
        } else {
            let protocols = protocol_names().chain(service_names());
            let words = KEYWORDS.iter().copied().chain(protocols);
            let shown = shortened(word);
            match field::nearest(word, words) {
                Some(near) => format!("unknown word `{shown}`: did you mean `{near}`?"),
                None => format!("unknown word `{shown}`: see `flowd query --help` for the words"),
            }
        };
        self.error(self.peek(), message)
    }
}

/// A term for a protocol by number.
pub(super) fn protocol_term(number: u8) -> Term {
    Term::Test(
        Subject::Field(Field::Column(Column::ProtocolIdentifier)),
        Test::Number(Comparison::Equal, u64::from(number)),
    )
}

const fn subject_of(name: Name) -> Subject {
    match name {
        Name::Field(field) => Subject::Field(field),
        Name::Pair(pair) => Subject::Either(pair),
    }
}

/// What a direction means before a bare address.
const fn implied_subject(direction: Direction) -> Option<Subject> {
    match direction {
        Direction::Source | Direction::Destination | Direction::Either | Direction::Both => {
            Some(sided(direction, Pair::Ip))
        }
        Direction::Router => Some(Subject::Field(Field::Address(AddressRole::Exporter))),
        _ => None,
    }
}

const fn sided(direction: Direction, pair: Pair) -> Subject {
    let [first, second] = pair.fields();
    match direction {
        Direction::Source | Direction::In | Direction::Min => Subject::Field(first),
        Direction::Destination | Direction::Out | Direction::Max => Subject::Field(second),
        Direction::Both => Subject::Both(pair),
        _ => Subject::Either(pair),
    }
}

/// The field that a word asks for in a direction; none if the two do not go together.
fn directed_subject(direction: Direction, word: &str) -> Option<Subject> {
    use Direction::{Both, Destination, Either, In, Max, Min, Next, Out, Prev, Router, Source};
    let element = |id| Subject::Field(Field::Element(0, id));
    let measured = |column| Subject::Field(Field::Column(column));
    Some(match (direction, word) {
        (Source | Destination | Either | Both, "ip" | "host" | "net" | "addr") => {
            sided(direction, Pair::Ip)
        }
        (Source | Destination | Either | Both, "port" | "portrange") => {
            sided(direction, Pair::Port)
        }
        (Source | Destination | Either | Both, "as") => sided(direction, Pair::As),
        (Source | Destination | Either | Both, "vlan") => sided(direction, Pair::Vlan),
        (Source | Destination | Either | Both, "mac") => sided(direction, Pair::Mac),
        (Source | Destination | Either | Both, "mask") => sided(direction, Pair::Mask),
        (Source, "tos") => measured(Column::IpClassOfService),
        (Destination, "tos") => element(55),
        (In | Out, "if") => sided(direction, Pair::Interface),
        (In, "bytes" | "octets") => measured(Column::OctetDeltaCount),
        (Out, "bytes" | "octets") => measured(Column::ReverseOctetDeltaCount),
        (In, "packets" | "pkts") => measured(Column::PacketDeltaCount),
        (Out, "packets" | "pkts") => measured(Column::ReversePacketDeltaCount),
        (In, "vrf") => element(234),
        (Out, "vrf") => element(235),
        (Direction::OutSource, "mac") => element(81),
        (Direction::OutDestination, "mac") => element(57),
        (Router, "ip" | "host") => Subject::Field(Field::Address(AddressRole::Exporter)),
        (Next, "ip" | "host") => Subject::Field(Field::Address(AddressRole::NextHop)),
        (Next, "as") => element(128),
        (Prev, "as") => element(129),
        (Min | Max, "ttl") => sided(direction, Pair::Ttl),
        _ => return None,
    })
}
