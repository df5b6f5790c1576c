//! Programs of others on the same hooks: made by hand, loaded and attached by bpf(2).

use crate::namespace::Namespace;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Commands of bpf(2), of linux/bpf.h.
const MAP_CREATE: libc::c_long = 0;
const MAP_LOOKUP_ELEM: libc::c_long = 1;
const PROG_LOAD: libc::c_long = 5;
const OBJ_PIN: libc::c_long = 6;
const PROG_QUERY: libc::c_long = 16;
const LINK_CREATE: libc::c_long = 28;

const MAP_TYPE_ARRAY: u32 = 2;
const PROG_TYPE_SCHED_CLS: u32 = 3;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// Verdicts: of TC, and of TCX by the same numbers.
const NEXT: i32 = -1;
const SHOT: i32 = 2;
/// `__sk_buff.mark`.
const MARK_OFFSET: i16 = 8;
const MARK: i32 = 7;

/// Which side of an interface, as attach types of bpf(2).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Side {
    Ingress = 46,
    Egress = 47,
}

/// Where among those that are attached.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    First = 1 << 3,
    Last = 1 << 4,
}

/// What a filter looks for, in Ethernet frames with IPv4 headers without options.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Match {
    UdpTo(u16),
    Marked,
}

/// What it does then; what it does not look for it leaves to the next one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    Drop,
    Mark,
    /// Ends the chain, as `TC_ACT_OK` does.
    Pass,
}

/// A program of TC that counts what it found.
pub(crate) struct Filter {
    program: OwnedFd,
    counter: OwnedFd,
}

impl Filter {
    /// Loads one; none, with a word why, where that is not allowed.
    pub(crate) fn load(wanted: Match, action: Action) -> Option<Self> {
        let made = counter().and_then(|counter| {
            let code = code(wanted, action, counter.as_raw_fd());
            Ok(Self { program: load(PROG_TYPE_SCHED_CLS, &code)?, counter })
        });
        made.map_err(|error| println!("skipped: no BPF: {error}")).ok()
    }

    /// How many packets it has found.
    pub(crate) fn count(&self) -> u64 {
        let (index, mut value) = (0_u32, 0_u64);
        let mut attribute = [0_u64; 4];
        attribute[0] = u64::from(self.counter.as_raw_fd().cast_unsigned());
        attribute[1] = std::ptr::from_ref(&index).addr() as u64;
        attribute[2] = std::ptr::from_mut(&mut value).addr() as u64;
        bpf(MAP_LOOKUP_ELEM, &mut attribute).unwrap();
        value
    }

    /// Attaches it by TCX. It is taken off when what is returned is dropped, or a moment later: a
    /// process that another test is just starting has it too, until it runs its program.
    pub(crate) fn attach(
        &self,
        namespace: &Namespace,
        interface: &str,
        side: Side,
        place: Place,
    ) -> io::Result<OwnedFd> {
        link(namespace, interface, &self.program, side as u32, place as u32)
    }

    /// Gives it a path, by which `tc` finds it.
    pub(crate) fn pin(&self, label: &str) -> Option<Pin> {
        let path = format!("/sys/fs/bpf/flowd-it-{}-{label}", std::process::id());
        let name = CString::new(path.as_str()).unwrap();
        let mut attribute =
            [name.as_ptr().addr() as u64, u64::from(self.program.as_raw_fd().cast_unsigned())];
        match bpf(OBJ_PIN, &mut attribute) {
            Ok(_) => Some(Pin(path.into())),
            Err(error) => {
                println!("skipped: no file system of BPF at /sys/fs/bpf: {error}");
                None
            }
        }
    }
}

/// A path of a program, removed when it is dropped.
pub(crate) struct Pin(PathBuf);

