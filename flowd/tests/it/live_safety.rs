//! `flowd export` does no harm: programs of others beside ours, ends without farewell, hooks that
//! are taken, rights that are missing. As root, in namespaces of the tests' own; elsewhere skipped
//! with a word why.

use crate::foreign_bpf::{Action, Filter, Match, Place, Side, attach_xdp, has_bpf, tcx_count};
use crate::host::{COLLECTOR, Host, assert_one_line, end};
use crate::namespace::Namespace;
use crate::support::{Background, Ended, PATIENCE, end_of, has_program, wait_until};
use std::net::UdpSocket;
use std::os::fd::OwnedFd;

/// Datagrams to each port in one round.
const EACH: u64 = 100;
/// Nobody has anything against this one.
const PLAIN: u16 = 5_000;

/// Timeouts that no flow of a test reaches: what a killed exporter has not sent is lost.
const NO_TIMEOUT: [&str; 4] = ["--active-timeout", "600s", "--inactive-timeout", "600s"];

fn pair(label: &str) -> Option<(Namespace, Namespace)> {
    if !has_bpf() {
        return None;
    }
    let near = Namespace::new(&format!("{label}-a"))?;
    let far = Namespace::new(&format!("{label}-b"))?;
    near.join("near", &far, "far");
    Some((near, far))
}

/// Sends through one side of the interface `near`.
struct Way {
    sender: UdpSocket,
    receivers: Vec<(u16, UdpSocket)>,
    to: &'static str,
}

impl Way {
    fn new(near: &Namespace, far: &Namespace, side: Side, ports: &[u16]) -> Self {
        let (from, from_address, at, to) = match side {
            Side::Ingress => (far, "192.0.2.2", near, "192.0.2.1"),
            Side::Egress => (near, "192.0.2.1", far, "192.0.2.2"),
        };
        let receivers = ports.iter().map(|&port| {
            let socket = at.udp(&format!("{to}:{port}"));
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            (port, socket)
        });
        let way = Self {
            sender: from.udp(&format!("{from_address}:4000")),
            receivers: receivers.collect(),
            to,
        };
        // Until the neighbour is known, the kernel holds back a few packets only.
        way.sender.send_to(b"there?", (to, PLAIN)).unwrap();
        way.receive(PLAIN, 1);
        way
    }

    /// Sends to all ports.
    fn send(&self) {
        for _ in 0..EACH {
            for &(port, _) in &self.receivers {
                self.sender.send_to(&[7; 72], (self.to, port)).unwrap();
            }
        }
    }

    /// Receives so many datagrams, and no more than those.
    fn receive(&self, port: u16, count: u64) {
        let (_, socket) = self.receivers.iter().find(|(its, _)| *its == port).unwrap();
        for number in 0..count {
            let received = socket.recv(&mut [0; 100]);
            assert!(received.is_ok(), "{number} of {count} came to {port}: {received:?}");
        }
        socket.set_nonblocking(true).unwrap();
        assert!(socket.recv(&mut [0; 100]).is_err(), "more than {count} came to {port}");
        socket.set_nonblocking(false).unwrap();
    }
}

fn wait_for_count(filter: &Filter, count: u64) {
    wait_until("the packets are counted", || filter.count() >= count);
    assert_eq!(filter.count(), count);
}

/// Programs of TC by others: what they are for, what they count, where they are.
struct Neighbours {
    dropper: Filter,
    marker: Filter,
    marked_dropper: Filter,
    early_dropper: Filter,
    passer: Filter,
}

impl Neighbours {
    const PORTS: [u16; 5] = [PLAIN, 5_001, 5_002, 5_003, 5_004];

    fn load() -> Option<Self> {
        Some(Self {
            dropper: Filter::load(Match::UdpTo(5_001), Action::Drop)?,
            marker: Filter::load(Match::UdpTo(5_002), Action::Mark)?,
            marked_dropper: Filter::load(Match::Marked, Action::Drop)?,
            early_dropper: Filter::load(Match::UdpTo(5_003), Action::Drop)?,
            passer: Filter::load(Match::UdpTo(5_004), Action::Pass)?,
        })
    }

