//! Fields: every name that a filter, `-a` and `-s` understand, and what it stands for.
//!
//! A name is an Information Element's own, one of the short aliases of the table below, or
//! `PEN:ID` for an element that nobody named.

use crate::model::{Column, ColumnKind, ElementType, ie, ie_learned};
use std::borrow::Cow;

/// What a value of a field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are what they say")]
pub enum FieldType {
    Number,
    Address,
    Mac,
    Time,
    Text,
    Boolean,
    Octets,
}

/// Where a record came from: the columns that the archive adds to the model's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are those of the archive's schema")]
pub enum Provenance {
    ExporterIpv4,
    ExporterIpv6,
    ObservationDomain,
    ExportProtocol,
}

impl Provenance {
    /// All of them, in output order.
    pub const ALL: [Self; 4] =
        [Self::ExporterIpv4, Self::ExporterIpv6, Self::ObservationDomain, Self::ExportProtocol];

    /// The column's name, as in the archive's schema.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ExporterIpv4 => "exporterIPv4Address",
            Self::ExporterIpv6 => "exporterIPv6Address",
            Self::ObservationDomain => "observationDomainId",
            Self::ExportProtocol => "exportProtocol",
        }
    }
}

/// An address that lies in one of two columns, by its family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the variants are what they say")]
pub enum AddressRole {
    Source,
    Destination,
    NextHop,
    Exporter,
}

/// A number that is computed from several columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Measure {
    /// Octets of both directions.
    Bytes,
    /// Packets of both directions.
    Packets,
    /// Milliseconds from the first packet to the last.
    Duration,
    /// Bits a second.
    BitsPerSecond,
    /// Packets a second.
    PacketsPerSecond,
    /// Octets a packet.
    BytesPerPacket,
}

/// One thing that a record can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// An element with a column of its own.
    Column(Column),
    /// Where the record came from.
    Provenance(Provenance),
    /// An element without a column: Private Enterprise Number and element number.
    Element(u32, u16),
    /// An address of either family.
    Address(AddressRole),
    /// The route's prefix length of either family, of the source.
    SourcePrefixLength,
    /// The route's prefix length of either family, of the destination.
    DestinationPrefixLength,
    /// A computed number.
    Measure(Measure),
    /// The type of an ICMP or ICMPv6 message.
    IcmpType,
    /// The code of an ICMP or ICMPv6 message.
    IcmpCode,
}

/// Two fields that one word asks for: one of each side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the variants are the words")]
pub enum Pair {
    Ip,
    Port,
    As,
    Vlan,
    Mac,
    Mask,
    Interface,
    Ttl,
}

impl Pair {
    /// The word that users say.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Port => "port",
            Self::As => "as",
            Self::Vlan => "vlan",
            Self::Mac => "mac",
            Self::Mask => "mask",
            Self::Interface => "if",
            Self::Ttl => "ttl",
        }
    }

    /// The two fields: source and destination, ingress and egress, least and greatest.
    #[must_use]
    pub const fn fields(self) -> [Field; 2] {
        match self {
            Self::Ip => {
                [Field::Address(AddressRole::Source), Field::Address(AddressRole::Destination)]
            }
            Self::Port => [
                Field::Column(Column::SourceTransportPort),
                Field::Column(Column::DestinationTransportPort),
            ],
            Self::As => [
                Field::Column(Column::BgpSourceAsNumber),
                Field::Column(Column::BgpDestinationAsNumber),
            ],
            Self::Vlan => [Field::Column(Column::VlanId), Field::Column(Column::PostVlanId)],
            Self::Mac => [
                Field::Column(Column::SourceMacAddress),
                Field::Column(Column::DestinationMacAddress),
            ],
            Self::Mask => [Field::SourcePrefixLength, Field::DestinationPrefixLength],
            Self::Interface => {
                [Field::Column(Column::IngressInterface), Field::Column(Column::EgressInterface)]
            }
            Self::Ttl => [Field::Column(Column::MinimumTtl), Field::Column(Column::MaximumTtl)],
        }
    }
}

