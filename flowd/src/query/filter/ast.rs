//! The filter's tree, and how it is written as text that parses to the same tree.

use super::super::field::{AddressRole, Field, FieldType, Measure, Pair};
use crate::model::{Column, Value, time::UnixMillis};
use std::fmt::{self, Display};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A filter: terms joined by `and`, `or` and `not`.
///
/// The constructors keep one form: no `and` lies directly in an `and`, no `or` in an `or`, no
/// `not` in a `not`, and neither has fewer than two members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// One condition.
    Term(Term),
    /// What the inner filter leaves out.
    Not(Box<Self>),
    /// All of them.
    And(Vec<Self>),
    /// Any of them.
    Or(Vec<Self>),
}

impl Expr {
    /// The opposite; two opposites cancel out.
    #[must_use]
    pub fn negated(self) -> Self {
        match self {
            Self::Not(inner) => *inner,
            other => Self::Not(Box::new(other)),
        }
    }

    /// All of these; everything if there are none.
    #[must_use]
    pub fn all(members: Vec<Self>) -> Self {
        let mut flat = Vec::with_capacity(members.len());
        for member in members {
            match member {
                Self::And(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        match flat.len() {
            0 => Self::Term(Term::Any),
            1 => flat.remove(0),
            _ => Self::And(flat),
        }
    }

    /// Any of these; nothing if there are none.
    #[must_use]
    pub fn any(members: Vec<Self>) -> Self {
        let mut flat = Vec::with_capacity(members.len());
        for member in members {
            match member {
                Self::Or(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        match flat.len() {
            0 => Self::Term(Term::Any).negated(),
            1 => flat.remove(0),
            _ => Self::Or(flat),
        }
    }
}

/// One condition. An absent field makes it false, whatever the comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Term {
    /// True of every record.
    Any,
    /// True of records with an address of this family.
    Family(Family),
    /// TCP flags: the record is TCP and of the bits of `mask` those of `bits` are set.
    Flags {
        /// The bits that are looked at.
        mask: u8,
        /// Those of them that must be set; the others must not.
        bits: u8,
    },
    /// TCP flags as a number: the record is TCP and they compare so.
    FlagsNumber(Comparison, u64),
    /// A field, or one of two, compared with something.
    Test(Subject, Test),
}

/// Family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are what they say")]
pub enum Family {
    Ipv4,
    Ipv6,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// One field.
    Field(Field),
    /// Either of two.
    Either(Pair),
    /// Both of two.
    Both(Pair),
}

impl Subject {
    /// What the values are; both fields of a pair hold the same.
    #[must_use]
    pub fn field_type(self) -> FieldType {
        self.first_field().field_type()
    }

    /// The field, or the first of two.
    #[must_use]
    pub const fn first_field(self) -> Field {
        match self {
            Self::Field(field) => field,
            Self::Either(pair) | Self::Both(pair) => {
                let [first, _] = pair.fields();
                first
            }
        }
    }
}

/// How two numbers or times compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are what they say")]
pub enum Comparison {
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterOrEqual,
    LessOrEqual,
}

impl Comparison {
    /// The sign that users write.
    #[must_use]
    pub const fn sign(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Greater => ">",
            Self::Less => "<",
            Self::GreaterOrEqual => ">=",
            Self::LessOrEqual => "<=",
        }
    }

    /// Does it hold?
    #[must_use]
    pub fn holds<T: PartialOrd>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Greater => left > right,
            Self::Less => left < right,
            Self::GreaterOrEqual => left >= right,
            Self::LessOrEqual => left <= right,
        }
    }
}

/// What a subject is compared with. `negated` turns a set into its opposite among the values
/// that are there: of two fields, at least one is there and none lies in the set.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are FieldType's")]
pub enum Test {
    Number(Comparison, u64),
    Numbers { ranges: Vec<NumberRange>, negated: bool },
    Time(Comparison, UnixMillis),
    Addresses { prefixes: Vec<Prefix>, negated: bool },
    Macs { addresses: Vec<[u8; 6]>, negated: bool },
    Texts { texts: Vec<String>, negated: bool },
    Octets { values: Vec<Vec<u8>>, negated: bool },
    Boolean(bool),
}

impl Test {
    /// Does it ask for what is not there? Then of two fields neither may hold it.
    #[must_use]
    pub const fn is_negated(&self) -> bool {
        match self {
            Self::Number(comparison, _) | Self::Time(comparison, _) => {
                matches!(comparison, Comparison::NotEqual)
            }
            Self::Numbers { negated, .. }
            | Self::Addresses { negated, .. }
            | Self::Macs { negated, .. }
            | Self::Texts { negated, .. }
            | Self::Octets { negated, .. } => *negated,
            Self::Boolean(_) => false,
        }
    }
}

/// Numbers from the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NumberRange {
    /// The least.
    pub first: u64,
    /// The greatest.
    pub last: u64,
}

impl NumberRange {
    /// One number.
    #[must_use]
    pub const fn single(number: u64) -> Self {
        Self { first: number, last: number }
    }

