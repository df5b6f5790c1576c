//! Writes the seeds of the fuzz targets into a folder.

#![expect(clippy::print_stderr, reason = "a tool for people at a terminal")]

use anyhow::{Context, Result};
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    match write() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fuzz-seeds: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn write() -> Result<()> {
    let folder = std::env::args_os().nth(1).context("which folder? write fuzz-seeds FOLDER")?;
    let folder = PathBuf::from(folder);
    for (name, input) in bench::seeds::all() {
        let path = folder.join(name);
        std::fs::write(&path, input).with_context(|| path.display().to_string())?;
    }
    Ok(())
}
