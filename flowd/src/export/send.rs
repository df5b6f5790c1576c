//! Messages to collectors: each has its own socket, sequence, template clock and pace.

use super::books::{CollectorBooks, CollectorStatistics, NotSent, Totals};
use super::layout::{Layout, Layouts, uptime};
use super::pace::{Pace, Pacer};
use crate::model::ie::PEN_V9_SCOPE;
use crate::model::time::{SysUptime, UnixMillis};
use crate::model::{FlowRecord, ObservationDomainId};
use crate::telemetry::Flag;
use crate::wire::v9::{Header, MessageEncoder, OptionsTemplateRecord};
use crate::wire::{FieldSpecifier, MESSAGE_SIZE_MAX, TemplateId};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU32;
use std::sync::Arc;

/// Octets of a FlowSet's header and of the padding before it, at most.
const SET_OVERHEAD: usize = 8;
/// The first pause after an error, and the longest.
const PAUSE_MILLIS_MIN: i64 = 1_000;
const PAUSE_MILLIS_MAX: i64 = 30_000;
/// `samplingAlgorithm` 2: random.
const SAMPLING_RANDOM: u8 = 2;

/// How packets were sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// One packet in so many was metered, at random.
    pub interval: NonZeroU32,
}

/// What to export where.
#[derive(Clone, Debug)]
pub struct ExporterConfig {
    /// Where the collectors listen.
    pub collectors: Vec<SocketAddr>,
    /// The scope of templates and sequence.
    pub source_id: ObservationDomainId,
    /// When sysUptime was 0.
    pub boot: UnixMillis,
    /// Octets of UDP payload.
    pub message_size_max: usize,
    /// Templates are sent again every so many messages,
    pub template_refresh_messages: u32,
    /// and after so many milliseconds.
    pub template_refresh_millis: i64,
    /// Sent as options data; none if every packet was metered.
    pub sampling: Option<Sampling>,
    /// How fast.
    pub pace: Pace,
    /// When it is raised, sending waits for no collector any more.
    pub stop: Arc<Flag>,
}

impl ExporterConfig {
    /// The default: all packets metered, messages sent as they are made.
    #[must_use]
    pub fn new(collectors: Vec<SocketAddr>, boot: UnixMillis) -> Self {
        Self {
            collectors,
            source_id: ObservationDomainId(0),
            boot,
            message_size_max: MESSAGE_SIZE_MAX,
            template_refresh_messages: 20,
            template_refresh_millis: 30_000,
            sampling: None,
            pace: Pace::AsMade,
            stop: Arc::default(),
        }
    }
}

/// Why an exporter cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// There is no way to the collector.
    #[error("collector udp://{address}: {source}")]
    Socket {
        /// Which collector.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Sends records to collectors as NetFlow v9.
///
/// ```
/// use flowd::export::{Exporter, ExporterConfig};
/// use flowd::model::{Column, FlowRecord, time::UnixMillis};
///
/// let collector = std::net::UdpSocket::bind("127.0.0.1:0")?;
/// let config = ExporterConfig::new(vec![collector.local_addr()?], UnixMillis(0));
/// let mut exporter = Exporter::new(&config)?;
/// let mut record = FlowRecord::default();
/// record.present.insert(Column::OctetDeltaCount);
/// exporter.export(&[record], UnixMillis(10_000));
/// exporter.flush(UnixMillis(10_000));
/// assert_eq!(exporter.statistics()[0].exported.records, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Exporter {
    clock: ExporterClock,
    layouts: Layouts,
    sampling: Option<SamplingOptions>,
    links: Vec<Link>,
}

/// What message headers are made of.
#[derive(Debug)]
struct ExporterClock {
    source_id: ObservationDomainId,
    boot: UnixMillis,
    now: UnixMillis,
}

/// The options data that tells of sampling.
#[derive(Debug)]
struct SamplingOptions {
    template: OptionsTemplateRecord,
    interval: NonZeroU32,
}

