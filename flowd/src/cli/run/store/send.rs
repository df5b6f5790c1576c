//! `flowd store send`.

use crate::app;
use crate::app::send::{Plan, Report};
use crate::cli::args::store::send::Send;
use crate::cli::exit::{Outcome, say};
use crate::cli::resolve;
use crate::cli::run::query::time_range;
use crate::query::{Plan as QueryPlan, QueryRequest};
use anyhow::{Context, Result, bail};
use std::num::NonZeroU32;

/// `flowd store send`.
pub(in crate::cli) fn send(arguments: &Send) -> Result<Outcome> {
    app::query::learn_names(&arguments.store);
    let request = QueryRequest {
        filter: arguments.filter.clone(),
        time_range: time_range(&arguments.time)?,
        aggregate: None,
        sort: None,
        limit: None,
        summary: false,
    };
    let query = QueryPlan::new(&request, app::query::now())?;
    for note in query.notes() {
        say(format_args!("{note}"));
    }
    let plan = Plan {
        store: arguments.store.clone(),
        query,
        collector: resolve::collector(&arguments.to).context("--to")?,
        source_id: arguments.source_id,
        rate: arguments.rate.and_then(NonZeroU32::new),
    };
    let report = app::send::run(&plan)?;
    tell(&plan, &report)
}

/// Says in one line what was sent of what matched, and why not the rest; that is an error.
fn tell(plan: &Plan, report: &Report) -> Result<Outcome> {
    let Report { matched, sent, damage, left_out, is_cut_short } = report;
    let mut words = Vec::new();
    let mut count = 0;
    if let Some(sent) = sent {
        count = sent.exported.records;
        for (reason, totals) in &sent.not_sent {
            words.push(format!("{} not sent ({reason})", totals.records));
        }
        if sent.fields_left_out > 0 {
            words.push(format!(
                "{} fields left out, for NetFlow v9 has none for them",
                sent.fields_left_out
            ));
        }
    }
    if *is_cut_short {
        words.push("stopped before the last record".to_owned());
    }
    if *left_out > 0 {
        words.push(format!("{left_out} records left out, which may have matched"));
    }
    words.extend(damage.iter().map(|damage| format!("not readable: {damage}")));
    let rest: String = words.iter().map(|words| format!("; {words}")).collect();
    let line = format!("sent {count} of {matched} records to udp://{}{rest}", plan.collector);
    if count < *matched || !damage.is_empty() {
        bail!("{line}");
    }
    say(format_args!("{line}"));
    Ok(Outcome::Done)
}
