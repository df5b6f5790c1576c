//! Files of a store that are cut, gone or changed: the file is named, all that does not lie in it
//! is in answers, once, and collecting goes on.

use crate::numbered::{Numbered, address, coverage, damaged, drops, found, numbers, start};
use crate::support::{Collector, info, run, summary, wait_until};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Records of a segment.
const SEGMENT_RECORDS: u64 = 300;
/// Segments of a store.
const SEGMENTS: u64 = 4;

/// A store of some segments, each of a collector of its own.
struct Damaged {
    folder: tempfile::TempDir,
    exporter: Numbered,
}

impl Damaged {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut it = Self { folder, exporter: Numbered::new() };
        for _ in 0..SEGMENTS {
            it.collect(SEGMENT_RECORDS);
        }
        assert_eq!(it.files("archive", "parquet").len(), 4);
        assert!(damaged(&it.store()).is_empty());
        it
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// Has a collector take some more records.
    fn collect(&mut self, count: u64) {
        let store = self.store();
        let (collector, port) = start(&store, &[]);
        self.exporter.send(&store, port, count);
        collector.terminate().ok();
    }

    /// The files of a folder with some extension, by name.
    fn files(&self, folder: &str, extension: &str) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.store().join(folder)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|it| it == extension) {
                    files.push(path);
                }
            }
        }
        files.sort_by_key(|path| path.file_name().map(ToOwned::to_owned));
        files
    }

    /// The name of a file as `store verify` has it.
    fn name(&self, file: &Path) -> String {
        file.strip_prefix(self.store()).unwrap().to_str().unwrap().to_owned()
    }

    /// Looks whether all records but those of some segment are held, also after a collector has
    /// added to them, and whether any of them is found by its address.
    fn assert_held(&mut self, lost: Option<u64>) {
        for _ in 0..2 {
            let lost = lost.map(|segment| segment * SEGMENT_RECORDS);
            let lost = lost.map_or(0..0, |first| first..first + SEGMENT_RECORDS);
            let expected: BTreeSet<u64> =
                (0..self.exporter.next).filter(|number| !lost.contains(number)).collect();
            assert_eq!(numbers(&self.store()), expected);
            for number in (0..self.exporter.next).step_by(100) {
                let of_host = found(&self.store(), &[&format!("src host {}", address(number))]);
                let is_held = !lost.contains(&number);
                assert_eq!(of_host.into_iter().collect::<Vec<_>>(), vec![number; is_held.into()]);
            }
            self.collect(SEGMENT_RECORDS);
        }
        assert_eq!(drops(&self.store()), []);
    }

    fn assert_named(&self, files: &[&Path]) {
        let names: BTreeSet<String> = files.iter().map(|file| self.name(file)).collect();
        assert_eq!(damaged(&self.store()), names);
    }
}

fn cut(file: &Path) {
    let bytes = fs::read(file).unwrap();
    fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
}

/// Changes octets all over a file.
fn scramble(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    for at in (7..bytes.len()).step_by(61) {
        bytes[at] ^= 0x55;
    }
    fs::write(file, bytes).unwrap();
}

/// Changes one octet, where the file has records.
fn change_one(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let at = bytes.len() / 3;
    bytes[at] ^= 1;
    fs::write(file, bytes).unwrap();
}

#[test]
fn a_segment_that_is_cut_or_changed_or_gone_is_named_and_no_other_is_missed() {
    type Fault = fn(&Path);
    for fault in [cut as Fault, scramble, change_one, |file| fs::remove_file(file).unwrap()] {
        let mut store = Damaged::new();
        let segment = store.files("archive", "parquet").swap_remove(1);
        let whole = fs::read(&segment).unwrap();
        fault(&segment);
        store.assert_named(&[&segment]);
        let name = segment.file_name().unwrap().to_str().unwrap();
        assert!(coverage(&store.store()).contains(name), "{}", coverage(&store.store()));
        store.assert_held(Some(1));
        store.assert_named(&[&segment]);
        // Nothing else has to be done about it than to put it back.
        fs::write(&segment, whole).unwrap();
        store.assert_named(&[]);
        store.assert_held(None);
    }
}

#[test]
fn an_index_that_is_gone_or_changed_costs_time_only() {
    let mut store = Damaged::new();
    let index = store.files("index", "idx");
    let day = index.iter().position(|file| file.ends_with("day.idx")).unwrap();
    let [segments, day] = [&index[..day], std::slice::from_ref(&index[day])];
    assert_eq!(segments.len(), 4);
    fs::remove_file(&segments[0]).unwrap();
    cut(&segments[1]);
    scramble(&segments[2]);
    store.assert_named(&[&segments[0], &segments[1], &segments[2]]);
    scramble(&day[0]);
    store.assert_named(&[&segments[0], &segments[1], &segments[2], &day[0]]);
    store.assert_held(None);
    let path = store.store();
    run(&["store", "compact", "--reindex", "--store", path.to_str().unwrap()]).ok();
    store.assert_named(&[]);
    fs::remove_dir_all(path.join("index")).unwrap();
    store.assert_held(None);
    run(&["store", "compact", "--reindex", "--store", path.to_str().unwrap()]).ok();
    store.assert_named(&[]);
    store.assert_held(None);
}

