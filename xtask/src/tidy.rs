//! `cargo xtask tidy`: what a reader should be able to rely on, checked by machine.

use crate::{layers, steps};
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;

const FILE_LINES_WARN: usize = 500;
const FILE_LINES_MAX: usize = 700;
const FUNCTION_LINES_WARN: usize = 70;
const FUNCTION_LINES_MAX: usize = 100;

/// Licences that a dependency may come under, as parts of an SPDX expression.
const LICENCES: &[&str] = &[
    "MIT",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "CC0-1.0",
    "Unlicense",
    "BSL-1.0",
    "0BSD",
    "bzip2-1.0.6",
    "MIT-0",
];

/// Files where unsafe code may stand, each small and named for it.
const UNSAFE_OWNERS: &[&str] = &[
    "flowd/src/ring/map.rs",
    "flowd/src/archive/",
    "flowd/src/probe/",
    "flowd/src/collect/",
    "flowd/src/app/",
    "flowd/tests/it/foreign_bpf.rs",
    "flowd/tests/it/namespace.rs",
    "flowd/tests/it/system.rs",
    "flowd-common/src/",
    "flowd-ebpf/src/",
    "bench/src/",
];

#[derive(Default)]
struct Findings {
    warnings: Vec<String>,
    faults: Vec<String>,
}

impl Findings {
    fn fault(&mut self, path: &str, line: usize, what: &str) {
        self.faults.push(format!("{path}:{line}: {what}"));
    }

    fn measure(&mut self, what: String, size: usize, warn: usize, max: usize) {
        if size > max {
            self.faults.push(format!("{what}: {size} lines, at most {max}"));
        } else if size > warn {
            self.warnings.push(format!("{what}: {size} lines, aim at {warn}"));
        }
    }
}

/// Checks the whole tree.
pub(crate) fn run() -> Result<()> {
    let root = steps::workspace_root();
    let mut findings = Findings::default();
    for path in tracked_files(&root)? {
        let Ok(text) = fs::read_to_string(root.join(&path)) else { continue };
        check_words(&path, &text, &mut findings);
        if path.ends_with(".rs") && !text.starts_with("// Generated") {
            check_source(&path, &text, &mut findings);
        }
    }
    check_captures(&root, &mut findings)?;
    check_licences(&mut findings)?;
    for warning in &findings.warnings {
        println!("warning: {warning}");
    }
    if !findings.faults.is_empty() {
        bail!("tidy found {} faults:\n{}", findings.faults.len(), findings.faults.join("\n"));
    }
    Ok(())
}

