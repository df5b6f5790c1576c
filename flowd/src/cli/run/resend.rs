//! `flowd resend`.

use crate::app;
use crate::app::resend::{Plan, Report};
use crate::cli::args::resend::Resend;
use crate::cli::exit::{Outcome, say};
use crate::cli::resolve;
use anyhow::{Result, bail};

/// `flowd resend`.
pub(in crate::cli) fn resend(arguments: &Resend) -> Result<Outcome> {
    let plan = Plan {
        file: arguments.file.clone(),
        collector: resolve::collector(&arguments.collector)?,
        speed: resolve::speed("--speed", &arguments.speed)?,
    };
    let report = app::resend::run(&plan)?;
    tell(&plan, report)
}

/// Says what was sent and what was not; a datagram that was not sent makes it an error.
fn tell(plan: &Plan, report: Report) -> Result<Outcome> {
    let file = plan.file.display();
    let not_sent: Vec<String> =
        report.not_sent.iter().map(|(why, count)| format!("{count} {why}")).collect();
    let has_found = report.datagrams > 0 || !not_sent.is_empty();
    if has_found {
        let seconds = report.taken.as_secs_f64();
        say(format_args!(
            "sent {} datagrams ({} octets) of {} exporters in {seconds:.3} s to udp://{}",
            report.datagrams, report.octets, report.exporters, plan.collector,
        ));
    }
    if report.is_cut_short {
        say(format_args!("stopped before the end of {file}"));
    }
    if let Some((count, mtu)) = report.fragmented {
        say(format_args!(
            "{count} datagrams are larger than the path's MTU of {mtu} octets: sent in fragments"
        ));
    }
    if report.tcp_messages > 0 {
        say(format_args!(
            "{} IPFIX messages of TCP connections are no datagrams: not sent",
            report.tcp_messages
        ));
    }
    if !report.not_whole.is_empty() {
        let parts = report.not_whole.iter().map(|(what, count)| format!("{count} {what}"));
        say(format_args!("not whole in {file}: {}", parts.collect::<Vec<_>>().join(", ")));
    }
    if let Some(damage) = report.damage {
        return Err(damage);
    }
    if !not_sent.is_empty() {
        let last = report.last_error.map_or_else(String::new, |error| format!(" ({error})"));
        bail!("not sent: {}{last}", not_sent.join(", "));
    }
    if !has_found && !report.is_cut_short {
        bail!("no export datagrams in {file}: nothing to send");
    }
    Ok(Outcome::Done)
}
