//! A cable between two sites: a TCP relay inside the test that can be cut, stalled and healed.
//!
//! A *cut* resets what goes through and lets nothing new through. A *stall* keeps connections open and moves no byte of
//! one direction: what a full queue, a frozen peer or a lost route looks like. Bytes wait in the kernel's buffers and
//! arrive once the cable is healed.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::Duration;

/// Which way bytes go, seen from who dialed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Forward,
    Back,
}

/// The relay; dropping it cuts it for good.
#[derive(Debug)]
pub struct Cable {
    address: String,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: String,
    cut: AtomicBool,
    stalled: [AtomicBool; 2],
    carried_bytes: AtomicU64,
    gone: AtomicBool,
    open: Mutex<Vec<Weak<Carried>>>,
}

/// One connection through the cable; both sockets close once both pumps have let go.
#[derive(Debug)]
struct Carried {
    near: TcpStream,
    far: TcpStream,
}

impl Cable {
    /// Listens on a free port and carries every connection to `target`.
    pub fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port for a cable");
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            target: target.to_owned(),
            cut: AtomicBool::new(false),
            stalled: [AtomicBool::new(false), AtomicBool::new(false)],
            carried_bytes: AtomicU64::new(0),
            gone: AtomicBool::new(false),
            open: Mutex::new(Vec::new()),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &accepting));
        Self { address, shared }
    }

    /// Where to connect to.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Resets every connection, and refuses new ones until healed.
    pub fn cut(&self) {
        self.shared.cut.store(true, Ordering::SeqCst);
        self.shared.reset_all();
    }

    /// Moves no more bytes that way until healed.
    pub fn stall(&self, direction: Direction) {
        self.shared.stalled[direction as usize].store(true, Ordering::SeqCst);
    }

    /// Ends cuts and stalls of both directions.
    pub fn heal(&self) {
        self.shared.cut.store(false, Ordering::SeqCst);
        for stalled in &self.shared.stalled {
            stalled.store(false, Ordering::SeqCst);
        }
    }

    /// Bytes carried so far, both directions.
    pub fn carried_bytes(&self) -> u64 {
        self.shared.carried_bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.shared.gone.store(true, Ordering::SeqCst);
        self.cut();
        // Wakes the accepting thread, which sees that the cable is gone.
        let _ = TcpStream::connect(&self.address);
    }
}

impl Shared {
    fn reset_all(&self) {
        for carried in self.open.lock().unwrap().drain(..).filter_map(|weak| weak.upgrade()) {
            carried.reset();
        }
    }

    fn is_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst)
    }

    fn is_stalled(&self, direction: Direction) -> bool {
        self.stalled[direction as usize].load(Ordering::SeqCst)
    }
}

impl Carried {
    /// Ends both sides now; the closing that follows is a reset, so that bytes on the way are lost.
    fn reset(&self) {
        for stream in [&self.near, &self.far] {
            let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for near in listener.incoming() {
        if shared.gone.load(Ordering::SeqCst) {
            return;
        }
        let (Ok(near), false) = (near, shared.is_cut()) else { continue };
        let Ok(far) = TcpStream::connect(&shared.target) else { continue };
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        let carried = Arc::new(Carried { near, far });
        let mut open = shared.open.lock().unwrap();
        // A cut that came meanwhile has looked at the list already.
        if shared.is_cut() {
            continue;
        }
        open.retain(|weak| weak.strong_count() > 0);
        open.push(Arc::downgrade(&carried));
        for direction in [Direction::Forward, Direction::Back] {
            let (shared, carried) = (Arc::clone(shared), Arc::clone(&carried));
            thread::spawn(move || match direction {
                Direction::Forward => pump(&shared, direction, &carried, &carried.near, &carried.far),
                Direction::Back => pump(&shared, direction, &carried, &carried.far, &carried.near),
            });
        }
    }
}

/// Moves bytes one way until an end, an error or a cut. A read that finds nothing ends soon, so that changes are seen.
fn pump(shared: &Shared, direction: Direction, carried: &Carried, from: &TcpStream, to: &TcpStream) {
    let _ = from.set_read_timeout(Some(TICK));
    let _ = to.set_write_timeout(Some(TICK));
    let mut chunk = vec![0; 64 * 1024];
    loop {
        if shared.is_cut() {
            return carried.reset();
        }
        if shared.is_stalled(direction) {
            thread::sleep(TICK);
            continue;
        }
        let read = match (&*from).read(&mut chunk) {
            Ok(0) => {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            Ok(read) => read,
            Err(error) if retry(&error) => continue,
            Err(_) => return carried.reset(),
        };
        if push(shared, direction, to, &chunk[..read]).is_none() {
            return carried.reset();
        }
        shared.carried_bytes.fetch_add(read as u64, Ordering::Relaxed);
    }
}

/// Writes all of `bytes`, however long a stall holds it; `None` when the way is gone.
fn push(shared: &Shared, direction: Direction, mut to: &TcpStream, bytes: &[u8]) -> Option<()> {
    let mut sent = 0;
    while sent < bytes.len() {
        if shared.is_cut() {
            return None;
        }
        if shared.is_stalled(direction) {
            thread::sleep(TICK);
            continue;
        }
        match to.write(&bytes[sent..]) {
            Ok(written) => sent += written,
            Err(error) if retry(&error) => {}
            Err(_) => return None,
        }
    }
    Some(())
}

fn retry(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// How soon a pump notices a change of its cable's state.
const TICK: Duration = Duration::from_millis(20);
