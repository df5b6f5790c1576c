//! The system packages that a chore needs: named, and installed where we may.

use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;

/// A Debian package, told by a file that it installs.
pub(crate) struct Package {
    name: &'static str,
    installs: &'static str,
    reason: &'static str,
}

/// A C compiler's linker driver, for every build.
pub(crate) const GCC: Package =
    Package { name: "gcc", installs: "/usr/bin/cc", reason: "links Rust programs" };
/// libpcap's headers, for the oracle that the capture reader is tested against.
pub(crate) const LIBPCAP: Package = Package {
    name: "libpcap-dev",
    installs: "/usr/include/pcap/pcap.h",
    reason: "the oracle that capture reading is tested against",
};
/// A foreign collector.
pub(crate) const NFDUMP: Package = Package {
    name: "nfdump",
    installs: "/usr/bin/nfcapd",
    reason: "the collector that our export is tested against",
};
/// A foreign exporter.
pub(crate) const SOFTFLOWD: Package = Package {
    name: "softflowd",
    installs: "/usr/sbin/softflowd",
    reason: "the exporter that our collector is tested against",
};
/// A foreign decoder.
pub(crate) const TSHARK: Package = Package {
    name: "tshark",
    installs: "/usr/bin/tshark",
    reason: "the decoder that our datagrams are tested against",
};
/// Runs the corpus comparison, where a corpus is there.
pub(crate) const PYTHON: Package =
    Package { name: "python3", installs: "/usr/bin/python3", reason: "runs comparison scripts" };

/// Sees to it that the packages are installed: by apt when root, else by one line to run.
pub(crate) fn ensure(packages: &[Package]) -> Result<()> {
    let missing: Vec<&Package> =
        packages.iter().filter(|package| !Path::new(package.installs).exists()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for package in &missing {
        println!("needs Debian package {}: {}", package.name, package.reason);
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    let command = format!("apt-get install -y --no-install-recommends {}", names.join(" "));
    if !is_root()? {
        bail!("packages are missing; run: sudo apt-get update && sudo {command}");
    }
    println!("installing: {command}");
    apt(&["update", "-qq"])?;
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend(&names);
    apt(&arguments)
}

fn is_root() -> Result<bool> {
    let output = Command::new("id").arg("-u").output().context("run `id -u`")?;
    Ok(output.stdout.trim_ascii() == b"0")
}

fn apt(arguments: &[&str]) -> Result<()> {
    let output = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output()
        .context("run apt-get (is this a Debian machine?)")?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("apt-get {} failed: {}", arguments.join(" "), words.trim());
    }
    Ok(())
}
