//! Free ports on loopback.
//!
//! They are taken from below the kernel's ephemeral range, so that no outgoing connection takes one between the look
//! and the bind, and from a place that depends on the process id, so that two test runs seldom meet.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// A port that nobody listens on. Never the same one twice in a process.
pub fn free() -> u16 {
    for _ in 0..SPAN {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (std::process::id().wrapping_mul(131).wrapping_add(step)) % SPAN;
        let port = u16::try_from(port).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port from {FIRST} to {}", FIRST + SPAN);
}

/// `127.0.0.1:port` with a free port.
pub fn free_address() -> String {
    format!("127.0.0.1:{}", free())
}

static NEXT: AtomicU32 = AtomicU32::new(0);
const FIRST: u32 = 10_000;
const SPAN: u32 = 22_000;