    /// Is the number among them?
    #[must_use]
    pub const fn contains(self, number: u64) -> bool {
        self.first <= number && number <= self.last
    }
}

/// A block of addresses: the first one, and how many leading bits all share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

impl Prefix {
    /// The block of this address; none if the family has no such length. Bits beyond the length
    /// are cleared.
    #[must_use]
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let address = match address.to_canonical() {
            // `::ffff:10.0.0.0/104` counts bits of the IPv6 form.
            IpAddr::V4(_) if address.is_ipv6() && length < 96 => address,
            IpAddr::V4(v4) if address.is_ipv6() => return Self::new(IpAddr::V4(v4), length - 96),
            _ => address,
        };
        let address = match address {
            IpAddr::V4(v4) if length <= 32 => {
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) if length <= 128 => {
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
            _ => return None,
        };
        Some(Self { address, length })
    }

    /// One address. An IPv4 address in IPv6 form is an IPv4 address.
    #[must_use]
    pub fn single(address: IpAddr) -> Self {
        let address = address.to_canonical();
        let length = if address.is_ipv4() { 32 } else { 128 };
        Self { address, length }
    }

    /// The first address of the block.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// The leading bits that all addresses of the block share.
    #[must_use]
    pub const fn length(self) -> u8 {
        self.length
    }

    /// First and last address as numbers, if the block is of IPv4.
    #[must_use]
    pub fn ipv4_range(self) -> Option<(u32, u32)> {
        let IpAddr::V4(first) = self.address else {
            return None;
        };
        let rest = u32::MAX.checked_shr(u32::from(self.length)).unwrap_or(0);
        Some((first.to_bits(), first.to_bits() | rest))
    }

    /// First and last address as numbers, if the block is of IPv6.
    #[must_use]
    pub fn ipv6_range(self) -> Option<(u128, u128)> {
        let IpAddr::V6(first) = self.address else {
            return None;
        };
        let rest = u128::MAX.checked_shr(u32::from(self.length)).unwrap_or(0);
        Some((first.to_bits(), first.to_bits() | rest))
    }

    const fn is_single(self) -> bool {
        match self.address {
            IpAddr::V4(_) => self.length == 32,
            IpAddr::V6(_) => self.length == 128,
        }
    }
}

impl Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_single() {
            self.address.fmt(f)
        } else {
            write!(f, "{}/{}", self.address, self.length)
        }
    }
}

impl Display for NumberRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            self.first.fmt(f)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Term(term) => term.fmt(f),
            Self::Not(inner) => {
                f.write_str("not ")?;
                inner.fmt_member(f)
            }
            Self::And(members) => fmt_joined(members, " and ", f),
            Self::Or(members) => fmt_joined(members, " or ", f),
        }
    }
}

impl Expr {
    /// As a member of something else: in parentheses unless it is one word's worth.
    fn fmt_member(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Term(_) | Self::Not(_) => self.fmt(f),
            Self::And(_) | Self::Or(_) => write!(f, "({self})"),
        }
    }
}

fn fmt_joined(members: &[Expr], joint: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (index, member) in members.iter().enumerate() {
        if index > 0 {
            f.write_str(joint)?;
        }
        member.fmt_member(f)?;
    }
    Ok(())
}

impl Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Family(Family::Ipv4) => f.write_str("ipv4"),
            Self::Family(Family::Ipv6) => f.write_str("ipv6"),
            Self::Flags { mask, bits } => fmt_flags(*mask, *bits, f),
            Self::FlagsNumber(comparison, number) => {
                write!(f, "flags {} {number}", comparison.sign())
            }
            Self::Test(subject, test) => fmt_test(*subject, test, f),
        }
    }
}

/// The letters of TCP's flags, by bit.
pub(super) const FLAG_LETTERS: [char; 8] = ['F', 'S', 'R', 'P', 'A', 'U', 'E', 'C'];

fn flag_letters(bits: u8) -> String {
    let letters = FLAG_LETTERS.iter().enumerate();
    let set = letters.filter(|(bit, _)| bits & 1 << bit != 0);
    set.map(|(_, letter)| letter).collect()
}