impl Field {
    /// The name under which [`find`] finds the field, and under which groups show it: the
    /// element's name where there is one, else the first alias.
    #[must_use]
    pub fn name(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Column(column) => column.name(),
            Self::Provenance(provenance) => provenance.name(),
            Self::Element(enterprise, id) => {
                return Cow::Owned(ie::display_name(enterprise, id));
            }
            Self::Address(AddressRole::Source) => "srcip",
            Self::Address(AddressRole::Destination) => "dstip",
            Self::Address(AddressRole::NextHop) => "nexthop",
            Self::Address(AddressRole::Exporter) => "router",
            Self::SourcePrefixLength => "srcmask",
            Self::DestinationPrefixLength => "dstmask",
            Self::Measure(Measure::Bytes) => "bytes",
            Self::Measure(Measure::Packets) => "packets",
            Self::Measure(Measure::Duration) => "duration",
            Self::Measure(Measure::BitsPerSecond) => "bps",
            Self::Measure(Measure::PacketsPerSecond) => "pps",
            Self::Measure(Measure::BytesPerPacket) => "bpp",
            Self::IcmpType => "icmp-type",
            Self::IcmpCode => "icmp-code",
        })
    }

    /// What its values are.
    #[must_use]
    pub fn field_type(self) -> FieldType {
        match self {
            Self::Column(column) => match column.kind() {
                ColumnKind::U8 | ColumnKind::U16 | ColumnKind::U32 | ColumnKind::U64 => {
                    FieldType::Number
                }
                ColumnKind::Ipv4 | ColumnKind::Ipv6 => FieldType::Address,
                ColumnKind::Mac => FieldType::Mac,
                ColumnKind::Millis => FieldType::Time,
            },
            Self::Provenance(Provenance::ExporterIpv4 | Provenance::ExporterIpv6)
            | Self::Address(_) => FieldType::Address,
            Self::Provenance(Provenance::ExportProtocol) => FieldType::Text,
            Self::Provenance(Provenance::ObservationDomain)
            | Self::SourcePrefixLength
            | Self::DestinationPrefixLength
            | Self::Measure(_)
            | Self::IcmpType
            | Self::IcmpCode => FieldType::Number,
            Self::Element(enterprise, id) => element_field_type(ie::element_type(enterprise, id)),
        }
    }

    /// The greatest number that the field can hold; none where it holds no numbers.
    #[must_use]
    pub fn number_max(self) -> Option<u64> {
        if self.field_type() != FieldType::Number {
            return None;
        }
        Some(match self {
            Self::Column(Column::TcpControlBits) => 0xfff,
            Self::Column(column) => u64::MAX >> (64 - 8 * column.kind().width()),
            Self::Provenance(_) => u64::from(u32::MAX),
            Self::SourcePrefixLength | Self::DestinationPrefixLength => 128,
            Self::IcmpType | Self::IcmpCode => 255,
            Self::Measure(_) | Self::Element(..) | Self::Address(_) => u64::MAX,
        })
    }

    /// Is it a number of which more means more traffic, so that the most come first?
    #[must_use]
    pub fn is_amount(self) -> bool {
        matches!(self, Self::Measure(_))
            || matches!(self, Self::Column(column) if column.is_volume())
    }
}

const fn element_field_type(element_type: ElementType) -> FieldType {
    match element_type {
        ElementType::Unsigned | ElementType::Signed | ElementType::Float => FieldType::Number,
        ElementType::Boolean => FieldType::Boolean,
        ElementType::MacAddress => FieldType::Mac,
        ElementType::String => FieldType::Text,
        ElementType::DateTimeSeconds
        | ElementType::DateTimeMilliseconds
        | ElementType::DateTimeMicroseconds
        | ElementType::DateTimeNanoseconds => FieldType::Time,
        ElementType::Ipv4Address | ElementType::Ipv6Address => FieldType::Address,
        ElementType::OctetArray
        | ElementType::BasicList
        | ElementType::SubTemplateList
        | ElementType::SubTemplateMultiList => FieldType::Octets,
    }
}

