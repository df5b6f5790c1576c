//! Evaluation: Expr -> Predicate, and a batch -> a bit a row. Column by column, never row by
//! row but for elements that have no column.

use super::super::columns::{
    self, Numbers, Stored, StoredColumn, add_columns, address_columns, bits, column_numbers,
    prefix_length_columns, present, stored,
};
use super::super::field::{Field, Pair};
use super::ast::{Comparison, Expr, Family, NumberRange, Subject, Term, Test};
use super::ranges::Ranges;
use crate::model::time::UnixMillis;
use crate::model::{Column, List, Value, element_value, ie, unsigned};
use arrow_array::{Array, RecordBatch};
use arrow_buffer::BooleanBuffer;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// A filter made ready: sets sorted, comparisons turned into ranges.
#[derive(Clone, Debug)]
pub(in crate::query) struct Predicate {
    node: Node,
    columns: BTreeSet<usize>,
}

#[derive(Clone, Debug)]
enum Node {
    All,
    Family(Family),
    /// Records of TCP whose flags, under the mask, lie in the set.
    Flags {
        mask: u64,
        set: Ranges<u64>,
    },
    Test(Box<Leaf>),
    Not(Box<Self>),
    And(Vec<Self>),
    Or(Vec<Self>),
}

#[derive(Clone, Debug)]
struct Leaf {
    subject: Subject,
    check: Check,
    /// Values that are there and not in the set.
    negated: bool,
}

/// A set of values to look for.
#[derive(Clone, Debug)]
enum Check {
    Numbers {
        set: Ranges<u64>,
        /// How it was written: elements may be fractions or negative.
        written: Vec<Written>,
    },
    Times(Ranges<i64>),
    Addresses {
        ipv4: Ranges<u32>,
        ipv6: Ranges<u128>,
    },
    Macs(BTreeSet<[u8; 6]>),
    Texts(BTreeSet<String>),
    Octets(BTreeSet<Vec<u8>>),
    Boolean(bool),
}

#[derive(Clone, Copy, Debug)]
enum Written {
    Comparison(Comparison, u64),
    Range(NumberRange),
}

impl Predicate {
    /// Makes a filter ready.
    pub(in crate::query) fn new(expr: &Expr) -> Self {
        let mut columns = BTreeSet::new();
        let node = compile(expr, &mut columns);
        Self { node, columns }
    }

    /// Does it let every record through?
    pub(in crate::query) const fn is_all(&self) -> bool {
        matches!(self.node, Node::All)
    }

    /// The columns that it reads, by their place in the schema.
    pub(in crate::query) const fn columns(&self) -> &BTreeSet<usize> {
        &self.columns
    }

    /// A bit a row: does it match?
    pub(in crate::query) fn evaluate(&self, batch: &RecordBatch) -> BooleanBuffer {
        evaluate(&self.node, batch)
    }
}

fn compile(expr: &Expr, columns: &mut BTreeSet<usize>) -> Node {
    match expr {
        Expr::Term(term) => compile_term(term, columns),
        Expr::Not(inner) => Node::Not(Box::new(compile(inner, columns))),
        Expr::And(members) => Node::And(compile_all(members, columns)),
        Expr::Or(members) => Node::Or(compile_all(members, columns)),
    }
}

fn compile_all(members: &[Expr], columns: &mut BTreeSet<usize>) -> Vec<Node> {
    members.iter().map(|member| compile(member, columns)).collect()
}

fn compile_term(term: &Term, columns: &mut BTreeSet<usize>) -> Node {
    let mut add = |column| add_columns(Field::Column(column), columns);
    match term {
        Term::Any => Node::All,
        Term::Family(family) => {
            family_columns(*family).into_iter().for_each(add);
            Node::Family(*family)
        }
        Term::Flags { mask, bits } => {
            [Column::ProtocolIdentifier, Column::TcpControlBits].into_iter().for_each(add);
            Node::Flags {
                mask: u64::from(*mask),
                set: Ranges::new(vec![(u64::from(*bits), u64::from(*bits))]),
            }
        }
        Term::FlagsNumber(comparison, number) => {
            add(Column::ProtocolIdentifier);
            add(Column::TcpControlBits);
            Node::Flags {
                mask: FLAGS_MASK,
                set: number_ranges(*comparison, *number, Complement::Taken),
            }
        }
        Term::Test(subject, test) => {
            for field in fields_of(*subject) {
                add_columns(field, columns);
            }
            Node::Test(Box::new(Leaf {
                subject: *subject,
                check: compile_test(test),
                negated: test.is_negated(),
            }))
        }
    }
}

