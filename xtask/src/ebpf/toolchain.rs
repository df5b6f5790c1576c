//! The tools that build eBPF programs: a compiler that builds `core` from source, bpf-linker, and
//! an objcopy that knows BPF. Found where they are, installed where we may.

use crate::packages::{self, Package};
use crate::steps;
use anyhow::{Context, Result, bail};
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const LINKER_VERSION: &str = "0.13.0";
/// Where Debian keeps the LLVM that bpf-linker is built with. A compiler's LLVM may be older, not
/// newer: bitcode is read by its own and later versions.
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
const LLVM_MAJOR: u32 = 22;

/// Tools that fit each other.
pub(super) struct Toolchain {
    compiler: Compiler,
    linker: PathBuf,
    objcopy: Objcopy,
}

/// What [`obtain`] came to.
pub(super) enum Found {
    Ready(Toolchain),
    Missing { remedy: String },
}

/// A compiler with the source of its `core`.
struct Compiler {
    cargo: PathBuf,
    rustc: PathBuf,
    sysroot: PathBuf,
    version: String,
}

struct Objcopy {
    program: PathBuf,
    version: String,
}

/// Finds the tools; as root installs those that are missing.
pub(super) fn obtain() -> Result<Found> {
    let (mut compiler, linker, mut objcopy) = (find_compiler(), find_linker(), find_objcopy());
    let mut needed: Vec<Package> = Vec::new();
    if compiler.is_none() {
        needed.extend([packages::RUSTC_WEB, packages::CARGO_WEB, packages::RUST_WEB_SRC]);
    }
    if linker.is_none() {
        needed.extend([packages::GCC, packages::LLVM_DEV]);
    } else if objcopy.is_none() {
        needed.push(packages::LLVM);
    }
    if let Some(remedy) = packages::remedy(&needed) {
        if !packages::is_root()? || !packages::are_known(&needed)? {
            return Ok(Found::Missing { remedy });
        }
        packages::ensure(&needed)?;
        compiler = compiler.or_else(find_compiler);
        objcopy = objcopy.or_else(find_objcopy);
    }
    let linker = linker.map_or_else(build_linker, Ok)?;
    Ok(Found::Ready(Toolchain {
        compiler: compiler.context("no compiler that builds core, though its packages are here")?,
        linker,
        objcopy: objcopy.context("no llvm-objcopy, though its package is here")?,
    }))
}

impl Toolchain {
    /// The compiler's cargo, in the workspace's root and with bpf-linker on its path.
    pub(super) fn cargo(&self) -> Result<Command> {
        let folder = self.linker.parent().context("bpf-linker lies in a folder")?;
        let others = env::var_os("PATH").unwrap_or_default();
        let path =
            env::join_paths(std::iter::once(folder.to_owned()).chain(env::split_paths(&others)))?;
        let mut command = Command::new(&self.compiler.cargo);
        command
            .current_dir(steps::workspace_root())
            .env("PATH", path)
            .env("RUSTC", &self.compiler.rustc)
            // A released compiler takes -Z switches only when told so.
            .env("RUSTC_BOOTSTRAP", "1");
        // What the cargo that runs this chore set for itself, and flags of other builds.
        for name in [
            "CARGO",
            "LD_LIBRARY_PATH",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTC_WRAPPER",
            "RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
        ] {
            command.env_remove(name);
        }
        Ok(command)
    }

    pub(super) fn sysroot(&self) -> &Path {
        &self.compiler.sysroot
    }

    pub(super) fn objcopy(&self) -> &Path {
        &self.objcopy.program
    }

    /// The tools by name and version, on one line: who differs here may give other octets.
    pub(super) fn versions(&self) -> String {
        format!("{}; bpf-linker {LINKER_VERSION}; {}", self.compiler.version, self.objcopy.version)
    }
}

/// The rustup nightly if it has its source, else Debian's.
fn find_compiler() -> Option<Compiler> {
    let nightly =
        words(Command::new("rustup").args(["run", "nightly", "rustc", "--print", "sysroot"]));
    nightly
        .and_then(|sysroot| Compiler::at(Path::new(sysroot.trim())))
        .or_else(|| Compiler::at(Path::new("/usr")))
}

impl Compiler {
    fn at(sysroot: &Path) -> Option<Self> {
        let rustc = sysroot.join("bin/rustc");
        let cargo = sysroot.join("bin/cargo");
        let source = sysroot.join("lib/rustlib/src/rust/library/core");
        if !cargo.exists() || !source.exists() {
            return None;
        }
        let words = words(Command::new(&rustc).arg("-vV").env_remove("LD_LIBRARY_PATH"))?;
        let llvm = words.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
        let major: u32 = llvm.split('.').next()?.parse().ok()?;
        let version = format!("{}, LLVM {llvm}", words.lines().next()?);
        let sysroot = sysroot.to_owned();
        (major <= LLVM_MAJOR).then_some(Self { cargo, rustc, sysroot, version })
    }
}

/// bpf-linker of our version: the one that we built, or one of the user's.
fn find_linker() -> Option<PathBuf> {
    let mut folders = vec![tools_dir().join("bin")];
    folders.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    folders.extend(env::home_dir().map(|home| home.join(".cargo/bin")));
    folders.into_iter().map(|folder| folder.join("bpf-linker")).find(|program| {
        let version = words(Command::new(program).arg("--version"));
        version.is_some_and(|version| version.trim() == format!("bpf-linker {LINKER_VERSION}"))
    })
}

fn build_linker() -> Result<PathBuf> {
    println!("building bpf-linker {LINKER_VERSION}, about a minute, once");
    steps::run(
        steps::cargo()
            .args(["install", "bpf-linker", "--version", LINKER_VERSION, "--locked", "--quiet"])
            .args(["--no-default-features", "--features", &format!("llvm-{LLVM_MAJOR}")])
            .arg("--root")
            .arg(tools_dir())
            .env("LLVM_PREFIX", LLVM_PREFIX)
            .env("LLVM_SYS_221_PREFIX", LLVM_PREFIX),
    )?;
    let Some(linker) = find_linker() else { bail!("bpf-linker was built but does not run") };
    Ok(linker)
}

fn tools_dir() -> PathBuf {
    steps::target_dir().join("tools")
}

/// Debian's objcopy, or another of LLVM.
fn find_objcopy() -> Option<Objcopy> {
    let debian = format!("{LLVM_PREFIX}/bin/llvm-objcopy");
    [debian.as_str(), "llvm-objcopy", "rust-objcopy"].into_iter().find_map(|program| {
        let words = words(Command::new(program).arg("--version"))?;
        let version = words.split_once("LLVM version ")?.1.split_whitespace().next()?;
        Some(Objcopy { program: program.into(), version: format!("LLVM {version}") })
    })
}

/// What a program says of itself; none if it does not run.
fn words(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
