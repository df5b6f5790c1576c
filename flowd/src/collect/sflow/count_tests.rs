//! Each sample is counted, whatever comes.

use super::tests::{Bench, RECEIVED, flow_sample, ipv4, raw, shown};
use super::*;
use crate::collect::copy::Clocks;
use crate::model::time::SysUptime;
use crate::model::{ExtraSpec, FlowBatch, FlowRecord, ObservationDomainId, Origin, Protocol};
use crate::wire::sflow::DataFormat;
use crate::wire::sflow::tests::{Xdr, all_records, all_samples, datagram};
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::Arc;

#[test]
fn every_sample_with_every_record_is_a_row() {
    let mut bench = Bench::new();
    let counts = bench.decode(&datagram(1, &all_samples()));
    assert_eq!((counts.samples, counts.records, counts.unknown), (6, 5, 1));
    assert_eq!((counts.parts_malformed, counts.elements_over_limit), (0, 0));
    // The IPv6 record comes second to the IPv4 one in each of the three.
    assert_eq!(counts.parts_unknown, 3);
    assert!(!counts.is_cut);
    let places: Vec<u16> = bench.records.iter().map(|r| r.export_record_index).collect();
    assert_eq!(places, [0, 1, 2, 3, 4]);
}

#[test]
fn a_sample_is_a_record_without_its_damaged_parts() {
    let good = raw(11, 64, &ipv4());
    let cut = (1001, Xdr::default().words(&[1, 2]));
    let mut bench = Bench::new();
    let counts = bench.decode(&datagram(1, &[flow_sample(&[cut.clone(), good])]));
    assert_eq!((counts.records, counts.parts_malformed, counts.malformed), (1, 1, 0));
    assert_eq!(shown(&bench.records[0])["sourceIPv4Address"], "10.0.0.1");
    let counts = bench.decode(&datagram(2, &[flow_sample(&[cut.clone(), cut])]));
    assert_eq!((counts.records, counts.parts_malformed, counts.malformed), (0, 0, 1));
    let unknown = (DataFormat::new(9, 1).word(), Xdr::default());
    let counts = bench.decode(&datagram(3, &[flow_sample(&[unknown])]));
    assert_eq!((counts.records, counts.parts_unknown, counts.malformed), (1, 1, 0));
    let counts = bench.decode(&datagram(4, &[flow_sample(&[]), (1, Xdr::default().words(&[1]))]));
    assert_eq!((counts.records, counts.malformed, counts.samples), (1, 1, 2));
}

#[test]
fn what_is_cut_keeps_what_came_before() {
    let whole = datagram(1, &all_samples());
    let mut records_before = 0;
    for size in 28..whole.len() {
        let mut bench = Bench::new();
        let counts = bench.decode(&whole[..size]);
        assert!(counts.is_cut && counts.malformed == 0, "{size}");
        assert!(counts.records >= records_before, "more octets, no fewer records");
        records_before = counts.records;
    }
    assert_eq!(records_before, 5);
}

#[test]
fn records_that_tell_the_same_have_one_shape_whatever_their_order() {
    let [mut flow, _] = all_records();
    flow.truncate(13);
    let mut bench = Bench::new();
    bench.decode(&datagram(1, &[flow_sample(&flow)]));
    flow.swap(2, 3);
    flow.reverse();
    flow.swap(9, 10);
    bench.decode(&datagram(2, &[flow_sample(&flow)]));
    let specs = |record: &FlowRecord| -> Vec<ExtraSpec> {
        record.extras.iter().map(|extra| extra.spec).collect()
    };
    assert_eq!(specs(&bench.records[0]), specs(&bench.records[1]));
}

#[test]
fn a_full_batch_is_handed_on() {
    let samples: Vec<_> = (0..1_000).map(|_| flow_sample(&[raw(11, 64, &ipv4())])).collect();
    let octets = datagram(1, &samples);
    let datagram = Datagram::decode(&octets).unwrap();
    let mut bench = Bench::new();
    let origin = Arc::new(Origin {
        address: datagram.agent.unwrap(),
        domain: ObservationDomainId(7),
        protocol: Protocol::Sflow,
    });
    let mut handed_on = 0;
    let mut full = |batch: &FlowBatch| handed_on += batch.len();
    for _ in 0..20 {
        let clocks = Clocks { export_time: RECEIVED, sys_uptime: Some(SysUptime(0)) };
        let mut context = RecordContext::new(&origin, clocks, 1, RECEIVED);
        let mut output = Output { batch: &mut bench.batch, full: &mut full };
        bench.decoder.decode(&datagram, &mut bench.sequences, &mut context, &mut output);
    }
    assert!(handed_on > 0 && handed_on + bench.batch.len() == 20_000);
    assert_eq!(bench.batch.runs().len(), 1, "one shape");
}

#[test]
fn losses_and_drops_are_counted_by_source() {
    let sample = |number: u32, source: u32, drops: u32| {
        (1, Xdr::default().words(&[number, source, 1, 1, drops, 3, 4, 0]))
    };
    let dropped =
        |number: u32, drops: u32| (5, Xdr::default().words(&[number, 0, 3, drops, 3, 4, 256, 0]));
    let counted = |number: u32| (2, Xdr::default().words(&[number, 3, 0]));
    let mut bench = Bench::new();
    bench.decode(&datagram(1, &[sample(10, 3, 100), sample(70, 4, 0), dropped(1, 50), counted(5)]));
    let counts = bench.decode(&datagram(
        2,
        &[sample(13, 3, 104), sample(71, 4, 0), dropped(2, 51), counted(7), counted(6)],
    ));
    let SampleCounts { samples_lost, samples_late, flow_drops, discard_drops, .. } = counts;
    assert_eq!((samples_lost, samples_late, flow_drops, discard_drops), (3, 1, 4, 1));
}

proptest! {
    #[test]
    fn whatever_comes_every_sample_is_counted(
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        size in any::<prop::sample::Index>(),
    ) {
        let mut octets = datagram(1, &all_samples());
        for (at, octet) in damage {
            // The header stays: what damages that is no datagram.
            let at = 28 + at.index(octets.len() - 28);
            octets[at] = octet;
        }
        octets.truncate(28 + size.index(octets.len() - 28));
        let mut bench = Bench::new();
        let counts = bench.decode(&octets);
        prop_assert_eq!(counts.records, u64::try_from(bench.records.len()).unwrap());
        // A record holds no more than came, but for text written of a path.
        let held: usize = bench.records.iter().flat_map(|r| &r.extras).map(|e| e.value.len()).sum();
        prop_assert!(held <= 16 * octets.len() + 1_024);
    }

    #[test]
    fn any_octets_behind_a_header_are_counted(octets in vec(any::<u8>(), 0..400), format in 1u32..6) {
        let mut bench = Bench::new();
        bench.decode(&datagram(1, &[(format, Xdr::default().fixed(&octets))]));
        let mut framed = Xdr::default().words(&[1, 0, 3, 1, 2, 3, 1, 2, 0, 3, 8]).0;
        framed.extend(&octets);
        bench.decode(&datagram(2, &[(format, Xdr::default().fixed(&framed))]));
    }
}
