//! A clock that is set back and forth under a running collector. It is this process's own that is
//! set: a library that is loaded before libc adds to what the system's says.

use crate::numbered::{Numbered, damaged, drops, numbers, start_with};
use crate::support::{end_of, info, run, wait_until};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Adds as many seconds to the time of day as a file says.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
    int outcome = syscall(SYS_clock_gettime, clock, time);
    if (outcome == 0 && clock == CLOCK_REALTIME) {
        char text[32] = {0};
        int file = open(getenv("CLOCK_OFFSET"), O_RDONLY | O_CLOEXEC);
        if (file >= 0) {
            if (read(file, text, sizeof text - 1) > 0) time->tv_sec += atol(text);
            close(file);
        }
    }
    return outcome;
}
"#;

const HOUR: i64 = 3_600;

/// Sets the clock to so many hours from the true time.
fn set(offset: &Path, hours: i64) {
    // In one step, so that nobody reads half a number.
    let new = offset.with_extension("new");
    fs::write(&new, (hours * HOUR).to_string()).unwrap();
    fs::rename(new, offset).unwrap();
}

/// A library in a folder that sets the clock of who loads it, and the file that says how far.
fn library(folder: &Path) -> (PathBuf, PathBuf) {
    let [source, library, offset] = ["clock.c", "clock.so", "offset"].map(|name| folder.join(name));
    fs::write(&source, LIBRARY).unwrap();
    end_of(Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source)).ok();
    set(&offset, 0);
    (library, offset)
}

/// Octets of the files under a directory, of segments and index: what is said of them is left out.
fn on_disk(directory: &Path) -> u64 {
    let files = fs::read_dir(directory).into_iter().flatten();
    let octets = files.filter_map(|file| {
        let path = file.ok()?.path();
        let name = path.file_name()?.to_str()?;
        match fs::metadata(&path).ok()? {
            _ if name.starts_with("manifest") => None,
            file if file.is_dir() => Some(on_disk(&path)),
            file => Some(file.len()),
        }
    });
    octets.sum()
}

#[test]
fn what_was_let_go_is_off_the_disk_a_quarter_of_an_hour_later() {
    // More than a day's: what the index has of a day goes with the last of its hours.
    const KEEP: u64 = 600 << 10;
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let (library, offset) = library(folder.path());
    let environment =
        [("LD_PRELOAD", library.to_str().unwrap()), ("CLOCK_OFFSET", offset.to_str().unwrap())];
    let octets = || on_disk(&store.join("archive")) + on_disk(&store.join("index"));
    let told = |name: &str| info(&store)[name].as_u64().unwrap();
    let all_told = || told("archiveBytes") + told("withdrawnBytes") + told("indexBytes");
    let mut exporter = Numbered::new();
    let (collector, port) = start_with(&store, &["--keep-size", "600KiB"], &environment);
    for hours in 1..40 {
        exporter.send(&store, port, 1_000);
        // The hour is over, and files of the last one have waited long enough.
        set(&offset, hours);
        wait_until("the hour is archived", || told("ringRecords") == 0);
    }
    wait_until("the oldest hours are let go", || told("archiveBytes") + told("indexBytes") <= KEEP);
    let held = told("flowRecords");
    assert!((1..exporter.next).contains(&held), "{held}");
    assert!(octets() >= told("archiveBytes"));
    collector.terminate().ok();
    assert_eq!(all_told(), octets(), "{}", info(&store));
    // The next collector removes what the last one still kept for its readers, and nothing more.
    set(&offset, 41);
    let (collector, _) = start_with(&store, &["--keep-size", "600KiB"], &environment);
    // What the last one indexed when it ended may be too much by a little.
    wait_until("no more is held", || told("archiveBytes") + told("indexBytes") <= KEEP);
    set(&offset, 42);
    wait_until("nothing waits", || told("withdrawnBytes") == 0);
    collector.terminate().ok();
    assert!(octets() <= KEEP, "{} octets", octets());
    assert_eq!(all_told(), octets(), "{}", info(&store));
    assert_eq!(told("flowRecords") + told_expired(&store), exporter.next);
    // All goes: nothing of the index stays.
    run(&["store", "expire", "--store", store.to_str().unwrap(), "--keep-size", "1"]).ok();
    assert_eq!((told("flowRecords"), on_disk(&store.join("archive"))), (0, 0));
    assert_eq!(all_told(), octets(), "{}", info(&store));
}

fn told_expired(store: &Path) -> u64 {
    info(store)["expired"]["flowRecords"].as_u64().unwrap()
}

#[test]
fn a_clock_that_jumps_loses_no_record_and_doubles_none() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let (library, offset) = library(folder.path());
    let environment =
        [("LD_PRELOAD", library.to_str().unwrap()), ("CLOCK_OFFSET", offset.to_str().unwrap())];
    let mut exporter = Numbered::new();
    for round in 0..2 {
        let (collector, port) = start_with(&store, &["--keep-for", "10d"], &environment);
        exporter.send(&store, port, 300);
        for hours in [2, -5, 100, 99, -30, 24 * 365, 0] {
            set(&offset, hours);
            // A look at ages and hours in between: it comes twice a second.
            std::thread::sleep(std::time::Duration::from_millis(700));
            exporter.send(&store, port, 300);
            wait_until("all are held", || {
                info(&store)["flowRecords"].as_u64() == Some(exporter.next)
            });
        }
        assert!(numbers(&store).into_iter().eq(0..exporter.next), "round {round}");
        collector.terminate().ok();
        assert!(numbers(&store).into_iter().eq(0..exporter.next), "after round {round}");
        assert!(damaged(&store).is_empty() && drops(&store).is_empty());
        // The clock goes wrong between two collectors too.
        set(&offset, if round == 0 { 50 } else { 0 });
    }
    let received = info(&store)["received"].clone();
    let [first, last] =
        [&received[0], &received[1]].map(|time| time.as_str().unwrap()[..4].to_owned());
    assert_ne!(first, last, "the clock did jump: {received}");
}
