//! `flowd query` and `flowd top`.

use super::printer;
use crate::app;
use crate::cli::args::Output;
use crate::cli::args::query::{Query, TimeRange as TimeArguments, Top};
use crate::cli::exit::{Outcome, say};
use crate::cli::output::{Columns, coverage_json, coverage_text};
use crate::cli::resolve;
use crate::query::time_range::TimeRange;
use crate::query::{Plan, QueryRequest, TOP_LIMIT};
use anyhow::{Context, Result};
use std::io::Write;
use std::path::Path;

/// `flowd query`.
pub(in crate::cli) fn query(arguments: &Query) -> Result<Outcome> {
    app::query::learn_names(&arguments.store);
    let request = QueryRequest {
        filter: arguments.filter.clone(),
        time_range: time_range(&arguments.time)?,
        aggregate: arguments.aggregate.as_deref().map(str::parse).transpose()?,
        sort: arguments.sort.as_deref().map(str::parse).transpose()?,
        limit: arguments.limit.filter(|&limit| limit > 0),
        summary: arguments.summary,
    };
    answer(&arguments.store, &request, arguments.output, arguments.quiet)
}

/// `flowd top`.
pub(in crate::cli) fn top(arguments: &Top) -> Result<Outcome> {
    app::query::learn_names(&arguments.store);
    let top: crate::query::Top = arguments.keys.parse()?;
    let request = QueryRequest {
        filter: arguments.filter.clone(),
        time_range: time_range(&arguments.time)?,
        aggregate: Some(top.keys),
        sort: Some(top.sort),
        limit: Some(arguments.limit.unwrap_or(TOP_LIMIT)).filter(|&limit| limit > 0),
        summary: false,
    };
    answer(&arguments.store, &request, arguments.output, arguments.quiet)
}

pub(super) fn time_range(arguments: &TimeArguments) -> Result<TimeRange> {
    let TimeArguments { last, since, until } = arguments;
    let last = last.as_deref().map(|text| resolve::duration("--last", text)).transpose()?;
    let now = app::query::now();
    Ok(TimeRange::from_options(since.as_deref(), until.as_deref(), last, now)?)
}

fn answer(store: &Path, request: &QueryRequest, output: Output, quiet: bool) -> Result<Outcome> {
    let plan = Plan::new(request, app::query::now())?;
    for note in plan.notes() {
        say(format_args!("{note}"));
    }
    let mut printer = printer(output, &Columns::from(plan.headings()));
    let outcome = app::query::run(store, &plan, &mut printer)?;
    printer.finish().context("print rows")?;
    if let Some(what) = &outcome.coverage.unreachable {
        say(format_args!("the answer is not whole: {what}"));
    }
    if !quiet {
        let coverage = match output {
            Output::Json => coverage_json(&outcome.coverage),
            Output::Table | Output::Csv => coverage_text(&outcome.coverage),
        };
        // Nobody is left to tell if stderr is gone.
        drop(writeln!(std::io::stderr(), "{coverage}"));
    }
    Ok(Outcome::of_rows(outcome.matched))
}
