//! Plan: what a query asks for, checked and resolved before anything is read.

use super::QueryError;
use super::field::{self, AddressRole, Field, FieldType, Measure, Name, Provenance};
use super::filter::{self, Filter};
use super::prune::Probes;
use super::quantity::shortened;
use super::row::Heading;
use super::time_range::TimeRange;
use crate::model::Column;
use crate::model::time::UnixMillis;
use std::str::FromStr;

/// Groups that one query can hold at a time: up to some 600 MB in each thread.
pub const GROUPS_MAX: usize = 4 << 20;
/// Records that one query can sort.
pub const SORTED_RECORDS_MAX: usize = 1_000_000;
/// Keys that one query can group by.
pub const KEYS_MAX: usize = 16;

/// What the user asks for.
#[derive(Clone, Debug, Default)]
pub struct QueryRequest {
    /// Which records; none means all.
    pub filter: Option<String>,
    /// From which time.
    pub time_range: TimeRange,
    /// Grouped by what.
    pub aggregate: Option<Keys>,
    /// In which order. Groups come with the most octets first if this is none, records as they
    /// are stored: newest part first.
    pub sort: Option<Sort>,
    /// How many rows at most.
    pub limit: Option<usize>,
    /// One row with the sums of all records.
    pub summary: bool,
}

/// What a group has in common.
///
/// ```
/// let keys: flowd::query::Keys = "srcip/24,dstport".parse()?;
/// assert!("bytes".parse::<flowd::query::Keys>().is_err());
/// # Ok::<(), flowd::query::QueryError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys(Vec<Key>);

/// One key: a field, or either field of a pair, perhaps cut to a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) name: Name,
    /// Leading bits of an IPv4 address that count.
    pub(super) ipv4_length: u8,
    /// Leading bits of an IPv6 address that count.
    pub(super) ipv6_length: u8,
}

/// The order of rows: `FIELD[:asc|desc]`.
///
/// ```
/// let most_first: flowd::query::Sort = "bytes".parse()?;
/// assert_eq!(most_first, "bytes:desc".parse()?);
/// # Ok::<(), flowd::query::QueryError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    by: SortBy,
    /// As the user said, else as the field suggests: amounts with the most first.
    descending: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SortBy {
    Flows,
    Name(Name),
}

/// How many rows, groups and threads a query may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Groups at a time.
    pub groups_max: usize,
    /// Records to sort.
    pub sorted_records_max: usize,
    /// Threads that aggregate.
    pub workers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            groups_max: GROUPS_MAX,
            sorted_records_max: SORTED_RECORDS_MAX,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// A query that can be run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(super) filter: Filter,
    pub(super) time_range: TimeRange,
    pub(super) answer: Answer,
    pub(super) limit: Option<usize>,
    pub(super) limits: Limits,
}

#[derive(Clone, Debug)]
pub(super) enum Answer {
    Records(Option<RecordOrder>),
    Groups(Keys, GroupOrder),
    Summary,
}

/// The order of records.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordOrder {
    pub(super) field: Field,
    pub(super) descending: bool,
}

/// The order of groups.
#[derive(Clone, Copy, Debug)]
pub(super) struct GroupOrder {
    pub(super) by: GroupValue,
    pub(super) descending: bool,
}

/// What groups are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GroupValue {
    Flows,
    Start,
    End,
    Measure(Measure),
    /// A key, by its place.
    Key(usize),
}

impl Plan {
    /// Checks a request. Times such as `-1h` in its filter count from `now`.
    pub fn new(request: &QueryRequest, now: UnixMillis) -> Result<Self, QueryError> {
        let filter = filter::parse(request.filter.as_deref().unwrap_or_default(), now)?;
        let answer = match (&request.aggregate, request.summary) {
            (Some(_), true) => {
                return Err(QueryError::usage("--summary is one row: leave out -a"));
            }
            (None, true) if request.sort.is_some() => {
                return Err(QueryError::usage("--summary is one row: leave out -s"));
            }
            (None, true) => Answer::Summary,
            (Some(keys), false) => {
                let order = match request.sort {
                    Some(sort) => sort.group_order(keys)?,
                    None => {
                        GroupOrder { by: GroupValue::Measure(Measure::Bytes), descending: true }
                    }
                };
                Answer::Groups(keys.clone(), order)
            }
            (None, false) => Answer::Records(request.sort.map(Sort::record_order).transpose()?),
        };
        Ok(Self {
            filter,
            time_range: request.time_range,
            answer,
            limit: request.limit,
            limits: Limits::default(),
        })
    }

    /// The same with other limits.
    #[must_use]
    pub const fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The time that is asked about.
    #[must_use]
    pub const fn time_range(&self) -> TimeRange {
        self.time_range
    }

    /// What an index can say of its filter.
    #[must_use]
    pub fn probes(&self) -> Probes {
        Probes::new(&self.filter.expr)
    }