/// Does a column hold IPv4 addresses, which are stored as numbers?
#[must_use]
pub fn is_ipv4_column(name: &str) -> bool {
    Column::from_name(name).is_some_and(|column| column.kind() == ColumnKind::Ipv4)
        || name == Provenance::ExporterIpv4.name()
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Name {
    /// One field.
    Field(Field),
    /// Either of two.
    Pair(Pair),
}

/// The short names. The first of several for one field is the one that help pages show.
pub const ALIASES: &[(&str, Name)] = &[
    ("srcip", address(AddressRole::Source)),
    ("srcaddr", address(AddressRole::Source)),
    ("srcnet", address(AddressRole::Source)),
    ("dstip", address(AddressRole::Destination)),
    ("dstaddr", address(AddressRole::Destination)),
    ("dstnet", address(AddressRole::Destination)),
    ("srcip4", column(Column::SourceIpv4Address)),
    ("dstip4", column(Column::DestinationIpv4Address)),
    ("srcip6", column(Column::SourceIpv6Address)),
    ("dstip6", column(Column::DestinationIpv6Address)),
    ("ip", Name::Pair(Pair::Ip)),
    ("host", Name::Pair(Pair::Ip)),
    ("net", Name::Pair(Pair::Ip)),
    ("addr", Name::Pair(Pair::Ip)),
    ("srcport", column(Column::SourceTransportPort)),
    ("dstport", column(Column::DestinationTransportPort)),
    ("port", Name::Pair(Pair::Port)),
    ("proto", column(Column::ProtocolIdentifier)),
    ("protocol", column(Column::ProtocolIdentifier)),
    ("icmp-type", Name::Field(Field::IcmpType)),
    ("icmptype", Name::Field(Field::IcmpType)),
    ("icmp-code", Name::Field(Field::IcmpCode)),
    ("icmpcode", Name::Field(Field::IcmpCode)),
    ("bytes", measure(Measure::Bytes)),
    ("octets", measure(Measure::Bytes)),
    ("packets", measure(Measure::Packets)),
    ("pkts", measure(Measure::Packets)),
    ("inbytes", column(Column::OctetDeltaCount)),
    ("outbytes", column(Column::ReverseOctetDeltaCount)),
    ("inpackets", column(Column::PacketDeltaCount)),
    ("outpackets", column(Column::ReversePacketDeltaCount)),
    ("duration", measure(Measure::Duration)),
    ("bps", measure(Measure::BitsPerSecond)),
    ("pps", measure(Measure::PacketsPerSecond)),
    ("bpp", measure(Measure::BytesPerPacket)),
    ("start", column(Column::FlowStartMilliseconds)),
    ("first", column(Column::FlowStartMilliseconds)),
    ("end", column(Column::FlowEndMilliseconds)),
    ("last", column(Column::FlowEndMilliseconds)),
    ("received", column(Column::CollectionTimeMilliseconds)),
    ("flags", column(Column::TcpControlBits)),
    ("tos", column(Column::IpClassOfService)),
    ("srctos", column(Column::IpClassOfService)),
    ("dsttos", Name::Field(Field::Element(0, 55))),
    ("inif", column(Column::IngressInterface)),
    ("outif", column(Column::EgressInterface)),
    ("if", Name::Pair(Pair::Interface)),
    ("flowdir", column(Column::FlowDirection)),
    ("direction", column(Column::FlowDirection)),
    ("reason", column(Column::FlowEndReason)),
    ("srcvlan", column(Column::VlanId)),
    ("dstvlan", column(Column::PostVlanId)),
    ("vlan", Name::Pair(Pair::Vlan)),
    ("minttl", column(Column::MinimumTtl)),
    ("maxttl", column(Column::MaximumTtl)),
    ("ttl", Name::Pair(Pair::Ttl)),
    ("srcmac", column(Column::SourceMacAddress)),
    ("dstmac", column(Column::DestinationMacAddress)),
    ("mac", Name::Pair(Pair::Mac)),
    ("flowlabel", column(Column::FlowLabelIpv6)),
    ("srcas", column(Column::BgpSourceAsNumber)),
    ("dstas", column(Column::BgpDestinationAsNumber)),
    ("as", Name::Pair(Pair::As)),
    ("srcmask", Name::Field(Field::SourcePrefixLength)),
    ("dstmask", Name::Field(Field::DestinationPrefixLength)),
    ("mask", Name::Pair(Pair::Mask)),
    ("nexthop", address(AddressRole::NextHop)),
    ("fwdstat", column(Column::ForwardingStatus)),
    ("sampler", column(Column::SamplerId)),
    ("sequence", column(Column::ExportSequenceNumber)),
    ("router", address(AddressRole::Exporter)),
    ("exporter", address(AddressRole::Exporter)),
    ("domain", Name::Field(Field::Provenance(Provenance::ObservationDomain))),
    ("via", Name::Field(Field::Provenance(Provenance::ExportProtocol))),
    ("ethertype", Name::Field(Field::Element(0, 256))),
    ("invrf", Name::Field(Field::Element(0, 234))),
    ("outvrf", Name::Field(Field::Element(0, 235))),
];

const fn address(role: AddressRole) -> Name {
    Name::Field(Field::Address(role))
}

const fn column(column: Column) -> Name {
    Name::Field(Field::Column(column))
}

const fn measure(measure: Measure) -> Name {
    Name::Field(Field::Measure(measure))
}

/// What a name stands for, in any case of its letters.
///
/// ```
/// use flowd::query::field::find;
/// assert_eq!(find("srcport"), find("sourceTransportPort"));
/// assert_eq!(find("nonesuch"), None);
/// ```
#[must_use]
pub fn find(name: &str) -> Option<Name> {
    let alias = ALIASES.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(name));
    if let Some(&(_, stands_for)) = alias {
        return Some(stands_for);
    }
    find_element(name).map(Name::Field)
}