    /// One round of packets has the fate that these programs give it, `round`th time.
    fn check(&self, way: &Way, round: u64) {
        way.send();
        let Self { dropper, marker, marked_dropper, early_dropper, passer } = self;
        for filter in [dropper, marker, marked_dropper, early_dropper, passer] {
            wait_for_count(filter, round * EACH);
        }
        for (port, count) in [(PLAIN, EACH), (5_001, 0), (5_002, 0), (5_003, 0), (5_004, EACH)] {
            way.receive(port, count);
        }
    }
}

/// Programs at the head and at the tail of the hook keep their verdicts, with ours before and
/// between them; ours sees what reaches it.
fn neighbours_of_tcx(label: &str, side: Side) {
    let Some((near, far)) = pair(label) else { return };
    let Some(neighbours) = Neighbours::load() else { return };
    let way = Way::new(&near, &far, side, &Neighbours::PORTS);
    if tcx_count(&near, "near", side).is_none() {
        return;
    }
    let attach = |filter: &Filter, place| filter.attach(&near, "near", side, place);
    let _dropper = attach(&neighbours.dropper, Place::First).unwrap();
    let _marked_dropper = attach(&neighbours.marked_dropper, Place::Last).unwrap();
    let at_head = || {
        [&neighbours.early_dropper, &neighbours.passer, &neighbours.marker]
            .map(|filter| attach(filter, Place::First).unwrap())
    };
    let behind_ours = at_head();
    neighbours.check(&way, 1);

    let host = Host::new(&near);
    let collector = host.collect();
    let exporter = host.export(&[&["-i", "near", "--hook", "tc"], &NO_TIMEOUT[..]].concat());
    assert_eq!(tcx_count(&near, "near", side), Some(6));
    neighbours.check(&way, 2);
    drop(behind_ours);
    wait_until("they are off", || tcx_count(&near, "near", side) == Some(3));
    let before_ours = at_head();
    neighbours.check(&way, 3);
    end(exporter);
    assert_eq!(tcx_count(&near, "near", side), Some(5));
    neighbours.check(&way, 4);
    drop(before_ours);

    let port = |port: u16| host.stored(&format!("proto udp and src port 4000 and dst port {port}"));
    wait_until("all is stored", || port(5_002).0 == 2 * EACH);
    collector.terminate().ok();
    // Those of others that dropped or passed before ours were asked let it see nothing.
    for (number, rounds) in [(PLAIN, 2), (5_001, 2), (5_002, 2), (5_003, 1), (5_004, 1)] {
        assert_eq!(port(number), (rounds * EACH, rounds * EACH * 100), "port {number}");
    }
}

#[test]
fn neighbours_on_ingress_keep_their_verdicts() {
    neighbours_of_tcx("tcx-in", Side::Ingress);
}

#[test]
fn neighbours_on_egress_keep_their_verdicts() {
    neighbours_of_tcx("tcx-out", Side::Egress);
}

/// A filter of `tc` that drops, and the namespaces that it is in.
struct WithClsact {
    near: Namespace,
    far: Namespace,
    dropper: Filter,
    _pin: crate::foreign_bpf::Pin,
}

impl WithClsact {
    const PORTS: [u16; 2] = [PLAIN, 5_001];

    fn new(label: &str, side: Side) -> Option<Self> {
        if !has_program("/usr/sbin/tc") {
            return None;
        }
        let (near, far) = pair(label)?;
        let dropper = Filter::load(Match::UdpTo(5_001), Action::Drop)?;
        let pin = dropper.pin(label)?;
        near.ask("tc", "qdisc add dev near clsact");
        let (side, path) = (side_of_tc(side), pin.path().display());
        near.ask(
            "tc",
            &format!("filter add dev near {side} prio 10 bpf direct-action object-pinned {path}"),
        );
        Some(Self { near, far, dropper, _pin: pin })
    }

    fn check(&self, way: &Way, round: u64) {
        way.send();
        wait_for_count(&self.dropper, round * EACH);
        way.receive(PLAIN, EACH);
        way.receive(5_001, 0);
    }

    /// Filters of clsact: ours, and in all.
    fn filters(&self, side: Side) -> (usize, usize) {
        let table = self.near.ask("tc", &format!("filter show dev near {}", side_of_tc(side)));
        let filters = || table.lines().filter(|line| line.contains(" handle "));
        (filters().filter(|line| line.contains("flowd_tc")).count(), filters().count())
    }
}

