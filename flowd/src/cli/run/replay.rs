//! `flowd replay`.

use super::RecordPrinter;
use crate::app;
use crate::app::replay::{MeterConfig, Plan, Report, Target};
use crate::cli::args::Output;
use crate::cli::args::replay::Replay;
use crate::cli::exit::{Outcome, say};
use crate::cli::resolve;
use crate::model::FlowRecord;
use anyhow::{Context, Result, bail, ensure};

/// `flowd replay`.
pub(in crate::cli) fn replay(arguments: &Replay) -> Result<Outcome> {
    let millis = |option, text: &str| {
        let duration = resolve::duration(option, text)?;
        u64::try_from(duration.as_millis()).context("the time is too long")
    };
    let plan = Plan {
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
        (Some(path), _) => app::replay::run(&plan, Target::Store(path.clone()))?,
        (None, Some(output)) => print_replay(&plan, output)?,
        (None, None) if arguments.collector.is_empty() => {
            bail!("where to? write --collector udp://HOST:PORT, --store DIR, or -o json")
        }
        (None, None) => {
            let target = Target::Export {
                collectors: resolve::collectors(&arguments.collector)?,
                source_id: arguments.source_id,
            };
            app::replay::run(&plan, target)?
        }
    };
    tell_replay(arguments, report)
}

fn print_replay(plan: &Plan, output: Output) -> Result<Report> {
    let mut printer = RecordPrinter::new(output);
    let mut each = |record: &FlowRecord| printer.print(record, None);
    let report = app::replay::run(plan, Target::Print(&mut each))?;
    printer.finish().context("print records")?;
    Ok(report)
}

/// Says what became of all packets and records; a damaged capture makes it an error.
fn tell_replay(arguments: &Replay, report: Report) -> Result<Outcome> {
    let Report { meter, exported, stored, damage, is_cut_short } = report;
    // Printed records speak for themselves, unless there are none.
    let quiet = damage.is_some() || (arguments.output.is_some() && meter.records_total() > 0);
    if !quiet {
        let refusals: Vec<String> =
            meter.refusals().map(|(reason, count)| format!("{} {count}", reason.name())).collect();
        let refused =
            if refusals.is_empty() { String::new() } else { format!(" ({})", refusals.join(", ")) };
        say(format_args!(
            "read {} packets: {} accounted to {} records, {} refused{refused}",
            meter.packets_seen,
            meter.accounted.packets,
            meter.records_total(),
            meter.refused_total(),
        ));
    }
    if is_cut_short {
        say(format_args!("stopped before the end of the captures"));
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
            not_sent.push(format!(
                "{} records to udp://{} ({reason})",
                totals.records, collector.address
            ));
        }
    }
    if let Some(damage) = damage {
        return Err(damage);
    }
    ensure!(
        not_sent.is_empty(),
        "not sent: {}; is a collector listening there?",
        not_sent.join(", ")
    );
    Ok(Outcome::Done)
}
