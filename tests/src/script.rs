//! Recorded conversations: what is sent, and how the answer is told to be complete.
//!
//! A [`Scene`] is one connection. Its steps are followed by a barrier each (`mn`, or a binary no-op), so that an answer
//! is complete when the barrier's own answer is there, whatever the answer says. The same scene can be *played* in
//! three ways ([`Pace`]): step by step, as single bytes, as one write.
//!
//! The text form of a scene: one step a line; `|` stands for CR LF, which also ends each step; `{x*251}` repeats,
//! `{cas:KEY}` is the CAS number that `@learn KEY` has read before the scene starts; `@prepare` sends a step on a
//! connection of its own before; `\n`, `\r`, `\0`, `\x7f` and `\\` are bytes; a `\` at the end of the line leaves the
//! line end out.

pub mod admin;
pub mod binary;
pub mod classic;
pub mod mask;
pub mod meta;

use std::collections::HashMap;
use std::io::Write;
use std::thread;
use std::time::Duration;

use crate::client::Client;

/// How a step's answer ends.
#[derive(Clone, Debug)]
pub enum End {
    /// The answer to a barrier that is sent behind the step: what is sent, what comes back.
    Barrier(Vec<u8>, Vec<u8>),
    /// These bytes, and no barrier: for answers behind which nothing is answered.
    Mark(&'static [u8]),
    /// The server closes.
    Close,
}

#[derive(Clone, Debug)]
pub struct Step {
    pub send: Vec<u8>,
    pub end: End,
}

impl Step {
    /// What goes out for it, the barrier included.
    fn bytes(&self) -> Vec<u8> {
        match &self.end {
            End::Barrier(barrier, _) => [self.send.as_slice(), barrier].concat(),
            End::Mark(_) | End::Close => self.send.clone(),
        }
    }
}

/// Which paces a scene can be played at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub enum Paces {
    /// Step by step only: an answer decides what may follow.
    Stepwise,
    /// Not byte by byte: too large, or the server closes in the middle.
    Whole,
    All,
}

/// One connection's conversation.
#[derive(Clone, Debug)]
pub struct Scene {
    pub name: &'static str,
    pub paces: Paces,
    /// Text lines to run before, on a connection of their own.
    before: Vec<Vec<u8>>,
    learn: Vec<String>,
    steps: Vec<Step>,
    binary: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    Steps,
    Bytes,
    OneWrite,
}

/// What was sent and what came back, masked; compared piece by piece.
pub type Transcript = Vec<(String, Vec<u8>)>;

impl Scene {
    /// Reads the text form.
    pub fn text(name: &'static str, paces: Paces, script: &str) -> Self {
        let mut scene =
            Self { name, paces, before: Vec::new(), learn: Vec::new(), steps: Vec::new(), binary: false };
        for line in script.lines().map(str::trim_start).filter(|line| !line.is_empty()) {
            if let Some(key) = line.strip_prefix("@learn ") {
                scene.learn.push(key.to_owned());
            } else if let Some(line) = line.strip_prefix("@prepare ") {
                scene.before.push(bytes_of(line));
            } else if let Some(line) = line.strip_prefix("@close ") {
                scene.steps.push(Step { send: bytes_of(line), end: End::Close });
            } else if let Some(line) = line.strip_prefix("@until-END ") {
                scene.steps.push(Step { send: bytes_of(line), end: End::Mark(b"END\r\n") });
            } else {
                let end = End::Barrier(b"mn\r\n".to_vec(), b"MN\r\n".to_vec());
                let line = line.strip_prefix("@empty").unwrap_or(line);
                scene.steps.push(Step { send: bytes_of(line), end });
            }
        }
        scene
    }

    /// A scene of binary frames.
    pub fn binary(name: &'static str, paces: Paces, steps: Vec<Step>) -> Self {
        Self { name, paces, before: Vec::new(), learn: Vec::new(), steps, binary: true }
    }

    /// Plays it against `address`.
    pub fn play(&self, address: &str, pace: Pace) -> Transcript {
        let known = self.prepare(address);
        let steps: Vec<Step> = self.steps.iter().map(|step| fill_in(step, &known)).collect();
        let mut client = Client::to(address);
        client.set_patience(PATIENCE);
        let heard = match pace {
            Pace::Steps => self.step_by_step(client, &steps),
            Pace::Bytes | Pace::OneWrite => vec![self.in_one_go(client, &steps, pace)],
        };
        heard.into_iter().map(|(sent, answer)| (sent, self.masked(&answer))).collect()
    }

    /// Takes the padding off numbers.
    pub fn unpad(&self, transcript: &mut Transcript) {
        for (_, answer) in transcript {
            *answer = if self.binary { mask::unpadded_binary(answer) } else { mask::unpadded_text(answer) };
        }
    }

