//! What texts mean, what is wrong with others, and that no text breaks the parser.

use super::*;
use crate::model::Column;
use crate::query::field::{ALIASES, AddressRole, Field, Measure, Name, Pair, Provenance};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// 2026-03-01T09:15:00Z.
const NOW: UnixMillis = UnixMillis(1_772_356_500_000);

/// Filters of nfdump, tcpdump and our own; the snapshot shows how each is read.
const READ: &str = include_str!("cases/read.txt");
/// Texts that are no filters; the snapshot shows what users are told.
const REFUSED: &str = include_str!("cases/refused.txt");

fn cases(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.is_empty())
}

#[test]
fn filters_are_read_as_expected() {
    let mut readings = String::new();
    for text in cases(READ) {
        match parse(text, NOW) {
            Ok(filter) => {
                writeln!(readings, "{text}\n    {}", filter.expr).unwrap();
                for note in filter.notes {
                    writeln!(readings, "    note: {note}").unwrap();
                }
            }
            Err(error) => panic!("{text}: {error}"),
        }
    }
    insta::assert_snapshot!(readings);
}

#[test]
fn a_reading_is_read_as_itself() {
    for text in cases(READ) {
        let filter = parse(text, NOW).unwrap();
        let again = parse(&filter.expr.to_string(), NOW).unwrap();
        assert_eq!(again.expr, filter.expr, "{text}");
    }
}

#[test]
fn errors_name_the_place_and_the_remedy() {
    let mut errors = String::new();
    for text in cases(REFUSED) {
        match parse(text, NOW) {
            Ok(filter) => panic!("{text} was read as {}", filter.expr),
            Err(error) => writeln!(errors, "{error}\n").unwrap(),
        }
    }
    insta::assert_snapshot!(errors);
}

/// Elements without a column: how they are shown depends on the registry's table.
#[test]
fn nfdump_s_words_for_elements_are_read() {
    for (text, id) in [
        ("dst tos 4", 55),
        ("next as 5", 128),
        ("prev as = 6", 129),
        ("out src mac 00:11:22:33:44:55", 81),
        ("out dst mac 00:11:22:33:44:55", 57),
        ("ethertype 2048", 256),
        ("ingress vrf 5", 234),
        ("egress vrf > 3", 235),
        ("observation point id = 9", 138),
    ] {
        match parse(text, NOW).unwrap().expr {
            Expr::Term(Term::Test(Subject::Field(Field::Element(0, found)), _)) => {
                assert_eq!(found, id, "{text}");
            }
            other => panic!("{text} was read as {other}"),
        }
    }
}

#[test]
fn an_empty_filter_takes_everything() {
    for text in ["", "  \n", "# nothing but words"] {
        assert_eq!(parse(text, NOW).unwrap().expr, Expr::Term(Term::Any));
    }
}

#[test]
fn each_limit_is_named_in_one_line() {
    let too_long = " ".repeat(FILTER_SIZE_MAX + 1);
    let too_deep = "(".repeat(FILTER_DEPTH_MAX + 1);
    let too_many = vec!["any"; FILTER_TERMS_MAX + 1].join(" or ");
    let too_wide = format!("port in [{}]", "80 ".repeat(FILTER_SET_MAX + 1));
    let too_wide_list = format!("port 1{}", " or 2".repeat(FILTER_SET_MAX));
    for (text, limit) in [
        (too_long, FILTER_SIZE_MAX),
        (too_deep, FILTER_DEPTH_MAX),
        (too_many, FILTER_TERMS_MAX),
        (too_wide, FILTER_SET_MAX),
        (too_wide_list, FILTER_SET_MAX),
    ] {
        let error = parse(&text, NOW).unwrap_err();
        assert!(error.message().contains(&limit.to_string()), "{error}");
        assert!(!error.message().contains('\n'));
    }
    let deep = format!("{}any{}", "not (".repeat(FILTER_DEPTH_MAX), ")".repeat(FILTER_DEPTH_MAX));
    assert_eq!(parse(&deep, NOW).unwrap().expr, Expr::Term(Term::Any));
    let many_nots = format!("{}any", "not ".repeat(100_001));
    assert_eq!(parse(&many_nots, NOW).unwrap().expr, Expr::Term(Term::Any).negated());
}

