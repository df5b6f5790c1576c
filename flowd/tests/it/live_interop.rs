//! Foreign programs read what `flowd export` sends of live traffic. As root, in namespaces of the
//! tests' own; elsewhere skipped with a word why.

use crate::foreign_bpf::has_bpf;
use crate::host::{Host, end};
use crate::interop::{NFCAPD, NFDUMP, TSHARK, assert_no_fault, nfdump, tshark_of};
use crate::namespace::Namespace;
use crate::support::{Background, PATIENCE, has_program, wait_until};
use crate::system::{icmp_socket, set_receive_buffer};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;

const NFCAPD_PORT: u16 = 2057;
const LISTENER_PORT: u16 = 2058;
/// Enough flows for several messages between one set of templates and the next.
const FLOW_COUNT: u16 = 700;

/// The line of a UDP socket in the namespace, as /proc has it.
fn socket_line(namespace: &Namespace, port: u16) -> Option<String> {
    let table = namespace.inside(|| std::fs::read_to_string("/proc/thread-self/net/udp").unwrap());
    table.lines().find(|line| line.contains(&format!(":{port:04X} "))).map(str::to_owned)
}

fn start_nfcapd(namespace: &Namespace, folder: &Path) -> Background {
    std::fs::create_dir_all(folder).unwrap();
    let mut command = namespace.program(NFCAPD);
    command.args(["-b", "127.0.0.1", "-p", &NFCAPD_PORT.to_string(), "-B", "4000000", "-w"]);
    let nfcapd = Background::start(command.arg(folder));
    wait_until("nfcapd listens", || socket_line(namespace, NFCAPD_PORT).is_some());
    nfcapd
}

fn wait_until_read(namespace: &Namespace) {
    wait_until("nfcapd has read all", || {
        let line = socket_line(namespace, NFCAPD_PORT).unwrap();
        line.split_whitespace().nth(4).unwrap().ends_with(":00000000")
    });
}

/// All datagrams that come before an empty one.
fn until_empty(listener: &UdpSocket) -> Vec<Vec<u8>> {
    let mut buffer = vec![0; 65_536];
    let mut datagrams = Vec::new();
    loop {
        match listener.recv(&mut buffer).unwrap() {
            0 => return datagrams,
            size => datagrams.push(buffer[..size].to_vec()),
        }
    }
}

/// One connection over which so many octets go, and come back.
fn echo(near: &Namespace, far: &Namespace, to: IpAddr, octets: usize) {
    let listener = far.inside(|| TcpListener::bind(SocketAddr::new(to, 7_000)).unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(&all).unwrap();
    });
    let mut stream = near.inside(|| TcpStream::connect(SocketAddr::new(to, 7_000)).unwrap());
    stream.write_all(&vec![7; octets]).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    assert_eq!(back.len(), octets);
    server.join().unwrap();
}

/// An echo request to this address, answered.
fn ping(near: &Namespace, address: IpAddr) {
    let is_v6 = address.is_ipv6();
    let socket = near.inside(|| icmp_socket(is_v6).unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    // Type, code, checksum (the kernel's for IPv6), identifier 1, sequence number 1.
    let request: [u8; 8] =
        if is_v6 { [128, 0, 0, 0, 0, 1, 0, 1] } else { [8, 0, 0xf7, 0xfd, 0, 1, 0, 1] };
    socket.send_to(&request, SocketAddr::new(address, 0)).unwrap();
    let (type_at, reply) = if is_v6 { (0, 129) } else { (20, 0) };
    let mut buffer = [0; 512];
    loop {
        socket.recv(&mut buffer).expect("an answer");
        if buffer[type_at] == reply {
            return;
        }
    }
}

/// Connections, datagrams of many flows and echoes, over both families.
fn talk(near: &Namespace, far: &Namespace) {
    for (here, there) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
        let (from, to): (IpAddr, IpAddr) = (here.parse().unwrap(), there.parse().unwrap());
        echo(near, far, to, 3_000_000);
        ping(near, to);
        let socket = near.udp(&SocketAddr::new(from, 4_000).to_string());
        for port in 0..FLOW_COUNT {
            socket.send_to(&[1; 50], SocketAddr::new(to, 10_000 + port)).unwrap();
        }
    }
}

