//! The fuzz targets, without fuzzing: on the seeds, and on all that fuzzing ever found.

#![expect(unreachable_pub, reason = "the files are those of another crate")]

#[path = "../../../flowd/fuzz/src/decode_stateful.rs"]
mod decode_stateful;
#[path = "../../../flowd/fuzz/src/input.rs"]
mod input;
#[path = "../../../flowd/fuzz/src/round_trip.rs"]
mod round_trip;

use bench::seeds;
use std::path::{Path, PathBuf};

fn fuzz_folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("flowd/fuzz").join(name)
}

/// The files of a folder, by name.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<(String, Vec<u8>)> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_none_or(|extension| extension != "md"))
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn the_committed_seeds_are_those_that_are_made() {
    let mut made: Vec<(String, Vec<u8>)> =
        seeds::all().into_iter().map(|(name, input)| (name.to_owned(), input)).collect();
    made.sort();
    assert!(made == files(&fuzz_folder("seeds")), "write them anew: cargo xtask fuzz --seeds");
}

#[test]
fn seeds_decode_and_come_back_as_they_were() {
    for (name, input) in seeds::all() {
        println!("{name}");
        decode_stateful::run_alone(&input);
        decode_stateful::run(&input);
        round_trip::run(&input);
    }
}

/// A fuzzer that begins with messages which nobody understands explores nothing.
#[test]
fn every_seed_with_templates_makes_the_round_trip_to_its_end() {
    for (name, input) in seeds::all() {
        let expects = name.starts_with("v9") || name.starts_with("ipfix");
        let messages = input::messages(&input).count();
        let wanted = if expects { messages } else { 0 };
        assert_eq!(round_trip::messages_compared(&input), wanted, "{name}");
    }
}

#[test]
fn what_fuzzing_found_stays_mended() {
    for (name, input) in files(&fuzz_folder("regressions")) {
        println!("{name}");
        decode_stateful::run_alone(&input);
        round_trip::run(&input);
    }
}
