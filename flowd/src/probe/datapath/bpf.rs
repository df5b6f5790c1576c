//! bpf: the calls of bpf(2) that aya has none for.

#![expect(unsafe_code, reason = "system calls, and values as the kernel lays them out")]

use flowd_common::{
    FlowEntry, FlowKeyV4, FlowKeyV6, LedgerEntry, ObservationPoint, RingRecordV4, RingRecordV6,
};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Commands of bpf(2), of linux/bpf.h.
const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_MAP_DELETE_ELEM: libc::c_long = 3;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_MAP_LOOKUP_AND_DELETE_BATCH: libc::c_long = 25;
const BPF_LINK_CREATE: libc::c_long = 28;

/// Attach types of TCX, and its flag for a place before all others.
pub(super) const BPF_TCX_INGRESS: u32 = 46;
pub(super) const BPF_TCX_EGRESS: u32 = 47;
const BPF_F_BEFORE: u32 = 1 << 3;

const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_MAP_TYPE_ARRAY_OF_MAPS: u32 = 12;

/// Entries that are read in one call, and octets of their values.
const BATCH_COUNT: usize = 4_096;
const BATCH_SIZE: usize = 4 << 20;

/// A value whose octets may be anything.
///
/// # Safety
/// Every pattern of octets is a value of the type.
pub(super) unsafe trait Plain: Copy {}

// SAFETY: integers, arrays of octets, and structures of those without references or enums.
unsafe impl Plain for FlowKeyV4 {}
// SAFETY: as above.
unsafe impl Plain for FlowKeyV6 {}
// SAFETY: as above.
unsafe impl Plain for FlowEntry {}
// SAFETY: as above.
unsafe impl Plain for ObservationPoint {}
// SAFETY: as above.
unsafe impl Plain for LedgerEntry {}
// SAFETY: as above.
unsafe impl Plain for RingRecordV4 {}
// SAFETY: as above.
unsafe impl Plain for RingRecordV6 {}

/// The value that lies at the start of these octets, if there are enough.
pub(super) fn value<T: Plain>(octets: &[u8]) -> Option<T> {
    let octets = octets.get(..size_of::<T>())?;
    // SAFETY: there are as many octets as the type has, and all patterns are values of it.
    Some(unsafe { octets.as_ptr().cast::<T>().read_unaligned() })
}

/// The ledger entries of all CPUs together.
pub(super) fn ledger(entries: &[u8]) -> LedgerEntry {
    let mut sum = LedgerEntry::ZERO;
    for entry in entries.chunks_exact(size_of::<LedgerEntry>()).filter_map(value) {
        sum.add(&entry);
    }
    sum
}

#[repr(C)]
#[derive(Default)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
}

#[repr(C)]
#[derive(Default)]
struct MapElement {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct MapBatch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    element_flags: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    padding: u32,
}

#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
    relative_fd: u32,
    padding: u32,
    expected_revision: u64,
}

fn bpf<T>(command: libc::c_long, attribute: &mut T) -> io::Result<i64> {
    // SAFETY: the attribute is a structure of the command's, whose size is told, and whose
    // pointers are to memory of the callers in here that outlives the call.
    let outcome = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attribute), size_of::<T>())
    };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(outcome) }
}

fn create_map(attribute: &mut MapCreate) -> io::Result<OwnedFd> {
    made(bpf(BPF_MAP_CREATE, attribute)?)
}