impl Exporter {
    /// Opens a socket for each collector; nothing is sent yet.
    ///
    /// # Errors
    /// If there is no way to one of them.
    pub fn new(config: &ExporterConfig) -> Result<Self, ExportError> {
        let sampling = config.sampling.map(|Sampling { interval }| SamplingOptions {
            template: sampling_template(TemplateId::FIRST),
            interval,
        });
        let first_id = match &sampling {
            Some(options) => options.template.id.next().unwrap_or(TemplateId::FIRST),
            None => TemplateId::FIRST,
        };
        let overhead = Header::SIZE.saturating_add(SET_OVERHEAD);
        let links = config
            .collectors
            .iter()
            .map(|&address| Link::new(address, config))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            clock: ExporterClock {
                source_id: config.source_id,
                boot: config.boot,
                now: UnixMillis(i64::MIN),
            },
            layouts: Layouts::new(first_id, config.message_size_max.saturating_sub(overhead)),
            sampling,
            links,
        })
    }

    /// Takes records at the time `now`. Full messages are sent; the last one stays open for more.
    pub fn export(&mut self, records: &[FlowRecord], now: UnixMillis) {
        self.clock.now = now.max(self.clock.now);
        for record in records {
            let index = self.layouts.of(record);
            for link in &mut self.links {
                match index {
                    Ok(index) => {
                        link.add(index, record, &self.layouts, &self.sampling, &self.clock)
                    }
                    Err(reason) => link.books.not_sent(reason, Totals::of(record)),
                }
            }
        }
    }

    /// Sends the messages that are begun.
    pub fn flush(&mut self, now: UnixMillis) {
        self.clock.now = now.max(self.clock.now);
        for link in &mut self.links {
            link.send(&self.clock);
            link.note_refusal();
        }
    }

    /// What was exported to each collector, in the order of the configuration.
    #[must_use]
    pub fn statistics(&self) -> Vec<CollectorStatistics> {
        let links = self.links.iter();
        links.map(|link| link.books.statistics(link.address)).collect()
    }
}

/// Options about the whole exporter (scope System): one packet in so many.
fn sampling_template(id: TemplateId) -> OptionsTemplateRecord {
    let field = |enterprise, id, length| FieldSpecifier { enterprise, id, length };
    OptionsTemplateRecord {
        id,
        scopes: vec![field(PEN_V9_SCOPE, 1, 4)],
        options: vec![field(0, 34, 4), field(0, 35, 1)],
    }
}

/// The way to one collector.
#[derive(Debug)]
struct Link {
    address: SocketAddr,
    socket: UdpSocket,
    encoder: MessageEncoder,
    message_size_max: usize,
    /// What the open message carries.
    open: Totals,
    /// What the message before it carried, if it was handed to the network.
    last: Option<Totals>,
    sequence_number: u32,
    /// Layouts whose template was sent since the last error: the first so many.
    announced: Vec<bool>,
    refresh_messages: u32,
    refresh_millis: i64,
    messages_since_refresh: u32,
    /// When all templates were sent last; none if they are to be sent at once.
    refreshed: Option<UnixMillis>,
    /// After an error: until when nothing is sent, and how long the pause is.
    pause: Option<(UnixMillis, i64)>,
    pacer: Pacer,
    books: CollectorBooks,
}