impl Pin {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

/// Attaches an XDP program that lets everything pass; none, with a word why, where that is not
/// allowed.
pub(crate) fn attach_xdp(namespace: &Namespace, interface: &str) -> Option<OwnedFd> {
    let code = [instruction(0xb7, 0, 0, 0, 2), instruction(0x95, 0, 0, 0, 0)].concat();
    let attached = load(PROG_TYPE_XDP, &code)
        .and_then(|program| link(namespace, interface, &program, ATTACH_XDP, XDP_FLAGS_DRV_MODE));
    attached.map_err(|error| println!("skipped: no XDP: {error}")).ok()
}

/// How many programs TCX has on this side; none where the kernel has no TCX, with a word why.
pub(crate) fn tcx_count(namespace: &Namespace, interface: &str, side: Side) -> Option<u64> {
    let mut attribute = [0_u64; 8];
    attribute[0] = u64::from(namespace.index_of(interface)) | (side as u64) << 32;
    // Without room for the programs' numbers, the kernel says how many there are.
    let asked = namespace.inside(|| bpf(PROG_QUERY, &mut attribute));
    asked.map_err(|error| println!("skipped: no TCX: {error}")).ok()?;
    Some(attribute[3] & u64::from(u32::MAX))
}

fn link(
    namespace: &Namespace,
    interface: &str,
    program: &OwnedFd,
    attach_type: u32,
    flags: u32,
) -> io::Result<OwnedFd> {
    let program = u64::from(program.as_raw_fd().cast_unsigned());
    let index = u64::from(namespace.index_of(interface));
    let mut attribute = [0_u64; 8];
    attribute[0] = program | index << 32;
    attribute[1] = u64::from(attach_type) | u64::from(flags) << 32;
    namespace.inside(|| bpf(LINK_CREATE, &mut attribute)).map(owned)
}

fn counter() -> io::Result<OwnedFd> {
    // A key of 4 octets, a value of 8, one entry.
    let mut attribute = [u64::from(MAP_TYPE_ARRAY) | 4 << 32, 8 | 1 << 32];
    bpf(MAP_CREATE, &mut attribute).map(owned)
}

fn load(program_type: u32, code: &[u8]) -> io::Result<OwnedFd> {
    let license = c"Dual MIT/GPL";
    let mut attribute = [0_u64; 9];
    attribute[0] = u64::from(program_type) | (code.len() as u64 / 8) << 32;
    attribute[1] = code.as_ptr().addr() as u64;
    attribute[2] = license.as_ptr().addr() as u64;
    bpf(PROG_LOAD, &mut attribute).map(owned)
}

fn bpf(command: libc::c_long, attribute: &mut [u64]) -> io::Result<i32> {
    let size = size_of_val(attribute);
    // SAFETY: the attribute is the command's, and points to memory of the callers in here.
    let outcome = unsafe { libc::syscall(libc::SYS_bpf, command, attribute.as_mut_ptr(), size) };
    if outcome < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(i32::try_from(outcome).unwrap())
}

fn owned(number: i32) -> OwnedFd {
    // SAFETY: a call has just made this descriptor for us.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// One instruction (RFC 9669 section 3), little-endian as the machines of the tests.
fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> [u8; 8] {
    let [offset_low, offset_high] = offset.to_ne_bytes();
    let [a, b, c, d] = immediate.to_ne_bytes();
    [code, to | from << 4, offset_low, offset_high, a, b, c, d]
}

fn code(wanted: Match, action: Action, counter: i32) -> Vec<u8> {
    let verdict = match action {
        Action::Drop => SHOT,
        Action::Mark => NEXT,
        Action::Pass => 0,
    };
    let mark = match action {
        // r1 = MARK; skb->mark = r1
        Action::Mark => {
            vec![instruction(0xb7, 1, 0, 0, MARK), instruction(0x63, 6, 1, MARK_OFFSET, 0)]
        }
        Action::Drop | Action::Pass => Vec::new(),
    };
    let found = [
        &mark[..],
        &[
            // r0 = the counter
            instruction(0x18, 1, 1, 0, counter),
            instruction(0, 0, 0, 0, 0),
            instruction(0x62, 10, 0, -4, 0),
            instruction(0xbf, 2, 10, 0, 0),
            instruction(0x07, 2, 0, 0, -4),
            instruction(0x85, 0, 0, 0, 1),
            // If there is one, one more
            instruction(0x15, 0, 0, 2, 0),
            instruction(0xb7, 1, 0, 0, 1),
            instruction(0xdb, 0, 1, 0, 0),
            // return verdict
            instruction(0xb7, 0, 0, 0, verdict),
            instruction(0x95, 0, 0, 0, 0),
        ],
    ]
    .concat();
    let skip = i16::try_from(found.len()).unwrap();
    let mut all = vec![instruction(0xbf, 6, 1, 0, 0)];
    match wanted {
        // The protocol, the destination port
        Match::UdpTo(port) => all.extend([
            instruction(0x30, 0, 0, 0, 23),
            instruction(0x55, 0, 0, skip + 2, 17),
            instruction(0x28, 0, 0, 0, 36),
            instruction(0x55, 0, 0, skip, i32::from(port)),
        ]),
        Match::Marked => all
            .extend([instruction(0x61, 0, 6, MARK_OFFSET, 0), instruction(0x55, 0, 0, skip, MARK)]),
    }
    all.extend(found);
    all.extend([instruction(0xb7, 0, 0, 0, NEXT), instruction(0x95, 0, 0, 0, 0)]);
    all.concat()
}

/// May this process load programs? Says so where a test is skipped for it.
pub(crate) fn has_bpf() -> bool {
    Filter::load(Match::Marked, Action::Pass).is_some()
}