/// A descriptor that a call has just made.
fn made(number: i64) -> io::Result<OwnedFd> {
    let number = i32::try_from(number).map_err(io::Error::other)?;
    // SAFETY: the call has made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Attaches a program by TCX, before all that are there. By the interface's number: its name may
/// be another's by now. It is attached until what is returned is dropped.
pub(super) fn attach_tcx(
    program: BorrowedFd<'_>,
    interface: u32,
    attach_type: u32,
) -> io::Result<OwnedFd> {
    let mut attribute = LinkCreate {
        prog_fd: number(program),
        target_ifindex: interface,
        attach_type,
        flags: BPF_F_BEFORE,
        ..LinkCreate::default()
    };
    made(bpf(BPF_LINK_CREATE, &mut attribute)?)
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// Waits until all programs that run now have ended.
///
/// When a map is exchanged in an array of maps, the kernel returns only after no program can use
/// the old one any more (`maybe_wait_bpf_programs` in kernel/bpf/syscall.c). The maps here have
/// no other use.
#[derive(Debug)]
pub(super) struct Barrier {
    outer: OwnedFd,
    inner: OwnedFd,
}

impl Barrier {
    pub(super) fn new() -> io::Result<Self> {
        let word = MapCreate { key_size: 4, value_size: 4, max_entries: 1, ..MapCreate::default() };
        let inner = create_map(&mut MapCreate { map_type: BPF_MAP_TYPE_ARRAY, ..word })?;
        let word = MapCreate { key_size: 4, value_size: 4, max_entries: 1, ..MapCreate::default() };
        let outer = create_map(&mut MapCreate {
            map_type: BPF_MAP_TYPE_ARRAY_OF_MAPS,
            inner_map_fd: inner.as_raw_fd().cast_unsigned(),
            ..word
        })?;
        Ok(Self { outer, inner })
    }

    pub(super) fn wait(&self) -> io::Result<()> {
        let (index, inner) = (0_u32, self.inner.as_raw_fd().cast_unsigned());
        bpf(
            BPF_MAP_UPDATE_ELEM,
            &mut MapElement {
                map_fd: self.outer.as_raw_fd().cast_unsigned(),
                key: std::ptr::from_ref(&index).expose_provenance() as u64,
                value: std::ptr::from_ref(&inner).expose_provenance() as u64,
                ..MapElement::default()
            },
        )
        .map(|_| ())
    }
}

/// The value at this index of an array, which has `value_size` octets.
pub(super) fn lookup(map: BorrowedFd<'_>, index: u32, value_size: usize) -> io::Result<Vec<u8>> {
    let mut value = vec![0_u8; value_size];
    let mut element = MapElement {
        map_fd: number(map),
        key: std::ptr::from_ref(&index).expose_provenance() as u64,
        value: value.as_mut_ptr().expose_provenance() as u64,
        ..MapElement::default()
    };
    bpf(BPF_MAP_LOOKUP_ELEM, &mut element)?;
    Ok(value)
}

/// Puts an entry of zeros into a hash map whose values have `value_size` octets, unless the key is
/// there.
pub(super) fn insert_zeros<K: Plain>(
    map: BorrowedFd<'_>,
    key: &K,
    value_size: usize,
) -> io::Result<()> {
    const BPF_NOEXIST: u64 = 1;
    let zeros = vec![0_u8; value_size];
    let mut element = MapElement {
        map_fd: number(map),
        key: std::ptr::from_ref(key).expose_provenance() as u64,
        value: zeros.as_ptr().expose_provenance() as u64,
        flags: BPF_NOEXIST,
        ..MapElement::default()
    };
    match bpf(BPF_MAP_UPDATE_ELEM, &mut element) {
        Err(error) if error.raw_os_error() != Some(libc::EEXIST) => Err(error),
        _ => Ok(()),
    }
}

/// Takes an entry out of a hash map, if it is there.
pub(super) fn remove<K: Plain>(map: BorrowedFd<'_>, key: &K) -> io::Result<()> {
    let mut element = MapElement {
        map_fd: number(map),
        key: std::ptr::from_ref(key).expose_provenance() as u64,
        ..MapElement::default()
    };
    match bpf(BPF_MAP_DELETE_ELEM, &mut element) {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        _ => Ok(()),
    }
}

/// What becomes of entries that are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Walk {
    /// They stay.
    Read,
    /// They are taken out.
    Take,
}

/// Reads all entries of a hash map that nobody writes, and hands each to `each`: its key and its
/// value, which has `value_size` octets.
pub(super) fn walk<K: Plain>(
    map: BorrowedFd<'_>,
    how: Walk,
    value_size: usize,
    each: &mut dyn FnMut(K, &[u8]),
) -> io::Result<()> {
    let command = match how {
        Walk::Read => BPF_MAP_LOOKUP_BATCH,
        Walk::Take => BPF_MAP_LOOKUP_AND_DELETE_BATCH,
    };
    let mut batch_count = (BATCH_SIZE / value_size.max(1)).clamp(1, BATCH_COUNT);
    let (mut position, mut next_position) = (0_u64, 0_u64);
    let mut is_first = true;
    loop {
        let mut keys = vec![0_u8; batch_count * size_of::<K>()];
        let mut values = vec![0_u8; batch_count * value_size];
        let mut batch = MapBatch {
            in_batch: if is_first { 0 } else { (&raw mut position).expose_provenance() as u64 },
            out_batch: (&raw mut next_position).expose_provenance() as u64,
            keys: keys.as_mut_ptr().expose_provenance() as u64,
            values: values.as_mut_ptr().expose_provenance() as u64,
            count: u32::try_from(batch_count).map_err(io::Error::other)?,
            map_fd: number(map),
            ..MapBatch::default()
        };
        let outcome = bpf(command, &mut batch);
        let is_last = match outcome {
            Ok(_) => false,
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOENT) => true,
                // One bucket has more entries than the batch has room for.
                Some(libc::ENOSPC) if batch_count < 1 << 24 => {
                    batch_count *= 2;
                    continue;
                }
                _ => return Err(error),
            },
        };
        let count = usize::try_from(batch.count).unwrap_or(0).min(batch_count);
        let entries = keys.chunks_exact(size_of::<K>()).zip(values.chunks_exact(value_size));
        for (key, entry) in entries.take(count) {
            if let Some(key) = value(key) {
                each(key, entry);
            }
        }
        if is_last {
            return Ok(());
        }
        position = next_position;
        is_first = false;
    }
}

