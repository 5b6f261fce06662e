//! The program as a shell sees it: output, and the exit codes of the contract.

#![allow(clippy::unwrap_used, reason = "a test helper fails by panicking")]

use std::process::{Command, Output};

fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_memcloud-proxy"));
    // The environment of whoever runs the tests must not configure the program under test.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MEMCLOUD_")) {
        command.env_remove(name);
    }
    command.args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_wrong_file_is_told_with_line_and_column() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.yaml");
    std::fs::write(&path, "site: a\nlisten:\n  - 127.0.0.1:11211\n  - nowhere\n").unwrap();
    let path = path.to_str().unwrap();
    let output = run(&["check-config", path]);
    assert_eq!(output.status.code(), Some(64));
    let expected = format!(
        "memcloud-proxy: {path}:4:5: listen[1]: `nowhere` is no address; \
         write host:port, as in 127.0.0.1:11211, or unix:/path\n  |\n4 |   - nowhere\n  |     ^\n"
    );
    assert_eq!(text(&output.stderr), expected);
    assert!(output.stdout.is_empty());
}

#[test]
fn a_good_file_is_printed_whole_and_reads_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.yaml");
    std::fs::write(&path, "site: a\npeer: 127.0.0.1:7\ndrain_timeout: 3s\n").unwrap();
    let first = run(&["check-config", path.to_str().unwrap()]);
    assert_eq!(first.status.code(), Some(0), "{}", text(&first.stderr));
    assert!(
        text(&first.stdout).contains("drain_timeout: 3s\n")
            && text(&first.stdout).contains("backlog_bytes: 256MiB\n")
    );
    std::fs::write(&path, &first.stdout).unwrap();
    assert_eq!(run(&["check-config", path.to_str().unwrap()]).stdout, first.stdout);
}

#[test]
fn wrong_flags_end_with_64() {
    let code = |args: &[&str]| run(args).status.code();
    assert_eq!(code(&["sidecar", "--no-such-flag"]), Some(64));
    assert_eq!(code(&["sidecar", "--listen", "nowhere"]), Some(64));
    assert_eq!(code(&["sidecar", "--config", "/no/such/file"]), Some(64));
    assert_eq!(code(&[]), Some(64));
    assert_eq!(code(&["check-config", "/no/such/file"]), Some(64));
    let output = run(&["sidecar", "--peer-listen", "0.0.0.0:7"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(
        text(&output.stderr)
            .starts_with("memcloud-proxy: --peer-listen (or MEMCLOUD_PEER_LISTEN): 0.0.0.0:7 can be reached")
    );
}

#[test]
fn the_environment_stands_between_flags_and_file() {
    let told = |flags: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_memcloud-proxy"));
        let output = command.arg("sidecar").args(flags).env("MEMCLOUD_WORKERS", "0").output().unwrap();
        text(&output.stderr).to_owned()
    };
    assert!(told(&[]).contains("0 is out of range"), "{}", told(&[]));
    assert!(told(&["--workers", "999"]).contains("999 is out of range"));
}

#[test]
fn help_and_version_are_no_failure() {
    let version = run(&["--version"]);
    assert_eq!(
        (version.status.code(), text(&version.stdout)),
        (Some(0), concat!("memcloud-proxy ", env!("CARGO_PKG_VERSION"), "\n"))
    );
    let help = run(&["sidecar", "--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(text(&help.stdout).contains("--backlog-bytes <SIZE>"));
    assert_eq!(run(&["man"]).status.code(), Some(0));
    assert_eq!(run(&["completions", "bash"]).status.code(), Some(0));
}

#[test]
fn an_address_that_is_taken_ends_with_69() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    // No memcached is needed to find out.
    let output = run(&[
        "sidecar",
        "--site",
        "a",
        "--listen",
        &taken,
        "--upstream",
        "unix:/nothing",
        "--admin",
        "127.0.0.1:0",
    ]);
    assert_eq!(output.status.code(), Some(69), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains(&taken), "{}", text(&output.stderr));
}
