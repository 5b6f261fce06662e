//! `docs/faults.md`: what memcloud makes of each fault, measured here, beside what others do.
//!
//! `make faults` writes the measured part anew; the test fails when what is published is not what was measured.

#![allow(clippy::unwrap_used, reason = "a broken expectation of a test ends the test")]

mod pair;
mod rows;
mod scenes;

use std::fmt::Write;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use rows::{NEIGHBOURS, ROWS};

const BEGIN: &str = "<!-- measured: `make faults` writes what follows -->\n";
const END: &str = "<!-- /measured -->\n";
/// Scenes at a time: they mostly wait.
const AT_ONCE: usize = 4;

#[test]
fn what_is_published_is_what_was_measured() {
    let path = published();
    let page = fs::read_to_string(&path).expect("docs/faults.md");
    let (before, rest) = page.split_once(BEGIN).expect("the begin of what was measured");
    let (_, after) = rest.split_once(END).expect("the end of what was measured");
    let outcomes = measure();
    let broken: Vec<_> = outcomes.iter().filter(|outcome| breaks_a_promise(outcome)).collect();
    assert!(broken.is_empty(), "promises were broken: {broken:#?}");
    let measured = format!("{before}{BEGIN}{}{END}{after}", table(&outcomes));
    if std::env::var_os("MEMCLOUD_FAULTS_WRITE").is_some() {
        fs::write(&path, measured).expect("docs/faults.md can be written");
        return;
    }
    assert!(
        page == measured,
        "docs/faults.md says otherwise (make faults rewrites it); measured:\n{measured}"
    );
}

/// Capitals say so.
fn breaks_a_promise(outcome: &str) -> bool {
    let mut words = outcome.split(|letter: char| !letter.is_ascii_alphabetic());
    words.any(|word| word.len() > 2 && word.bytes().all(|letter| letter.is_ascii_uppercase()))
}

#[test]
fn capitals_are_found() {
    assert!(breaks_a_promise("equal; all kept; STALE VALUES"));
    assert!(breaks_a_promise("THE SCENE FAILED"));
    assert!(!breaks_a_promise("equal; all kept; nothing stale"));
}

fn published() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/faults.md")
}

/// Plays all scenes, a few at a time. One that fails is an outcome as well.
fn measure() -> Vec<String> {
    let next = AtomicUsize::new(0);
    let seen = Mutex::new(vec![String::new(); ROWS.len()]);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(row) = ROWS.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = catch_unwind(AssertUnwindSafe(row.scene));
                    let outcome = outcome.unwrap_or_else(|_| "THE SCENE FAILED".to_owned());
                    println!("{}: {outcome}", row.what);
                    let at = ROWS.iter().position(|other| other.what == row.what).unwrap();
                    seen.lock().unwrap_or_else(PoisonError::into_inner)[at] = outcome;
                }
            });
        }
    });
    seen.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn table(outcomes: &[String]) -> String {
    let mut text = format!("\n| what happens | memcloud | {} |\n", NEIGHBOURS.join(" | "));
    text += &"|---".repeat(NEIGHBOURS.len() + 2);
    text += "|\n";
    for (row, outcome) in ROWS.iter().zip(outcomes) {
        if let Some(others) = row.others {
            writeln!(text, "| {} | {outcome} | {} |", row.what, others.join(" | ")).unwrap();
        }
    }
    text += "\n| what happens | memcloud |\n|---|---|\n";
    for (row, outcome) in ROWS.iter().zip(outcomes).filter(|(row, _)| row.others.is_none()) {
        writeln!(text, "| {} | {outcome} |", row.what).unwrap();
    }
    text.push('\n');
    text
}