    fn prepare(&self, address: &str) -> HashMap<String, String> {
        let mut client = Client::to(address);
        for line in &self.before {
            client.send([line, b"mn\r\n".as_slice()].concat()).unwrap();
            client
                .until(b"MN\r\n")
                .unwrap_or_else(|error| panic!("{}: before the scene: {error}", self.name));
        }
        let learned = self.learn.iter().map(|key| {
            client.send(format!("gets {key}\r\n")).unwrap();
            let answer = String::from_utf8(client.until(b"END\r\n").unwrap()).unwrap();
            let cas =
                answer.split_whitespace().nth(4).unwrap_or_else(|| panic!("{key} has no cas: {answer}"));
            (key.clone(), cas.to_owned())
        });
        learned.collect()
    }

    /// Ends behind the first step without an answer: what follows would only repeat the trouble.
    fn step_by_step(&self, mut client: Client, steps: &[Step]) -> Vec<(String, Vec<u8>)> {
        let mut heard = Vec::new();
        for step in steps {
            let sent = client.send(step.bytes());
            let answer = sent.and_then(|()| hear(&mut client, &step.end));
            let failed = answer.is_err();
            heard.push((shown(&step.send), answer.unwrap_or_else(|error| no_answer(&error))));
            if failed {
                break;
            }
        }
        heard
    }

    fn in_one_go(&self, mut client: Client, steps: &[Step], pace: Pace) -> (String, Vec<u8>) {
        let bytes: Vec<u8> = steps.iter().flat_map(Step::bytes).collect();
        let mut writer = client.writer();
        let writing = thread::spawn(move || {
            let chunk = if pace == Pace::Bytes { 1 } else { bytes.len().max(1) };
            // An error here shows in the answers.
            bytes.chunks(chunk).all(|chunk| writer.write_all(chunk).is_ok())
        });
        let mut heard = Vec::new();
        for step in steps {
            match hear(&mut client, &step.end) {
                Ok(answer) => heard.extend(answer),
                Err(error) => {
                    heard.extend(no_answer(&error));
                    break;
                }
            }
        }
        client.end();
        let _ = writing.join();
        (format!("all of {}", self.name), heard)
    }

    fn masked(&self, answer: &[u8]) -> Vec<u8> {
        if self.binary { mask::binary(answer) } else { mask::text(answer) }
    }
}

fn hear(client: &mut Client, end: &End) -> std::io::Result<Vec<u8>> {
    match end {
        End::Barrier(_, answer) => client.until(answer),
        End::Mark(mark) => client.until(mark),
        End::Close => client.rest(),
    }
}

/// Stands in a transcript where an answer should be.
pub const NO_ANSWER: &str = "<no answer: ";

fn no_answer(error: &std::io::Error) -> Vec<u8> {
    format!("{NO_ANSWER}{error}>").into_bytes()
}

/// No answer of the script takes longer.
const PATIENCE: Duration = Duration::from_secs(6);

fn fill_in(step: &Step, known: &HashMap<String, String>) -> Step {
    if known.is_empty() {
        return step.clone();
    }
    let mut text = String::from_utf8(step.send.clone()).expect("a scene that learns is plain text");
    for (key, cas) in known {
        text = text.replace(&format!("{{cas:{key}}}"), cas);
    }
    Step { send: text.into_bytes(), end: step.end.clone() }
}

/// The bytes of one line of the text form.
fn bytes_of(line: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = line.as_bytes();
    let mut ended = false;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'|' => out.extend(b"\r\n"),
            b'\\' => match rest.split_first() {
                None => ended = true,
                Some((b'x', after)) => {
                    out.push(u8::from_str_radix(std::str::from_utf8(&after[..2]).unwrap(), 16).unwrap());
                    rest = &after[2..];
                }
                Some((&letter, after)) => {
                    out.push(match letter {
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b'0' => 0,
                        other => other,
                    });
                    rest = after;
                }
            },
            b'{' if !rest.starts_with(b"cas:") => {
                let end = rest.iter().position(|&byte| byte == b'}').expect("a closing brace");
                let inside = std::str::from_utf8(&rest[..end]).unwrap();
                let (what, count) = inside.rsplit_once('*').expect("{what*count}");
                out.extend(what.repeat(count.parse().unwrap()).into_bytes());
                rest = &rest[end + 1..];
            }
            byte => out.push(byte),
        }
    }
    if !ended {
        out.extend(b"\r\n");
    }
    out
}

/// Bytes for a message: short and printable.
pub fn shown(bytes: &[u8]) -> String {
    let short = &bytes[..bytes.len().min(160)];
    let more = if short.len() < bytes.len() { format!("… ({} bytes)", bytes.len()) } else { String::new() };
    format!("\"{}\"{more}", short.escape_ascii())
}
