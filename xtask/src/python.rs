//! The Python packages that tests need, in an environment of their own under the target directory.

use crate::steps;
use anyhow::Result;
use std::process::Command;

/// Foreign readers of our segments, by version, so that what `docs/schema.md` says of them holds.
const PACKAGES: [&str; 2] = ["duckdb==2.0.0", "polars==2.1.0"];
/// What says which packages were installed.
const INSTALLED: &str = "flowd-packages";

/// Sees to it that the packages are installed.
pub(crate) fn ensure() -> Result<()> {
    let folder = steps::target_dir().join("python");
    let installed = folder.join(INSTALLED);
    let wanted = PACKAGES.join("\n");
    if std::fs::read_to_string(&installed).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    println!("installing for tests: {}", PACKAGES.join(" "));
    steps::run(Command::new("/usr/bin/python3").args(["-m", "venv"]).arg(&folder))?;
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    steps::run(pip.args(["--only-binary", ":all:"]).args(PACKAGES))?;
    Ok(std::fs::write(installed, wanted)?)
}
