//! Real captures with right answers, where the corpus lies beside the project.

use crate::support::{end_of, root};
use std::process::Command;

/// Traces whose expectation we argue with, each with the reason from its RFC.
const REPLAY_EXCEPTIONS: &[(&str, &str)] = &[];

/// Cases of captures that we read otherwise, each with the reason (`docs/decoding.md`).
const DECODE_EXCEPTIONS: &[(&str, &str)] = &[
    ("ak_v9_data_before_template", "data waits for the template that comes after it"),
    ("bk_v9_mixed", "data waits for the template that comes after it"),
    ("ls_v5_invalid01", "uptimes an hour and more ahead of the message's own are old"),
];

/// Runs the corpus's own comparison over all cases; its whole output.
fn compare(mode: &str, options: &[&str]) -> Option<String> {
    let script = root().join("../shared/corpus/compare.py");
    if !script.exists() {
        println!("skipped: no corpus beside the project");
        return None;
    }
    let mut command = Command::new("python3");
    command.arg(script).args([mode, env!("CARGO_BIN_EXE_flowd")]).args(options);
    let ended = end_of(&mut command);
    println!("{}{}", ended.stdout, ended.stderr);
    Some(ended.stdout)
}

/// The cases that the comparison does not pass and that are no exception, of all classes.
fn failed(report: &str, exceptions: &[(&str, &str)]) -> Vec<String> {
    assert!(report.contains(" pass"), "the comparison came to its end");
    report
        .lines()
        .filter(|line| line.starts_with("FAIL"))
        .filter(|line| !exceptions.iter().any(|(name, _)| line.contains(name)))
        .map(str::to_owned)
        .collect()
}

#[test]
fn replay_agrees_with_every_strict_trace() {
    let Some(report) = compare("replay", &[]) else { return };
    let strict: Vec<String> = failed(&report, REPLAY_EXCEPTIONS)
        .into_iter()
        .filter(|line| !line.contains(" lenient "))
        .collect();
    assert!(strict.is_empty(), "{}", strict.join("\n"));
}

#[test]
fn decode_agrees_with_every_case_of_every_protocol() {
    let Some(report) = compare("decode", &["--class", "all"]) else { return };
    let failed = failed(&report, DECODE_EXCEPTIONS);
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