    /// What the author of the filter should know of how it was read: for stderr.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.filter.notes
    }

    /// The columns of the answer; none if its rows are records, which differ in what they have.
    #[must_use]
    pub fn headings(&self) -> Option<Vec<Heading>> {
        let keys = match &self.answer {
            Answer::Records(_) => return None,
            Answer::Groups(keys, _) => keys.0.as_slice(),
            Answer::Summary => &[],
        };
        let counters = COUNTERS.iter().map(|&(label, name)| Heading {
            label: label.to_owned(),
            names: vec![name.to_owned()],
        });
        let keys = keys.iter().map(|key| Heading { label: key.label(), names: key.names() });
        Some(keys.chain(counters).collect())
    }
}

/// What every group and summary says, by short and by full name.
const COUNTERS: [(&str, &str); 5] = [
    ("flows", FLOW_COUNT),
    ("packets", Column::PacketDeltaCount.name()),
    ("bytes", Column::OctetDeltaCount.name()),
    ("start", Column::FlowStartMilliseconds.name()),
    ("end", Column::FlowEndMilliseconds.name()),
];

/// How many records a group has: IE 3.
pub(super) const FLOW_COUNT: &str = "deltaFlowCount";

impl Keys {
    pub(super) fn as_slice(&self) -> &[Key] {
        &self.0
    }
}

impl FromStr for Keys {
    type Err = QueryError;

    /// `srcip,dstport`; addresses may be cut to a prefix: `srcip/24`, or `srcip/24/48` to say
    /// that of IPv6 too, which else is 64.
    fn from_str(text: &str) -> Result<Self, QueryError> {
        let keys: Vec<Key> =
            text.split(',').map(|key| Key::parse(key.trim())).collect::<Result<_, _>>()?;
        if keys.len() > KEYS_MAX {
            return Err(QueryError::usage(format!("more than {KEYS_MAX} keys to group by")));
        }
        let pairs = keys.iter().filter(|key| matches!(key.name, Name::Pair(_)));
        if pairs.count() > 1 {
            let message =
                "only one key can mean either side: say `src..` and `dst..` for the others";
            return Err(QueryError::usage(message));
        }
        Ok(Self(keys))
    }
}

impl Key {
    fn parse(text: &str) -> Result<Self, QueryError> {
        const IPV6_LENGTH: u8 = 64;
        let mut parts = text.split('/');
        let word = parts.next().unwrap_or_default();
        let name = field::find(word).ok_or_else(|| unknown_field(word))?;
        let field = match name {
            Name::Field(field) => field,
            Name::Pair(pair) => {
                let [first, _] = pair.fields();
                first
            }
        };
        if let Field::Measure(_) = field {
            let message =
                format!("`{word}` is a measure: group by a key, and order with -s {word}");
            return Err(QueryError::usage(message));
        }
        let lengths: Vec<u8> = parts
            .map(|part| u8::from_str(part).ok().filter(|&length| length <= 128))
            .collect::<Option<_>>()
            .ok_or_else(|| bad_prefix(text))?;
        if !lengths.is_empty() && field.field_type() != FieldType::Address {
            return Err(bad_prefix(text));
        }
        let (ipv4_length, ipv6_length) = match *lengths.as_slice() {
            [] => (32, 128),
            [length] if length <= 32 && is_ipv6_only(field) => (32, length),
            [length] if length <= 32 => (length, IPV6_LENGTH),
            // No IPv4 prefix is that long, so it is meant for IPv6.
            [length] => (32, length),
            [ipv4, ipv6] if ipv4 <= 32 => (ipv4, ipv6),
            _ => return Err(bad_prefix(text)),
        };
        Ok(Self { name, ipv4_length, ipv6_length })
    }

    /// The fields that the key's values come from: one, or two in turn.
    pub(super) fn fields(&self) -> Vec<Field> {
        match self.name {
            Name::Field(field) => vec![field],
            Name::Pair(pair) => pair.fields().to_vec(),
        }
    }

    fn label(&self) -> String {
        let word = match self.name {
            Name::Field(field) => alias_of(field),
            Name::Pair(pair) => pair.name().to_owned(),
        };
        if self.ipv4_length == 32 && self.ipv6_length == 128 {
            word
        } else {
            format!("{word}/{}/{}", self.ipv4_length, self.ipv6_length)
        }
    }

    /// The names that the key's values come under: of an address, that of either family.
    pub(super) fn names(&self) -> Vec<String> {
        let names: &[&str] = match self.name {
            Name::Field(Field::Address(role)) => match role {
                AddressRole::Source => {
                    &[Column::SourceIpv4Address.name(), Column::SourceIpv6Address.name()]
                }
                AddressRole::Destination => {
                    &[Column::DestinationIpv4Address.name(), Column::DestinationIpv6Address.name()]
                }
                AddressRole::NextHop => {
                    &[Column::IpNextHopIpv4Address.name(), Column::IpNextHopIpv6Address.name()]
                }
                AddressRole::Exporter => {
                    &[Provenance::ExporterIpv4.name(), Provenance::ExporterIpv6.name()]
                }
            },
            Name::Field(field) => return vec![field.name().into_owned()],
            Name::Pair(pair) => &[pair.name()],
        };
        names.iter().map(|&name| name.to_owned()).collect()
    }
}

