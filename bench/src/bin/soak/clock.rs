//! A clock that runs faster, for the collector alone: a library that is loaded before libc.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// Multiplies what has passed of the time of day since the start.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long long start, speed;

__attribute__((constructor)) static void begin(void) {
    start = atoll(getenv("SOAK_CLOCK_START"));
    speed = atoll(getenv("SOAK_CLOCK_SPEED"));
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int outcome = syscall(SYS_clock_gettime, clock, time);
    if (outcome == 0 && clock == CLOCK_REALTIME && speed > 1) {
        long long nanos = (time->tv_sec - start) * 1000000000LL + time->tv_nsec;
        nanos *= speed;
        time->tv_sec = start + nanos / 1000000000LL;
        time->tv_nsec = nanos % 1000000000LL;
    }
    return outcome;
}
"#;

/// The library, and what it is told.
pub(crate) struct Fast {
    library: PathBuf,
    start: u64,
    speed: u32,
}

impl Fast {
    pub(crate) fn make(folder: &Path, speed: u32) -> Result<Self> {
        let [source, library] = ["clock.c", "clock.so"].map(|name| folder.join(name));
        fs::write(&source, LIBRARY).context("write the clock's source")?;
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O2", "-o"]).arg(&library).arg(&source);
        let status = compiler.status().context("start cc, to make the collector's clock")?;
        ensure!(status.success(), "cc cannot make the collector's clock: {status}");
        let start = SystemTime::now().duration_since(UNIX_EPOCH).context("the time")?.as_secs();
        Ok(Self { library, start, speed })
    }

    /// Lets a command, and what it starts, live by this clock.
    pub(crate) fn apply(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library);
        command.env("SOAK_CLOCK_START", self.start.to_string());
        command.env("SOAK_CLOCK_SPEED", self.speed.to_string());
    }
}