fn find_element(name: &str) -> Option<Field> {
    let is_named = |known: &str| known.eq_ignore_ascii_case(name);
    if let Some(&column) = Column::ALL.iter().find(|column| is_named(column.name())) {
        return Some(Field::Column(column));
    }
    if let Some(&provenance) = Provenance::ALL.iter().find(|it| is_named(it.name())) {
        return Some(Field::Provenance(provenance));
    }
    if let Some(element) = ie::find_by_name(name) {
        return Some(Field::Element(element.enterprise, element.id));
    }
    numbered_element(name)
}

/// `PEN:ID`, the way that elements without a name are shown. One that has a column or a name is
/// found by its number too, and is then the same as by its name.
fn numbered_element(name: &str) -> Option<Field> {
    let (enterprise, id) = name.split_once(':')?;
    let enterprise: u32 = parse_digits(enterprise)?;
    let id: u16 = parse_digits(id)?;
    let column = match enterprise {
        0 => Column::from_element(id),
        ie::PEN_REVERSE => Column::from_reverse_element(id),
        _ => None,
    };
    // A field type of NetFlow v9 may be an enterprise's element, and is stored as that.
    let (enterprise, id) = match enterprise {
        0 => ie::v9_element(id),
        _ => (enterprise, ie::foreign_number(enterprise, id)),
    };
    Some(column.map_or(Field::Element(enterprise, id), Field::Column))
}

/// A decimal number without sign; `parse` alone would take a plus.
fn parse_digits<T: std::str::FromStr>(text: &str) -> Option<T> {
    let plain = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// The known name nearest to a word that is none, if any is near: among the fields' names and
/// `others`.
#[must_use]
pub fn nearest<'a>(word: &str, others: impl IntoIterator<Item = &'a str>) -> Option<String> {
    const WORD_SIZE_MAX: usize = 48;
    if word.len() > WORD_SIZE_MAX {
        return None;
    }
    let word = word.to_ascii_lowercase();
    let distance_max = (word.chars().count() / 3).clamp(1, 3);
    let names = ALIASES.iter().map(|&(alias, _)| alias);
    let names = names.chain(Column::ALL.iter().map(|column| column.name()));
    let names = names.chain(Provenance::ALL.iter().map(|it| it.name()));
    let names = names.chain(ie::all().iter().map(|element| element.name));
    let learned = ie_learned::all();
    let names = names.chain(learned.iter().map(|element| element.name));
    others
        .into_iter()
        .chain(names)
        .map(|name| (edit_distance(&word, &name.to_ascii_lowercase()), name))
        .filter(|&(distance, _)| distance <= distance_max)
        // Of equally near ones, the word of which the first letters were typed.
        .min_by_key(|&(distance, name)| (distance, !name.starts_with(&word)))
        .map(|(_, name)| name.to_owned())
}

