//! `bench/run` is Python; its arithmetic is tested with the rest.

use std::path::Path;
use std::process::Command;

#[test]
fn the_report_computes_and_judges_as_it_says() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("report_test.py");
    let done = Command::new("python3").arg(script).output().expect("python3 runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}