/// The bits of tcpControlBits that are flags.
const FLAGS_MASK: u64 = crate::model::TcpControlBits::MASK as u64;

const fn family_columns(family: Family) -> [Column; 2] {
    match family {
        Family::Ipv4 => [Column::SourceIpv4Address, Column::DestinationIpv4Address],
        Family::Ipv6 => [Column::SourceIpv6Address, Column::DestinationIpv6Address],
    }
}

fn fields_of(subject: Subject) -> Vec<Field> {
    match subject {
        Subject::Field(field) => vec![field],
        Subject::Either(pair) | Subject::Both(pair) => pair.fields().to_vec(),
    }
}

fn compile_test(test: &Test) -> Check {
    match test {
        Test::Number(comparison, number) => Check::Numbers {
            set: number_ranges(*comparison, *number, Complement::Left),
            written: vec![Written::Comparison(positive(*comparison), *number)],
        },
        Test::Numbers { ranges, .. } => Check::Numbers {
            set: Ranges::new(ranges.iter().map(|range| (range.first, range.last)).collect()),
            written: ranges.iter().copied().map(Written::Range).collect(),
        },
        Test::Time(comparison, time) => Check::Times(time_ranges(*comparison, *time)),
        Test::Addresses { prefixes, .. } => Check::Addresses {
            ipv4: Ranges::new(prefixes.iter().filter_map(|prefix| prefix.ipv4_range()).collect()),
            ipv6: Ranges::new(prefixes.iter().filter_map(|prefix| prefix.ipv6_range()).collect()),
        },
        Test::Macs { addresses, .. } => Check::Macs(addresses.iter().copied().collect()),
        Test::Texts { texts, .. } => Check::Texts(texts.iter().cloned().collect()),
        Test::Octets { values, .. } => Check::Octets(values.iter().cloned().collect()),
        Test::Boolean(value) => Check::Boolean(*value),
    }
}

/// `!=` looks for the value itself, and the leaf turns the result around.
const fn positive(comparison: Comparison) -> Comparison {
    match comparison {
        Comparison::NotEqual => Comparison::Equal,
        other => other,
    }
}

/// Is what `!=` asks for put into the set, or left to the leaf?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Complement {
    Taken,
    Left,
}

fn number_ranges(comparison: Comparison, number: u64, complement: Complement) -> Ranges<u64> {
    let below = number.checked_sub(1).map(|last| (0, last));
    let above = number.checked_add(1).map(|first| (first, u64::MAX));
    let ranges = match comparison {
        Comparison::NotEqual if complement == Complement::Taken => [below, above],
        Comparison::Equal | Comparison::NotEqual => [Some((number, number)), None],
        Comparison::Greater => [above, None],
        Comparison::Less => [below, None],
        Comparison::GreaterOrEqual => [Some((number, u64::MAX)), None],
        Comparison::LessOrEqual => [Some((0, number)), None],
    };
    Ranges::new(ranges.into_iter().flatten().collect())
}

fn time_ranges(comparison: Comparison, UnixMillis(time): UnixMillis) -> Ranges<i64> {
    let range = match comparison {
        Comparison::Equal | Comparison::NotEqual => Some((time, time)),
        Comparison::Greater => time.checked_add(1).map(|first| (first, i64::MAX)),
        Comparison::Less => time.checked_sub(1).map(|last| (i64::MIN, last)),
        Comparison::GreaterOrEqual => Some((time, i64::MAX)),
        Comparison::LessOrEqual => Some((i64::MIN, time)),
    };
    Ranges::new(range.into_iter().collect())
}

