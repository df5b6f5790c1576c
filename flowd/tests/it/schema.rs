//! What `docs/schema.md` says to readers of segments: its examples, run as they stand there on a
//! store that flowd wrote, answer as flowd does.

use crate::store_move::{export, rich_records};
use crate::support::{Collector, end_of, has_program, root, run};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs statements of a file and prints the rows of each as a line of JSON.
const SQL: &str = "
import duckdb, json, sys
connection = duckdb.connect()
connection.execute(\"SET TimeZone = 'UTC'\")
for statement in json.load(open(sys.argv[1])):
    print(json.dumps(connection.execute(statement).fetchall(), default=str))
";
/// Runs the example, and prints what it found as a line of JSON.
const FRAMES: &str = "
import json, sys
exec(open(sys.argv[1]).read())
print('found', json.dumps(top.collect().to_dicts()))
";

/// The examples of a chapter of the document, with the store's folder put in.
fn examples(chapter: &str, language: &str, store: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(root().join("flowd/docs/schema.md")).unwrap();
    let chapter = text.split("\n## ").find(|it| it.starts_with(chapter)).expect("the chapter");
    let fence = format!("```{language}\n");
    let blocks = chapter.split(&fence).skip(1);
    let examples: Vec<String> = blocks
        .map(|block| block.split("```").next().unwrap().replace("STORE", store.to_str().unwrap()))
        .collect();
    assert!(!examples.is_empty());
    examples
}

/// Runs a Python script on a text; what it prints. None if Python has not what it needs.
fn python(folder: &Path, script: &str, text: &str) -> Option<String> {
    let target = Path::new(env!("CARGO_BIN_EXE_flowd")).ancestors().nth(2).unwrap();
    let program = target.join("python/bin/python");
    if !has_program(program.to_str().unwrap()) {
        return None;
    }
    let file = folder.join("examples");
    std::fs::write(&file, text).unwrap();
    Some(end_of(Command::new(program).args(["-c", script]).arg(file)).ok().stdout)
}

/// A store with two segments: one of IPv4 alone, and one of all there is.
fn store(folder: &Path) -> PathBuf {
    let store = folder.join("store");
    let all = rich_records();
    let old: Vec<_> = all.iter().take(2).cloned().collect();
    for (records, held) in [(&old, 2), (&all, 302)] {
        let collector = Collector::start(&store);
        export(records, collector.port);
        collector.wait_for_flows(held);
        collector.stop();
    }
    store
}

fn octets(row: &Value) -> u64 {
    row["octetDeltaCount"].as_u64().unwrap()
}

/// Octets and flows by source, the greatest first.
fn top(rows: &[Value], source: &str) -> Vec<(String, u64, u64)> {
    let mut sums: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for row in rows {
        if let Some(source) = row[source].as_str() {
            let sum = sums.entry(source).or_default();
            *sum = (sum.0 + octets(row), sum.1 + 1);
        }
    }
    let mut top: Vec<_> = sums
        .into_iter()
        .map(|(source, (octets, flows))| (source.to_owned(), octets, flows))
        .collect();
    top.sort_by(|one, other| (other.1, &one.0).cmp(&(one.1, &other.0)));
    top
}

/// A time as DuckDB prints it.
fn printed(time: &Value) -> String {
    time.as_str().unwrap().replace('T', " ").replace('Z', "")
}

/// Times as text without what no time has: zeros at the end of a fraction.
fn bare(time: &str) -> String {
    let time = time.trim_end_matches("+00:00");
    if time.contains('.') {
        time.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        time.to_owned()
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one paragraph an example, in the document's order")]
fn every_example_for_duckdb_answers_as_flowd_does() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let examples = examples("DuckDB", "sql", &store);
    let Some(printed_rows) = python(folder.path(), SQL, &json!(examples).to_string()) else {
        return;
    };
    let answers: Vec<Value> =
        printed_rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), examples.len());
    let query = |filter: &str| {
        run(&["query", "--store", store.to_str().unwrap(), "-o", "json", "--quiet", filter])
            .ok()
            .json()
    };
    // Macros and the view have no answer; each of the others is compared below.
    let mut asked = examples.iter().zip(&answers).filter(|(text, _)| text.starts_with("SELECT"));
    let mut next = |word: &str| {
        let (text, answer) = asked.next().expect("an example");
        assert!(text.contains(word), "{text}");
        answer.as_array().unwrap().clone()
    };
    assert_eq!(examples.iter().filter(|text| text.starts_with("CREATE")).count(), 2);

    // Flows without an IPv4 source are a group too, whose source is null.
    let found = next("GROUP BY ALL ORDER BY octets DESC");
    let all = query("any");
    let without: Vec<&Value> =
        all.iter().filter(|row| row["sourceIPv4Address"].is_null()).collect();
    let null = json!([null, without.iter().map(|row| octets(row)).sum::<u64>(), without.len()]);
    let mut expected: Vec<Value> =
        top(&all, "sourceIPv4Address").iter().map(|it| json!([it.0, it.1, it.2])).collect();
    expected.push(null);
    expected.sort_by_key(|row| std::cmp::Reverse(row[1].as_u64()));
    assert_eq!(found, expected[..10]);

    let found = next("sourceIPv4Address = ");
    let mut expected: Vec<Value> = query("src host 192.0.2.1")
        .iter()
        .map(|row| {
            json!([
                bare(&printed(&row["flowStartMilliseconds"])),
                row["destinationIPv4Address"],
                row["destinationTransportPort"],
                row["octetDeltaCount"]
            ])
        })
        .collect();
    expected.sort_by_key(|row| row[0].as_str().unwrap().to_owned());
    assert!(expected.len() >= 2);
    let found: Vec<Value> = found
        .iter()
        .map(|row| json!([bare(row[0].as_str().unwrap()), row[1], row[2], row[3]]))
        .collect();
    assert_eq!(found, expected);

    let found = next("destinationIPv6Address = ");
    let expected: Vec<(IpAddr, Value, u64)> = query("dst host 2001:db8::9")
        .iter()
        .map(|row| {
            let source = row["sourceIPv6Address"].as_str().unwrap().parse().unwrap();
            (source, row["sourceMacAddress"].clone(), row["packetDeltaCount"].as_u64().unwrap())
        })
        .collect();
    assert_eq!(expected.len(), 1);
    let found: Vec<(IpAddr, Value, u64)> = found
        .iter()
        .map(|row| {
            let source: Ipv6Addr = row[0].as_str().unwrap().parse().unwrap();
            (source.into(), row[1].clone(), row[2].as_u64().unwrap())
        })
        .collect();
    assert_eq!(found, expected);

    let found = next("BETWEEN");
    let rows = query("src net 192.0.2.0/25");
    let rows: Vec<&Value> = rows
        .iter()
        .filter(|row| row["flowStartMilliseconds"].as_str().unwrap() >= "2023-11-14T22:15:00")
        .collect();
    let times = |name: &str| rows.iter().map(|row| bare(&printed(&row[name]))).collect::<Vec<_>>();
    let expected = json!([
        rows.len(),
        rows.iter().map(|row| octets(row)).sum::<u64>(),
        times("flowStartMilliseconds").iter().min(),
        times("flowEndMilliseconds").iter().max(),
    ]);
    let [row] = found.as_slice() else { panic!("{found:?}") };
    let found =
        json!([row[0], row[1], bare(row[2].as_str().unwrap()), bare(row[3].as_str().unwrap())]);
    assert!(!rows.is_empty());
    assert_eq!(found, expected);

    let found = next("elements[");
    let next_as = all.iter().filter(|row| row["bgpNextAdjacentAsNumber"] == 64_600).count();
    assert_eq!(json!(found), json!([[64_600, next_as]]));
    assert!(asked.next().is_none(), "each example is compared");
}

#[test]
fn the_example_for_polars_answers_as_flowd_does() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let example = examples("Polars", "python", &store).concat();
    let Some(printed) = python(folder.path(), FRAMES, &example) else { return };
    let line = printed.lines().find_map(|line| line.strip_prefix("found ")).expect("a result");
    let found: Vec<Value> = serde_json::from_str(line).unwrap();
    let found: BTreeMap<Option<u64>, u64> =
        found.iter().map(|row| (row["sourceIPv4Address"].as_u64(), octets(row))).collect();
    let query = ["query", "--store", store.to_str().unwrap(), "-o", "json", "--quiet"];
    let mut expected: BTreeMap<Option<u64>, u64> = BTreeMap::new();
    for row in run(&query).ok().json() {
        let source = row["sourceIPv4Address"].as_str();
        let source = source.map(|text| {
            let address: std::net::Ipv4Addr = text.parse().unwrap();
            u64::from(address.to_bits())
        });
        *expected.entry(source).or_default() += octets(&row);
    }
    assert_eq!(found, expected);
}
