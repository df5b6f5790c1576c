//! The S3 server that tests of the archive on an object store run against.

use crate::steps;
use anyhow::Result;

/// The newest that our compiler takes.
const VERSION: &str = "0.13.0";

/// Sees to it that the server is in target/tools, where tests look for it. One that cannot be
/// had is no fault: those tests say that they skip.
pub(crate) fn ensure() -> Result<()> {
    let root = steps::workspace_root().join("target/tools");
    if root.join("bin/s3s-fs").exists() {
        return Ok(());
    }
    println!("building s3s-fs {VERSION}, a few minutes, once");
    let installed = steps::run(
        steps::cargo()
            .args(["install", "s3s-fs", "--version", VERSION, "--features", "binary"])
            .args(["--locked", "--quiet", "--root"])
            .arg(&root),
    );
    if let Err(error) = installed {
        println!("no S3 server, tests with it skip: {error:#}");
    }
    Ok(())
}
