//! Random binary requests, half of them quiet.

use std::io;

use super::Tally;
use super::choice::{Space, delta, exptime_unsigned, flags, piece, value};
use crate::binary::*;
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
    let mut extras = Vec::new();
    let mut body = Vec::new();
    let mut compare = 0;
    let (loud, quiet) = match rng.below(100) {
        0..30 => {
            (extras, body) = store(space, key, rng, largest);
            if rng.chance(20) {
                compare = cas.unwrap_or(1);
            }
            (SET, SETQ)
        }
        30..37 => {
            (extras, body) = store(space, key, rng, largest);
            (ADD, ADDQ)
        }
        37..44 => {
            (extras, body) = store(space, key, rng, largest);
            (REPLACE, REPLACEQ)
        }
        44..51 => {
            body = piece(space, key, rng);
            (APPEND, APPENDQ)
        }
        51..57 => {
            body = piece(space, key, rng);
            (PREPEND, PREPENDQ)
        }
        57..65 => {
            if rng.chance(15) {
                compare = cas.unwrap_or(1);
            }
            (DELETE, DELETEQ)
        }
        65..75 => {
            extras = counter(rng);
            (INCREMENT, INCREMENTQ)
        }
        75..82 => {
            extras = counter(rng);
            (DECREMENT, DECREMENTQ)
        }
        82..87 => {
            extras = exptime_unsigned(rng).to_be_bytes().to_vec();
            (TOUCH, TOUCH)
        }
        87..91 => {
            extras = exptime_unsigned(rng).to_be_bytes().to_vec();
            (GAT, GATQ)
        }
        91..95 => {
            extras = exptime_unsigned(rng).to_be_bytes().to_vec();
            (GATK, GATKQ)
        }
        _ => (GET, GETKQ),
    };
    let opcode = if rng.chance(50) { quiet } else { loud };
    let frame = Frame { opcode, extras: &extras, key: space.key(key), value: &body, opaque: 7, cas: compare };
    frame.encode(out);
    let name = space.key(key).escape_ascii();
    format!("binary {opcode:#04x} {name} extras {extras:02x?} value {} B cas {compare}", body.len())
}

fn store(space: &Space, key: usize, rng: &mut Rng, largest: u64) -> (Vec<u8>, Vec<u8>) {
    let extras = [flags(rng).to_be_bytes(), exptime_unsigned(rng).to_be_bytes()].concat();
    (extras, value(space, key, rng, largest))
}

/// Delta, initial value, and an expiry that in some cases forbids to create.
fn counter(rng: &mut Rng) -> Vec<u8> {
    let expiry = if rng.chance(40) { u32::MAX } else { exptime_unsigned(rng) };
    let mut extras = [delta(rng).to_be_bytes(), rng.below(1000).to_be_bytes()].concat();
    extras.extend(expiry.to_be_bytes());
    extras
}

pub(super) fn flush(delay: u32, rng: &mut Rng, out: &mut Vec<u8>) {
    let extras = delay.to_be_bytes();
    let opcode = if rng.chance(50) { FLUSHQ } else { FLUSH };
    let extras: &[u8] = if delay == 0 && rng.chance(50) { &[] } else { &extras };
    Frame { extras, ..Frame::new(opcode) }.encode(out);
}

/// Sends the pipeline, asks for the CAS of `learn` and takes everything up to the barrier.
pub(super) fn exchange(
    client: &mut Client,
    mut bytes: Vec<u8>,
    space: &Space,
    learn: usize,
    tally: &mut Tally,
) -> io::Result<Option<u64>> {
    Frame { key: space.key(learn), opaque: LEARN, ..Frame::new(GET) }.encode(&mut bytes);
    Frame { opaque: BARRIER, ..Frame::new(NOOP) }.encode(&mut bytes);
    client.send(&bytes)?;
    let mut learned = None;
    loop {
        let reply = reply(client)?;
        match (reply.opaque, reply.status) {
            (BARRIER, _) => return Ok(learned),
            (LEARN, 0) => learned = Some(reply.cas),
            (_, OUT_OF_MEMORY..=TEMPORARY_FAILURE) => {
                let text = String::from_utf8_lossy(&reply.value).into_owned();
                tally.note_server_error(format!("binary status {:#x}: {text}", reply.status));
            }
            _ => {}
        }
    }
}

const LEARN: u32 = 0x1ea4;
const BARRIER: u32 = 0xba44;
const OUT_OF_MEMORY: u16 = 0x81;
const TEMPORARY_FAILURE: u16 = 0x86;
