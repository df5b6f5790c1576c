//! `flowd collect`.

use crate::app;
use crate::app::collect::{News, Plan, Ready, Restored, RingConfig, RingUse, TakenUp, WhenFull};
use crate::cli::args::collect::{self as args, Collect};
use crate::cli::exit::{Outcome, say};
use crate::cli::info;
use crate::cli::resolve;
use anyhow::{Context, Result, bail};
use std::net::SocketAddr;
use std::num::NonZero;

/// Receiving threads that may be asked for: each has a socket and a shard of the ring.
const WORKER_COUNT_MAX: usize = 1_024;
/// Octets of the smallest ring that is of use: each worker writes to a block of it.
const RING_SIZE_MIN: u64 = 64 << 10;

/// `flowd collect`.
pub(in crate::cli) fn collect(arguments: &Collect) -> Result<Outcome> {
    let worker_count = match arguments.workers {
        Some(count) if !(1..=WORKER_COUNT_MAX).contains(&count) => {
            bail!("--workers: {count} is no number of threads; write 1 to {WORKER_COUNT_MAX}")
        }
        Some(count) => count,
        None => std::thread::available_parallelism().map_or(1, NonZero::get),
    };
    let ring = RingConfig {
        ring_size_max: ring_size(&arguments.ring_size)?,
        backlog_size_max: resolve::size("--backlog-max", &arguments.backlog_max)?,
        when_full: match arguments.when_full {
            args::WhenFull::DropOldest => WhenFull::DropOldest,
            args::WhenFull::DropNew => WhenFull::DropNew,
        },
        ..RingConfig::default()
    };
    let receive_buffer = resolve::size("--receive-buffer", &arguments.receive_buffer)?;
    let plan = Plan {
        listen: resolve::listen(&arguments.listen)?,
        allow: resolve::allow(&arguments.allow)?,
        exporter_rate_max: arguments.exporter_rate_max,
        forward: resolve::collectors(&arguments.forward).context("--forward")?,
        http: http(arguments)?,
        store: arguments.store.clone(),
        worker_count,
        ring,
        retention: resolve::retention(&arguments.keep)?,
        archive: arguments.archive.clone(),
        archive_after_millis: arguments
            .archive_after
            .as_deref()
            .map(|text| resolve::wait("--archive-after", text))
            .transpose()?,
        ring_dir: arguments.ring_dir.clone(),
        receive_buffer_size: usize::try_from(receive_buffer).context("--receive-buffer")?,
    };
    let report = app::collect::run(&plan, &mut |news| match news {
        News::Ready(ready) => tell_ready(&plan, ready),
        News::RingUse(ring) => tell_ring_use(ring),
    })?;
    let collected = &report.collected;
    if report.taken_up != TakenUp::default() {
        say(format_args!(
            "counted {} messages with {} records that an earlier run had stored before it was killed",
            report.taken_up.messages, report.taken_up.records
        ));
    }
    say(format_args!(
        "received {} messages, stored {} records; {} data sets wait for their template; \
         dropped: {} datagrams by the kernel, {} messages, {} data sets, {} records",
        report.messages,
        report.stored,
        collected.sets_held,
        collected.kernel_drops,
        collected.drops.values().sum::<u64>(),
        collected.set_drops.values().sum::<u64>(),
        report.records_dropped,
    ));
    for (target, counts) in &collected.forwarded {
        let not_sent: Vec<String> =
            counts.not_sent.iter().map(|(reason, count)| format!(", {reason} {count}")).collect();
        say(format_args!("forwarded {} to udp://{target}{}", counts.sent, not_sent.concat()));
    }
    if report.blocks_left > 0 {
        say(format_args!("{} blocks stay in the ring for the next start", report.blocks_left));
    }
    Ok(Outcome::Done)
}

fn ring_size(text: &str) -> Result<u64> {
    let size = resolve::size("--ring-size", text)?;
    if size < RING_SIZE_MIN {
        bail!("--ring-size: `{text}` is less than a ring can be; write 64MiB or more");
    }
    Ok(size)
}

#[cfg(feature = "http")]
fn http(arguments: &Collect) -> Result<Option<SocketAddr>> {
    arguments.http.as_deref().map(|text| resolve::bind("--http", text)).transpose()
}

#[cfg(not(feature = "http"))]
#[expect(clippy::unnecessary_wraps, reason = "with HTTP an address may be wrong")]
fn http(_: &Collect) -> Result<Option<SocketAddr>> {
    Ok(None)
}

fn tell_ring_use(ring: RingUse) {
    say(format_args!("ring {}", info::ring_use(ring)));
}

fn tell_ready(plan: &Plan, ready: &Ready) {
    let addresses: Vec<String> = ready.addresses.iter().map(ToString::to_string).collect();
    say(format_args!(
        "listening on {} with {} workers, store {}",
        addresses.join(", "),
        ready.worker_count,
        plan.store.display()
    ));
    if let Some(address) = ready.http {
        say(format_args!("metrics at http://{address}/metrics"));
    }
    let recovery = &ready.recovery;
    if recovery.blocks > 0 {
        say(format_args!(
            "found {} records in {} blocks of an earlier run",
            recovery.rows, recovery.blocks
        ));
    }
    let Restored { templates, sets, sessions } = ready.restored;
    if ready.restored != Restored::default() {
        say(format_args!(
            "restored {templates} templates, {sets} data sets that wait for one, and the sequences \
             of {sessions} sessions"
        ));
    }
    for lost in &recovery.lost {
        say(format_args!("lost {} records of shard {}: {:?}", lost.rows, lost.shard, lost.reason));
    }
}