fn fmt_flags(mask: u8, bits: u8, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if mask == bits && bits != 0 {
        write!(f, "flags {}", flag_letters(bits))
    } else if mask == u8::MAX && bits != 0 {
        write!(f, "flags ={}", flag_letters(bits))
    } else {
        write!(f, "flags {}/{}", flag_letters(bits), flag_letters(mask))
    }
}

fn fmt_test(subject: Subject, test: &Test, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    fmt_subject(subject, f)?;
    match test {
        Test::Number(comparison, number) => write!(f, " {} {number}", comparison.sign()),
        Test::Time(comparison, time) => write!(f, " {} {time}", comparison.sign()),
        Test::Boolean(value) => write!(f, " = {value}"),
        Test::Numbers { ranges, negated } => fmt_set(ranges, *negated, f, |range, f| range.fmt(f)),
        Test::Addresses { prefixes, negated } => match prefixes.as_slice() {
            [prefix] if *negated => write!(f, " != {prefix}"),
            [prefix] => write!(f, " {prefix}"),
            _ => fmt_set(prefixes, *negated, f, |prefix, f| prefix.fmt(f)),
        },
        Test::Macs { addresses, negated } => {
            fmt_set(addresses, *negated, f, |&mac, f| Value::Mac(mac).fmt(f))
        }
        Test::Texts { texts, negated } => fmt_set(texts, *negated, f, |text, f| {
            let quote = if text.contains('\'') { '"' } else { '\'' };
            write!(f, "{quote}{text}{quote}")
        }),
        Test::Octets { values, negated } => {
            fmt_set(values, *negated, f, |octets, f| write!(f, "0x{}", Value::Octets(octets)))
        }
    }
}

fn fmt_set<T>(
    items: &[T],
    negated: bool,
    f: &mut fmt::Formatter<'_>,
    fmt_item: impl Fn(&T, &mut fmt::Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    f.write_str(if negated { " not in [" } else { " in [" })?;
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            f.write_str(" ")?;
        }
        fmt_item(item, f)?;
    }
    f.write_str("]")
}

/// nfdump's words for what it has words for; the field's name for the rest.
fn fmt_subject(subject: Subject, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let words = match subject {
        Subject::Either(pair) => pair.name(),
        Subject::Both(pair) => return write!(f, "src and dst {}", pair.name()),
        Subject::Field(Field::Address(AddressRole::Source)) => "src ip",
        Subject::Field(Field::Address(AddressRole::Destination)) => "dst ip",
        Subject::Field(Field::Address(AddressRole::NextHop)) => "next ip",
        Subject::Field(Field::Address(AddressRole::Exporter)) => "router ip",
        Subject::Field(Field::Column(Column::SourceTransportPort)) => "src port",
        Subject::Field(Field::Column(Column::DestinationTransportPort)) => "dst port",
        Subject::Field(Field::Column(Column::ProtocolIdentifier)) => "proto",
        Subject::Field(Field::Column(Column::OctetDeltaCount)) => "in bytes",
        Subject::Field(Field::Column(Column::ReverseOctetDeltaCount)) => "out bytes",
        Subject::Field(Field::Column(Column::PacketDeltaCount)) => "in packets",
        Subject::Field(Field::Column(Column::ReversePacketDeltaCount)) => "out packets",
        Subject::Field(Field::Column(Column::FlowStartMilliseconds)) => "first seen",
        Subject::Field(Field::Column(Column::FlowEndMilliseconds)) => "last seen",
        Subject::Field(Field::Column(Column::CollectionTimeMilliseconds)) => "received",
        Subject::Field(Field::Column(Column::IpClassOfService)) => "tos",
        Subject::Field(Field::Column(Column::IngressInterface)) => "in if",
        Subject::Field(Field::Column(Column::EgressInterface)) => "out if",
        Subject::Field(Field::Column(Column::BgpSourceAsNumber)) => "src as",
        Subject::Field(Field::Column(Column::BgpDestinationAsNumber)) => "dst as",
        Subject::Field(Field::Column(Column::VlanId)) => "src vlan",
        Subject::Field(Field::Column(Column::PostVlanId)) => "dst vlan",
        Subject::Field(Field::Column(Column::SourceMacAddress)) => "src mac",
        Subject::Field(Field::Column(Column::DestinationMacAddress)) => "dst mac",
        Subject::Field(Field::Measure(Measure::Bytes)) => "bytes",
        Subject::Field(field) => return f.write_str(&field.name()),
    };
    f.write_str(words)
}
