//! A small disk that a test fills, makes read-only, and takes away again: a tmpfs in a mount
//! namespace of its own, seen from outside through /proc.

use crate::support::{Background, end_of};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// What fills the disk beside the store.
const BALLAST: &str = "ballast";

/// A disk of some size, gone when it is dropped.
pub(crate) struct Disk {
    /// The process that keeps the namespace.
    keeper: Background,
    folder: TempDir,
}

impl Disk {
    /// Makes one. None, with a word why, where that is not allowed.
    pub(crate) fn new(size: &str) -> Option<Self> {
        let tried = end_of(Command::new("unshare").args(["--mount", "true"]));
        if tried.code() != Some(0) {
            println!("skipped: no mount namespace: {}", tried.stderr.trim());
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let script = "mount -t tmpfs -o size=$0 none \"$1\" && echo mounted >&2 && exec sleep 3600";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script, size]);
        let mut keeper = Background::start(command.arg(folder.path()));
        keeper.says("mounted");
        Some(Self { keeper, folder })
    }

    /// Where it is seen from outside of its namespace.
    pub(crate) fn path(&self) -> PathBuf {
        let inside = self.folder.path().strip_prefix("/").unwrap();
        Path::new("/proc").join(self.keeper.id().to_string()).join("root").join(inside)
    }

    /// Makes all of it read-only, or writable again.
    pub(crate) fn remount(&self, how: &str) {
        self.mount(&["-o", &format!("remount,{how}")], Path::new(""));
    }

    /// Makes a folder of it read-only, while the rest is not.
    pub(crate) fn protect(&self, folder: &Path) {
        let inside = self.folder.path().join(folder);
        self.mount(&["--bind", inside.to_str().unwrap()], folder);
        self.mount(&["-o", "remount,bind,ro"], folder);
    }

    /// Makes a folder that was protected writable again.
    pub(crate) fn release(&self, folder: &Path) {
        self.mount(&["-o", "remount,bind,rw"], folder);
    }

    fn mount(&self, options: &[&str], folder: &Path) {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.keeper.id())).arg("mount");
        command.args(options).arg(self.folder.path().join(folder));
        assert_eq!(end_of(&mut command).code(), Some(0), "{command:?}");
    }

    /// Fills it to the last page.
    pub(crate) fn fill(&self) {
        let mut file = File::create(self.path().join(BALLAST)).unwrap();
        loop {
            match file.write(&[0; 4_096]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Takes away what filled it.
    pub(crate) fn make_room(&self) {
        fs::remove_file(self.path().join(BALLAST)).unwrap();
    }
}