/// Files that git tracks or would track.
fn tracked_files(root: &Path) -> Result<Vec<String>> {
    let output = std::process::Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("run git")?;
    if !output.status.success() {
        bail!("`git ls-files` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let names = String::from_utf8(output.stdout).context("file names are UTF-8")?;
    Ok(names.lines().filter(|name| root.join(name).is_file()).map(str::to_owned).collect())
}

/// Words that are never in the tree: leftovers, and paths of one machine.
fn check_words(path: &str, text: &str, findings: &mut Findings) {
    const LEFTOVERS: &[&str] = &["TODO", "FIXME", "XXX", "dbg!(", "todo!(", "unimplemented!("];
    const PLACES: &[&str] = &["/home/", "/root/", "/work/"];
    if path == "xtask/src/tidy.rs" || path.ends_with(".lock") || path.starts_with("LICENSE") {
        return;
    }
    for (number, line) in text.lines().enumerate() {
        for word in LEFTOVERS.iter().filter(|_| path.ends_with(".rs")) {
            if line.contains(word) {
                findings.fault(path, number + 1, &format!("`{word}` is unfinished work"));
            }
        }
        for place in PLACES {
            if line.contains(place) {
                findings.fault(path, number + 1, &format!("`{place}` is a path of one machine"));
            }
        }
    }
}

fn check_source(path: &str, text: &str, findings: &mut Findings) {
    let tests = path.contains("/tests/") || path.ends_with("tests.rs");
    let lines: Vec<&str> = text.lines().take_while(|line| *line != "#[cfg(test)]").collect();
    if !tests {
        findings.measure(path.to_owned(), lines.len(), FILE_LINES_WARN, FILE_LINES_MAX);
    }
    for (number, line) in lines.iter().enumerate() {
        if let Some(what) = layers::broken_by(path, line) {
            findings.fault(path, number + 1, &what);
        }
        check_line(path, number + 1, line, findings);
        if let Some(name) = function_name(line)
            && let Some(size) = function_size(&lines[number..])
        {
            let what = format!("{path}:{}: function `{name}`", number + 1);
            findings.measure(what, size, FUNCTION_LINES_WARN, FUNCTION_LINES_MAX);
        }
    }
}

fn check_line(path: &str, number: usize, line: &str, findings: &mut Findings) {
    let code = line.trim_start();
    if code.starts_with("#[allow(") || code.starts_with("#![allow(") {
        findings.fault(path, number, "use #[expect(.., reason = \"..\")] instead of allow");
    }
    if code.starts_with("#[ignore") {
        findings.fault(path, number, "a test that does not run shows nothing");
    }
    let words = code.split("//").next().unwrap_or_default();
    let unsafe_here = words.contains("unsafe {") || words.contains("unsafe impl");
    if unsafe_here
        && !path.starts_with("xtask/")
        && !UNSAFE_OWNERS.iter().any(|owner| path.starts_with(owner))
    {
        findings.fault(path, number, "unsafe code belongs to the files that are named for it");
    }
}

/// The name of the function that begins on this line.
fn function_name(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    for word in ["pub(crate) ", "pub(super) ", "pub ", "const ", "unsafe ", "extern \"C\" "] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    let name = rest.strip_prefix("fn ")?;
    name.find(['(', '<']).map(|end| &name[..end])
}

/// Lines from `fn` to the brace that closes it, which rustfmt puts under the `fn`.
fn function_size(lines: &[&str]) -> Option<usize> {
    let first = lines.first()?;
    if first.ends_with('}') || first.ends_with(';') {
        return Some(1);
    }
    let indent = first.len() - first.trim_start().len();
    let close = format!("{:indent$}}}", "");
    lines.iter().position(|line| *line == close).map(|end| end + 1)
}

/// Each capture stands in test-pcaps/README.md with its digest.
fn check_captures(root: &Path, findings: &mut Findings) -> Result<()> {
    let folder = root.join("test-pcaps");
    let readme = fs::read_to_string(folder.join("README.md")).context("test-pcaps/README.md")?;
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !(name.ends_with(".pcap") || name.ends_with(".pcapng")) {
            continue;
        }
        let digest = hex(&Sha256::digest(fs::read(&path)?));
        let listed =
            readme.lines().any(|line| line.contains(&name) && line.contains(&digest[..16]));
        if !listed {
            findings.faults.push(format!("test-pcaps/{name}: not in README.md with its sha256"));
        }
    }
    Ok(())
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Every dependency that we build comes under a licence of the list.
fn check_licences(findings: &mut Findings) -> Result<()> {
    let output = steps::cargo()
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .output()
        .context("run cargo metadata")?;
    if !output.status.success() {
        bail!("`cargo metadata` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("packages of cargo metadata")?;
    for package in packages.iter().filter(|package| !package["source"].is_null()) {
        let licence = package["license"].as_str().unwrap_or("none");
        if !is_permitted(licence) {
            let name = package["name"].as_str().unwrap_or("?");
            findings
                .faults
                .push(format!("dependency {name}: licence {licence} is not in the list"));
        }
    }
    Ok(())
}

/// An SPDX expression is permitted if each part joined by AND has an alternative in the list.
fn is_permitted(expression: &str) -> bool {
    expression
        .split(" AND ")
        .all(|part| part.split([' ', '/', '(', ')']).any(|licence| LICENCES.contains(&licence)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured_to_their_brace() {
        let lines = ["    fn a() {", "        b();", "    }", "}"];
        assert_eq!(function_name(lines[0]), Some("a"));
        assert_eq!(function_size(&lines), Some(3));
        assert_eq!(function_size(&["fn one() {}"]), Some(1));
    }

    #[test]
    fn licences_need_one_alternative_of_each_part() {
        assert!(is_permitted("MIT OR GPL-3.0"));
        assert!(is_permitted("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(!is_permitted("GPL-3.0-only"));
        assert!(!is_permitted("MIT AND GPL-3.0-only"));
    }

    #[test]
    fn leftovers_and_machine_paths_are_found() {
        let mut findings = Findings::default();
        check_words("flowd/src/a.rs", "// FIXME\nlet p = \"/home/x\";", &mut findings);
        assert_eq!(findings.faults.len(), 2);
    }
}
