//! The program as a shell sees it: output, and its exit codes.

#![allow(clippy::unwrap_used, reason = "a broken expectation of a test ends the test")]

use std::process::{Command, Output};

use serde_json::Value;

fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_memcloud-control"));
    // The environment of whoever runs the tests must not configure the program under test.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MEMCLOUD_")) {
        command.env_remove(name);
    }
    command.args(args).output().unwrap()
}

fn code(args: &[&str]) -> Option<i32> {
    run(args).status.code()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn help_and_version_are_no_failure() {
    let version = run(&["--version"]);
    let expected = concat!("memcloud-control ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!((version.status.code(), text(&version.stdout)), (Some(0), expected));
    let help = run(&["serve", "--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(text(&help.stdout).contains("--directory-file <FILE>"));
    assert_eq!(code(&["man"]), Some(0));
    assert_eq!(code(&["completions", "bash"]), Some(0));
    let document: Value = serde_json::from_slice(&run(&["openapi"]).stdout).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
}

#[test]
fn wrong_flags_end_with_64() {
    assert_eq!(code(&[]), Some(64));
    assert_eq!(code(&["serve", "--no-such-flag"]), Some(64));
    assert_eq!(code(&["serve", "--ttl", "0"]), Some(64));
    assert_eq!(code(&["serve", "--http-tls-cert", "/no/such/file"]), Some(64), "a key goes with it");
    let store = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", store.path().join("control.db").display());
    let output =
        run(&["serve", "--http", "127.0.0.1:0", "--dns", "127.0.0.1:0", "--zone", "a..b", "--store", &store]);
    assert_eq!(output.status.code(), Some(64), "{}", text(&output.stderr));
}

#[test]
fn a_store_has_one_first_user() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", folder.path().join("control.db").display());
    let first = run(&["init", "--store", &store]);
    assert_eq!(first.status.code(), Some(0), "{}", text(&first.stderr));
    let token = text(&first.stdout).trim_end();
    assert!(token.starts_with("memcloud_") && !token.contains('\n'), "the token, and nothing else");
    assert!(!text(&first.stderr).contains(token));
    let second = run(&["init", "--store", &store]);
    assert_eq!(second.status.code(), Some(1));
    assert!(second.stdout.is_empty() && text(&second.stderr).starts_with("memcloud-control: "));
}

#[test]
fn what_does_not_answer_ends_with_69() {
    let store = run(&["init", "--store", "sqlite:/no/such/folder/control.db"]);
    assert_eq!(store.status.code(), Some(69), "{}", text(&store.stderr));
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "memcloud_any").unwrap();
    let server =
        run(&["app", "list", "--server", "http://127.0.0.1:1", "--token-file", token.to_str().unwrap()]);
    assert_eq!(server.status.code(), Some(69), "{}", text(&server.stderr));
    assert_eq!(text(&server.stderr).lines().count(), 1, "{}", text(&server.stderr));
}
