//! A clock that is set back and forth under a running collector. It is this process's own that is
//! set: a library that is loaded before libc adds to what the system's says.

use crate::numbered::{Numbered, damaged, drops, numbers, start_with};
use crate::support::{end_of, info, wait_until};
use std::fs;
use std::path::Path;
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

#[test]
fn a_clock_that_jumps_loses_no_record_and_doubles_none() {
    let folder = tempfile::tempdir().unwrap();
    let [source, library, offset, store] =
        ["clock.c", "clock.so", "offset", "store"].map(|name| folder.path().join(name));
    fs::write(&source, LIBRARY).unwrap();
    end_of(Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source)).ok();
    let environment =
        [("LD_PRELOAD", library.to_str().unwrap()), ("CLOCK_OFFSET", offset.to_str().unwrap())];
    let mut exporter = Numbered::new();
    set(&offset, 0);
    for run in 0..2 {
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
        assert!(numbers(&store).into_iter().eq(0..exporter.next), "run {run}");
        collector.terminate().ok();
        assert!(numbers(&store).into_iter().eq(0..exporter.next), "after run {run}");
        assert!(damaged(&store).is_empty() && drops(&store).is_empty());
        // The clock goes wrong between two collectors too.
        set(&offset, if run == 0 { 50 } else { 0 });
    }
    let received = info(&store)["received"].clone();
    let [first, last] =
        [&received[0], &received[1]].map(|time| time.as_str().unwrap()[..4].to_owned());
    assert_ne!(first, last, "the clock did jump: {received}");
}
