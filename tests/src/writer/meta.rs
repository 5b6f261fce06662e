//! Random meta requests: modes, stale marks, vivifying, base64 keys; one in three quiet.

use std::io;

use super::choice::{Space, delta, exptime, flags, piece, value};
use super::{Tally, classic};
use crate::client::Client;
use crate::compare::base64;
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
    // Base64 may not make a key longer than a line's key may be.
    let encoded = space.is_raw(key) || (rng.chance(15) && space.key(key).len() <= 180);
    let name = name(space, key, encoded);
    let mut rest = String::new();
    let mut data = None;
    let verb = match rng.below(100) {
        0..25 => {
            data = Some(value(space, key, rng, largest));
            some(rng, &mut rest, 60, |rng| format!(" T{}", exptime(rng)));
            "ms"
        }
        25..40 => {
            let mode = *rng.pick(&["ME", "MR", "MA", "MP", "MS"]);
            let extending = matches!(mode, "MA" | "MP");
            data = Some(if extending { piece(space, key, rng) } else { value(space, key, rng, largest) });
            rest += &format!(" {mode}");
            some(rng, &mut rest, 40, |rng| format!(" T{}", exptime(rng)));
            "ms"
        }
        40..47 => {
            data = Some(value(space, key, rng, largest));
            rest += &format!(" C{}", cas.unwrap_or(1));
            // With a number below the item's, `I` stores and marks stale.
            some(rng, &mut rest, 30, |_| " I".to_owned());
            some(rng, &mut rest, 40, |rng| format!(" T{}", exptime(rng)));
            "ms"
        }
        47..56 => {
            some(rng, &mut rest, 15, |_| format!(" C{}", cas.unwrap_or(1)));
            "md"
        }
        56..60 => {
            rest += " I";
            some(rng, &mut rest, 50, |rng| format!(" T{}", exptime(rng)));
            "md"
        }
        60..82 => {
            rest += &format!(" {} D{}", rng.pick(&["MI", "MD", "M+", "M-"]), delta(rng));
            some(rng, &mut rest, 30, |rng| format!(" N{} J{}", exptime(rng).max(0), rng.below(100)));
            some(rng, &mut rest, 15, |rng| format!(" T{}", exptime(rng)));
            some(rng, &mut rest, 50, |_| " v".to_owned());
            "ma"
        }
        82..90 => {
            rest += &format!(" v T{}", exptime(rng));
            "mg"
        }
        90..94 => {
            rest += &format!(" v t N{}", exptime(rng).max(0));
            "mg"
        }
        94..97 => {
            rest += &format!(" s R{}", rng.between(1, 200));
            "mg"
        }
        _ => {
            rest += " v f t";
            "mg"
        }
    };
    if data.is_some() {
        some(rng, &mut rest, 50, |rng| format!(" F{}", flags(rng)));
    }
    if encoded {
        rest += " b";
    }
    some(rng, &mut rest, 33, |_| " q".to_owned());
    some(rng, &mut rest, 20, |rng| format!(" k O{}", rng.below(1000)));
    let length = data.as_ref().map_or(String::new(), |data| format!(" {}", data.len()));
    let line = format!("{verb} {name}{length}{rest}");
    out.extend(format!("{line}\r\n").into_bytes());
    if let Some(data) = data {
        out.extend(data);
        out.extend(b"\r\n");
    }
    line
}

fn some(rng: &mut Rng, rest: &mut String, percent: u64, flag: impl FnOnce(&mut Rng) -> String) {
    if rng.chance(percent) {
        rest.push_str(&flag(rng));
    }
}

fn name(space: &Space, key: usize, encoded: bool) -> String {
    let key = space.key(key);
    if encoded { base64(key) } else { String::from_utf8(key.to_vec()).unwrap() }
}

/// Sends the pipeline, asks for the CAS of `learn` and takes everything up to the barrier.
pub(super) fn exchange(
    client: &mut Client,
    mut bytes: Vec<u8>,
    space: &Space,
    learn: usize,
    tally: &mut Tally,
) -> io::Result<Option<u64>> {
    let encoded = if space.is_raw(learn) { " b" } else { "" };
    bytes.extend(
        format!("mg {} c OLEARN{encoded}\r\nmn\r\n", name(space, learn, space.is_raw(learn))).into_bytes(),
    );
    client.send(&bytes)?;
    let answer = client.until(b"MN\r\n")?;
    classic::note_errors(&answer, tally);
    let text = String::from_utf8_lossy(&answer);
    let line = text.lines().rev().find(|line| line.starts_with("HD c") && line.contains("OLEARN"));
    Ok(line.and_then(|line| line.split(' ').nth(1)?.strip_prefix('c')?.parse().ok()))
}