#[test]
fn prefixes_clear_their_host_bits_and_know_ipv4_in_ipv6() {
    let prefix = |text: &str, length| Prefix::new(text.parse().unwrap(), length);
    assert_eq!(prefix("10.1.2.3", 8).unwrap().to_string(), "10.0.0.0/8");
    assert_eq!(prefix("10.1.2.3", 0).unwrap().to_string(), "0.0.0.0/0");
    assert_eq!(prefix("10.1.2.3", 32).unwrap().to_string(), "10.1.2.3");
    assert_eq!(prefix("10.1.2.3", 33), None);
    assert_eq!(prefix("2001:db8::1", 32).unwrap().to_string(), "2001:db8::/32");
    assert_eq!(prefix("::ffff:10.1.2.3", 104), prefix("10.0.0.0", 8));
    assert_eq!(prefix("::ffff:10.1.2.3", 64).unwrap().to_string(), "::/64");
    assert_eq!(prefix("10.0.0.0", 8).unwrap().ipv4_range(), Some((0x0a00_0000, 0x0aff_ffff)));
    assert_eq!(prefix("::", 0).unwrap().ipv6_range(), Some((0, u128::MAX)));
}

fn numbers(number_max: u64) -> BoxedStrategy<Test> {
    let number = prop_oneof![0..=number_max.min(70_000), 0..=number_max];
    let range = (number.clone(), number.clone())
        .prop_map(|(a, b)| NumberRange { first: a.min(b), last: a.max(b) });
    prop_oneof![
        (comparisons(), number).prop_map(|(comparison, number)| Test::Number(comparison, number)),
        (vec(range, 1..4), any::<bool>())
            .prop_map(|(ranges, negated)| Test::Numbers { ranges, negated }),
    ]
    .boxed()
}

fn comparisons() -> impl Strategy<Value = Comparison> {
    select(vec![
        Comparison::Equal,
        Comparison::NotEqual,
        Comparison::Greater,
        Comparison::Less,
        Comparison::GreaterOrEqual,
        Comparison::LessOrEqual,
    ])
}

/// Addresses from a small world, so that filters and records meet.
pub(crate) fn addresses() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0_u8..3, 0_u8..4).prop_map(|(c, d)| IpAddr::V4(Ipv4Addr::new(10, 0, c, d))),
        (0_u16..3, 0_u16..3)
            .prop_map(|(g, h)| { IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, g, 0, 0, 0, h)) }),
    ]
}

fn prefixes() -> impl Strategy<Value = Prefix> {
    (addresses(), select(vec![0_u8, 8, 24, 30, 32, 48, 64, 127, 128])).prop_map(
        |(address, length)| {
            let length = if address.is_ipv4() { length.min(32) } else { length };
            Prefix::new(address, length).unwrap()
        },
    )
}

fn tests_of(subject: Subject) -> BoxedStrategy<Test> {
    use crate::query::field::FieldType;
    let field = subject.first_field();
    match subject.field_type() {
        FieldType::Number => numbers(field.number_max().unwrap()),
        FieldType::Time => (comparisons(), 0_i64..2_000)
            .prop_map(|(comparison, millis)| Test::Time(comparison, UnixMillis(millis)))
            .boxed(),
        FieldType::Address => (vec(prefixes(), 1..4), any::<bool>())
            .prop_map(|(prefixes, negated)| Test::Addresses { prefixes, negated })
            .boxed(),
        FieldType::Mac => (vec([0_u8..2, 0..1, 0..1, 0..1, 0..1, 0..4], 1..3), any::<bool>())
            .prop_map(|(addresses, negated)| Test::Macs { addresses, negated })
            .boxed(),
        FieldType::Text => (vec(select(vec!["ipfix", "netflow-v9", "x y"]), 1..3), any::<bool>())
            .prop_map(|(texts, negated)| Test::Texts {
                texts: texts.into_iter().map(str::to_owned).collect(),
                negated,
            })
            .boxed(),
        FieldType::Octets => prop_oneof![
            (vec(vec(0_u8..3, 1..3), 1..3), any::<bool>())
                .prop_map(|(values, negated)| Test::Octets { values, negated }),
            numbers(300),
        ]
        .boxed(),
        FieldType::Boolean => any::<bool>().prop_map(Test::Boolean).boxed(),
    }
}

