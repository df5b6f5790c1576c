//! Programs on interfaces, in a network namespace of the test's own.

use super::super::{Datapath, DatapathConfig};
use super::*;
use crate::probe::LinkMonitor;
use crate::probe::test_namespace::in_namespace;
use aya::programs::SchedClassifier;
use std::time::{Duration, Instant};

/// Loads the programs; none, with a word why, where that is not allowed.
fn load() -> Option<Datapath> {
    match Datapath::load(&DatapathConfig::default()) {
        Ok(datapath) => Some(datapath),
        Err(error @ (ProbeError::Rights { .. } | ProbeError::OldKernel { .. })) => {
            println!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn link_of(name: &str) -> Link {
    let monitor = LinkMonitor::new().unwrap();
    monitor.links().find(|link| link.name == name).unwrap().clone()
}

/// Programs of TCX on both sides.
fn tcx_counts(interface: &str) -> [usize; 2] {
    [TcAttachType::Ingress, TcAttachType::Egress].map(|side| {
        let (_, programs) = SchedClassifier::query_tcx(interface, side).unwrap();
        programs.len()
    })
}

#[test]
fn programs_give_no_verdict() {
    let Some(mut datapath) = load() else { return };
    let frame = [0_u8; 60];
    for (program, expected) in [
        // TC_ACT_UNSPEC, which is TCX_NEXT
        (Program::TcIngress, u32::MAX),
        (Program::TcEgress, u32::MAX),
        // XDP_PASS
        (Program::Xdp, 2),
    ] {
        let descriptor = datapath.ethernet.descriptor(program).unwrap();
        let (verdict, _) = bpf::test_run(descriptor, &frame, 1).unwrap();
        assert_eq!(verdict, expected, "{}", program.name());
    }
}

#[test]
fn an_interface_that_was_renamed_meanwhile_is_attached_and_no_other() {
    in_namespace(|ip| {
        let Some(mut datapath) = load() else { return };
        ip("link add one type veth peer name other");
        let listed = link_of("one");
        ip("link set one name moved");
        ip("link set other name one");
        for hook in [HookChoice::Tc, HookChoice::Xdp] {
            let attachment = datapath.attach(&listed, hook).unwrap();
            if attachment.egress != "tcx" {
                println!("skipped: no TCX");
                return;
            }
            assert_eq!(tcx_counts("moved"), [usize::from(hook == HookChoice::Tc), 1]);
            assert_eq!(tcx_counts("one"), [0, 0]);
            datapath.detach(listed.index);
            // A process that another test is just starting has the descriptors too.
            let start = Instant::now();
            while tcx_counts("moved") != [0, 0] {
                assert!(start.elapsed() < Duration::from_secs(60), "still attached");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    });
}

#[test]
fn an_interface_that_vanished_is_told_before_and_forgotten_after() {
    in_namespace(|ip| {
        let Some(mut datapath) = load() else { return };
        ip("link add one type veth peer name other");
        let listed = link_of("one");
        datapath.attach(&listed, HookChoice::Xdp).unwrap();
        ip("link del one");
        datapath.detach(listed.index);
        for hook in [HookChoice::Auto, HookChoice::Tc, HookChoice::Xdp] {
            let error = datapath.attach(&listed, hook).unwrap_err();
            assert!(matches!(error, ProbeError::Gone { .. }), "{error}");
            assert!(error.to_string().contains("one"), "{error}");
        }
        datapath.drain().unwrap();
    });
}

#[test]
fn a_filter_of_clsact_is_taken_off_with_the_programs() {
    in_namespace(|ip| {
        let Some(mut datapath) = load() else { return };
        ip("link add one type veth peer name other");
        let listed = link_of("one");
        let attach = |programs: &mut Programs| {
            attach_clsact(programs.tc(Program::TcIngress).unwrap(), Program::TcIngress, &listed)
        };
        let is_there = || {
            let name = Program::TcIngress.name();
            tc::qdisc_detach_program("one", TcAttachType::Ingress, name).is_ok()
        };
        let attached = attach(&mut datapath.ethernet).unwrap();
        assert_eq!(attached.way(), "clsact");
        detach_tc(&mut datapath.ethernet, Program::TcIngress, attached);
        assert!(!is_there());
        // Whoever ends without detaching takes it off as well; whoever is killed does not.
        let _attached = attach(&mut datapath.ethernet).unwrap();
        drop(datapath);
        assert!(!is_there());
        let Some(mut killed) = load() else { return };
        let _attached = attach(&mut killed.ethernet).unwrap();
        std::mem::forget(killed);
        let Some(mut next) = load() else { return };
        let attached = attach(&mut next.ethernet).unwrap();
        detach_tc(&mut next.ethernet, Program::TcIngress, attached);
        assert!(!is_there(), "the old one is gone too");
    });
}
