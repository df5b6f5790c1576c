//! Datagrams built here, read back; and cut, lying and random ones.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

/// Writes XDR.
#[derive(Clone, Debug, Default)]
pub(crate) struct Xdr(pub(crate) Vec<u8>);

impl Xdr {
    pub(crate) fn words(mut self, words: &[u32]) -> Self {
        self.0.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        self
    }

    pub(crate) fn hyper(mut self, value: u64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// Octets as they are, filled up.
    pub(crate) fn fixed(mut self, octets: &[u8]) -> Self {
        self.0.extend(octets);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Octets behind their number, filled up.
    pub(crate) fn opaque(self, octets: &[u8]) -> Self {
        self.words(&[u32::try_from(octets.len()).unwrap()]).fixed(octets)
    }

    /// Numbers behind their count.
    pub(crate) fn array(self, words: &[u32]) -> Self {
        self.words(&[u32::try_from(words.len()).unwrap()]).words(words)
    }

    /// A block of this format.
    pub(crate) fn block(self, format: u32, body: &Self) -> Self {
        self.words(&[format]).opaque(&body.0)
    }

    /// Blocks behind their count.
    pub(crate) fn blocks(self, blocks: &[(u32, Self)]) -> Self {
        let count = u32::try_from(blocks.len()).unwrap();
        blocks.iter().fold(self.words(&[count]), |all, (format, body)| all.block(*format, body))
    }
}

/// A datagram of 192.0.2.1, sub-agent 7, with these samples.
pub(crate) fn datagram(sequence: u32, samples: &[(u32, Xdr)]) -> Vec<u8> {
    Xdr::default().words(&[5, 1, 0xc000_0201, 7, sequence, 60_000]).blocks(samples).0
}

/// Records of every format that is read, each with all its fields; those of a counter sample
/// behind those of a flow sample.
pub(crate) fn all_records() -> [Vec<(u32, Xdr)>; 2] {
    let x = Xdr::default;
    let mut flow = vec![
        (1, x().words(&[1, 64, 4]).opaque(&[0x5a; 61])),
        (2, x().words(&[64]).fixed(&[1; 6]).fixed(&[2; 6]).words(&[0x0806])),
        (3, x().words(&[60, 17, 1, 2, 53, 54, 0, 8])),
        (4, x().words(&[60, 6, 1, 1, 1, 1, 2, 2, 2, 2, 80, 81, 0x12, 8])),
        (1001, x().words(&[10, 1, 20, 2])),
        (1002, x().words(&[1, 0x0a00_0001, 24, 16])),
        (
            1003,
            x().words(&[2, 1, 2, 3, 4, 64_500, 64_501, 64_502, 2, 2])
                .array(&[1, 2])
                .words(&[1])
                .array(&[3])
                .array(&[0x00ff_0001])
                .words(&[100]),
        ),
        (1004, x().words(&[106]).opaque(b"alice").words(&[106]).opaque(b"bob")),
        (1005, x().words(&[2]).opaque(b"/index").opaque(b"example.org")),
        (1006, x().words(&[1, 0x0a00_0002]).array(&[0x0001_0140, 0x0002_0140]).array(&[0x141])),
        (1007, x().words(&[1, 0x0a00_0003, 0])),
        (1013, x().words(&[0x000f_ac04, 15, 100, 4]).opaque(&[0xaa; 20])),
        (1020, x().words(&[4_000, 4_001])),
    ];
    let [more, counters] = [layout::FLOW_LAYOUTS, layout::COUNTER_LAYOUTS].map(|layouts| {
        let record = |layout: &Layout| {
            let value = |all: Xdr, kind: &Kind| match kind {
                Kind::Four => all.words(&[7]),
                Kind::Eight => all.hyper(8),
                Kind::Sixteen => all.fixed(&[6; 16]),
                Kind::Mac => all.fixed(&[9; 6]),
                Kind::Opaque => all.opaque(b"hello"),
                Kind::Words => all.array(&[1, 2, 3]),
                Kind::Rest => all.words(&[4, 5]),
            };
            (layout.format.word(), layout.kinds.iter().fold(Xdr::default(), value))
        };
        layouts.iter().map(record).collect::<Vec<_>>()
    });
    flow.extend(more);
    [flow, counters]
}

/// One sample of every format, each with all records.
pub(crate) fn all_samples() -> Vec<(u32, Xdr)> {
    let [flow, counters] = all_records();
    let x = Xdr::default;
    vec![
        (1, x().words(&[1, 3, 1_000, 50_000, 0, 3, 4]).blocks(&flow)),
        (2, x().words(&[1, 3]).blocks(&counters)),
        (3, x().words(&[2, 0, 3, 1_000, 51_000, 0, 0, 3, 2, 7]).blocks(&flow)),
        (4, x().words(&[2, 0, 3]).blocks(&counters)),
        (5, x().words(&[1, 0, 3, 9, 3, 0, 258]).blocks(&flow)),
        (DataFormat::new(4_300, 1_002).word(), x().words(&[1, 2, 3])),
    ]
}

/// Reads all that there is to read, and counts it: samples, records, fields; and damage.
fn walk(octets: &[u8]) -> Result<[usize; 4], WireError> {
    let mut counts = [0; 4];
    for sample in Datagram::decode(octets)?.samples {
        let Ok(sample) = sample.and_then(|block| Sample::decode(&block)) else {
            counts[3] += 1;
            continue;
        };
        counts[0] += 1;
        let (records, is_flow) = match sample {
            Sample::Flow(sample) => (sample.records, true),
            Sample::Discarded(sample) => (sample.records, true),
            Sample::Counters(sample) => (sample.records, false),
            Sample::Unknown(_) => continue,
        };
        for block in records {
            let fields = block.and_then(|block| {
                Ok(if is_flow {
                    match FlowData::decode(&block)? {
                        FlowData::Fields(fields) => fields.iter().count(),
                        FlowData::Gateway(gateway) => {
                            gateway.as_path.iter().flat_map(|s| s.numbers.iter()).count()
                        }
                        _ => 1,
                    }
                } else {
                    match CounterData::decode(&block)? {
                        CounterData::Fields(fields) => fields.iter().count(),
                        CounterData::Unknown(_) => 1,
                    }
                })
            });
            match fields {
                Ok(fields) => {
                    counts[1] += 1;
                    counts[2] += fields;
                }
                Err(_) => counts[3] += 1,
            }
        }
    }
    Ok(counts)
}

#[test]
fn reads_every_sample_and_record_to_its_end() {
    let octets = datagram(42, &all_samples());
    let [samples, records, fields, damaged] = walk(&octets).unwrap();
    let [flow, counters] = all_records();
    assert_eq!((samples, damaged), (6, 0));
    assert_eq!(records, 3 * flow.len() + 2 * counters.len());
    assert!(fields > records);
    for (format, body) in flow {
        let block = Block { format: DataFormat::new(0, format), body: &body.0 };
        assert!(!matches!(FlowData::decode(&block), Ok(FlowData::Unknown(_))), "{format}");
    }
}

#[test]
fn layouts_are_in_order_and_no_record_is_read_in_two_ways() {
    for layouts in [layout::FLOW_LAYOUTS, layout::COUNTER_LAYOUTS] {
        assert!(layouts.is_sorted_by(|a, b| a.format.word() < b.format.word()));
        for layout in layouts {
            let rest = layout.kinds.iter().position(|&kind| kind == Kind::Rest);
            assert!(rest.is_none_or(|at| at + 1 == layout.kinds.len()), "{layout:?}");
        }
    }
    let [flow, _] = all_records();
    let mut formats: Vec<u32> = flow.iter().map(|(format, _)| *format).collect();
    formats.sort_unstable();
    formats.dedup();
    assert_eq!(formats.len(), flow.len());
}

#[test]
fn reads_headers_of_both_families_and_of_no_address() {
    let ipv6 = Xdr::default().words(&[5, 2, 0x2001_0db8, 0, 0, 1, 0, 9, 8, 0]).0;
    let datagram = Datagram::decode(&ipv6).unwrap();
    assert_eq!(datagram.agent, Some("2001:db8::1".parse().unwrap()));
    assert_eq!((datagram.sub_agent, datagram.sequence_number, datagram.uptime.0), (0, 9, 8));
    let none = Xdr::default().words(&[5, 0, 1, 2, 3, 0]).0;
    assert_eq!(Datagram::decode(&none).unwrap().agent, None);
    let strange = Xdr::default().words(&[5, 3, 1, 2, 3, 0]).0;
    assert_eq!(Datagram::decode(&strange).unwrap_err(), WireError::AddressType(3));
    for (version, told) in [(4, 4), (2, 2), (0x0009_0000, u16::MAX)] {
        let old = Xdr::default().words(&[version, 1, 1, 2, 3, 0]).0;
        assert_eq!(Datagram::decode(&old).unwrap_err(), WireError::UnsupportedVersion(told));
    }
}

#[test]
fn interfaces_and_sources_mean_the_same_in_both_forms() {
    let compact = Xdr::default().words(&[1, 0x0300_0009, 1, 2, 3, 0x3fff_ffff, 0x8000_0007, 0]);
    let expanded = Xdr::default().words(&[1, 3, 9, 1, 2, 3, 0, 0x3fff_ffff, 2, 7, 0]);
    for (format, body) in [(1, compact), (3, expanded)] {
        let block = Block { format: DataFormat::new(0, format), body: &body.0 };
        let Ok(Sample::Flow(sample)) = Sample::decode(&block) else { panic!("a flow sample") };
        assert_eq!(sample.source, SourceId { class: 3, index: 9 });
        assert_eq!((sample.sampling_rate, sample.sample_pool, sample.drops), (1, 2, 3));
        assert_eq!(sample.input, Interface::Index(Interface::LOCAL));
        assert_eq!(sample.output, Interface::Multiple(7));
    }
    let discarded = Xdr::default().words(&[1, 0, 1, 2, 3, 0, 0x4000_0102, 0]);
    let block = Block { format: DataFormat::new(0, 1), body: &discarded.0 };
    let Ok(Sample::Flow(sample)) = Sample::decode(&block) else { panic!("a flow sample") };
    assert_eq!(sample.output, Interface::Discarded(258));
    let unheard = Xdr::default().words(&[1, 0, 1, 2, 3, 0, 0xc000_0001, 0]);
    let block = Block { format: DataFormat::new(0, 1), body: &unheard.0 };
    let Ok(Sample::Flow(sample)) = Sample::decode(&block) else { panic!("a flow sample") };
    assert_eq!(sample.output, Interface::Unknown { format: 3, value: 1 });
}

#[test]
fn an_as_path_ends_with_its_octets() {
    let gateway = |path: Xdr| {
        let body = Xdr(Xdr::default().words(&[0, 1, 2, 3]).0.into_iter().chain(path.0).collect());
        FlowData::decode(&Block { format: DataFormat::new(0, 1003), body: &body.0 }).map(|data| {
            match data {
                FlowData::Gateway(gateway) => (gateway.as_path.first(), gateway.as_path.last()),
                other => panic!("{other:?}"),
            }
        })
    };
    let x = Xdr::default;
    assert_eq!(gateway(x().words(&[0, 0, 9])), Ok((None, None)));
    assert_eq!(gateway(x().words(&[2, 2, 1, 7, 1, 2, 8, 9, 0, 5])), Ok((Some(7), Some(9))));
    // Segments without a number count for nothing.
    assert_eq!(gateway(x().words(&[3, 2, 0, 2, 1, 7, 1, 0, 0, 5])), Ok((Some(7), Some(7))));
    for lying in [
        x().words(&[u32::MAX, 2, 1, 7, 0, 5]),
        x().words(&[1, 2, u32::MAX, 7, 0, 5]),
        x().words(&[1, 2, 0x4000_0001, 7, 0, 5]),
        x().words(&[0, u32::MAX, 5]),
        x().words(&[0, 0x4000_0000]),
    ] {
        assert!(matches!(gateway(lying), Err(WireError::Truncated { .. })));
    }
}

#[test]
fn what_is_cut_is_damaged_at_every_octet() {
    let samples = all_samples();
    let whole = datagram(42, &samples);
    let all = walk(&whole).unwrap();
    for size in 0..whole.len() {
        match walk(&whole[..size]) {
            Ok([samples, records, fields, damaged]) => {
                assert!(size >= 28 && damaged == 1, "{size}");
                assert!(samples < all[0] && records <= all[1] && fields <= all[2]);
            }
            Err(error) => {
                assert!(size < 28, "{size}");
                assert!(matches!(error, WireError::Truncated { .. }));
            }
        }
    }
    // Of a record alone, each field's end may be the end.
    let [flow, counters] = all_records();
    for (records, layouts) in [(flow, layout::FLOW_LAYOUTS), (counters, layout::COUNTER_LAYOUTS)] {
        for (format, body) in records {
            let format = DataFormat::new(0, format);
            for size in 0..body.0.len() {
                let block = Block { format, body: &body.0[..size] };
                if let Ok(Some(fields)) = Fields::decode(layouts, &block) {
                    let whole = Block { format, body: &body.0 };
                    let all = Fields::decode(layouts, &whole).unwrap().unwrap();
                    assert!(fields.iter().count() <= all.iter().count());
                } else if !layouts.iter().any(|l| l.format == format) {
                    // The fill of the last octets may be missing, and no more.
                    let missing = body.0.len() - size;
                    assert!(FlowData::decode(&block).is_err() || missing < 4, "{format:?} {size}");
                }
            }
        }
    }
}

#[test]
fn counts_that_lie_end_with_the_octets() {
    let mut octets = datagram(1, &[(1, Xdr::default().words(&[1, 3, 1, 2, 0, 3, 4, u32::MAX]))]);
    assert_eq!(walk(&octets), Ok([1, 0, 0, 1]));
    octets[24..28].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(walk(&octets), Ok([1, 0, 0, 2]));
    // A length that goes past the end, and one that cannot be.
    for length in [33, 0x7fff_fffd, u32::MAX] {
        octets[32..36].copy_from_slice(&length.to_be_bytes());
        assert_eq!(walk(&octets), Ok([0, 0, 0, 1]));
    }
}

#[test]
fn octets_behind_the_last_sample_are_ignored() {
    let mut octets = datagram(1, &all_samples());
    let all = walk(&octets);
    octets.extend([0xee; 964]);
    assert_eq!(walk(&octets), all);
}

#[test]
fn later_revisions_of_a_record_are_read_as_far_as_known() {
    let [flow, counters] = all_records();
    for (format, body) in flow {
        let longer = body.words(&[0xdead_beef; 3]);
        let block = Block { format: DataFormat::new(0, format), body: &longer.0 };
        assert!(FlowData::decode(&block).is_ok(), "{format}");
    }
    for (format, body) in counters {
        let longer = body.words(&[0xdead_beef; 3]);
        let block = Block { format: DataFormat::new(0, format), body: &longer.0 };
        assert!(matches!(CounterData::decode(&block), Ok(CounterData::Fields(_))), "{format}");
    }
}

proptest! {
    #[test]
    fn any_octets_are_read_to_an_end(octets in vec(any::<u8>(), 0..300)) {
        _ = walk(&octets);
        let mut framed = datagram(1, &[]);
        framed[24..28].copy_from_slice(&[0, 0, 0, 9]);
        framed.extend(&octets);
        _ = walk(&framed);
    }

    #[test]
    fn any_damage_is_read_to_an_end(damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut octets = datagram(1, &all_samples());
        for (at, octet) in damage {
            let at = at.index(octets.len());
            octets[at] = octet;
        }
        _ = walk(&octets);
    }

    #[test]
    fn any_record_of_a_known_format_is_read_to_an_end(
        format in prop::sample::select((1..=4).chain(1001..=1042).chain(2000..=2210).collect::<Vec<u32>>()),
        body in vec(prop_oneof![3 => 0u8..4, 1 => any::<u8>()], 0..200),
    ) {
        let block = Block { format: DataFormat::new(0, format), body: &body };
        if let Ok(FlowData::Fields(fields)) = FlowData::decode(&block) {
            prop_assert!(fields.iter().map(|field| field.value.len()).sum::<usize>() <= body.len());
        }
        if let Ok(CounterData::Fields(fields)) = CounterData::decode(&block) {
            prop_assert!(fields.iter().map(|field| field.value.len()).sum::<usize>() <= body.len());
        }
    }
}