impl Link {
    fn new(address: SocketAddr, config: &ExporterConfig) -> Result<Self, ExportError> {
        let fail = |source| ExportError::Socket { address, source };
        let local = match address {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let socket = UdpSocket::bind(local).map_err(fail)?;
        socket.connect(address).map_err(fail)?;
        Ok(Self {
            address,
            socket,
            encoder: MessageEncoder::new(config.message_size_max),
            message_size_max: config.message_size_max,
            open: Totals::default(),
            last: None,
            sequence_number: 0,
            announced: Vec::new(),
            refresh_messages: config.template_refresh_messages,
            refresh_millis: config.template_refresh_millis,
            messages_since_refresh: 0,
            refreshed: None,
            pause: None,
            pacer: Pacer::new(config.pace, address, Arc::clone(&config.stop)),
            books: CollectorBooks::new(),
        })
    }

    /// Adds a record to the open message; sends that first if there is no room.
    fn add(
        &mut self,
        index: usize,
        record: &FlowRecord,
        layouts: &Layouts,
        sampling: &Option<SamplingOptions>,
        clock: &ExporterClock,
    ) {
        let Some(layout) = layouts.get(index) else {
            return;
        };
        if !self.fits(index, layout) {
            self.send(clock);
        }
        if self.encoder.is_empty() && self.is_refresh_due(clock.now) {
            self.refresh(layouts, sampling, clock);
        }
        if !self.is_announced(index) {
            self.announce(index, layout, clock);
        }
        if !self.is_announced(index) || !self.put(layout, record, clock) {
            self.books.not_sent(NotSent::TooLarge, Totals::of(record));
            return;
        }
        self.open.add(Totals::of(record));
        self.books.fields_left_out = self.books.fields_left_out.saturating_add(layout.left_out);
    }

    /// Puts a record into the open message, or into the next one; false if neither has room.
    fn put(&mut self, layout: &Layout, record: &FlowRecord, clock: &ExporterClock) -> bool {
        let write = |writer: &mut _| layout.write(record, clock.boot, writer);
        let (id, size) = (layout.template.id, layout.record_size);
        if self.encoder.data(id, size, write) {
            return true;
        }
        self.send(clock);
        self.encoder.data(id, size, write)
    }

    /// Does the open message take one more record, and its template if that was not sent yet?
    fn fits(&self, index: usize, layout: &Layout) -> bool {
        let template_size = if self.is_announced(index) {
            0
        } else {
            layout.template.size().saturating_add(SET_OVERHEAD)
        };
        let size = layout.record_size.saturating_add(SET_OVERHEAD).saturating_add(template_size);
        self.encoder.is_empty() || self.encoder.size().saturating_add(size) <= self.message_size_max
    }

    fn is_announced(&self, index: usize) -> bool {
        self.announced.get(index).copied().unwrap_or(false)
    }

    fn is_refresh_due(&self, now: UnixMillis) -> bool {
        let Some(refreshed) = self.refreshed else {
            return true;
        };
        self.messages_since_refresh >= self.refresh_messages
            || now.0.saturating_sub(refreshed.0) >= self.refresh_millis
    }

    /// Puts all templates and the options data at the front of the next messages.
    fn refresh(
        &mut self,
        layouts: &Layouts,
        sampling: &Option<SamplingOptions>,
        clock: &ExporterClock,
    ) {
        self.refreshed = Some(clock.now);
        if let Some(SamplingOptions { template, interval }) = sampling {
            self.encoder.options_template(template);
            self.encoder.data(template.id, 9, |writer| {
                writer.u32(clock.source_id.0);
                writer.u32(interval.get());
                writer.u8(SAMPLING_RANDOM);
            });
        }
        for (index, layout) in layouts.all().iter().enumerate() {
            self.announce(index, layout, clock);
        }
        // Messages full of templates are the refresh: they do not make the next one due.
        self.messages_since_refresh = 0;
    }

    /// Puts a template into the open message, or into the next one.
    fn announce(&mut self, index: usize, layout: &Layout, clock: &ExporterClock) {
        if !self.encoder.template(&layout.template) {
            self.send(clock);
            if !self.encoder.template(&layout.template) {
                return;
            }
        }
        if self.announced.len() <= index {
            self.announced.resize(index.saturating_add(1), false);
        }
        if let Some(announced) = self.announced.get_mut(index) {
            *announced = true;
        }
    }

    /// Sends the open message, if it has any record.
    fn send(&mut self, clock: &ExporterClock) {
        if self.encoder.is_empty() {
            return;
        }
        let unix_seconds = clock.now.0.div_euclid(1_000);
        // The uptime at the whole second that the header tells, so that both of a record's times
        // come out to the millisecond.
        let second = UnixMillis(unix_seconds.saturating_mul(1_000));
        let header = Header {
            count: 0,
            sys_uptime: SysUptime(uptime(second, clock.boot)),
            unix_seconds: u32::try_from(unix_seconds.rem_euclid(1 << 32)).unwrap_or(0),
            sequence_number: self.sequence_number,
            source_id: clock.source_id,
        };
        let carried = std::mem::take(&mut self.open);
        // It counts although the message may not leave: the collector is to see that it misses.
        self.sequence_number = self.sequence_number.wrapping_add(1);
        self.messages_since_refresh = self.messages_since_refresh.saturating_add(1);
        let outcome = if self.pause.is_some_and(|(until, _)| clock.now < until) {
            Err(NotSent::Paused)
        } else {
            if !self.pacer.wait() {
                self.books.pace_overruns = self.books.pace_overruns.saturating_add(1);
            }
            self.transmit(header)
        };
        match outcome {
            Ok(()) => {
                self.books.messages = self.books.messages.saturating_add(1);
                self.books.exported.add(carried);
                self.last = Some(carried);
                self.pause = None;
            }
            Err(reason) => {
                self.books.not_sent(reason, carried);
                self.refreshed = None;
                if matches!(reason, NotSent::Unreachable | NotSent::SendFailed) {
                    self.lengthen_pause(clock.now);
                }
            }
        }
        self.encoder.clear();
    }

    fn transmit(&mut self, header: Header) -> Result<(), NotSent> {
        self.note_refusal();
        let datagram = self.encoder.finish(header);
        let mut sent = self.socket.send(datagram);
        if matches!(&sent, Err(error) if error.kind() == io::ErrorKind::ConnectionRefused) {
            // The refusal of an earlier message came meanwhile, and kept this one from leaving.
            sent = self.socket.send(datagram);
            self.refused();
        }
        sent.map(|_| ()).map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => NotSent::Refused,
            io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkDown => NotSent::Unreachable,
            _ => NotSent::SendFailed,
        })
    }

    /// Looks whether the collector's host has refused the last message.
    fn note_refusal(&mut self) {
        if let Ok(Some(_)) = self.socket.take_error() {
            self.refused();
        }
    }

    /// The last message reached nobody. Whoever listens there next knows no templates.
    fn refused(&mut self) {
        if let Some(last) = self.last.take() {
            self.books.turned_out_not_sent(NotSent::Refused, last);
        }
        self.refreshed = None;
    }

    fn lengthen_pause(&mut self, now: UnixMillis) {
        let length = self
            .pause
            .map_or(PAUSE_MILLIS_MIN, |(_, length)| length.saturating_mul(2))
            .min(PAUSE_MILLIS_MAX);
        self.pause = Some((UnixMillis(now.0.saturating_add(length)), length));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Column, ColumnSet, Extra, ExtraSpec};

    #[test]
    fn what_no_message_has_room_for_is_not_counted_as_exported() {
        let collector = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = collector.local_addr().unwrap();
        let mut exporter =
            Exporter::new(&ExporterConfig::new(vec![address], UnixMillis(0))).unwrap();
        // Layouts that let everything through, as if they knew nothing of the message's size.
        exporter.layouts = Layouts::new(TemplateId::FIRST, usize::MAX);
        let small = FlowRecord {
            present: ColumnSet::of(&[Column::OctetDeltaCount]),
            ..FlowRecord::default()
        };
        let extra = |id, length: u16| Extra {
            spec: ExtraSpec { enterprise: 0, id, length },
            value: vec![1; usize::from(length)],
        };
        let wide = FlowRecord { extras: vec![extra(313, 1_450)], ..small.clone() };
        let many =
            FlowRecord { extras: (300..700).map(|id| extra(id, 1)).collect(), ..small.clone() };
        exporter.export(&[wide, many, small], UnixMillis(0));
        exporter.flush(UnixMillis(0));
        let statistics = exporter.statistics().remove(0);
        assert_eq!(statistics.exported.records, 1);
        assert_eq!(statistics.not_sent["tooLarge"].records, 2);
    }
}
