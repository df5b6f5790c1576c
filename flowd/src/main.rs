//! The flowd program: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    flowd::cli::run()
}
