//! Somebody who writes all the time: the same keys in turn, so that it can be said of each what it has to hold at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::client::Client;

/// A thread that writes until it is told to end.
#[derive(Debug)]
pub struct Busy {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Busy {
    /// Writes `busy:0` to `busy:99` in turn, each at least once; every write has to be taken.
    pub fn start(client: Client) -> Self {
        Self::start_with(client, |_, _| {})
    }

    /// The same, and after each write this, which is told the number of the write.
    pub fn start_with(
        mut client: Client,
        mut besides: impl FnMut(&mut Client, u64) + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut writes = 0;
            while !stopped.load(Ordering::Relaxed) || writes < KEYS {
                writes += 1;
                assert_eq!(client.set(&key(writes % KEYS), writes.to_string().as_bytes()).unwrap(), "STORED");
                besides(&mut client, writes);
                thread::sleep(PACE);
            }
            writes
        });
        Self { stop, thread }
    }

    /// Ends it; answers with each key and what it holds from now on.
    pub fn end(self) -> Vec<(String, String)> {
        self.stop.store(true, Ordering::Relaxed);
        let writes = self.thread.join().unwrap();
        let newest = |number| writes - (writes + KEYS - number) % KEYS;
        (0..KEYS).map(|number| (key(number), newest(number).to_string())).collect()
    }
}

fn key(number: u64) -> String {
    format!("busy:{number}")
}

const KEYS: u64 = 100;
/// An app that does other things, too.
const PACE: Duration = Duration::from_micros(300);
