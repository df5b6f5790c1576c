//! What a commit and an open cost; it prints, and asserts only what does not depend on the
//! machine. `cargo test -p flowd --release --lib manifest::tests::cost -- --ignored --nocapture`

use super::*;
use std::time::Instant;

fn millis(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64() * 1_000.0
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

#[test]
#[ignore = "it measures, and proves little"]
fn a_commit_and_an_open_cost_little_however_much_is_held() {
    for count in [1_000, 10_000, 100_000] {
        let dir = tempfile::tempdir().unwrap();
        let mut manifest = hourly(count);
        manifest.store(dir.path()).unwrap();
        let one_file = tempfile::tempdir().unwrap();
        write_version_1(one_file.path(), count);
        let commit = median(
            (0..9)
                .map(|_| {
                    let mut next = manifest.clone();
                    let id = next.next_segment();
                    next.push(segment(id, id, id));
                    let took = millis(|| next.store(dir.path()).unwrap());
                    manifest = next;
                    took
                })
                .collect(),
        );
        let open = |overlaps: &dyn Fn(i64, i64) -> bool| {
            let open = || drop(Manifest::load_for(dir.path(), overlaps).unwrap());
            median((0..9).map(|_| millis(open)).collect())
        };
        let newest = manifest.held().received.unwrap().1;
        let head = fs::metadata(dir.path().join("manifest.jsonl")).unwrap().len();
        println!(
            "{count} segments: commit {commit:.2} ms, open for the last hour {:.2} ms, for all \
             {:.2} ms, with the chain {:.2} ms, of version 1 {:.2} ms; head {head} octets",
            open(&|_, to| to >= newest - 10),
            open(&|_, _| true),
            millis(|| drop(Manifest::load(dir.path()).unwrap())),
            millis(|| drop(Manifest::load(one_file.path()).unwrap())),
        );
    }
}
