//! One field of many records into one column: the inner loops of decoding.
//!
//! Each loop walks records of one size and reads the same octets of each, so that it has no
//! branch that depends on a record; what varies is decided outside.

#![expect(unsafe_code, reason = "a bounds check for each field of each record costs a third")]

use crate::model::time::{SysUptime, UnixMillis};
use crate::model::{ColumnMut, TcpControlBits, ntp_millis, unsigned};
use std::num::NonZeroUsize;
use std::ops::Range;

/// How a field's octets become a column's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// A number, address or MAC, as it stands.
    Plain,
    /// TCP flags: the low twelve bits of the word.
    Flags,
    /// Milliseconds since 1970.
    Millis,
    /// Seconds since 1970.
    Seconds,
    /// RFC 7011 section 6.1.9: seconds since 1900 and a binary fraction.
    Ntp,
    /// Microseconds before the message's export time (RFC 5102 sections 5.9.9 and 5.9.10).
    DeltaMicros,
    /// Milliseconds of the exporter's uptime, which the message or the session tells.
    Uptime,
    /// The same, where the field of this place tells when the exporter booted.
    UptimeSince(usize),
    /// The high octet of the column.
    HighOctet,
    /// The low octet of the column, whose high one is filled already.
    LowOctet,
}

/// The message's own clocks, which relative times are read by.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clocks {
    pub(super) export_time: UnixMillis,
    /// The exporter's uptime at that time, where it is known: IPFIX does not tell it.
    pub(super) sys_uptime: Option<SysUptime>,
}

impl Clocks {
    /// The clocks of a message whose exporter booted at a known time.
    pub(super) fn since_boot(export_time: UnixMillis, booted: Option<UnixMillis>) -> Self {
        let uptime = |booted: UnixMillis| {
            let millis = export_time.0.wrapping_sub(booted.0);
            SysUptime(u32::try_from(millis & i64::from(u32::MAX)).unwrap_or(u32::MAX))
        };
        Self { export_time, sys_uptime: booted.map(uptime) }
    }

    fn uptime(self, at_millis: u32) -> i64 {
        let sys_uptime = self.sys_uptime.unwrap_or_default();
        UnixMillis::from_sys_uptime(self.export_time, sys_uptime, SysUptime(at_millis)).0
    }

    fn delta_micros(self, micros: u64) -> i64 {
        let micros_before = i64::try_from(micros).unwrap_or(i64::MAX);
        self.export_time.0.saturating_mul(1_000).saturating_sub(micros_before).div_euclid(1_000)
    }
}

/// Where one field lies in records of one size that follow one another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strided<'a> {
    pub(super) records: &'a [u8],
    pub(super) record_size: NonZeroUsize,
    pub(super) offset: usize,
    pub(super) length: usize,
}

impl Strided<'_> {
    /// Fields of `N` octets.
    fn exact<const N: usize, T>(&self, target: &mut [T], convert: impl Fn([u8; N]) -> T) {
        self.each(target, |value, octets| *value = convert(octets));
    }

    /// Calls `set` with each value of `target` and the octets of its record's field.
    fn each<const N: usize, T>(&self, target: &mut [T], set: impl Fn(&mut T, [u8; N])) {
        let Self { records, record_size, offset, .. } = *self;
        let count = target.len().min(records.len() / record_size);
        // The last record's field must end within the records; then so do all others'.
        let last = count.saturating_sub(1).saturating_mul(record_size.get());
        let end = last.saturating_add(offset).saturating_add(N);
        let Some(target) = target.get_mut(..count) else {
            return;
        };
        if end > records.len() {
            return;
        }
        let size = record_size.get();
        let mut place = records.as_ptr().wrapping_add(offset);
        // SAFETY: `place` and what is read beside it is the beginning of the records plus the
        // offset plus a whole number of record sizes, fewer than `count` of them; so it and N
        // octets more lie within the records, as `end` does.
        let read = |place: *const u8| unsafe { place.cast::<[u8; N]>().read() };
        // By fours, so that the loop itself is a small part of the work.
        let (fours, rest) = target.as_chunks_mut::<4>();
        for [first, second, third, fourth] in fours {
            let pair = place.wrapping_add(size);
            let after = pair.wrapping_add(size);
            set(first, read(place));
            set(second, read(pair));
            set(third, read(after));
            set(fourth, read(after.wrapping_add(size)));
            place = after.wrapping_add(size).wrapping_add(size);
        }
        for value in rest {
            set(value, read(place));
            place = place.wrapping_add(size);
        }
    }

    /// Numbers of any other size up to 8 octets (RFC 7011 section 6.2).
    fn any<T>(&self, target: &mut [T], convert: impl Fn(u64) -> T) {
        let end = self.offset.saturating_add(self.length);
        let records = self.records.chunks_exact(self.record_size.get());
        for (value, record) in target.iter_mut().zip(records) {
            if let Some(number) = record.get(self.offset..end).and_then(unsigned) {
                *value = convert(number);
            }
        }
    }
}

