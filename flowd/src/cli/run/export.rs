//! `flowd export`.

use crate::app;
use crate::app::export::{ExporterStatus, Hook, MeterConfig, Notice, Plan, Selection};
use crate::cli::args::export::{self as args, Export};
use crate::cli::args::store::info::InfoOutput;
use crate::cli::exit::{Outcome, say};
use crate::cli::{resolve, status};
use anyhow::{Context, Result, ensure};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// `flowd export`.
pub(in crate::cli) fn export(arguments: &Export) -> Result<Outcome> {
    let directory = runtime_directory();
    if arguments.status {
        return print_status(&directory, arguments.output);
    }
    let plan = plan(arguments, directory)?;
    app::export::run(&plan, &mut |notice| tell(&plan, notice))?;
    Ok(Outcome::Done)
}

/// Where running exporters are asked: as systemd sets it for a service, of several directories
/// the first.
fn runtime_directory() -> PathBuf {
    let set = std::env::var("RUNTIME_DIRECTORY").unwrap_or_default();
    match set.split(':').next() {
        Some(first) if !first.is_empty() => PathBuf::from(first),
        _ => PathBuf::from("/run/flowd"),
    }
}

fn plan(arguments: &Export, runtime_directory: PathBuf) -> Result<Plan> {
    let millis = |option, text: &str| {
        let duration = resolve::duration(option, text)?;
        u64::try_from(duration.as_millis()).context("the time is too long")
    };
    let hook = match arguments.hook {
        args::Hook::Auto => Hook::Auto,
        args::Hook::Xdp => Hook::Xdp,
        args::Hook::Tc => Hook::Tc,
        args::Hook::Pcap => Hook::Pcap,
    };
    ensure!(
        hook != Hook::Pcap || arguments.sampling.get() == 1,
        "--sampling is the kernel programs'; leave it out with --hook pcap, or use --hook tc"
    );
    let mut names = arguments.interface.clone();
    names.sort();
    names.dedup();
    ensure!(
        names.iter().chain(&arguments.exclude).all(|name| !name.is_empty()),
        "an interface's name is empty; write -i eth0,eth1"
    );
    ensure!(
        arguments.all || arguments.exclude.is_empty(),
        "--exclude leaves interfaces out of --all; write --all, or leave it out"
    );
    let selection = if arguments.all {
        Selection::All { exclude: arguments.exclude.clone() }
    } else {
        Selection::Named(names)
    };
    Ok(Plan {
        selection,
        collectors: resolve::collectors(&arguments.collector)?,
        hook,
        meter: MeterConfig {
            active_timeout_millis: millis("--active-timeout", &arguments.active_timeout)?,
            inactive_timeout_millis: millis("--inactive-timeout", &arguments.inactive_timeout)?,
            ..MeterConfig::default()
        },
        source_id: arguments.source_id,
        sampling_interval: arguments.sampling,
        kernel_flow_count_max: arguments.kernel_flows,
        runtime_directory,
    })
}

fn print_status(directory: &Path, output: InfoOutput) -> Result<Outcome> {
    let exporters = app::export::ask_all(directory)?;
    let mut out = io::stdout().lock();
    match output {
        InfoOutput::Json => {
            let object = serde_json::json!({ "exporters": exporters });
            writeln!(out, "{object}")
        }
        InfoOutput::Table => exporters.iter().try_for_each(|one| status::print(one, &mut out)),
    }
    .context("print the status")?;
    if exporters.is_empty() {
        say(format_args!("no exporter runs (looked in {})", directory.display()));
        return Ok(Outcome::NoRows);
    }
    Ok(Outcome::Done)
}

fn tell(plan: &Plan, notice: &Notice) {
    match notice {
        Notice::Ready(interfaces) => {
            let collectors: Vec<String> =
                plan.collectors.iter().map(|address| format!("udp://{address}")).collect();
            let interfaces: Vec<String> = interfaces
                .iter()
                .map(|(name, hooks)| format!("{name} ({})", status::hooks(hooks)))
                .collect();
            let interfaces = if interfaces.is_empty() {
                "no interface yet".into()
            } else {
                interfaces.join(", ")
            };
            say(format_args!("exporting {interfaces} to {}", collectors.join(", ")));
        }
        Notice::Attached(name, hooks) => {
            say(format_args!("{name} is metered ({})", status::hooks(hooks)));
        }
        Notice::Detached(name) => say(format_args!("{name} is metered no more")),
        Notice::Trouble(words) => say(format_args!("warning: {words}")),
        Notice::Ended(end) => tell_end(end),
    }
}

/// Says what became of all packets.
fn tell_end(end: &ExporterStatus) {
    let ledgers = end.interfaces.iter().flat_map(|it| [&it.ingress, &it.egress]);
    let mut parts = [0_u64; 5];
    for ledger in ledgers.chain([&end.vanished]) {
        for (sum, part) in parts.iter_mut().zip([
            ledger.seen.packets,
            ledger.recorded.packets,
            ledger.unaccounted.packets,
            ledger.not_selected_packets,
            ledger.unparsed_packets(),
        ]) {
            *sum = sum.saturating_add(part);
        }
    }
    let [seen, recorded, unaccounted, not_selected, unparsed] = parts;
    say(format_args!(
        "saw {seen} packets: {recorded} in records, {unaccounted} unaccounted, \
         {not_selected} not selected, {unparsed} refused"
    ));
    let mut not_sent = Vec::new();
    for collector in &end.collectors {
        let collector = &collector.statistics;
        let totals = collector.exported;
        say(format_args!(
            "exported {} records ({} packets, {} octets) in {} messages to udp://{}",
            totals.records, totals.packets, totals.octets, collector.messages, collector.address,
        ));
        for (reason, totals) in &collector.not_sent {
            let address = collector.address;
            not_sent.push(format!("{} records to udp://{address} ({reason})", totals.records));
        }
    }
    if !not_sent.is_empty() {
        let not_sent = not_sent.join(", ");
        say(format_args!("not sent: {not_sent}; is a collector listening there?"));
    }
}
