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
/// A C++ compiler.
pub(crate) const GPP: Package =
    Package { name: "g++", installs: "/usr/bin/c++", reason: "compiles libFuzzer" };
/// libpcap's headers, for live capture and for the oracle that the capture reader is tested
/// against.
pub(crate) const LIBPCAP: Package = Package {
    name: "libpcap-dev",
    installs: "/usr/include/pcap/pcap.h",
    reason: "captures where eBPF is refused, and is the oracle that capture reading is tested against",
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
/// Keeps Python packages apart from the system's.
pub(crate) const PYTHON_VENV: Package = Package {
    name: "python3-venv",
    installs: "/var/lib/dpkg/info/python3-venv.list",
    reason: "holds DuckDB and Polars, which read our segments in tests",
};
/// Makes network namespaces and interfaces, for the demo and for tests.
pub(crate) const IPROUTE: Package = Package {
    name: "iproute2",
    installs: "/usr/sbin/ip",
    reason: "makes networks for the live demo and for tests of live interfaces",
};
// Debian has two packages that install /usr/bin/rustc, so these are told by dpkg's own files.
/// A compiler that is new enough.
pub(crate) const RUSTC_WEB: Package = Package {
    name: "rustc-web",
    installs: "/var/lib/dpkg/info/rustc-web.list",
    reason: "compiles the eBPF programs",
};
/// Its cargo.
pub(crate) const CARGO_WEB: Package = Package {
    name: "cargo-web",
    installs: "/var/lib/dpkg/info/cargo-web.list",
    reason: "builds the eBPF programs",
};
/// Its standard library's source.
pub(crate) const RUST_WEB_SRC: Package = Package {
    name: "rust-web-src",
    installs: "/var/lib/dpkg/info/rust-web-src.list",
    reason: "core for the eBPF programs is built from source",
};
/// LLVM's tools.
pub(crate) const LLVM: Package = Package {
    name: "llvm-22",
    installs: "/usr/lib/llvm-22/bin/llvm-objcopy",
    reason: "strips eBPF objects",
};
/// LLVM to link with. Its static libraries, and what those need, are not used.
pub(crate) const LLVM_DEV: Package = Package {
    name: "llvm-22-dev",
    installs: "/usr/lib/llvm-22/lib/libLLVM.so",
    reason: "bpf-linker is built with it",
};

/// Sees to it that the packages are installed: by apt when root, else by one line to run.
pub(crate) fn ensure(packages: &[Package]) -> Result<()> {
    let Some(remedy) = remedy(packages) else { return Ok(()) };
    for package in missing(packages) {
        println!("needs Debian package {}: {}", package.name, package.reason);
    }
    if !is_root()? {
        bail!("packages are missing; run: {remedy}");
    }
    let names: Vec<&str> = missing(packages).map(|package| package.name).collect();
    println!("installing: {}", names.join(" "));
    apt(&["update", "-qq"])?;
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend(&names);
    apt(&arguments)
}

/// The line that installs those of the packages that are missing; none if all are here.
pub(crate) fn remedy(packages: &[Package]) -> Option<String> {
    let names: Vec<&str> = missing(packages).map(|package| package.name).collect();
    let install = "sudo apt-get update && sudo apt-get install -y --no-install-recommends";
    (!names.is_empty()).then(|| format!("{install} {}", names.join(" ")))
}

/// Does this machine's distribution have packages of these names? Asks apt for its lists anew.
pub(crate) fn are_known(packages: &[Package]) -> Result<bool> {
    if !Path::new("/usr/bin/apt-get").exists() {
        return Ok(false);
    }
    apt(&["update", "-qq"])?;
    let names = missing(packages).map(|package| package.name);
    let output = Command::new("apt-cache").arg("show").args(names).output();
    Ok(output.context("run apt-cache")?.status.success())
}

fn missing(packages: &[Package]) -> impl Iterator<Item = &Package> {
    packages.iter().filter(|package| !Path::new(package.installs).exists())
}

/// May we do what only root may?
pub(crate) fn is_root() -> Result<bool> {
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