/// Least number of letters to insert, delete, replace or swap with their neighbour.
pub(crate) fn edit_distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let width = right.len() + 1;
    let mut costs = vec![0; (left.len() + 1) * width];
    for i in 0..=left.len() {
        for j in 0..width {
            let at = i * width + j;
            costs[at] = match (i, j) {
                (0, _) => j,
                (_, 0) => i,
                _ => {
                    let same = left[i - 1] == right[j - 1];
                    let replaced = costs[at - width - 1] + usize::from(!same);
                    let moved = (costs[at - width] + 1).min(costs[at - 1] + 1);
                    let swaps = i > 1
                        && j > 1
                        && left[i - 1] == right[j - 2]
                        && left[i - 2] == right[j - 1];
                    let swapped = if swaps { costs[at - 2 * width - 2] + 1 } else { usize::MAX };
                    replaced.min(moved).min(swapped)
                }
            };
        }
    }
    costs[left.len() * width + right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alias_and_element_is_found_in_any_case() {
        for &(alias, stands_for) in ALIASES {
            assert_eq!(find(&alias.to_uppercase()), Some(stands_for), "{alias}");
        }
        for &column in Column::ALL {
            let found = find(&column.name().to_lowercase());
            assert_eq!(found, Some(Name::Field(Field::Column(column))));
        }
        for provenance in Provenance::ALL {
            let found = find(provenance.name());
            assert_eq!(found, Some(Name::Field(Field::Provenance(provenance))));
        }
    }

    #[test]
    fn a_field_s_name_leads_back_to_it() {
        for &(_, stands_for) in ALIASES {
            match stands_for {
                Name::Field(field) => assert_eq!(find(&field.name()), Some(stands_for)),
                Name::Pair(pair) => assert_eq!(find(pair.name()), Some(stands_for)),
            }
        }
    }

    #[test]
    fn no_alias_stands_for_two_things() {
        let mut names: Vec<_> = ALIASES.iter().map(|(alias, _)| *alias).collect();
        names.extend(Column::ALL.iter().map(|column| column.name()));
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn elements_are_found_by_number() {
        assert_eq!(find("35632:168"), Some(Name::Field(Field::Element(35_632, 168))));
        // A field type of NetFlow v9 that is an enterprise's element.
        assert_eq!(find("0:57640"), find("35632:168"));
        assert_eq!(find("0:45003"), find("ciscoApplicationHttpHost"));
        assert_eq!(find("0:8"), find("sourceIPv4Address"));
        assert_eq!(find("29305:1"), find("reverseOctetDeltaCount"));
        assert_eq!(find("+1:2"), None);
        assert_eq!(find("1:65536"), None);
    }

    #[test]
    fn the_nearest_name_is_offered() {
        assert_eq!(nearest("srcprot", []).as_deref(), Some("srcport"));
        assert_eq!(nearest("bytse", []).as_deref(), Some("bytes"));
        assert_eq!(nearest("prot", ["proto"]).as_deref(), Some("proto"));
        assert_eq!(nearest("octetDeltaCuont", []).as_deref(), Some("octetDeltaCount"));
        assert_eq!(nearest("zzzzzzzz", []), None);
        assert_eq!(nearest(&"x".repeat(1 << 20), []), None);
    }

    #[cfg(feature = "archive")]
    #[test]
    fn provenance_bears_the_archive_s_names() {
        use crate::archive::schema;
        let names = Provenance::ALL.map(Provenance::name);
        let expected = [
            schema::EXPORTER_IPV4,
            schema::EXPORTER_IPV6,
            schema::OBSERVATION_DOMAIN,
            schema::EXPORT_PROTOCOL,
        ];
        assert_eq!(names, expected);
    }
}