/// Fills `rows` of a column. The plan has made sure that the field's length suits the column and
/// that no value is beyond it.
pub(super) fn fill(
    column: ColumnMut<'_>,
    rows: Range<usize>,
    field: &Strided<'_>,
    how: How,
    clocks: Clocks,
) {
    match column {
        ColumnMut::U8(values) => {
            let Some(target) = values.get_mut(rows) else {
                return;
            };
            match field.length {
                1 => field.exact(target, |[octet]| octet),
                _ => field.any(target, |n| u8::try_from(n).unwrap_or(u8::MAX)),
            }
        }
        ColumnMut::U16(values) => {
            if let Some(target) = values.get_mut(rows) {
                fill_u16(target, field, how);
            }
        }
        ColumnMut::U32(values) => {
            let Some(target) = values.get_mut(rows) else {
                return;
            };
            match field.length {
                4 => field.exact(target, u32::from_be_bytes),
                2 => field.exact(target, |octets| u32::from(u16::from_be_bytes(octets))),
                1 => field.exact(target, |[octet]| u32::from(octet)),
                _ => field.any(target, |n| u32::try_from(n).unwrap_or(u32::MAX)),
            }
        }
        ColumnMut::U64(values) => {
            let Some(target) = values.get_mut(rows) else {
                return;
            };
            match field.length {
                4 => field.exact(target, |octets| u64::from(u32::from_be_bytes(octets))),
                8 => field.exact(target, u64::from_be_bytes),
                _ => field.any(target, |n| n),
            }
        }
        ColumnMut::I64(values) => {
            if let Some(target) = values.get_mut(rows) {
                fill_time(target, field, how, clocks);
            }
        }
        ColumnMut::Octets6(values) => {
            if let Some(target) = values.get_mut(rows) {
                field.exact(target, |octets| octets);
            }
        }
        ColumnMut::Octets16(values) => {
            if let Some(target) = values.get_mut(rows) {
                field.exact(target, |octets| octets);
            }
        }
    }
}

/// Fills `rows` of a time column from uptimes that each record tells the boot time to.
pub(super) fn fill_uptime_since(
    column: ColumnMut<'_>,
    rows: Range<usize>,
    field: &Strided<'_>,
    init_offset: usize,
    export_time: UnixMillis,
) {
    let ColumnMut::I64(values) = column else {
        return;
    };
    let target = values.get_mut(rows).unwrap_or_default();
    let end = field.offset.saturating_add(field.length);
    let records = field.records.chunks_exact(field.record_size.get());
    for (value, record) in target.iter_mut().zip(records) {
        let init = record.get(init_offset..).and_then(<[u8]>::first_chunk);
        let uptime = record.get(field.offset..end).and_then(unsigned);
        if let (Some(init), Some(uptime)) = (init, uptime) {
            let booted = UnixMillis(u64::from_be_bytes(*init).cast_signed());
            let low = u32::try_from(uptime & u64::from(u32::MAX)).unwrap_or(u32::MAX);
            *value = Clocks::since_boot(export_time, Some(booted)).uptime(low);
        }
    }
}

fn fill_u16(target: &mut [u16], field: &Strided<'_>, how: How) {
    match how {
        How::HighOctet => return field.exact(target, |[octet]| u16::from(octet) << 8),
        How::LowOctet => {
            return field.each(target, |value, [octet]| *value |= u16::from(octet));
        }
        _ => {}
    }
    let mask = match how {
        How::Flags => TcpControlBits::MASK,
        _ => u16::MAX,
    };
    match field.length {
        2 => field.exact(target, |octets| u16::from_be_bytes(octets) & mask),
        1 => field.exact(target, |[octet]| u16::from(octet)),
        _ => field.any(target, |n| u16::try_from(n).unwrap_or(u16::MAX) & mask),
    }
}

fn fill_time(target: &mut [i64], field: &Strided<'_>, how: How, clocks: Clocks) {
    match (how, field.length) {
        (How::Uptime, 4) => field.exact(target, |octets| clocks.uptime(u32::from_be_bytes(octets))),
        // A longer uptime is counted modulo 2^32, as the message's own is.
        (How::Uptime, _) => field.any(target, |n| {
            clocks.uptime(u32::try_from(n & u64::from(u32::MAX)).unwrap_or(u32::MAX))
        }),
        (How::Seconds, 4) => field
            .exact(target, |octets| i64::from(u32::from_be_bytes(octets)).saturating_mul(1_000)),
        (How::Seconds, _) => field.any(target, |n| n.cast_signed().saturating_mul(1_000)),
        (How::Ntp, _) => {
            field.exact::<8, _>(target, |octets| ntp_millis(&octets).unwrap_or_default());
        }
        (How::DeltaMicros, _) => field.any(target, |n| clocks.delta_micros(n)),
        (_, 8) => field.exact(target, |octets| u64::from_be_bytes(octets).cast_signed()),
        _ => field.any(target, u64::cast_signed),
    }
}
