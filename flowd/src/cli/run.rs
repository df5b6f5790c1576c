//! A subcommand's arguments -> a plan -> `app`, and what came of it in words.

use super::args::{Output, collect, decode, replay, store};
use super::exit::{Outcome, say};
use super::info;
use super::output::RecordPrinter;
use super::resolve;
use crate::app;
use crate::app::collect::{RingConfig, WhenFull};
use crate::app::replay::MeterConfig;
use crate::model::FlowRecord;
use anyhow::{Context, Result, bail, ensure};
use std::io::{self, BufWriter, Write};
use std::num::NonZero;

/// `flowd replay`.
pub(super) fn replay(arguments: &replay::Replay) -> Result<Outcome> {
    let millis = |option, text: &str| {
        let duration = resolve::duration(option, text)?;
        u64::try_from(duration.as_millis()).context("the time is too long")
    };
    let plan = app::replay::Plan {
        files: arguments.files.clone(),
        meter: MeterConfig {
            active_timeout_millis: millis("--active-timeout", &arguments.active_timeout)?,
            inactive_timeout_millis: millis("--inactive-timeout", &arguments.inactive_timeout)?,
            ..MeterConfig::default()
        },
        speed: arguments.speed,
    };
    if let Some(speed) = plan.speed {
        ensure!(speed.is_finite() && speed > 0.0, "--speed: {speed} is not a speed; write 1 or 10");
    }
    let report = match (&arguments.store, arguments.output) {
        (Some(path), _) => {
            app::replay::run(&plan, app::replay::Target::Store(path.clone()))?
        }
        (None, Some(output)) => print_replay(&plan, output)?,
        (None, None) if arguments.collector.is_empty() => {
            bail!("where to? write --collector udp://HOST:PORT, --store DIR, or -o json")
        }
        (None, None) => {
            let collectors = arguments.collector.iter().map(|url| resolve::collector(url));
            let target = app::replay::Target::Export {
                collectors: collectors.collect::<Result<_>>()?,
                source_id: arguments.source_id,
            };
            app::replay::run(&plan, target)?
        }
    };
    tell_replay(arguments, report)
}

fn print_replay(plan: &app::replay::Plan, output: Output) -> Result<app::replay::Report> {
    let mut printer = RecordPrinter::new(output.into(), BufWriter::new(io::stdout().lock()));
    let mut each = |record: &FlowRecord| printer.print(record);
    let report = app::replay::run(plan, app::replay::Target::Print(&mut each))?;
    printer.finish().context("print records")?;
    Ok(report)
}

/// Says what became of all packets and records; a damaged capture makes it an error.
fn tell_replay(arguments: &replay::Replay, report: app::replay::Report) -> Result<Outcome> {
    let app::replay::Report { meter, exported, stored, damage } = report;
    let quiet = arguments.output.is_some();
    if !quiet {
        let refusals: Vec<String> =
            meter.refusals().map(|(reason, count)| format!("{} {count}", reason.name())).collect();
        let refused = if refusals.is_empty() { String::new() } else { format!(" ({})", refusals.join(", ")) };
        say(format_args!(
            "read {} packets: {} accounted to {} records, {} refused{refused}",
            meter.packets_seen,
            meter.accounted.packets,
            meter.records_total(),
            meter.refused_total(),
        ));
    }
    if let Some(records) = stored {
        let path = arguments.store.as_deref().unwrap_or_else(|| "the store".as_ref());
        say(format_args!("stored {records} records in {}", path.display()));
    }
    let mut not_sent = Vec::new();
    for collector in &exported {
        let totals = collector.exported;
        say(format_args!(
            "exported {} records ({} packets, {} octets) in {} messages to udp://{}",
            totals.records, totals.packets, totals.octets, collector.messages, collector.address,
        ));
        for (reason, totals) in &collector.not_sent {
            not_sent.push(format!("{} records to udp://{} ({reason})", totals.records, collector.address));
        }
    }
    if let Some(damage) = damage {
        return Err(damage);
    }
    ensure!(not_sent.is_empty(), "not sent: {}; is a collector listening there?", not_sent.join(", "));
    Ok(Outcome::Done)
}

