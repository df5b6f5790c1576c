//! Which module may use which: the table of ARCHITECTURE.md, held by tidy.

/// A module of `flowd/src` and the modules that it may use besides itself and `telemetry`.
const LAYERS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("telemetry", &[]),
    ("wire", &["model"]),
    ("probe", &["model"]),
    ("ring", &["model"]),
    ("flow", &["model", "probe"]),
    ("export", &["model", "wire"]),
    ("collect", &["model", "wire"]),
    ("import", &["model"]),
    ("archive", &["model", "ring"]),
    ("query", &["model", "ring", "archive"]),
    ("http", &["model", "collect"]),
    (
        "app",
        &[
            "model",
            "wire",
            "probe",
            "flow",
            "export",
            "collect",
            "import",
            "ring",
            "archive",
            "query",
            "http",
            "telemetry",
        ],
    ),
    ("cli", &["model", "wire", "query", "app"]),
];

/// A crate, or a path in std, that only some places may name.
const OWNERS: &[(&str, &[&str])] = &[
    ("parquet", &["flowd/src/archive/"]),
    ("arrow_array", &["flowd/src/archive/", "flowd/src/query/"]),
    ("clap", &["flowd/src/cli/", "bench/"]),
    ("aya", &["flowd/src/probe/"]),
    ("axum", &["flowd/src/http/"]),
    ("tokio", &["flowd/src/http/", "flowd/src/archive/objects/"]),
    ("object_store", &["flowd/src/archive/objects/"]),
    ("mio", &["flowd/src/collect/"]),
    (
        "std::sync::atomic",
        &["flowd/src/ring/sync.rs", "flowd/src/telemetry/counters.rs", "bench/src/in_place.rs"],
    ),
    ("Instant::now", &["flowd/src/app/", "flowd/src/probe/clock.rs", "bench/"]),
    ("SystemTime::now", &["flowd/src/app/", "flowd/src/probe/clock.rs", "bench/"]),
];

/// The module of `flowd/src` that a file belongs to.
fn module_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("flowd/src/")?;
    let first = inside.split('/').next()?;
    let module = first.strip_suffix(".rs").unwrap_or(first);
    (!matches!(module, "lib" | "main")).then_some(module)
}

/// What a line of a file breaks, if anything.
pub(crate) fn broken_by(path: &str, line: &str) -> Option<String> {
    if path.starts_with("xtask/") {
        return None;
    }
    let code = line.split("//").next().unwrap_or_default();
    if let Some(module) = module_of(path)
        && let Some(used) = used_module(code)
        && used != module
        && used != "telemetry"
    {
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == module) else {
            return Some(format!("module `{module}` is not in the table of layers"));
        };
        let known = LAYERS.iter().any(|(name, _)| *name == used);
        if known && !allowed.contains(&used) {
            return Some(format!("`{module}` may not use `{used}`"));
        }
    }
    OWNERS.iter().find_map(|(name, owners)| {
        let named = names(code, name);
        let owned = owners.iter().any(|owner| path.starts_with(owner));
        let tests = path.contains("/tests") || path.contains("/benches/");
        (named && !owned && !tests).then(|| format!("`{name}` belongs to {}", owners.join(", ")))
    })
}

/// Does the code name this path as a whole word followed by `::` or an end of path?
fn names(code: &str, path: &str) -> bool {
    code.match_indices(path).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + path.len()..].chars().next();
        let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let in_path = path.contains("::") || code[at + path.len()..].starts_with("::");
        !part(before) && !part(after) && in_path
    })
}

fn used_module(code: &str) -> Option<&str> {
    let (_, rest) = code.split_once("crate::")?;
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    Some(&rest[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_against_the_flow_of_data_is_found() {
        let found = broken_by("flowd/src/wire/v9/mod.rs", "use crate::ring::Block;");
        assert_eq!(found.as_deref(), Some("`wire` may not use `ring`"));
        assert_eq!(broken_by("flowd/src/archive/mod.rs", "use crate::ring::Block;"), None);
        assert_eq!(broken_by("flowd/src/ring/mod.rs", "use crate::telemetry::Drops;"), None);
    }

    #[test]
    fn owned_crates_are_named_by_their_owner_only() {
        assert!(broken_by("flowd/src/query/plan.rs", "use parquet::file;").is_some());
        assert_eq!(broken_by("flowd/src/archive/writer.rs", "use parquet::file;"), None);
        assert!(
            broken_by("flowd/src/flow/cache.rs", "use std::sync::atomic::AtomicU64;").is_some()
        );
        assert_eq!(broken_by("flowd/src/query/plan.rs", "// as parquet::x says"), None);
    }
}
