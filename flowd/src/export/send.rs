//! Messages to one collector: its own socket, sequence, template clock and pace.

use super::books::{Carried, CollectorBooks, CollectorStatistics, NotSent};
use super::exporter::{ExportError, ExporterConfig, Source};
use super::layout::Layout;
use super::options::Round;
use super::pace::Pacer;
use crate::model::FlowRecord;
use crate::model::time::UnixMillis;
use crate::wire::v9::{Header, MessageEncoder, V9};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

/// Octets of a FlowSet's header and of the padding before it, at most.
pub(super) const SET_OVERHEAD: usize = 8;
/// The first pause after an error, and the longest.
const PAUSE_MILLIS_MIN: i64 = 1_000;
const PAUSE_MILLIS_MAX: i64 = 30_000;
/// Messages of options data that are sent together when there is nothing else to send: a default
/// receive buffer takes them.
const OPTIONS_MESSAGES_AT_ONCE: u32 = 32;
/// At the end, when all of it is sent, the pause after so many: time for a collector to read them.
const OPTIONS_PAUSE: Duration = Duration::from_millis(2);
/// Options data that goes with the traffic takes no more than this part of it: where a round is
/// long, the next one begins only after as many times its messages, or with the time.
const OPTIONS_SHARE: usize = 8;

/// The way to one collector.
#[derive(Debug)]
pub(super) struct Link {
    address: SocketAddr,
    socket: UdpSocket,
    /// There was no way to the collector yet if it is not.
    is_connected: bool,
    encoder: MessageEncoder,
    message_size_max: usize,
    /// What the open message carries.
    open: Carried,
    /// What the message before it carried, if it was handed to the network.
    last: Option<Carried>,
    sequence_number: u32,
    /// Layouts whose template was sent since the last error: the first so many.
    announced: Vec<bool>,
    refresh_messages: u32,
    refresh_millis: i64,
    messages_since_refresh: u32,
    /// When all templates were sent last; none if they are to be sent at once.
    refreshed: Option<UnixMillis>,
    /// The same, although an error has come since.
    last_tried: Option<UnixMillis>,
    /// The round of options data under way.
    round: Option<Round>,
    /// When the last round began; none if one is to begin at once.
    round_began: Option<UnixMillis>,
    messages_since_round: usize,
    /// After an error: until when nothing is sent, and how long the pause is.
    pause: Option<(UnixMillis, i64)>,
    pacer: Pacer,
    books: CollectorBooks,
}

