//! Which module of the proxy may know which: the table of ARCHITECTURE.md, held against the code's own words.

#![allow(clippy::unwrap_used, reason = "a broken expectation of a test ends the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Module, and what it may name as `crate::…`. `worker` and `front_door` are handed down as far as the two exceptions
/// of ARCHITECTURE.md go.
const FLOORS: &[(&str, &[&str])] = &[
    (
        "sidecar",
        &[
            "admin",
            "agent",
            "config",
            "failover",
            "fill",
            "front_door",
            "link",
            "metrics",
            "net",
            "peers",
            "replication",
            "spill",
            "upstream",
            "worker",
        ],
    ),
    ("admin", &["metrics"]),
    ("agent", &["backoff", "config", "peers"]),
    ("audit", &["config", "inventory", "memcached"]),
    ("front_door", &["metrics", "net", "worker"]),
    (
        "worker",
        &[
            "config",
            "downstream",
            "failover",
            "fill",
            "front_door",
            "metrics",
            "net",
            "replication",
            "session",
            "simulation",
            "upstream",
        ],
    ),
    (
        "session",
        &["downstream", "failover", "front_door", "metrics", "net", "replication", "upstream", "worker"],
    ),
    (
        "upstream",
        &[
            "backoff",
            "config",
            "downstream",
            "failover",
            "fill",
            "memcached",
            "metrics",
            "net",
            "replication",
            "worker",
        ],
    ),
    (
        "link",
        &[
            "backoff",
            "chance",
            "config",
            "failover",
            "fill",
            "inventory",
            "memcached",
            "net",
            "peers",
            "replication",
            "spill",
        ],
    ),
    ("inventory", &["backoff", "config", "memcached", "net", "simulation"]),
    ("failover", &["net"]),
    ("memcached", &["backoff", "config", "net", "replication"]),
    ("downstream", &["net", "worker"]),
    ("fill", &[]),
    ("spill", &["replication"]),
    ("replication", &["simulation"]),
    ("metrics", &[]),
    ("net", &["config", "simulation"]),
    ("peers", &["config"]),
    ("logging", &["config"]),
    ("descriptors", &["config"]),
    ("cli", &["config"]),
    ("config", &[]),
    ("backoff", &["chance"]),
    ("chance", &["simulation"]),
    ("simulation", &["config"]),
    ("signals", &[]),
];

#[test]
fn modules_know_what_their_floor_allows() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files(&source) {
        let inside = file.strip_prefix(&source).unwrap();
        let module = inside
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs")
            .to_owned();
        if !["lib", "main"].contains(&module.as_str()) {
            known.entry(module).or_default().extend(named(&fs::read_to_string(&file).unwrap()));
        }
    }
    for (module, names) in &known {
        let (_, allowed) =
            FLOORS.iter().find(|(name, _)| name == module).unwrap_or_else(|| panic!("{module} has no floor"));
        let outside: Vec<_> =
            names.iter().filter(|name| *name != module && !allowed.contains(&name.as_str())).collect();
        assert!(outside.is_empty(), "{module} may not know {outside:?}");
    }
    assert_eq!(known.len(), FLOORS.len(), "a floor without a module");
}

/// Link and session meet in replication and nowhere else; replication knows no socket and no task.
#[test]
fn the_core_is_pure() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in files(&source.join("replication")) {
        let text = fs::read_to_string(&file).unwrap();
        if file.ends_with("wall_clock.rs") {
            // The one place where time enters.
            continue;
        }
        let shell =
            file.ends_with("shared.rs") || file.parent().is_some_and(|folder| folder.ends_with("shared"));
        for forbidden in ["tokio::net", "tokio::time", "tokio::spawn", "std::net", "std::fs", "Instant::now"]
        {
            assert!(!text.contains(forbidden), "{} names {forbidden}", file.display());
        }
        assert!(
            shell || !text.contains("tokio::") && !text.contains("SystemTime"),
            "{} is not pure",
            file.display()
        );
    }
}

/// `select!` looks at its branches in an order of chance unless it is told not to: then a run of the simulation could not
/// be had again.
#[test]
fn nothing_is_chosen_by_chance() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let real_only = ["main.rs", "signals.rs", "admin.rs"];
    for file in files(&source).into_iter().filter(|file| !real_only.iter().any(|name| file.ends_with(name))) {
        let text = fs::read_to_string(&file).unwrap();
        for choice in text.split("select! {").skip(1) {
            assert!(
                choice.trim_start().starts_with("biased;"),
                "{}: a select! without `biased`",
                file.display()
            );
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false if path.extension().is_some_and(|end| end == "rs") => found.push(path),
            false => {}
        }
    }
    found
}

/// The first names behind `crate::` in code; comments and tests count too, for they have to be read as well.
fn named(text: &str) -> BTreeSet<String> {
    let code =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let heads = code.split("crate::").skip(1);
    heads
        .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>())
        .filter(|name| !name.is_empty())
        .collect()
}
