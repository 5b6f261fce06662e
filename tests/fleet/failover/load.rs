//! Apps that write and read back, one key each, in one of the dialects, and keep a record of what they were told.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use memcloud_tests::Client;
use memcloud_tests::binary::{self, Frame};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Dialect {
    Classic,
    Meta,
    Binary,
}

/// What an app has seen.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) dialect: Dialect,
    pub(crate) key: String,
    /// The newest value that was acknowledged.
    pub(crate) acknowledged: u64,
    /// The newest value that was sent.
    pub(crate) sent: u64,
    /// Every write that was acknowledged, if each has a key of its own.
    pub(crate) keys: Vec<String>,
    pub(crate) writes: u64,
    pub(crate) reads: u64,
    /// Requests that were answered by an error, or not at all.
    pub(crate) failures: Vec<String>,
    /// Reads that brought something older than what was acknowledged before.
    pub(crate) stale: Vec<String>,
    /// Reads that brought nothing.
    pub(crate) misses: u64,
    /// The longest time between two good answers.
    pub(crate) gap: Duration,
}

/// Apps under way.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Record>>,
}

impl Load {
    /// Some apps of each dialect, each with a key of its own.
    pub(crate) fn start(address: &str, each: usize) -> Self {
        Self::of(address, each, false)
    }

    /// The same, each write with a new key.
    pub(crate) fn spread(address: &str, each: usize) -> Self {
        Self::of(address, each, true)
    }

    fn of(address: &str, each: usize, spread: bool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let dialects = [Dialect::Classic, Dialect::Meta, Dialect::Binary];
        let apps = dialects.into_iter().flat_map(|dialect| (0..each).map(move |number| (dialect, number)));
        let threads = apps
            .map(|(dialect, number)| {
                let (stop, address) = (Arc::clone(&stop), address.to_owned());
                thread::spawn(move || {
                    App { address, client: None, spread, record: Record::new(dialect, number) }.run(&stop)
                })
            })
            .collect();
        Self { stop, threads }
    }

    pub(crate) fn end(self) -> Vec<Record> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    }
}

impl Record {
    fn new(dialect: Dialect, number: usize) -> Self {
        Self {
            dialect,
            key: format!("failover:{dialect:?}:{number}").to_lowercase(),
            acknowledged: 0,
            sent: 0,
            keys: Vec::new(),
            writes: 0,
            reads: 0,
            failures: Vec::new(),
            stale: Vec::new(),
            misses: 0,
            gap: Duration::ZERO,
        }
    }
}

struct App {
    address: String,
    client: Option<Client>,
    spread: bool,
    record: Record,
}

impl App {
    fn run(mut self, stop: &AtomicBool) -> Record {
        let mut last = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            match self.round() {
                Ok(()) => {
                    self.record.gap = self.record.gap.max(last.elapsed());
                    last = Instant::now();
                }
                Err(error) => {
                    self.record.failures.push(error.to_string());
                    if matches!(self.record.dialect, Dialect::Binary)
                        || error.kind() != io::ErrorKind::InvalidData
                    {
                        self.client = None;
                    }
                }
            }
            // Paced, not synchronised.
            thread::sleep(Duration::from_millis(1));
        }
        self.record.gap = self.record.gap.max(last.elapsed());
        self.record
    }

    fn round(&mut self) -> io::Result<()> {
        let client = match &mut self.client {
            Some(client) => client,
            None => self.client.insert(Client::connect(&self.address)?),
        };
        let record = &mut self.record;
        record.sent += 1;
        let key = if self.spread { format!("{}:{}", record.key, record.sent) } else { record.key.clone() };
        set(client, record.dialect, &key, record.sent)?;
        (record.acknowledged, record.writes) = (record.sent, record.writes + 1);
        if self.spread {
            record.keys.push(key.clone());
        }
        let found = get(client, record.dialect, &key)?;
        record.reads += 1;
        match found {
            None => record.misses += 1,
            Some(value) if value < record.acknowledged => {
                record.stale.push(format!("{value} after {}", record.acknowledged));
            }
            Some(_) => {}
        }
        Ok(())
    }
}

/// An answer that is an error leaves the connection good.
fn refused(answer: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, answer.trim_end().to_owned())
}

fn set(client: &mut Client, dialect: Dialect, key: &str, value: u64) -> io::Result<()> {
    let text = format!("{value:08}");
    let answer = match dialect {
        Dialect::Classic => client.set(key, text.as_bytes())?,
        Dialect::Meta => {
            client.send(format!("ms {key} 8\r\n{text}\r\n"))?;
            client.line()?
        }
        Dialect::Binary => {
            let frame = Frame {
                key: key.as_bytes(),
                value: text.as_bytes(),
                extras: &[0; 8],
                ..Frame::new(binary::SET)
            };
            client.send(frame.bytes())?;
            let reply = binary::reply(client)?;
            if reply.status == 0 {
                "STORED".to_owned()
            } else {
                String::from_utf8_lossy(&reply.value).into_owned()
            }
        }
    };
    if matches!(answer.trim_end(), "STORED" | "HD") { Ok(()) } else { Err(refused(&answer)) }
}

fn get(client: &mut Client, dialect: Dialect, key: &str) -> io::Result<Option<u64>> {
    let found = match dialect {
        Dialect::Classic => match client.get(key) {
            Err(error) if error.kind() == io::ErrorKind::Other => return Err(refused(&error.to_string())),
            found => found?,
        },
        Dialect::Meta => {
            client.send(format!("mg {key} v\r\n"))?;
            match client.line()?.trim_end() {
                "EN" => None,
                "VA 8" => Some(client.take(10)?[..8].to_vec()),
                other => return Err(refused(other)),
            }
        }
        Dialect::Binary => {
            client.send(Frame { key: key.as_bytes(), ..Frame::new(binary::GET) }.bytes())?;
            let reply = binary::reply(client)?;
            match reply.status {
                0 => Some(reply.value),
                1 => None,
                _ => return Err(refused(&String::from_utf8_lossy(&reply.value))),
            }
        }
    };
    Ok(found.map(|value| String::from_utf8_lossy(&value).parse().unwrap()))
}