#[test]
fn a_torn_manifest_has_a_copy_that_serves() {
    for fault in [cut, scramble] {
        let mut store = Damaged::new();
        let manifest = store.store().join("archive/manifest.jsonl");
        fault(&manifest);
        store.assert_named(&[&manifest]);
        assert!(numbers(&store.store()).into_iter().eq(0..store.exporter.next));
        let told = info(&store.store())["damage"].to_string();
        assert!(told.contains("manifest.jsonl"), "{told}");
        store.collect(SEGMENT_RECORDS);
        // The next commit wrote it anew.
        store.assert_named(&[]);
        store.assert_held(None);
    }
}

#[test]
fn without_manifest_and_copy_nothing_is_guessed_and_nothing_is_removed() {
    let store = Damaged::new();
    let segments = store.files("archive", "parquet");
    let manifest = store.store().join("archive/manifest.jsonl");
    let copy = store.store().join("archive/manifest.copy.jsonl");
    let before = [&manifest, &copy].map(|file| fs::read(file).unwrap());
    cut(&manifest);
    cut(&copy);
    store.assert_named(&[&manifest]);
    let path = store.store();
    let path = path.to_str().unwrap();
    for command in [
        &["collect", "--listen", "udp://127.0.0.1:0", "--store", path][..],
        &["query", "--store", path],
        &["store", "compact", "--store", path],
    ] {
        let refused = run(command);
        assert_eq!(refused.code(), Some(2), "{command:?}: {refused:?}");
        assert_eq!(refused.stderr.trim_end().lines().count(), 1, "{refused:?}");
        assert!(refused.stderr.contains("manifest.jsonl"), "{refused:?}");
    }
    assert_eq!(store.files("archive", "parquet"), segments);
    for (file, bytes) in [&manifest, &copy].into_iter().zip(before) {
        fs::write(file, bytes).unwrap();
    }
    store.assert_named(&[]);
    assert_eq!(summary(&store.store())["deltaFlowCount"], SEGMENTS * SEGMENT_RECORDS);
}

#[test]
fn a_torn_block_of_the_ring_costs_its_own_records_only() {
    let mut store = Damaged::new();
    let path = store.store();
    let held = store.exporter.next;
    let (mut collector, port) = start(&path, &[]);
    store.exporter.send(&path, port, 2_000);
    // Each record is counted before it is in the ring.
    wait_until("all are held", || summary(&path)["deltaFlowCount"] == held + 2_000);
    collector.signal("KILL");
    collector.left();
    let [block] = store.files("ring", "block").try_into().unwrap();
    // Its head stays, and so do its first columns.
    cut(&block);
    store.assert_named(&[&block]);
    assert!(numbers(&path).into_iter().eq(0..held));
    let (collector, port) = start(&path, &[]);
    let since = store.exporter.next;
    store.exporter.send(&path, port, 1_000);
    wait_until("the loss is told", || coverage(&path).contains("ringDamaged"));
    collector.terminate().ok();
    assert!(numbers(&path).into_iter().eq((0..held).chain(since..since + 1_000)));
    assert!(coverage(&path).contains("ringDamaged"));
    store.assert_named(&[]);
}

#[test]
fn what_cannot_be_read_of_a_segment_is_named_and_all_else_is_sent() {
    let it = Damaged::new();
    let path = &it.files("archive", "parquet")[1];
    let mut octets = fs::read(path).unwrap();
    let middle = octets.len() / 4;
    octets[middle..middle + 200].iter_mut().for_each(|octet| *octet ^= 0xff);
    fs::write(path, octets).unwrap();
    let second = Collector::start(&it.folder.path().join("second"));
    let (store, rest) = (it.store(), (SEGMENTS - 1) * SEGMENT_RECORDS);
    let sent = run(&["store", "send", "--store", store.to_str().unwrap(), "--to", &second.url()]);
    assert_eq!(sent.code(), Some(2), "{sent:?}");
    assert_eq!(sent.stderr.lines().count(), 1, "{sent:?}");
    for words in [
        format!("sent {rest} of {rest} records"),
        format!("{SEGMENT_RECORDS} records left out"),
        format!("not readable: segment {}", path.display()),
    ] {
        assert!(sent.stderr.contains(&words), "{words}: {sent:?}");
    }
    second.wait_for_flows(rest);
    second.stop();
}