const fn side_of_tc(side: Side) -> &'static str {
    match side {
        Side::Ingress => "ingress",
        Side::Egress => "egress",
    }
}

#[test]
fn a_filter_of_clsact_behind_ours_keeps_its_verdict() {
    for (label, side) in [("cls-in", Side::Ingress), ("cls-out", Side::Egress)] {
        let Some(with) = WithClsact::new(label, side) else { return };
        let way = Way::new(&with.near, &with.far, side, &WithClsact::PORTS);
        with.check(&way, 1);
        let host = Host::new(&with.near);
        let collector = host.collect();
        let exporter = host.export(&["-i", "near", "--hook", "tc"]);
        with.check(&way, 2);
        end(exporter);
        with.check(&way, 3);
        assert_eq!(with.filters(side), (0, 1));
        let sent = (2 * EACH, 2 * EACH * 100);
        wait_until("all is stored", || host.stored("proto udp and src port 4000") == sent);
        collector.terminate().ok();
    }
}

/// As many programs of TCX as the hooks of `near` take; none where the kernel has no TCX.
fn crowd(near: &Namespace) -> Option<Vec<(Filter, OwnedFd)>> {
    let mut crowd = Vec::new();
    for side in [Side::Ingress, Side::Egress] {
        tcx_count(near, "near", side)?;
        loop {
            let filter = Filter::load(Match::UdpTo(1), Action::Drop)?;
            match filter.attach(near, "near", side, Place::Last) {
                Ok(link) => crowd.push((filter, link)),
                Err(error) if error.raw_os_error() == Some(libc::ERANGE) => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(crowd.len() > 100, "{}", crowd.len());
    Some(crowd)
}

/// Where TCX has no room, as where the kernel has none, ours is a filter of clsact. It outlives a
/// process that is killed, harmless; the next one takes it off.
fn fallback(label: &str, side: Side) {
    let Some(with) = WithClsact::new(label, side) else { return };
    let way = Way::new(&with.near, &with.far, side, &WithClsact::PORTS);
    let Some(_crowd) = crowd(&with.near) else { return };
    let host = Host::new(&with.near);
    let collector = host.collect();
    let arguments = [&["-i", "near", "--hook", "tc"], &NO_TIMEOUT[..]].concat();
    let exporter = host.export(&arguments);
    let hooks = host.status().unwrap()["interfaces"][0]["hooks"].clone();
    assert_eq!(hooks, serde_json::json!({"ingress": "clsact", "egress": "clsact"}));
    with.check(&way, 1);
    host.wait_for("near", side_of_tc(side), 2 * EACH);
    kill(exporter);
    assert_eq!(with.filters(side), (1, 2), "it is left over");
    with.check(&way, 2);
    assert_eq!(host.stored("proto udp and src port 4000"), (0, 0));

    let exporter = host.export(&arguments);
    assert_eq!(with.filters(side), (1, 2), "one of ours and the other's");
    with.check(&way, 3);
    end(exporter);
    assert_eq!(with.filters(side), (0, 1), "the other's is left");
    with.check(&way, 4);
    let sent = (2 * EACH, 2 * EACH * 100);
    wait_until("all is stored", || host.stored("proto udp and src port 4000").0 >= sent.0);
    collector.terminate().ok();
    assert_eq!(host.stored("proto udp and src port 4000"), sent);
}

#[test]
fn the_fallback_on_ingress_counts_right_and_its_leftover_does_no_harm() {
    fallback("old-in", Side::Ingress);
}

#[test]
fn the_fallback_on_egress_counts_right_and_its_leftover_does_no_harm() {
    fallback("old-out", Side::Egress);
}

/// Ends a process as nobody can foresee it.
fn kill(mut process: Background) -> Ended {
    process.signal("KILL");
    wait_until("it is dead", || process.has_ended());
    process.left()
}

/// After an exporter was killed nothing of it is left, and another starts at once.
fn killed(hook: &str) {
    let Some((near, far)) = pair(&format!("kill-{hook}")) else { return };
    let ways = [Side::Ingress, Side::Egress].map(|side| {
        let port = [PLAIN];
        Way::new(&near, &far, side, &port)
    });
    let pass = || {
        for way in &ways {
            way.send();
            way.receive(PLAIN, EACH);
        }
    };
    let attached = || {
        let tcx = [Side::Ingress, Side::Egress].map(|side| tcx_count(&near, "near", side));
        let is_xdp = near.ask("ip", "-d link show dev near").contains("prog/xdp");
        tcx.iter().flatten().sum::<u64>() + u64::from(is_xdp)
    };
    let host = Host::new(&near);
    let collector = host.collect();
    let arguments = [&["-i", "near", "--hook", hook], &NO_TIMEOUT[..]].concat();
    let exporter = host.export(&arguments);
    let first_id = host.status().unwrap()["processId"].clone();
    assert_eq!(attached(), 2);
    pass();
    kill(exporter);
    wait_until("the programs are off", || attached() == 0);
    assert!(host.status().is_none(), "the dead do not answer");
    pass();
    assert_eq!(host.stored("proto udp and src port 4000"), (0, 0));

    let exporter = host.export(&arguments);
    let status = host.status().unwrap();
    assert_ne!(status["processId"], first_id);
    assert_eq!(attached(), 2);
    pass();
    end(exporter);
    assert_eq!(attached(), 0);
    pass();
    let sent = (2 * EACH, 2 * EACH * 100);
    wait_until("all is stored", || host.stored("proto udp and src port 4000").0 >= sent.0);
    collector.terminate().ok();
    assert_eq!(host.stored("proto udp and src port 4000"), sent);
}

#[test]
fn nothing_is_left_of_tc_after_a_kill() {
    killed("tc");
}

#[test]
fn nothing_is_left_of_xdp_after_a_kill() {
    killed("xdp");
}

#[test]
fn an_xdp_hook_that_is_taken_is_told_with_the_remedy() {
    let Some((near, _far)) = pair("busy") else { return };
    let Some(theirs) = attach_xdp(&near, "near") else { return };
    let host = Host::new(&near);
    let run = |arguments: &[&str]| {
        end_of(&mut host.command(&[arguments, &["--collector", COLLECTOR]].concat()))
    };
    assert_one_line(&run(&["-i", "near", "--hook", "xdp"]), &["near", "another XDP", "--hook tc"]);
    assert_eq!(tcx_count(&near, "near", Side::Egress), Some(0), "egress is not left attached");
    assert!(near.ask("ip", "-d link show dev near").contains("prog/xdp"), "theirs stays");
    end(host.export(&["-i", "near", "--hook", "tc"]));
    drop(theirs);
    wait_until("theirs is off", || !near.ask("ip", "-d link show dev near").contains("prog/xdp"));
    end(host.export(&["-i", "near", "--hook", "xdp"]));
}

#[test]
fn a_driver_without_xdp_is_told_with_the_remedy() {
    let Some((near, _far)) = pair("noxdp") else { return };
    let host = Host::new(&near);
    let arguments = ["-i", "lo", "--hook", "xdp", "--collector", COLLECTOR];
    let ended = end_of(&mut host.command(&arguments));
    assert_one_line(&ended, &["lo:", "XDP", "--hook tc"]);
    assert_eq!(tcx_count(&near, "lo", Side::Egress), Some(0));
}

#[test]
fn missing_rights_are_told_with_the_remedy() {
    if !has_program("/usr/bin/setpriv") {
        return;
    }
    let Some((near, _far)) = pair("rights") else { return };
    let host = Host::new(&near);
    for without in [
        "-sys_admin,-net_admin,-perfmon,-bpf",
        "-sys_admin,-bpf",
        "-sys_admin,-net_admin",
        "-sys_admin,-perfmon",
    ] {
        let flowd = crate::support::flowd();
        let mut command = near.program("/usr/bin/setpriv");
        command.args(["--bounding-set", without, "--inh-caps", without]).arg(flowd.get_program());
        command.args(["export", "-i", "near", "--hook", "tc", "--collector", COLLECTOR]);
        command.env("RUNTIME_DIRECTORY", host.runtime_directory()).env("RUST_BACKTRACE", "1");
        let ended = end_of(&mut command);
        println!("{without}: {}", ended.stderr.trim_end());
        assert_one_line(&ended, &["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON", "--hook pcap"]);
    }
}
