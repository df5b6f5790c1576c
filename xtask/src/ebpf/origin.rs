//! What a committed object was built from: `flowd-ebpf/prebuilt/flowd.bpf.origin`.

use super::{FLAGS, OBJECT, PROFILE};
use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};

const ORIGIN: &str = "flowd-ebpf/prebuilt/flowd.bpf.origin";
const CRATES: &[&str] = &["flowd-common", "flowd-ebpf"];

/// The file's lines, a name and a value each.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// Digest of all that the object follows from, but for the tools.
    sources: String,
    /// Digest of the object.
    object: String,
    /// The tools.
    pub(super) versions: String,
}

impl Origin {
    /// Of an object that was built just now.
    pub(super) fn new(root: &Path, object: &[u8], versions: &str) -> Result<Self> {
        Ok(Self {
            sources: sources_digest(root)?,
            object: hex(&Sha256::digest(object)),
            versions: versions.to_owned(),
        })
    }

    pub(super) fn read(root: &Path) -> Result<Self> {
        let text = fs::read_to_string(root.join(ORIGIN))
            .with_context(|| format!("{ORIGIN} cannot be read (run: cargo xtask ebpf)"))?;
        Self::parse(&text).with_context(|| format!("{ORIGIN} is damaged (run: cargo xtask ebpf)"))
    }

    pub(super) fn write(&self, root: &Path) -> Result<()> {
        fs::write(root.join(ORIGIN), self.text()).context(ORIGIN)
    }

    /// Does the object lie as it was built, from the sources as they are now?
    pub(super) fn check(&self, root: &Path, object: &[u8]) -> Result<()> {
        ensure!(
            self.object == hex(&Sha256::digest(object)),
            "{OBJECT} is not the object that {ORIGIN} names; run: cargo xtask ebpf"
        );
        ensure!(
            self.sources == sources_digest(root)?,
            "{OBJECT} is older than its sources; run: cargo xtask ebpf"
        );
        Ok(())
    }

    fn text(&self) -> String {
        let Self { sources, object, versions } = self;
        format!("sources {sources}\nobject {object}\ntools {versions}\n")
    }

    fn parse(text: &str) -> Option<Self> {
        let value =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Some(Self {
            sources: value("sources")?.to_owned(),
            object: value("object")?.to_owned(),
            versions: value("tools")?.to_owned(),
        })
    }
}

/// One digest over names and contents of the crates' sources, the locked versions of what they
/// are built on, and the settings of the build.
fn sources_digest(root: &Path) -> Result<String> {
    let mut digest = Sha256::new();
    let mut add = |name: &str, content: &str| {
        // Lengths stand before both, so that no two lists of files read alike.
        for part in [name, content] {
            digest.update(part.len().to_le_bytes());
            digest.update(part);
        }
    };
    for path in source_files(root)? {
        let name = path.strip_prefix(root)?.to_str().context("source files have UTF-8 names")?;
        let text = fs::read_to_string(&path).with_context(|| format!("read {name}"))?;
        add(name, without_tests(&text));
    }
    let lock = fs::read_to_string(root.join("Cargo.lock")).context("read Cargo.lock")?;
    for package in lock.split("\n\n").filter(|package| package.contains("name = \"aya-ebpf")) {
        add("Cargo.lock", package.trim());
    }
    for (name, value) in PROFILE {
        add(name, value);
    }
    add("flags", &FLAGS.join(" "));
    Ok(hex(&digest.finalize()))
}

/// Manifests and sources of the crates in a fixed order, without files of tests.
fn source_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for name in CRATES {
        files.push(root.join(name).join("Cargo.toml"));
        let mut folders = vec![root.join(name).join("src")];
        while let Some(folder) = folders.pop() {
            let entries = fs::read_dir(&folder);
            for entry in entries.with_context(|| format!("list {}", folder.display()))? {
                let path = entry?.path();
                if path.file_stem().is_some_and(|stem| stem == "tests") {
                    continue;
                }
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    files.push(path);
                }
            }
        }
    }
    files.sort();
    Ok(files)
}

/// A source file up to the tests at its end.
fn without_tests(text: &str) -> &str {
    text.split_once("\n#[cfg(test)]\nmod tests {\n").map_or(text, |(code, _)| code)
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_reads_as_it_was_written() {
        let origin = Origin {
            sources: "12".to_owned(),
            object: "ab".to_owned(),
            versions: "rustc 1 (a b)".to_owned(),
        };
        assert_eq!(Origin::parse(&origin.text()), Some(origin));
        assert_eq!(Origin::parse("sources 12\ntools x\n"), None);
    }

    #[test]
    fn tests_at_the_end_are_no_source() {
        let code = "fn a() {}\n";
        assert_eq!(without_tests(&format!("{code}\n#[cfg(test)]\nmod tests {{\n}}\n")), code);
        let declared = "#[cfg(test)]\nmod tests;\nfn a() {}\n";
        assert_eq!(without_tests(declared), declared);
    }

    #[test]
    fn the_digest_follows_sources_and_not_tests() {
        let root = std::env::temp_dir().join(format!("flowd-origin-{}", std::process::id()));
        for name in CRATES {
            fs::create_dir_all(root.join(name).join("src/deep")).unwrap();
            fs::write(root.join(name).join("Cargo.toml"), "[package]").unwrap();
            fs::write(root.join(name).join("src/lib.rs"), "fn a() {}\n").unwrap();
        }
        fs::write(root.join("Cargo.lock"), "[[package]]\nname = \"aya-ebpf\"\n").unwrap();
        let before = sources_digest(&root).unwrap();
        fs::write(root.join("flowd-common/src/deep/tests.rs"), "fn b() {}\n").unwrap();
        assert_eq!(sources_digest(&root).unwrap(), before);
        fs::write(root.join("flowd-common/src/deep/mod.rs"), "fn b() {}\n").unwrap();
        let with_file = sources_digest(&root).unwrap();
        assert_ne!(with_file, before);
        fs::write(root.join("Cargo.lock"), "[[package]]\nname = \"aya-ebpf\"\nv\n").unwrap();
        assert_ne!(sources_digest(&root).unwrap(), with_file);
        fs::remove_dir_all(root).unwrap();
    }
}