/// `flowd collect`.
pub(super) fn collect(arguments: &collect::Collect) -> Result<Outcome> {
    let listen = arguments.listen.iter().map(|url| resolve::listen(url));
    let worker_count = match arguments.workers {
        Some(0) => bail!("--workers: at least 1"),
        Some(count) => count,
        None => std::thread::available_parallelism().map_or(1, NonZero::get),
    };
    let ring = RingConfig {
        ring_size_max: resolve::size("--ring-size", &arguments.ring_size)?,
        backlog_size_max: resolve::size("--backlog-max", &arguments.backlog_max)?,
        when_full: match arguments.when_full {
            collect::WhenFull::DropOldest => WhenFull::DropOldest,
            collect::WhenFull::DropNew => WhenFull::DropNew,
        },
        ..RingConfig::default()
    };
    let receive_buffer = resolve::size("--receive-buffer", &arguments.receive_buffer)?;
    let plan = app::collect::Plan {
        listen: listen.collect::<Result<_>>()?,
        store: arguments.store.clone(),
        worker_count,
        ring,
        receive_buffer_size: usize::try_from(receive_buffer).context("--receive-buffer")?,
    };
    let report = app::collect::run(&plan, &mut |ready| tell_ready(&plan, ready))?;
    say(format_args!(
        "received {} datagrams, stored {} records, dropped {}",
        report.datagrams, report.stored, report.dropped
    ));
    if report.blocks_left > 0 {
        say(format_args!("{} blocks stay in the ring for the next start", report.blocks_left));
    }
    Ok(Outcome::Done)
}

fn tell_ready(plan: &app::collect::Plan, ready: &app::collect::Ready) {
    let addresses: Vec<String> =
        ready.addresses.iter().map(|address| format!("udp://{address}")).collect();
    say(format_args!(
        "listening on {} with {} workers, store {}",
        addresses.join(", "),
        ready.worker_count,
        plan.store.display()
    ));
    let recovery = &ready.recovery;
    if recovery.blocks > 0 {
        say(format_args!(
            "found {} records in {} blocks of an earlier run",
            recovery.rows, recovery.blocks
        ));
    }
    for lost in &recovery.lost {
        say(format_args!("lost {} records of shard {}: {:?}", lost.rows, lost.shard, lost.reason));
    }
}

/// `flowd decode`.
pub(super) fn decode(arguments: &decode::Decode) -> Result<Outcome> {
    let mut printer =
        RecordPrinter::new(arguments.output.into(), BufWriter::new(io::stdout().lock()));
    let decoded = app::decode::run(&arguments.file, &mut |record| printer.print(record));
    printer.finish().context("print records")?;
    let statistics = decoded?;
    let drops = statistics.drops.iter().map(|(reason, count)| format!("{count} datagrams {reason}"));
    let set_drops =
        statistics.set_drops.iter().map(|(reason, count)| format!("{count} data sets {reason}"));
    let mut undecoded: Vec<String> = drops.chain(set_drops).collect();
    if statistics.sets_held > 0 {
        undecoded.push(format!("{} data sets without their template", statistics.sets_held));
    }
    if !undecoded.is_empty() {
        say(format_args!("not decoded: {}", undecoded.join(", ")));
    }
    Ok(Outcome::Done)
}

/// `flowd store info`.
pub(super) fn store_info(arguments: &store::Info) -> Result<Outcome> {
    let state = app::store_info::read(&arguments.store)?;
    let mut out = io::stdout().lock();
    match arguments.output {
        store::InfoOutput::Json => {
            let text = serde_json::to_string(&state).context("the state as JSON")?;
            writeln!(out, "{text}")
        }
        store::InfoOutput::Table => info::print(&state, &mut out),
    }
    .context("print the store's state")?;
    Ok(Outcome::Done)
}