fn subjects() -> impl Strategy<Value = Subject> {
    let mut fields: Vec<Field> = Column::ALL.iter().copied().map(Field::Column).collect();
    fields.extend(Provenance::ALL.map(Field::Provenance));
    fields.extend(ALIASES.iter().filter_map(|&(_, name)| match name {
        Name::Field(field) => Some(field),
        Name::Pair(_) => None,
    }));
    fields.push(Field::Element(424_242, 9));
    // What filters mostly ask for comes up more often.
    for _ in 0..12 {
        fields.push(Field::Address(AddressRole::Source));
        fields.push(Field::Column(Column::DestinationTransportPort));
        fields.push(Field::Measure(Measure::Bytes));
    }
    let pairs = vec![
        Pair::Ip,
        Pair::Port,
        Pair::As,
        Pair::Vlan,
        Pair::Mac,
        Pair::Mask,
        Pair::Interface,
        Pair::Ttl,
    ];
    prop_oneof![
        2 => select(fields).prop_map(Subject::Field),
        1 => select(pairs.clone()).prop_map(Subject::Either),
        1 => select(pairs)
            .prop_filter("no such words", |pair| !matches!(pair, Pair::Interface | Pair::Ttl))
            .prop_map(Subject::Both),
    ]
}

fn terms() -> impl Strategy<Value = Term> {
    let flags =
        (1_u8.., any::<u8>()).prop_map(|(mask, bits)| Term::Flags { mask, bits: bits & mask });
    let test = subjects()
        .prop_flat_map(|subject| tests_of(subject).prop_map(move |test| Term::Test(subject, test)));
    prop_oneof![
        1 => Just(Term::Any),
        1 => select(vec![Term::Family(Family::Ipv4), Term::Family(Family::Ipv6)]),
        2 => flags,
        1 => (comparisons(), 0_u64..0x1000).prop_map(|(it, number)| Term::FlagsNumber(it, number)),
        15 => test,
    ]
}

/// Random filters of the normal form.
pub(crate) fn exprs() -> impl Strategy<Value = Expr> {
    terms().prop_map(Expr::Term).prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(Expr::negated),
            vec(inner.clone(), 2..4).prop_map(Expr::all),
            vec(inner, 2..4).prop_map(Expr::any),
        ]
    })
}

proptest! {
    #[test]
    fn a_written_filter_is_read_back(expr in exprs()) {
        let text = expr.to_string();
        let read = parse(&text, NOW);
        prop_assert_eq!(read.map(|filter| filter.expr), Ok(expr), "{}", text);
    }

    #[test]
    fn no_text_breaks_the_parser(text in any::<String>()) {
        drop(parse(&text, NOW).map_err(|error| error.to_string()));
    }

    #[test]
    fn no_words_break_the_parser(words in vec(select(WORDS.to_vec()), 0..20)) {
        let text = words.join(" ");
        match parse(&text, NOW) {
            Ok(filter) => {
                let again = parse(&filter.expr.to_string(), NOW).map(|filter| filter.expr);
                prop_assert_eq!(again, Ok(filter.expr), "{}", text);
            }
            Err(error) => prop_assert!(!error.message().contains('\n')),
        }
    }
}

const WORDS: &[&str] = &[
    "and",
    "or",
    "not",
    "(",
    ")",
    "[",
    "]",
    "/",
    ",",
    "=",
    "!=",
    ">",
    "<",
    "in",
    "src",
    "dst",
    "ip",
    "host",
    "net",
    "port",
    "portrange",
    "proto",
    "tcp",
    "udp",
    "ip6",
    "80",
    "443",
    "10-20",
    "https",
    "10.0.0.1",
    "10",
    "8",
    "24",
    "::1",
    "2001:db8::",
    "flags",
    "S",
    "SA",
    "bytes",
    "packets",
    "out",
    "1k",
    "first",
    "seen",
    "-1h",
    "now",
    "as",
    "vlan",
    "mac",
    "00:11:22:33:44:55",
    "router",
    "next",
    "any",
    "mask",
    "255.255.0.0",
    "duration",
    "5m",
    "via",
    "'ipfix'",
    "0:55",
    "icmp",
    "type",
    "icmp-type",
    "received",
    "since",
    "min",
    "ttl",
    "exporter",
    "observation",
    "domain",
    "id",
    "# c",
];