fn evaluate(node: &Node, batch: &RecordBatch) -> BooleanBuffer {
    let rows = batch.num_rows();
    match node {
        Node::All => BooleanBuffer::new_set(rows),
        Node::Family(family) => {
            let [source, destination] = family_columns(*family);
            &present(batch, source.name()) | &present(batch, destination.name())
        }
        Node::Flags { mask, set } => flags(batch, *mask, set),
        Node::Test(leaf) => test(batch, leaf),
        Node::Not(inner) => !&evaluate(inner, batch),
        Node::And(members) => {
            let mut selected = BooleanBuffer::new_set(rows);
            for member in members {
                selected = &selected & &evaluate(member, batch);
                if !selected.has_true() {
                    break;
                }
            }
            selected
        }
        Node::Or(members) => {
            let mut selected = BooleanBuffer::new_unset(rows);
            for member in members {
                selected = &selected | &evaluate(member, batch);
                if !selected.has_false() {
                    break;
                }
            }
            selected
        }
    }
}

fn flags(batch: &RecordBatch, mask: u64, set: &Ranges<u64>) -> BooleanBuffer {
    const TCP: u64 = 6;
    let protocols = column_numbers(batch, Column::ProtocolIdentifier);
    let flags = column_numbers(batch, Column::TcpControlBits);
    let is_tcp = bits(&protocols.values, |protocol| protocol == TCP);
    let masked: Vec<u64> = flags.values.iter().map(|value| value & mask).collect();
    &(&is_tcp & &set.select(&masked)) & &flags.present()
}

fn test(batch: &RecordBatch, leaf: &Leaf) -> BooleanBuffer {
    let hits = |field| hits(batch, field, &leaf.check);
    let there = |field| there(batch, field);
    let two = |pair: Pair| pair.fields();
    match (leaf.subject, leaf.negated) {
        (Subject::Field(field), false) => hits(field),
        (Subject::Field(field), true) => &there(field) & &!&hits(field),
        (Subject::Either(pair), false) => {
            let [first, second] = two(pair);
            &hits(first) | &hits(second)
        }
        (Subject::Either(pair), true) => {
            let [first, second] = two(pair);
            let any_there = &there(first) | &there(second);
            &any_there & &!&(&hits(first) | &hits(second))
        }
        (Subject::Both(pair), false) => {
            let [first, second] = two(pair);
            &hits(first) & &hits(second)
        }
        (Subject::Both(pair), true) => {
            let [first, second] = two(pair);
            let both_there = &there(first) & &there(second);
            &both_there & &!&(&hits(first) | &hits(second))
        }
    }
}

/// Which rows have a value of the field.
fn there(batch: &RecordBatch, field: Field) -> BooleanBuffer {
    match field {
        Field::Column(column) => present(batch, column.name()),
        Field::Provenance(provenance) => present(batch, provenance.name()),
        Field::Address(role) => {
            let [ipv4, ipv6] = address_columns(role);
            &present(batch, ipv4) | &present(batch, ipv6)
        }
        Field::SourcePrefixLength | Field::DestinationPrefixLength => {
            let [ipv4, ipv6] = prefix_length_columns(field).map(Column::name);
            &present(batch, ipv4) | &present(batch, ipv6)
        }
        Field::Measure(measure) => columns::measure(batch, measure).present(),
        Field::IcmpType | Field::IcmpCode => columns::icmp(batch, field).present(),
        Field::Element(enterprise, id) => {
            columns::elements(batch, enterprise, id).map(|value| value.is_some()).collect()
        }
    }
}

/// Which rows have a value of the field that is in the set.
fn hits(batch: &RecordBatch, field: Field, check: &Check) -> BooleanBuffer {
    match field {
        Field::Column(column) => column_hits(batch, column.name(), check),
        Field::Provenance(provenance) => column_hits(batch, provenance.name(), check),
        Field::Address(role) => {
            let [ipv4, ipv6] = address_columns(role);
            &column_hits(batch, ipv4, check) | &column_hits(batch, ipv6, check)
        }
        Field::SourcePrefixLength | Field::DestinationPrefixLength => {
            let [ipv4, ipv6] = prefix_length_columns(field).map(Column::name);
            &column_hits(batch, ipv4, check) | &column_hits(batch, ipv6, check)
        }
        Field::Measure(measure) => number_hits(&columns::measure(batch, measure), check),
        Field::IcmpType | Field::IcmpCode => number_hits(&columns::icmp(batch, field), check),
        Field::Element(enterprise, id) => {
            let element_type = ie::element_type(enterprise, id);
            columns::elements(batch, enterprise, id)
                .map(|octets| {
                    octets.is_some_and(|octets| check.holds(element_value(element_type, octets)))
                })
                .collect()
        }
    }
}

