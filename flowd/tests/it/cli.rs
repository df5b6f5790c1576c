//! The command line: help, completions, exit codes, pipes.

use crate::support::{Collector, flowd, run, test_pcap};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

const COMMANDS: [&[&str]; 14] = [
    &["export"],
    &["replay"],
    &["collect"],
    &["decode"],
    &["resend"],
    &["query"],
    &["top"],
    &["store", "info"],
    &["store", "compact"],
    &["store", "expire"],
    &["store", "import"],
    &["store", "send"],
    &["store", "verify"],
    &["completions"],
];

#[test]
fn every_command_explains_itself_with_examples() {
    for command in COMMANDS {
        let help = run(&[command, &["--help"]].concat()).ok();
        assert!(help.stdout.contains("Examples:"), "{command:?}");
        assert!(help.stderr.is_empty(), "{command:?}");
        insta::assert_snapshot!(format!("help_{}", command.join("_")), help.stdout);
    }
}

#[test]
fn completions_are_there_for_five_shells() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell]).ok().stdout;
        assert!(script.contains("flowd") && script.contains("replay"), "{shell}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut child = flowd()
        .args(["replay", &test_pcap("demo-traffic.pcap"), "-o", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with('{'));
    drop(lines);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
}

#[test]
fn the_exit_code_tells_rows_from_none() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    run(&["replay", &test_pcap("demo-traffic.pcap"), "--store", store.to_str().unwrap()]).ok();
    let query = |filter| {
        let ended = run(&["query", "--store", store.to_str().unwrap(), filter, "-n", "1"]);
        (ended.code(), ended.stdout.is_empty())
    };
    assert_eq!(query("any"), (Some(0), false));
    assert_eq!(query("host 203.0.113.254 and host 203.0.113.253"), (Some(1), true));
}

#[test]
fn words_go_to_stderr_and_data_to_stdout() {
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start(&folder.path().join("store"));
    let replay =
        run(&["replay", &test_pcap("demo-traffic.pcap"), "--collector", &collector.url()]).ok();
    assert!(replay.stdout.is_empty());
    assert!(replay.stderr.contains("exported"));
    collector.stop();
}
