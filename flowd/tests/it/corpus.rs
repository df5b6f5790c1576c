//! Real captures with right answers, where the corpus lies beside the project.

use crate::support::{end_of, root};
use std::path::PathBuf;
use std::process::Command;

/// Traces whose expectation we argue with, each with the reason from its RFC.
const REPLAY_EXCEPTIONS: &[(&str, &str)] = &[];

/// Cases of kind v9 that hold datagrams of protocols that are not decoded yet.
const DECODE_EXCEPTIONS: &[(&str, &str)] =
    &[("gl_v9_nprobe_1", "5 of its datagrams are NetFlow v5, counted as unsupportedVersion")];

/// Runs the corpus's own comparison over these cases; its whole output.
fn compare(mode: &str, cases: &[String]) -> Option<String> {
    let script = root().join("../shared/corpus/compare.py");
    if !script.exists() {
        println!("skipped: no corpus beside the project");
        return None;
    }
    let mut command = Command::new("python3");
    command.arg(script).args([mode, env!("CARGO_BIN_EXE_flowd")]).args(cases);
    let ended = end_of(&mut command);
    println!("{}{}", ended.stdout, ended.stderr);
    Some(ended.stdout)
}

#[test]
fn replay_agrees_with_every_strict_trace() {
    let Some(report) = compare("replay", &[]) else { return };
    let failed: Vec<&str> = report
        .lines()
        .filter(|line| line.starts_with("FAIL") && !line.contains(" lenient "))
        .filter(|line| !REPLAY_EXCEPTIONS.iter().any(|(name, _)| line.contains(name)))
        .collect();
    assert!(report.contains(" pass"), "the comparison came to its end");
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn decode_agrees_with_every_strict_v9_case() {
    let folder: PathBuf = root().join("../shared/corpus/expected");
    let Ok(entries) = std::fs::read_dir(folder) else {
        println!("skipped: no corpus beside the project");
        return;
    };
    let mut cases: Vec<String> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let text = std::fs::read_to_string(&path).ok()?;
            let case: serde_json::Value = serde_json::from_str(&text).ok()?;
            (case["kind"] == "v9").then(|| path.file_stem().unwrap().to_str().unwrap().to_owned())
        })
        .collect();
    cases.sort();
    assert!(!cases.is_empty());
    let Some(report) = compare("decode", &cases) else { return };
    let failed: Vec<&str> = report
        .lines()
        .filter(|line| line.starts_with("FAIL") && !line.contains(" lenient "))
        .filter(|line| !DECODE_EXCEPTIONS.iter().any(|(name, _)| line.contains(name)))
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
