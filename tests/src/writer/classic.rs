//! Random classic requests, one in three of them `noreply`.

use std::io;

use super::Tally;
use super::choice::{Space, delta, exptime, flags, piece, value};
use crate::client::Client;
use crate::random::Rng;

/// Appends one request and says what it is.
pub(super) fn request(
    space: &Space,
    key: usize,
    rng: &mut Rng,
    largest: u64,
    cas: Option<u64>,
    out: &mut Vec<u8>,
) -> String {
    let name = std::str::from_utf8(space.key(key)).unwrap();
    let quiet = if rng.chance(33) { " noreply" } else { "" };
    let (line, data) = match rng.below(100) {
        0..30 => store("set", name, value(space, key, rng, largest), rng),
        30..36 => store("add", name, value(space, key, rng, largest), rng),
        36..42 => store("replace", name, value(space, key, rng, largest), rng),
        42..48 => store("append", name, piece(space, key, rng), rng),
        48..53 => store("prepend", name, piece(space, key, rng), rng),
        53..60 => {
            let (line, data) = store("cas", name, value(space, key, rng, largest), rng);
            (format!("{line} {}", cas.unwrap_or(1)), data)
        }
        60..68 => (format!("delete {name}"), None),
        68..76 => (format!("incr {name} {}", delta(rng)), None),
        76..82 => (format!("decr {name} {}", delta(rng)), None),
        82..88 => (format!("touch {name} {}", exptime(rng)), None),
        88..94 => {
            let verb = rng.pick(&["gat", "gats"]);
            let other = space.pick(rng, super::Dialect::Classic);
            let other = std::str::from_utf8(space.key(other)).unwrap();
            let line = format!("{verb} {} {name} {other}", exptime(rng));
            out.extend(format!("{line}\r\n").into_bytes());
            return line;
        }
        _ => {
            out.extend(format!("get {name}\r\n").into_bytes());
            return format!("get {name}");
        }
    };
    let line = format!("{line}{quiet}");
    out.extend(format!("{line}\r\n").into_bytes());
    if let Some(data) = data {
        out.extend(data);
        out.extend(b"\r\n");
    }
    line
}

fn store(verb: &str, name: &str, data: Vec<u8>, rng: &mut Rng) -> (String, Option<Vec<u8>>) {
    (format!("{verb} {name} {} {} {}", flags(rng), exptime(rng), data.len()), Some(data))
}

pub(super) fn flush(delay: u64, rng: &mut Rng, out: &mut Vec<u8>) {
    let quiet = if rng.chance(33) { " noreply" } else { "" };
    let line =
        if delay == 0 && rng.chance(50) { "flush_all".to_owned() } else { format!("flush_all {delay}") };
    out.extend(format!("{line}{quiet}\r\n").into_bytes());
}

/// Sends the pipeline, reads `learn` and takes everything up to the barrier. Gives the CAS learned.
pub(super) fn exchange(
    client: &mut Client,
    mut bytes: Vec<u8>,
    space: &Space,
    learn: usize,
    tally: &mut Tally,
) -> io::Result<Option<u64>> {
    bytes.extend(b"gets ");
    bytes.extend(space.key(learn));
    bytes.extend(b"\r\nmn\r\n");
    client.send(&bytes)?;
    let answer = client.until(b"MN\r\n")?;
    note_errors(&answer, tally);
    // The last VALUE line belongs to the `gets`, if its key was there.
    let tail = answer.windows(6).rposition(|window| window == b"VALUE ").map(|at| &answer[at..]);
    let line = tail.and_then(|tail| tail.split(|&byte| byte == b'\r').next());
    let line = line.and_then(|line| std::str::from_utf8(line).ok()).unwrap_or_default();
    let tokens: Vec<&str> = line.split(' ').collect();
    let own = tokens.get(1).is_some_and(|key| key.as_bytes() == space.key(learn));
    Ok(if own { tokens.get(4).and_then(|cas| cas.parse().ok()) } else { None })
}

/// Server errors are counted; anything that says that a line was not understood ends the test. Values cannot look like
/// either: they are lower case.
pub(super) fn note_errors(answer: &[u8], tally: &mut Tally) {
    for line in answer.split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.starts_with(b"SERVER_ERROR") {
            tally.note_server_error(String::from_utf8_lossy(line).into_owned());
        }
        let misunderstood = line == b"ERROR" || line.starts_with(b"CLIENT_ERROR");
        let known = NOT_A_NUMBER.contains(&line);
        assert!(known || !misunderstood, "ill-formed, or framing broke: {}", line.escape_ascii());
    }
}

/// What `incr` and `ma` answer for an item that holds letters, or no digit at all.
const NOT_A_NUMBER: &[&[u8]] = &[b"CLIENT_ERROR cannot increment or decrement non-numeric value"];
