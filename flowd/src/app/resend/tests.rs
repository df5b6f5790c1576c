use super::*;
use std::cell::{Cell, RefCell};
use std::net::UdpSocket;

/// A clock that stands still but for the waits that are asked of it.
#[derive(Default)]
struct StillClock {
    now: Cell<Duration>,
}

impl Clock for StillClock {
    fn elapsed(&self) -> Duration {
        self.now.get()
    }

    fn wait_until(&self, due: Duration, stop: &Flag) {
        if !stop.is_raised() {
            self.now.set(due.max(self.now.get()));
        }
    }
}

fn le(file: &mut Vec<u8>, words: &[usize]) {
    for word in words {
        file.extend(u32::try_from(*word).unwrap().to_le_bytes());
    }
}

/// A capture of UDP datagrams as raw IPv4: milliseconds, source port and payload of each.
fn capture(datagrams: &[(usize, u16, &[u8])]) -> (tempfile::TempDir, PathBuf) {
    let mut file = Vec::new();
    le(&mut file, &[0xa1b2_c3d4, 0x0004_0002, 0, 0, 262_144, 228]);
    for (millis, port, payload) in datagrams {
        let size = payload.len() + 28;
        le(&mut file, &[1_000 + millis / 1_000, millis % 1_000 * 1_000, size, size]);
        file.extend([0x45, 0]);
        file.extend(u16::try_from(size).unwrap().to_be_bytes());
        file.extend([0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 127, 0, 0, 1]);
        file.extend(port.to_be_bytes());
        file.extend([0x08, 0x07]);
        file.extend(u16::try_from(size - 20).unwrap().to_be_bytes());
        file.extend([0, 0]);
        file.extend(*payload);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("exports.pcap");
    std::fs::write(&path, file).unwrap();
    (folder, path)
}

/// When each datagram was sent, by which exporter's port, and its octets.
type Sent = Vec<(u128, u16, Vec<u8>)>;

fn resent(path: &Path, speed: Option<f64>, stop_after: usize) -> (Sent, Report) {
    let clock = StillClock::default();
    let stop = Flag::default();
    let sent = RefCell::new(Vec::new());
    let mut send = |from: SocketAddr, payload: &[u8]| {
        let mut sent = sent.borrow_mut();
        sent.push((clock.elapsed().as_millis(), from.port(), payload.to_vec()));
        if sent.len() == stop_after {
            stop.raise();
        }
        Ok(())
    };
    let mut work = Work::new(speed, &clock, &stop, &mut send);
    work.capture(&CaptureFile::open(path).unwrap(), path).unwrap();
    let report = work.finish();
    (sent.into_inner(), report)
}

const V9: &[u8] = &[0, 9, 1, 2, 3];
const V5: &[u8] = &[0, 5, 7];
const SFLOW: &[u8] = &[0, 0, 0, 5, 8];

#[test]
fn datagrams_go_out_verbatim_in_the_time_of_the_capture() {
    let (_folder, path) = capture(&[
        (200, 1, V9),
        (300, 2, b"no export"),
        (450, 2, V5),
        (400, 1, SFLOW),
        (3_200, 1, V9),
    ]);
    let octets = |speed| {
        let (sent, report) = resent(&path, speed, usize::MAX);
        assert_eq!((report.datagrams, report.octets), (4, 18));
        assert!(report.not_sent.is_empty() && !report.is_cut_short);
        let payloads: Vec<(u16, Vec<u8>)> =
            sent.iter().map(|(_, port, payload)| (*port, payload.clone())).collect();
        let wanted = [(1, V9), (2, V5), (1, SFLOW), (1, V9)];
        assert_eq!(payloads, wanted.map(|(port, payload)| (port, payload.to_vec())));
        sent.into_iter().map(|(millis, ..)| millis).collect::<Vec<_>>()
    };
    assert_eq!(octets(Some(1.0)), [0, 250, 250, 3_000]);
    assert_eq!(octets(Some(2.0)), [0, 125, 125, 1_500]);
    assert_eq!(octets(Some(0.5)), [0, 500, 500, 6_000]);
    assert_eq!(octets(None), [0, 0, 0, 0]);
}

#[test]
fn a_speed_that_makes_waits_endless_is_no_overflow() {
    let mut schedule = Schedule::new(f64::MIN_POSITIVE);
    assert_eq!(schedule.due(5), Duration::ZERO);
    assert_eq!(schedule.due(i64::MAX), Duration::MAX);
    assert_eq!(schedule.due(i64::MIN), Duration::ZERO);
}

#[test]
fn the_wish_to_stop_ends_it_with_what_was_sent() {
    let (_folder, path) = capture(&[(0, 1, V9), (1, 1, V9), (2, 1, V9), (3, 1, V9)]);
    let (sent, report) = resent(&path, Some(1.0), 2);
    assert_eq!((sent.len(), report.datagrams, report.is_cut_short), (2, 2, true));
    let (sent, report) = resent(&path, Some(1.0), usize::MAX);
    assert_eq!((sent.len(), report.datagrams, report.is_cut_short), (4, 4, false));
}

#[test]
fn each_exporter_has_a_port_of_its_own_and_keeps_it() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let collector = UdpSocket::bind(address).unwrap();
        let mut sockets = Sockets::new(collector.local_addr().unwrap());
        let exporters = ["192.0.2.1:1", "192.0.2.1:2", "[2001:db8::1]:1"];
        let mut ports = Vec::new();
        for _ in 0..2 {
            for exporter in exporters {
                sockets.send(exporter.parse().unwrap(), V9).unwrap();
                let mut octets = [0; 10];
                let (size, from) = collector.recv_from(&mut octets).unwrap();
                assert_eq!(&octets[..size], V9);
                ports.push(from.port());
            }
        }
        assert_eq!(ports[..3], ports[3..]);
        assert!(ports[0] != ports[1] && ports[1] != ports[2] && ports[0] != ports[2]);
        let mut report = Report { datagrams: 6, ..Report::default() };
        sockets.tell(&mut report);
        assert_eq!((report.exporters, report.datagrams), (3, 6));
    }
}

#[test]
fn what_the_network_does_not_take_is_counted() {
    let collector = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let exporter = "192.0.2.1:1".parse().unwrap();
    let mut sockets = Sockets::new(collector);
    let outcomes: Vec<_> = (0..5).map(|_| sockets.send(exporter, V9)).collect();
    assert_eq!(outcomes, [Ok(()); 5]);
    assert_eq!(sockets.send(exporter, &[9; 65_508]), Err(NotSent::TooLarge));
    let mut report = Report { datagrams: 5, octets: 25, ..Report::default() };
    sockets.tell(&mut report);
    assert_eq!((report.datagrams, report.octets), (0, 0));
    assert_eq!(report.not_sent[NotSent::Refused.name()], 5);
    assert!(report.last_error.is_some());
}

#[test]
fn datagrams_above_the_mtu_are_told() {
    let collector = UdpSocket::bind("[::1]:0").unwrap();
    let mut sockets = Sockets::new(collector.local_addr().unwrap());
    let exporter = "192.0.2.1:1".parse().unwrap();
    sockets.send(exporter, V9).unwrap();
    sockets.path_mtu = Some(53);
    sockets.send(exporter, V9).unwrap();
    sockets.path_mtu = Some(52);
    sockets.send(exporter, V9).unwrap();
    let mut report = Report::default();
    sockets.tell(&mut report);
    assert_eq!(report.fragmented, Some((1, 52)));
}