fn is_ipv6_only(field: Field) -> bool {
    matches!(field, Field::Column(column) if column.kind() == crate::model::ColumnKind::Ipv6)
}

/// The first short name of a field, else its full one.
fn alias_of(field: Field) -> String {
    let alias = field::ALIASES.iter().find(|(_, name)| *name == Name::Field(field));
    alias.map_or_else(|| field.name().into_owned(), |(alias, _)| (*alias).to_owned())
}

fn unknown_field(word: &str) -> QueryError {
    let shown = shortened(word);
    QueryError::usage(match field::nearest(word, []) {
        Some(near) => format!("unknown field `{shown}`: did you mean `{near}`?"),
        None => format!("unknown field `{shown}`: see `flowd query --help` for the fields"),
    })
}

fn bad_prefix(text: &str) -> QueryError {
    QueryError::usage(format!(
        "`{}` is not a key: only addresses take prefix lengths, such as srcip/24 or srcip/24/48",
        shortened(text)
    ))
}

impl FromStr for Sort {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        let (word, descending) = match text.rsplit_once(':') {
            Some((word, order)) if order.eq_ignore_ascii_case("asc") => (word, Some(false)),
            Some((word, order)) if order.eq_ignore_ascii_case("desc") => (word, Some(true)),
            Some((word, order)) if field::find(word).is_some() && field::find(text).is_none() => {
                let (word, order) = (shortened(word), shortened(order));
                return Err(QueryError::usage(format!(
                    "`{order}` is no order: write {word}:asc for the least first, {word}:desc for \
                     the most first"
                )));
            }
            // `PEN:ID` has a colon of its own.
            _ => (text, None),
        };
        let by = if word.eq_ignore_ascii_case("flows") || word.eq_ignore_ascii_case(FLOW_COUNT) {
            SortBy::Flows
        } else {
            SortBy::Name(field::find(word).ok_or_else(|| unknown_field(word))?)
        };
        let is_amount = match by {
            SortBy::Flows => true,
            SortBy::Name(Name::Field(field)) => field.is_amount(),
            SortBy::Name(Name::Pair(_)) => false,
        };
        Ok(Self { by, descending: descending.unwrap_or(is_amount) })
    }
}

impl Sort {
    fn record_order(self) -> Result<RecordOrder, QueryError> {
        match self.by {
            SortBy::Name(Name::Field(field)) => {
                Ok(RecordOrder { field, descending: self.descending })
            }
            SortBy::Name(Name::Pair(pair)) => Err(QueryError::usage(format!(
                "-s {}: say which side, such as src{0} or dst{0}",
                pair.name()
            ))),
            SortBy::Flows => Err(QueryError::usage("-s flows orders groups: add -a KEYS")),
        }
    }

    fn group_order(self, keys: &Keys) -> Result<GroupOrder, QueryError> {
        let by_key = |name| keys.0.iter().position(|key| key.name == name).map(GroupValue::Key);
        let by = match self.by {
            SortBy::Flows => Some(GroupValue::Flows),
            SortBy::Name(name) => match name {
                Name::Field(Field::Measure(measure)) => Some(GroupValue::Measure(measure)),
                Name::Field(Field::Column(Column::OctetDeltaCount)) => {
                    Some(GroupValue::Measure(Measure::Bytes))
                }
                Name::Field(Field::Column(Column::PacketDeltaCount)) => {
                    Some(GroupValue::Measure(Measure::Packets))
                }
                Name::Field(Field::Column(Column::FlowStartMilliseconds)) => {
                    Some(by_key(name).unwrap_or(GroupValue::Start))
                }
                Name::Field(Field::Column(Column::FlowEndMilliseconds)) => {
                    Some(by_key(name).unwrap_or(GroupValue::End))
                }
                _ => by_key(name),
            },
        };
        by.map(|by| GroupOrder { by, descending: self.descending }).ok_or_else(|| {
            QueryError::usage(
                "groups are ordered by one of their keys, flows, packets, bytes, pps, bps, bpp, \
                 duration, start or end",
            )
        })
    }
}

/// What `flowd top` asks for: `KEYS/FIELD`, such as `srcip/bytes` or `srcip/24,dstport/flows`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Top {
    /// Grouped by what.
    pub keys: Keys,
    /// The most of what.
    pub sort: Sort,
}

/// Rows of `flowd top` where no other number is asked for.
pub const TOP_LIMIT: usize = 10;

impl FromStr for Top {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        let form = || {
            QueryError::usage(format!(
                "`{}` is not KEYS/FIELD, such as srcip/bytes or srcip,dstport/flows; \
                 FIELD is flows, packets, bytes, pps, bps, bpp or duration",
                shortened(text)
            ))
        };
        let (keys, field) = text.rsplit_once('/').ok_or_else(form)?;
        let sort: Sort = field.parse().map_err(|_unknown: QueryError| form())?;
        let keys: Keys = keys.parse()?;
        let is_amount =
            matches!(sort.by, SortBy::Flows | SortBy::Name(Name::Field(Field::Measure(_))));
        if is_amount { Ok(Self { keys, sort }) } else { Err(form()) }
    }
}
