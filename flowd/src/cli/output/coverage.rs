//! The line about coverage that follows every answer on stderr.

use super::escape::Visible;
use super::json::write_string;
use crate::model::Value;
use crate::model::time::UnixMillis;
use crate::query::Coverage;
use std::io;

/// Entries of each list that the text names; JSON has them all.
const NAMED_MAX: usize = 5;

/// The coverage in words, one line without its end.
#[must_use]
pub fn coverage_text(coverage: &Coverage) -> String {
    let mut parts = vec![match coverage.span {
        Some((since, until)) => format!("coverage: received {since} to {until}"),
        None => "coverage: nothing is held".to_owned(),
    }];
    if coverage.is_complete() && coverage.span.is_some() {
        parts.push("nothing known to be missing".to_owned());
    }
    parts.extend(listed("damage", coverage.damage.iter().map(|it| Visible(it).to_string())));
    let gaps = coverage.gaps.iter().map(|gap| {
        let reason = Visible(&gap.reason);
        let records = gap.records.map_or_else(String::new, |count| format!("{count} records of "));
        format!("{records}{} to {} ({reason})", gap.since, gap.until)
    });
    parts.extend(listed("missing", gaps));
    let losses = coverage.losses.iter().map(|loss| {
        let mut what = Vec::new();
        if loss.sequence_missing > 0 {
            what.push(format!("{} never arrived", loss.sequence_missing));
        }
        if loss.dropped > 0 {
            what.push(format!("{} dropped here", loss.dropped));
        }
        format!("{}/{}: {}", loss.address, loss.domain, what.join(", "))
    });
    parts.extend(listed("losses", losses));
    let sampling = coverage
        .sampling
        .iter()
        .map(|it| format!("{}/{} 1 in {}", it.address, it.domain, it.interval));
    parts.extend(listed("sampled, counters not scaled", sampling));
    parts.join("; ")
}

fn listed(title: &str, entries: impl ExactSizeIterator<Item = String>) -> Option<String> {
    let count = entries.len();
    if count == 0 {
        return None;
    }
    let mut named: Vec<String> = entries.take(NAMED_MAX).collect();
    if count > NAMED_MAX {
        named.push(format!("and {} more", count - NAMED_MAX));
    }
    Some(format!("{title}: {}", named.join(", ")))
}

/// The coverage as a JSON object, one line without its end.
#[must_use]
pub fn coverage_json(coverage: &Coverage) -> String {
    let mut parts = Vec::new();
    if let Some((since, until)) = coverage.span {
        parts.push(format!("\"since\":{},\"until\":{}", time(since), time(until)));
    }
    let gaps = coverage.gaps.iter().map(|gap| {
        let records = gap.records.map_or_else(String::new, |count| format!("\"records\":{count},"));
        let (since, until) = (time(gap.since), time(gap.until));
        let reason = string(&gap.reason);
        format!("{{\"since\":{since},\"until\":{until},{records}\"reason\":{reason}}}")
    });
    parts.push(array("gaps", gaps));
    let losses = coverage.losses.iter().map(|loss| {
        format!(
            "{{\"exporter\":\"{}\",\"observationDomainId\":{},\"sequenceMissing\":{},\"dropped\":{}}}",
            loss.address, loss.domain, loss.sequence_missing, loss.dropped
        )
    });
    parts.push(array("losses", losses));
    parts.push(array("damage", coverage.damage.iter().map(|it| string(it))));
    let sampling = coverage.sampling.iter().map(|it| {
        format!(
            "{{\"exporter\":\"{}\",\"observationDomainId\":{},\"samplingPacketInterval\":{}}}",
            it.address, it.domain, it.interval
        )
    });
    parts.push(array("sampling", sampling));
    format!("{{\"coverage\":{{{}}}}}", parts.join(","))
}

fn array(name: &str, entries: impl Iterator<Item = String>) -> String {
    format!("\"{name}\":[{}]", entries.collect::<Vec<_>>().join(","))
}

fn time(UnixMillis(millis): UnixMillis) -> String {
    format!("\"{}\"", Value::Millis(millis))
}

fn string(text: &str) -> String {
    let mut octets = Vec::new();
    let written: io::Result<()> = write_string(text, &mut octets);
    debug_assert!(written.is_ok(), "a vector takes every octet");
    String::from_utf8_lossy(&octets).into_owned()
}