/// What both sides tell of a run, compared: nfcapd's records and our books.
fn compare_totals(records: &[Value], ledger: &Value) {
    let sum = |name: &str| records.iter().map(|it| it[name].as_u64().unwrap_or(0)).sum::<u64>();
    let exported = &ledger["exported"];
    println!("exported {exported}");
    assert_eq!(records.len() as u64, exported["records"].as_u64().unwrap());
    assert_eq!(sum("in_packets"), exported["packets"].as_u64().unwrap());
    assert_eq!(sum("in_bytes"), exported["octets"].as_u64().unwrap());
}

#[test]
fn nfcapd_and_tshark_read_our_live_export_without_a_fault() {
    if !(has_program(NFCAPD) && has_program(NFDUMP) && has_program(TSHARK) && has_bpf()) {
        return;
    }
    let Some(near) = Namespace::new("foreign-a") else { return };
    let Some(far) = Namespace::new("foreign-b") else { return };
    near.join("near", &far, "far");
    near.ip("addr add 2001:db8::1/64 dev near nodad");
    far.ip("addr add 2001:db8::2/64 dev far nodad");
    let host = Host::new(&near);
    let files = host.runtime_directory().join("nfcapd");
    let nfcapd = start_nfcapd(&near, &files);
    let listener = near.udp(&format!("127.0.0.1:{LISTENER_PORT}"));
    listener.set_read_timeout(Some(PATIENCE)).unwrap();
    // All of it, however busy this machine is.
    set_receive_buffer(&listener, 16 << 20).unwrap();
    let reader = std::thread::spawn(move || until_empty(&listener));

    let arguments = ["-i", "near", "--hook", "tc", "--inactive-timeout", "1s"];
    let collectors = [NFCAPD_PORT, LISTENER_PORT].map(|port| format!("udp://127.0.0.1:{port}"));
    let to = ["--collector", &collectors[0], "--collector", &collectors[1]];
    let exporter = host.export_to(&[&arguments[..], &to].concat());
    talk(&near, &far);
    let both_families = 2 * u64::from(FLOW_COUNT);
    wait_until("flows end by their timeout", || {
        let status = host.status().unwrap();
        status["collectors"][0]["exported"]["records"].as_u64().unwrap() >= both_families
    });
    talk(&near, &far);
    // The books of the end: every record has been sent to both.
    let said = end(exporter).stderr;
    wait_until_read(&near);
    assert_no_fault(&nfcapd.terminate());
    near.udp("127.0.0.1:0").send_to(&[], ("127.0.0.1", LISTENER_PORT)).unwrap();
    let datagrams = reader.join().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let decoded = tshark_of(&datagrams, folder.path());
    for text in ["IfName: near", "Direction: Egress (1)", "Direction: Ingress (0)"] {
        assert!(decoded.contains(text), "{text} is missing");
    }
    let refreshes = decoded.matches("Options Template (Id").count();
    println!("{} messages; {refreshes} options templates; {said}", datagrams.len());
    // Names and ledgers, with every twentieth message at least.
    assert!(datagrams.len() > 60 && refreshes >= 2 * (datagrams.len() / 20), "{refreshes}");
    let records = nfdump(&files);
    for protocol in [1, 6, 17, 58] {
        assert!(records.iter().any(|record| record["proto"] == protocol), "{protocol} is missing");
    }
    let exported = exported_by(&said, &collectors[0]);
    compare_totals(&records, &serde_json::json!({ "exported": exported }));
}

/// What an exporter says at its end that it sent to a collector.
fn exported_by(said: &str, collector: &str) -> Value {
    let line = said.lines().find(|line| line.contains("exported") && line.ends_with(collector));
    let line = line.expect("a line of each collector");
    let numbers: Vec<u64> = line
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect();
    serde_json::json!({"records": numbers[0], "packets": numbers[1], "octets": numbers[2]})
}