/// Runs a program on a frame that came by no interface, `repeat` times. Returns its verdict and
/// how long one run took.
pub(super) fn test_run(
    program: BorrowedFd<'_>,
    frame: &[u8],
    repeat: u32,
) -> io::Result<(u32, Duration)> {
    let mut run = TestRun {
        prog_fd: number(program),
        data_size_in: u32::try_from(frame.len()).map_err(io::Error::other)?,
        data_in: frame.as_ptr().expose_provenance() as u64,
        repeat,
        ..TestRun::default()
    };
    bpf(BPF_PROG_TEST_RUN, &mut run)?;
    Ok((run.retval, Duration::from_nanos(u64::from(run.duration))))
}

/// An epoll instance that tells of a ring buffer's wake-ups, each once.
#[derive(Debug)]
pub(super) struct WakeUps(OwnedFd);

impl WakeUps {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: the call has no pointers.
        let number = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has made this descriptor for us.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(number) }))
    }

    pub(super) fn add(&self, ring: BorrowedFd<'_>) -> io::Result<()> {
        let events = (libc::EPOLLIN | libc::EPOLLET).cast_unsigned();
        let mut event = libc::epoll_event { events, u64: 0 };
        let (epoll, ring) = (self.0.as_raw_fd(), ring.as_raw_fd());
        // SAFETY: both descriptors are open, and the event outlives the call.
        let outcome = unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, ring, &raw mut event) };
        if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Waits for a wake-up, or until the time is over.
    pub(super) fn wait(&self, timeout: Duration) -> io::Result<()> {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: there is room for the one event that is asked for.
        let outcome = unsafe { libc::epoll_wait(self.0.as_raw_fd(), &raw mut event, 1, millis) };
        if outcome < 0 {
            let error = io::Error::last_os_error();
            // A signal: whoever waits looks whether it was to stop.
            return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
        }
        Ok(())
    }
}
