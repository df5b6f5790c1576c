//! `cargo xtask ebpf`: the crate `flowd-ebpf` -> `flowd-ebpf/prebuilt/flowd.bpf.o`.
//!
//! The object is committed, so that building flowd takes stable Rust only. Beside it stands its
//! origin: a digest of the sources that it was built from, its own, and the tools' versions.

mod btf;
mod origin;
mod toolchain;

use crate::steps;
use anyhow::{Context, Result, bail, ensure};
use origin::Origin;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use toolchain::{Found, Toolchain};

const OBJECT: &str = "flowd-ebpf/prebuilt/flowd.bpf.o";
const TARGET: &str = "bpfel-unknown-none";

/// Settings of the build, apart from the workspace's release profile. BTF is made from full debug
/// information; DWARF itself is stripped afterwards.
const PROFILE: &[(&str, &str)] = &[
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3"),
    ("CARGO_PROFILE_RELEASE_LTO", "fat"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
    ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "2"),
];
/// The third version of the instruction set has 32-bit jumps and atomic compare and exchange.
const FLAGS: &[&str] = &["-Clink-arg=--btf", "-Ctarget-cpu=v3"];

/// Builds the object and writes it with its origin.
pub(crate) fn run() -> Result<()> {
    let root = steps::workspace_root();
    let toolchain = match toolchain::obtain()? {
        Found::Ready(toolchain) => toolchain,
        Found::Missing { remedy } => bail!("the eBPF toolchain is missing; run: {remedy}"),
    };
    let object = build(&toolchain, Warnings::Shown)?;
    let origin = Origin::new(&root, &object, &toolchain.versions())?;
    let folder = root.join("flowd-ebpf/prebuilt");
    fs::create_dir_all(&folder).context("create flowd-ebpf/prebuilt")?;
    fs::write(root.join(OBJECT), &object).context(OBJECT)?;
    origin.write(&root)?;
    println!("{OBJECT}: {} octets, by {}", object.len(), toolchain.versions());
    Ok(())
}

/// Changes nothing; fails if the object does not follow from the sources. Without the toolchain,
/// and without the right to install it, only the digests are compared.
pub(crate) fn check() -> Result<()> {
    let root = steps::workspace_root();
    let committed = fs::read(root.join(OBJECT))
        .with_context(|| format!("{OBJECT} cannot be read (run: cargo xtask ebpf)"))?;
    let origin = Origin::read(&root)?;
    origin.check(&root, &committed)?;
    let toolchain = match toolchain::obtain()? {
        Found::Ready(toolchain) => toolchain,
        Found::Missing { remedy } => {
            println!("digests fit; not rebuilt, the toolchain is missing; to have it: {remedy}");
            return Ok(());
        }
    };
    let object = build(&toolchain, Warnings::Denied)?;
    let versions = toolchain.versions();
    if object == committed {
        println!("digests fit; a rebuild gives the same {} octets", object.len());
    } else if versions == origin.versions {
        bail!("{OBJECT} is not what its sources give; run: cargo xtask ebpf");
    } else {
        println!(
            "digests fit; it builds, but octets cannot be compared: made by {}, here {versions}",
            origin.versions
        );
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Warnings {
    Shown,
    Denied,
}

/// Builds under `target/ebpf` and gives the object as it is to be committed.
fn build(toolchain: &Toolchain, warnings: Warnings) -> Result<Vec<u8>> {
    let target_dir = steps::target_dir().join("ebpf");
    let places = places(toolchain)?;
    let mut flags: Vec<String> = FLAGS.iter().map(|&flag| flag.to_owned()).collect();
    for (place, name) in &places {
        flags.push(format!("--remap-path-prefix={}={name}", place.display()));
    }
    let mut cargo = toolchain.cargo()?;
    cargo
        .args(["build", "--quiet", "--locked", "--release", "-Z", "build-std=core"])
        .args(["--target", TARGET, "--package", "flowd-ebpf", "--bin", "flowd-ebpf"])
        .env("CARGO_TARGET_DIR", &target_dir)
        .env("CARGO_INCREMENTAL", "0")
        // Unlike RUSTFLAGS this takes paths with spaces.
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .envs(PROFILE.iter().copied());
    if let Warnings::Denied = warnings {
        // Not by a flag of the compiler, which would make it another build.
        cargo.args(["-Z", "warnings"]).env("CARGO_BUILD_WARNINGS", "deny");
    }
    steps::run(&mut cargo)?;
    let linked = target_dir.join(TARGET).join("release/flowd-ebpf");
    let stripped = target_dir.join("flowd.bpf.o");
    // Relocations of BTF are for linkers; what they would add stands in it already.
    steps::run(
        Command::new(toolchain.objcopy())
            .args(["--strip-debug", "--remove-section=.rel.BTF", "--remove-section=.rel.BTF.ext"])
            .arg(&linked)
            .arg(&stripped),
    )?;
    let mut object = fs::read(&stripped).context("read the object that was built")?;
    btf::make_loadable(&mut object)?;
    for (place, _) in &places {
        ensure!(
            !names(&object, place),
            "the object names {}, a path of this machine",
            place.display()
        );
    }
    Ok(object)
}

/// Does an absolute path under this place stand in the object?
fn names(object: &[u8], place: &Path) -> bool {
    let place = [place.as_os_str().as_encoded_bytes(), b"/"].concat();
    object.windows(place.len() + 1).any(|window| {
        // After a letter it is the middle of a path that begins elsewhere.
        window[1..] == place && !window[0].is_ascii_alphanumeric()
    })
}

/// Places of this machine that debug information would name, and what it is to name instead.
/// None of the new names leads to a file, so no source text gets into the object's BTF.
fn places(toolchain: &Toolchain) -> Result<Vec<(PathBuf, &'static str)>> {
    let mut places = vec![(steps::workspace_root(), "flowd"), (steps::target_dir(), "target")];
    places.extend(registries(toolchain)?.into_iter().map(|place| (place, "registry")));
    // The standard library goes by its link and by what that leads to.
    let library = toolchain.sysroot().join("lib/rustlib/src/rust");
    if let Ok(real) = library.canonicalize() {
        places.push((real, "rust"));
    }
    places.push((library, "rust"));
    Ok(places)
}

/// The folders where cargo keeps the sources of dependencies: named after the registry's address,
/// which is the machine's choice.
fn registries(toolchain: &Toolchain) -> Result<BTreeSet<PathBuf>> {
    let output = toolchain
        .cargo()?
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", TARGET])
        .output()
        .context("run cargo metadata")?;
    if !output.status.success() {
        bail!("`cargo metadata` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("packages of cargo metadata")?;
    let foreign = packages.iter().filter(|package| !package["source"].is_null());
    Ok(foreign
        .filter_map(|package| Path::new(package["manifest_path"].as_str()?).ancestors().nth(2))
        .map(Path::to_owned)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_this_machine_is_told_from_the_middle_of_another() {
        let place = Path::new("/src");
        assert!(names(b"a\0/src/main.rs\0", place));
        assert!(!names(b"a\0rust/library/core/src/lib.rs\0", place));
        assert!(!names(b"a\0/src\0", place));
    }
}