impl Link {
    pub(super) fn new(address: SocketAddr, config: &ExporterConfig) -> Result<Self, ExportError> {
        let fail = |source| ExportError::Socket { address, source };
        let local = match address {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let socket = UdpSocket::bind(local).map_err(fail)?;
        let is_connected = match socket.connect(address) {
            Ok(()) => true,
            Err(_) if config.is_patient => false,
            Err(error) => return Err(fail(error)),
        };
        Ok(Self {
            address,
            socket,
            is_connected,
            encoder: MessageEncoder::new(config.message_size_max),
            message_size_max: config.message_size_max,
            open: Carried::default(),
            last: None,
            sequence_number: 0,
            announced: Vec::new(),
            refresh_messages: config.template_refresh_messages,
            refresh_millis: config.template_refresh_millis,
            messages_since_refresh: 0,
            refreshed: None,
            last_tried: None,
            round: None,
            round_began: None,
            messages_since_round: 0,
            pause: None,
            pacer: Pacer::new(config.pace, address, Arc::clone(&config.stop)),
            books: CollectorBooks::new(),
        })
    }

    /// Adds a record to the open message; sends that first if there is no room.
    pub(super) fn add(&mut self, index: usize, record: &FlowRecord, source: &Source) {
        let Some(layout) = source.layouts.get(index) else {
            return;
        };
        if !self.fits(index, layout) {
            self.send(source);
        }
        if self.encoder.is_empty() {
            self.begin(source);
        }
        if !self.is_announced(index) {
            self.announce(index, layout, source);
        }
        if !self.is_announced(index) || !self.put(layout, record, source) {
            self.refuse(NotSent::TooLarge, record);
            return;
        }
        self.open.add(record);
        self.books.fields_left_out = self.books.fields_left_out.saturating_add(layout.left_out);
    }

    /// Counts a record that comes into no message.
    pub(super) fn refuse(&mut self, reason: NotSent, record: &FlowRecord) {
        self.books.refused(reason, record);
    }

    /// Sends what is begun, with what is under way of the options data. Templates and options
    /// data begin anew when it is time for them.
    pub(super) fn flush(&mut self, source: &Source) {
        if self.encoder.is_empty() && self.is_silent_too_long(source.now) {
            self.refresh(source);
        }
        for _ in 0..OPTIONS_MESSAGES_AT_ONCE {
            self.put_options(source, self.message_size_max);
            self.send(source);
            if self.round.is_none() {
                break;
            }
        }
        self.note_refusal();
    }

    /// Sends what is begun, then all options data.
    pub(super) fn finish(&mut self, source: &Source) {
        self.send(source);
        if self.is_refresh_due(source.now) {
            self.refresh(source);
        }
        self.round = Some(Round::Names(None));
        let mut count = 0;
        // Each message tells of some interface, or the round is over.
        while self.round.is_some() {
            if count == OPTIONS_MESSAGES_AT_ONCE {
                std::thread::sleep(OPTIONS_PAUSE);
                count = 0;
            }
            self.put_options(source, self.message_size_max);
            self.send(source);
            count = count.saturating_add(1);
        }
        self.note_refusal();
    }

    pub(super) fn statistics(&self) -> CollectorStatistics {
        self.books.statistics(self.address)
    }

    /// Begins a message with what is due before any record. Options data stops at half of it, so
    /// that records go on meanwhile.
    fn begin(&mut self, source: &Source) {
        if self.is_refresh_due(source.now) {
            self.refresh(source);
        }
        if self.round.is_none() && self.is_round_due(source) {
            self.begin_round(source);
        }
        self.put_options(source, self.message_size_max / 2);
    }

    /// Goes on with the round under way, up to so many octets of the open message.
    fn put_options(&mut self, source: &Source, size_max: usize) {
        let Some(round) = self.round else {
            return;
        };
        let not_sent = self.books.not_sent_at();
        let (round, count) = source.options.tell(round, &mut self.encoder, size_max, not_sent);
        self.round = round;
        self.open.add_options(count);
    }

    /// Puts a record into the open message, or into the next one; false if neither has room.
    fn put(&mut self, layout: &Layout, record: &FlowRecord, source: &Source) -> bool {
        let write = |writer: &mut _| layout.write(record, source.boot, writer);
        let (id, size) = (layout.template.id, layout.record_size);
        if self.encoder.data(id, size, write) {
            return true;
        }
        self.send(source);
        self.encoder.data(id, size, write)
    }

    /// Does the open message take one more record, and its template if that was not sent yet?
    fn fits(&self, index: usize, layout: &Layout) -> bool {
        let template_size = if self.is_announced(index) {
            0
        } else {
            layout.template.size_in::<V9>().saturating_add(SET_OVERHEAD)
        };
        let size = layout.record_size.saturating_add(SET_OVERHEAD).saturating_add(template_size);
        self.encoder.is_empty() || self.encoder.size().saturating_add(size) <= self.message_size_max
    }

    fn is_announced(&self, index: usize) -> bool {
        self.announced.get(index).copied().unwrap_or(false)
    }

    fn is_refresh_due(&self, now: UnixMillis) -> bool {
        self.messages_since_refresh >= self.refresh_messages || self.is_over(self.refreshed, now)
    }

    fn is_round_due(&self, source: &Source) -> bool {
        let traffic = self.messages_since_round.saturating_mul(self.message_size_max);
        let is_short = source.options.round_size().saturating_mul(OPTIONS_SHARE) <= traffic;
        let refresh_messages = usize::try_from(self.refresh_messages).unwrap_or(usize::MAX);
        (is_short && self.messages_since_round >= refresh_messages)
            || self.is_over(self.round_began, source.now)
    }

    /// Is it time to send the templates although there is no record? Errors do not make it so:
    /// what is sent then only asks whether somebody listens again.
    fn is_silent_too_long(&self, now: UnixMillis) -> bool {
        !self.is_paused(now) && self.is_over(self.last_tried, now)
    }

    /// Is what happened then so long ago that it is to happen again?
    fn is_over(&self, then: Option<UnixMillis>, now: UnixMillis) -> bool {
        then.is_none_or(|then| now.0.saturating_sub(then.0) >= self.refresh_millis)
    }

    fn is_paused(&self, now: UnixMillis) -> bool {
        self.pause.is_some_and(|(until, _)| now < until)
    }

    /// Puts all templates and what is told of sampling at the front of the next messages, and
    /// begins a round of options data if it is time for one.
    fn refresh(&mut self, source: &Source) {
        self.refreshed = Some(source.now);
        self.last_tried = Some(source.now);
        self.open.add_options(source.options.announce(&mut self.encoder));
        for (index, layout) in source.layouts.all().iter().enumerate() {
            self.announce(index, layout, source);
        }
        // Messages full of templates are the refresh: they do not make the next one due.
        self.messages_since_refresh = 0;
        if self.round.is_none() && self.is_round_due(source) {
            self.begin_round(source);
        }
    }

    const fn begin_round(&mut self, source: &Source) {
        self.round = Some(Round::Names(None));
        self.round_began = Some(source.now);
        self.messages_since_round = 0;
    }

    /// Puts a template into the open message, or into the next one.
    fn announce(&mut self, index: usize, layout: &Layout, source: &Source) {
        if !self.encoder.template(&layout.template) {
            self.send(source);
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
    fn send(&mut self, source: &Source) {
        if self.encoder.is_empty() {
            return;
        }
        let header = source.header(self.sequence_number);
        // It counts although the message may not leave: the collector is to see that it misses.
        self.sequence_number = self.sequence_number.wrapping_add(1);
        self.messages_since_refresh = self.messages_since_refresh.saturating_add(1);
        self.messages_since_round = self.messages_since_round.saturating_add(1);
        let outcome = if self.is_paused(source.now) {
            Err(NotSent::Paused)
        } else {
            if !self.pacer.wait() {
                self.books.pace_overruns = self.books.pace_overruns.saturating_add(1);
            }
            self.transmit(header)
        };
        match outcome {
            Ok(()) => {
                self.books.exported(&self.open);
                let free = self.last.take().unwrap_or_default();
                self.last = Some(std::mem::replace(&mut self.open, free));
                self.pause = None;
            }
            Err(reason) => {
                self.books.not_sent(reason, &self.open);
                self.forget();
                if matches!(reason, NotSent::Unreachable | NotSent::SendFailed) {
                    self.lengthen_pause(source.now);
                }
            }
        }
        self.open.clear();
        self.encoder.clear();
    }

    fn transmit(&mut self, header: Header) -> Result<(), NotSent> {
        if !self.is_connected {
            self.is_connected = self.socket.connect(self.address).is_ok();
            if !self.is_connected {
                return Err(NotSent::Unreachable);
            }
        }
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

    /// The last message reached nobody.
    fn refused(&mut self) {
        if let Some(last) = self.last.take() {
            self.books.turned_out_not_sent(NotSent::Refused, &last);
        }
        self.forget();
    }

    /// Templates and options data are to be sent at once, whether or not there are records.
    pub(super) const fn begin_anew(&mut self) {
        self.forget();
        self.last_tried = None;
    }

    /// The wall clock was set back: what was to happen at a time of before would wait for it to
    /// come by again.
    pub(super) const fn begin_anew_at_another_time(&mut self) {
        self.begin_anew();
        self.pause = None;
    }

    /// Tells the points of this interface apart no more.
    pub(super) fn forget_interface(&mut self, interface: u32) {
        self.books.forget_interface(interface);
        self.open.forget_interface(interface);
        if let Some(last) = &mut self.last {
            last.forget_interface(interface);
        }
    }

    /// Whoever listens next knows nothing: templates and options data go before the next record.
    const fn forget(&mut self) {
        self.refreshed = None;
        self.round = None;
        self.round_began = None;
    }

    fn lengthen_pause(&mut self, now: UnixMillis) {
        let length = self
            .pause
            .map_or(PAUSE_MILLIS_MIN, |(_, length)| length.saturating_mul(2))
            .min(PAUSE_MILLIS_MAX);
        self.pause = Some((UnixMillis(now.0.saturating_add(length)), length));
    }
}