fn number_hits(numbers: &Numbers<'_>, check: &Check) -> BooleanBuffer {
    let Check::Numbers { set, .. } = check else {
        return BooleanBuffer::new_unset(numbers.values.len());
    };
    let selected = set.select(&numbers.values);
    match &numbers.present {
        Some(present) => &selected & present,
        None => selected,
    }
}

fn column_hits(batch: &RecordBatch, name: &str, check: &Check) -> BooleanBuffer {
    let none = || BooleanBuffer::new_unset(batch.num_rows());
    let Some(column) = stored(batch, name) else {
        return none();
    };
    let selected = match (column.values, check) {
        (Stored::U8(values), Check::Numbers { set, .. }) => set.narrowed(0, u8::MAX).select(values),
        (Stored::U16(values), Check::Numbers { set, .. })
            if name == Column::TcpControlBits.name() =>
        {
            bits(values, |flags| set.contains(u64::from(flags) & FLAGS_MASK))
        }
        (Stored::U16(values), Check::Numbers { set, .. }) => {
            set.narrowed(0, u16::MAX).select(values)
        }
        (Stored::U32(values), Check::Numbers { set, .. }) => {
            set.narrowed(0, u32::MAX).select(values)
        }
        (Stored::U64(values), Check::Numbers { set, .. }) => set.select(values),
        (Stored::U32(values), Check::Addresses { ipv4, .. }) => ipv4.select(values),
        (Stored::Octets16(_), Check::Addresses { ipv6, .. }) if ipv6.is_empty() => return none(),
        (Stored::Octets16(values), Check::Addresses { ipv6, .. }) => {
            bits(values, |octets| ipv6.contains(u128::from_be_bytes(octets)))
        }
        (Stored::I64(values), Check::Times(set)) => set.select(values),
        (Stored::Octets6(values), Check::Macs(set)) => bits(values, |mac| set.contains(&mac)),
        (Stored::Text(values), Check::Texts(set)) => {
            let is_in = |row| values.is_valid(row) && set.contains(values.value(row));
            (0..values.len()).map(is_in).collect()
        }
        _ => return none(),
    };
    StoredColumn::masked(&column, selected)
}

impl Check {
    /// Is an element's value in the set?
    fn holds(&self, value: Value<'_>) -> bool {
        match (self, value) {
            (Self::Numbers { set, .. }, Value::Unsigned(number)) => set.contains(number),
            (Self::Numbers { set, .. }, Value::Octets(octets)) => {
                unsigned(octets).is_some_and(|number| set.contains(number))
            }
            (Self::Numbers { set, written }, Value::Signed(number)) => {
                match u64::try_from(number) {
                    Ok(number) => set.contains(number),
                    // Below zero, only `<` and `<=` hold.
                    Err(_) => written.iter().any(|it| it.holds(-1.0)),
                }
            }
            (Self::Numbers { written, .. }, Value::Float(number)) => {
                written.iter().any(|it| it.holds(number))
            }
            (Self::Times(set), Value::Millis(millis)) => set.contains(millis),
            (Self::Addresses { ipv4, .. }, Value::Address(IpAddr::V4(address))) => {
                ipv4.contains(address.to_bits())
            }
            (Self::Addresses { ipv6, .. }, Value::Address(IpAddr::V6(address))) => {
                ipv6.contains(address.to_bits())
            }
            (Self::Macs(set), Value::Mac(mac)) => set.contains(&mac),
            (Self::Texts(set), Value::Text(_) | Value::BrokenText(_)) => {
                value.text().is_some_and(|text| set.contains(&*text))
            }
            (Self::Octets(set), Value::Octets(octets) | Value::List(List { octets, .. })) => {
                set.contains(octets)
            }
            (Self::Boolean(wanted), Value::Boolean(value)) => *wanted == value,
            _ => false,
        }
    }
}

impl Written {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a fraction is compared with the number that the user wrote, to 53 bits"
    )]
    fn holds(self, value: f64) -> bool {
        match self {
            Self::Comparison(comparison, number) => comparison.holds(&value, &(number as f64)),
            Self::Range(range) => range.first as f64 <= value && value <= range.last as f64,
        }
    }
}
