//! Exporter: records in, messages to each collector out.

use super::books::CollectorStatistics;
use super::layout::{Layouts, UPTIME_SPAN_MILLIS, uptime};
use super::options::{InterfaceOptions, Options, Sampling};
use super::pace::Pace;
use super::send::{Link, SET_OVERHEAD};
use crate::model::time::{SysUptime, UnixMillis};
use crate::model::{FlowRecord, ObservationDomainId};
use crate::telemetry::Flag;
use crate::wire::MESSAGE_SIZE_MAX;
use crate::wire::v9::Header;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// A wall clock that was set back by more than this is believed: headers tell its time, and all
/// that was to happen at a later one begins anew.
const STEP_BACK_MILLIS_MAX: i64 = 2_000;

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
    /// A collector to which there is no way yet is tried again, and is no error.
    pub is_patient: bool,
    /// Records may be older than an uptime can tell: such go with absolute times alone.
    pub has_old_records: bool,
    /// When it is raised, sending waits for no collector any more.
    pub stop: Arc<Flag>,
}

impl ExporterConfig {
    /// When an exporter that begins now to send old records was booted: as long ago as all times
    /// that an uptime tells, so that every collector comes to the same ones.
    #[must_use]
    pub const fn boot_for_old_records(now: UnixMillis) -> UnixMillis {
        UnixMillis(now.0.saturating_sub(UPTIME_SPAN_MILLIS))
    }

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
            is_patient: false,
            has_old_records: false,
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
    source: Source,
    links: Vec<Link>,
}

/// What the messages to all collectors are made of.
#[derive(Debug)]
pub(super) struct Source {
    source_id: ObservationDomainId,
    pub(super) boot: UnixMillis,
    pub(super) now: UnixMillis,
    has_old_records: bool,
    pub(super) layouts: Layouts,
    pub(super) options: Options,
}

impl Source {
    /// The header of a message that leaves now.
    pub(super) fn header(&self, sequence_number: u32) -> Header {
        let unix_seconds = self.now.0.div_euclid(1_000);
        // The uptime at the whole second that the header tells, so that both of a record's times
        // come out to the millisecond.
        let second = UnixMillis(unix_seconds.saturating_mul(1_000));
        Header {
            count: 0,
            sys_uptime: SysUptime(uptime(second, self.boot)),
            unix_seconds: u32::try_from(unix_seconds.rem_euclid(1 << 32)).unwrap_or(0),
            sequence_number,
            source_id: self.source_id,
        }
    }

    /// Goes on to this time. A small step back is passed over; of a large one it says that the
    /// clock was set back.
    fn advance(&mut self, now: UnixMillis) -> bool {
        let is_set_back = self.now.0.saturating_sub(now.0) > STEP_BACK_MILLIS_MAX;
        self.now = if is_set_back { now } else { now.max(self.now) };
        is_set_back
    }
}

impl Exporter {
    /// Opens a socket for each collector; nothing is sent yet.
    ///
    /// # Errors
    /// If there is no way to one of them.
    pub fn new(config: &ExporterConfig) -> Result<Self, ExportError> {
        let options = Options::new(config.source_id, config.sampling);
        let overhead = Header::SIZE.saturating_add(SET_OVERHEAD);
        let record_size_max = config.message_size_max.saturating_sub(overhead);
        let links = config
            .collectors
            .iter()
            .map(|&address| Link::new(address, config))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            source: Source {
                source_id: config.source_id,
                boot: config.boot,
                now: UnixMillis(i64::MIN),
                has_old_records: config.has_old_records,
                layouts: Layouts::new(options.next_id(), record_size_max),
                options,
            },
            links,
        })
    }

    /// Tells the collectors of these interfaces from now on, as options data of two kinds that go
    /// out with the templates; of very many interfaces, spread over the messages that follow.
    ///
    /// Of an interface its name (82) and description (83). Of each direction of it (61), since
    /// metering began: octets and packets seen (85, 86), records made (163), packets and octets
    /// in no record (164, 165), and records, packets and octets that this collector was not sent
    /// (166, 167, 168), which the exporter adds. Octets are those of layer 3. The packets still
    /// in the cache are in none of them but 85 and 86. Under sampling 86 and 164 count the packets
    /// that were not selected too, 85 and 165 do not have their octets: nothing reads their sizes.
    pub fn describe(&mut self, interfaces: Vec<InterfaceOptions>) {
        let had_none = self.source.options.has_no_interfaces();
        self.source.options.describe(interfaces);
        if had_none && !self.source.options.has_no_interfaces() {
            // The templates of this data were not sent yet.
            self.links.iter_mut().for_each(Link::begin_anew);
        }
    }

    /// Takes records at the time `now`. Full messages are sent; the last one stays open for more.
    pub fn export(&mut self, records: &[FlowRecord], now: UnixMillis) {
        self.advance(now);
        let old_from = self.source.has_old_records.then_some(self.source.now);
        for record in records {
            let index = self.source.layouts.of(record, old_from);
            for link in &mut self.links {
                match index {
                    Ok(index) => link.add(index, record, &self.source),
                    Err(reason) => link.refuse(reason, record),
                }
            }
        }
    }

    /// Sends the messages that are begun. Templates and options data go out too when it is time
    /// for them, although there was no record.
    pub fn flush(&mut self, now: UnixMillis) {
        self.advance(now);
        for link in &mut self.links {
            link.flush(&self.source);
        }
    }

    /// Sends the messages that are begun and then, as the last word, all options data once more.
    pub fn finish(&mut self, now: UnixMillis) {
        self.advance(now);
        for link in &mut self.links {
            link.finish(&self.source);
        }
    }

    /// Tells the observation points of this interface, which is there no more, apart no more: what
    /// was not sent of them joins what is not told apart.
    pub fn forget(&mut self, interface: u32) {
        self.links.iter_mut().for_each(|link| link.forget_interface(interface));
    }

    fn advance(&mut self, now: UnixMillis) {
        if self.source.advance(now) {
            self.links.iter_mut().for_each(Link::begin_anew_at_another_time);
        }
    }

    /// What was exported to each collector, in the order of the configuration.
    #[must_use]
    pub fn statistics(&self) -> Vec<CollectorStatistics> {
        let links = self.links.iter();
        links.map(Link::statistics).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Column, ColumnSet, Extra, ExtraSpec};
    use crate::wire::TemplateId;
    use std::net::UdpSocket;

    #[test]
    fn what_no_message_has_room_for_is_not_counted_as_exported() {
        let collector = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = collector.local_addr().unwrap();
        let mut exporter =
            Exporter::new(&ExporterConfig::new(vec![address], UnixMillis(0))).unwrap();
        // Layouts that let everything through, as if they knew nothing of the message's size.
        exporter.source.layouts = Layouts::new(TemplateId::FIRST, usize::MAX);
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
