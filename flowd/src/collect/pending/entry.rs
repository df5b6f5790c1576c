//! One entry of the file of sets that wait.
//!
//! ```text
//! length u32, XXH3 of the payload u64, payload:
//!   1, number u64, origin, template id u16, port u16, transport u8, export time i64,
//!      has uptime u8, uptime u32, sequence number u32, received i64, record index u32, set
//!   2, number u64 ..      sets that wait no more
//! ```

use super::queue::Waiting;
use super::{Held, PendingKey};
use crate::collect::copy::Clocks;
use crate::collect::peer::Transport;
use crate::collect::saved::{read_origin, write_origin};
use crate::collect::template_cache::Source;
use crate::model::time::{SysUptime, UnixMillis};
use crate::wire::{Reader, TemplateId, Writer};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

const HELD: u8 = 1;
const GONE: u8 = 2;
const HEADER_SIZE: usize = 12;
/// Numbers in one entry, so that none is too long.
const GONE_COUNT_MAX: usize = 4_096;

/// What an entry says.
#[derive(Debug)]
pub(super) enum Entry {
    Held(u64, Box<Waiting>),
    Gone(Vec<u64>),
}

pub(super) fn write_held(writer: &mut Writer, number: u64, waiting: &Waiting) {
    let Waiting { key, held } = waiting;
    let PendingKey { origin, template_id } = key;
    let Held { source, clocks, sequence_number, received, record_index, exporter: _, body } = held;
    let Source { port, transport } = *source;
    let Clocks { export_time, sys_uptime } = *clocks;
    let start = begin(writer);
    writer.u8(HELD);
    writer.u64(number);
    write_origin(writer, origin);
    writer.u16(template_id.get());
    writer.u16(port);
    writer.u8(u8::from(transport == Transport::Tcp));
    writer.u64(export_time.0.cast_unsigned());
    writer.u8(u8::from(sys_uptime.is_some()));
    writer.u32(sys_uptime.unwrap_or_default().0);
    writer.u32(*sequence_number);
    writer.u64(received.0.cast_unsigned());
    writer.u32(*record_index);
    writer.bytes(body);
    end(writer, start);
}

pub(super) fn write_gone(writer: &mut Writer, numbers: &[u64]) {
    for part in numbers.chunks(GONE_COUNT_MAX) {
        let start = begin(writer);
        writer.u8(GONE);
        part.iter().for_each(|&number| writer.u64(number));
        end(writer, start);
    }
}

fn begin(writer: &mut Writer) -> usize {
    let start = writer.len();
    writer.zeros(HEADER_SIZE);
    start
}

fn end(writer: &mut Writer, start: usize) {
    let payload = writer.as_bytes().get(start.saturating_add(HEADER_SIZE)..).unwrap_or_default();
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let sum = xxh3_64(payload).to_be_bytes();
    writer.overwrite(start, &length);
    writer.overwrite(start.saturating_add(length.len()), &sum);
}

/// The next entry; none if it is cut short or damaged.
pub(super) fn read_entry(reader: &mut Reader<'_>) -> Option<Entry> {
    let length = usize::try_from(reader.u32().ok()?).ok()?;
    let sum = reader.u64().ok()?;
    let payload = reader.take(length).ok()?;
    if xxh3_64(payload) != sum {
        return None;
    }
    let mut payload = Reader::new(payload);
    match payload.u8().ok()? {
        HELD => read_held(&mut payload),
        GONE => {
            let mut numbers = Vec::new();
            while !payload.is_empty() {
                numbers.push(payload.u64().ok()?);
            }
            Some(Entry::Gone(numbers))
        }
        _ => None,
    }
}

fn read_held(payload: &mut Reader<'_>) -> Option<Entry> {
    let number = payload.u64().ok()?;
    let origin = Arc::new(read_origin(payload)?);
    let template_id = TemplateId::new(payload.u16().ok()?)?;
    let port = payload.u16().ok()?;
    let transport = if payload.u8().ok()? == 0 { Transport::Udp } else { Transport::Tcp };
    let export_time = UnixMillis(payload.u64().ok()?.cast_signed());
    let has_uptime = payload.u8().ok()? != 0;
    let uptime = SysUptime(payload.u32().ok()?);
    let held = Held {
        source: Source { port, transport },
        clocks: Clocks { export_time, sys_uptime: has_uptime.then_some(uptime) },
        sequence_number: payload.u32().ok()?,
        received: UnixMillis(payload.u64().ok()?.cast_signed()),
        record_index: payload.u32().ok()?,
        exporter: None,
        body: payload.rest().into(),
    };
    let key = PendingKey { origin, template_id };
    Some(Entry::Held(number, Box::new(Waiting { key, held })))
}
