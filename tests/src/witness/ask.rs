//! One request and its answer, in each dialect.

use std::io;

use super::{Answer, Verb};
use crate::binary::{ADD, APPEND, DELETE, Frame, GET, REPLACE, SET, reply};
use crate::client::Client;
use crate::writer::Dialect;

pub(super) fn ask(
    client: &mut Client,
    dialect: Dialect,
    verb: Verb,
    key: &str,
    value: &[u8],
    cas: u64,
) -> io::Result<Answer> {
    match dialect {
        Dialect::Classic => classic(client, verb, key, value, cas),
        Dialect::Meta => meta(client, verb, key, value, cas),
        Dialect::Binary => binary(client, verb, key, value, cas),
    }
}

fn classic(client: &mut Client, verb: Verb, key: &str, value: &[u8], cas: u64) -> io::Result<Answer> {
    let length = value.len();
    let line = match verb {
        Verb::Set => format!("set {key} 0 0 {length}"),
        Verb::Add => format!("add {key} 0 0 {length}"),
        Verb::Replace => format!("replace {key} 0 0 {length}"),
        Verb::Append => format!("append {key} 0 0 {length}"),
        Verb::Cas => format!("cas {key} 0 0 {length} {cas}"),
        Verb::Delete => format!("delete {key}"),
        Verb::Get => format!("gets {key}"),
    };
    send(client, &line, verb, value)?;
    let line = client.line()?;
    let words: Vec<&str> = line.split_whitespace().collect();
    Ok(match (verb, words.first().copied().unwrap_or_default()) {
        (Verb::Get, "END") => Answer::Missed,
        (Verb::Get, "VALUE") => {
            let (length, cas) = (number(words.get(3))?, number(words.get(4))?);
            let value = body(client, length)?;
            client.until(b"END\r\n")?;
            Answer::Saw(value, cas)
        }
        (Verb::Delete, "NOT_FOUND" | "DELETED") | (_, "STORED") => Answer::Done,
        (_, "NOT_STORED" | "EXISTS" | "NOT_FOUND") => Answer::Refused,
        _ => unsound(&line)?,
    })
}

fn meta(client: &mut Client, verb: Verb, key: &str, value: &[u8], cas: u64) -> io::Result<Answer> {
    let length = value.len();
    let line = match verb {
        Verb::Set => format!("ms {key} {length}"),
        Verb::Add => format!("ms {key} {length} ME"),
        Verb::Replace => format!("ms {key} {length} MR"),
        Verb::Append => format!("ms {key} {length} MA"),
        Verb::Cas => format!("ms {key} {length} C{cas}"),
        Verb::Delete => format!("md {key}"),
        Verb::Get => format!("mg {key} v c"),
    };
    send(client, &line, verb, value)?;
    let line = client.line()?;
    let words: Vec<&str> = line.split_whitespace().collect();
    Ok(match (verb, words.first().copied().unwrap_or_default()) {
        (Verb::Get, "EN") => Answer::Missed,
        (Verb::Get, "VA") => {
            let cas = words.iter().find_map(|word| word.strip_prefix('c'));
            let (length, cas) = (number(words.get(1))?, number(cas.as_ref())?);
            Answer::Saw(body(client, length)?, cas)
        }
        (Verb::Delete, "NF") | (_, "HD") => Answer::Done,
        (_, "NS" | "EX" | "NF") => Answer::Refused,
        _ => unsound(&line)?,
    })
}

fn binary(client: &mut Client, verb: Verb, key: &str, value: &[u8], cas: u64) -> io::Result<Answer> {
    let (opcode, extras) = match verb {
        Verb::Set | Verb::Cas => (SET, [0; 8].as_slice()),
        Verb::Add => (ADD, [0; 8].as_slice()),
        Verb::Replace => (REPLACE, [0; 8].as_slice()),
        Verb::Append => (APPEND, [].as_slice()),
        Verb::Delete => (DELETE, [].as_slice()),
        Verb::Get => (GET, [].as_slice()),
    };
    client.send(Frame { opcode, extras, key: key.as_bytes(), value, opaque: 0, cas }.bytes())?;
    let reply = reply(client)?;
    Ok(match (verb, reply.status) {
        (Verb::Get, 0) => Answer::Saw(reply.value, reply.cas),
        (Verb::Get, NOT_FOUND) => Answer::Missed,
        (_, 0) | (Verb::Delete, NOT_FOUND) => Answer::Done,
        (_, NOT_FOUND | EXISTS | NOT_STORED) => Answer::Refused,
        _ => Answer::Unsound,
    })
}

fn send(client: &mut Client, line: &str, verb: Verb, value: &[u8]) -> io::Result<()> {
    let mut request = format!("{line}\r\n").into_bytes();
    if !matches!(verb, Verb::Delete | Verb::Get) {
        request.extend_from_slice(value);
        request.extend_from_slice(b"\r\n");
    }
    client.send(request)
}

fn body(client: &mut Client, length: u64) -> io::Result<Vec<u8>> {
    let mut value = client.take(length as usize + 2)?;
    value.truncate(length as usize);
    Ok(value)
}

fn number(word: Option<&&str>) -> io::Result<u64> {
    word.and_then(|word| word.parse().ok()).ok_or_else(|| io::Error::other("not a number"))
}

/// Only a server's error leaves the connection in step; anything else is a broken promise.
fn unsound(line: &str) -> io::Result<Answer> {
    assert!(line.starts_with("SERVER_ERROR"), "an answer that nobody understands: {line:?}");
    Ok(Answer::Unsound)
}

const NOT_FOUND: u16 = 0x01;
const EXISTS: u16 = 0x02;
const NOT_STORED: u16 = 0x05;
