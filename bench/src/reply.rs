//! Checking replies as they arrive, cut anywhere.
//!
//! The checker knows what each request must be answered with and in which order; it keeps its place inside a value, so
//! a large one is skipped and never collected. A reply that is framed well but says something else is *wrong* and
//! counted; bytes that cannot be framed end the connection (`Broken`).

use std::collections::VecDeque;

use memchr::memchr;

use crate::workload::Workload;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    TextGet,
    TextSet,
    MetaGet,
    MetaSet,
}

/// What one request is owed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    pub(crate) kind: Kind,
    /// The first key still to be answered, and how many from there on.
    pub(crate) key: u32,
    pub(crate) keys: u32,
    /// When it was sent, or in an open loop when it should have been.
    pub(crate) due_ns: u64,
}

/// What has been seen on one connection, or on all.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) values: u64,
    pub(crate) misses: u64,
    pub(crate) wrong: u64,
    /// `SERVER_ERROR`, `CLIENT_ERROR` and `ERROR` lines.
    pub(crate) errors: u64,
}

/// Bytes after which nothing on the connection can be trusted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken(pub(crate) &'static str);

#[derive(Debug, Default)]
pub(crate) struct Checker {
    pub(crate) seen: Seen,
    /// Of the value being received: bytes not yet seen, then the line end behind it.
    body_left: usize,
    at_body_end: bool,
    /// The first wrong reply, in words.
    pub(crate) complaint: Option<String>,
}

enum Step {
    /// The next reply element is not complete: keep the bytes and come back with more.
    NeedMore,
    /// So many bytes are used up; the request is not answered yet.
    Used(usize),
    /// So many bytes are used up, and with them the request is answered.
    Answered(usize),
}

impl Checker {
    /// Reads as far as it can; calls `answered` for each request that is done. Returns how much of `input` is used up.
    pub(crate) fn feed(
        &mut self,
        workload: &Workload,
        in_flight: &mut VecDeque<Expected>,
        input: &[u8],
        mut answered: impl FnMut(&Expected),
    ) -> Result<usize, Broken> {
        let mut used = 0;
        while used < input.len() {
            let Some(expected) = in_flight.front_mut() else {
                return Err(Broken("a reply nobody asked for"));
            };
            match self.step(workload, expected, &input[used..])? {
                Step::NeedMore => break,
                Step::Used(bytes) => used += bytes,
                Step::Answered(bytes) => {
                    used += bytes;
                    answered(expected);
                    in_flight.pop_front();
                }
            }
        }
        Ok(used)
    }

    fn step(&mut self, workload: &Workload, expected: &mut Expected, input: &[u8]) -> Result<Step, Broken> {
        if self.body_left > 0 {
            let skipped = self.body_left.min(input.len());
            self.body_left -= skipped;
            return Ok(Step::Used(skipped));
        }
        if self.at_body_end {
            return self.body_end(expected, input);
        }
        let Some(line_feed) = memchr(b'\n', &input[..input.len().min(LINE_BYTES_MAX)]) else {
            return if input.len() < LINE_BYTES_MAX {
                Ok(Step::NeedMore)
            } else {
                Err(Broken("a reply line without end"))
            };
        };
        let Some(line) = input[..line_feed].strip_suffix(b"\r") else {
            return Err(Broken("a reply line that does not end in CR LF"));
        };
        let rest = &input[line_feed + 1..];
        let step = if is_error(line) {
            self.seen.errors += 1;
            self.complain(|| format!("the reply is {}", line.escape_ascii()));
            Step::Answered(0)
        } else {
            match expected.kind {
                Kind::TextGet => self.text_get(workload, expected, line, rest)?,
                Kind::MetaGet => self.meta_get(workload, expected, line, rest)?,
                Kind::TextSet => self.set(line, |line| line == b"STORED"),
                Kind::MetaSet => {
                    let key = workload.key(expected.key);
                    self.set(line, |line| line.strip_prefix(b"HD k").is_some_and(|told| told == key))
                }
            }
        };
        Ok(match step {
            Step::NeedMore => Step::NeedMore,
            Step::Used(more) => Step::Used(line_feed + 1 + more),
            Step::Answered(more) => Step::Answered(line_feed + 1 + more),
        })
    }

    fn set(&mut self, line: &[u8], is_right: impl Fn(&[u8]) -> bool) -> Step {
        if !is_right(line) {
            self.seen.wrong += 1;
            self.complain(|| format!("a set was answered {}", line.escape_ascii()));
        }
        Step::Answered(0)
    }

    fn text_get(
        &mut self,
        workload: &Workload,
        expected: &mut Expected,
        line: &[u8],
        rest: &[u8],
    ) -> Result<Step, Broken> {
        if line == b"END" {
            self.seen.misses += u64::from(expected.keys);
            return Ok(Step::Answered(0));
        }
        let mut words = line.split(|&byte| byte == b' ');
        let (Some(b"VALUE"), Some(key), Some(flags), Some(bytes), None) = (
            words.next(),
            words.next(),
            words.next().and_then(number),
            words.next().and_then(number),
            words.next(),
        ) else {
            return Err(Broken("a get was answered with something else than VALUE or END"));
        };
        self.value(workload, expected, key, flags, bytes, rest)
    }

    fn meta_get(
        &mut self,
        workload: &Workload,
        expected: &mut Expected,
        line: &[u8],
        rest: &[u8],
    ) -> Result<Step, Broken> {
        if line == b"EN" {
            self.seen.misses += 1;
            return Ok(Step::Answered(0));
        }
        let mut words = line.split(|&byte| byte == b' ');
        let (Some(b"VA"), Some(bytes)) = (words.next(), words.next().and_then(number)) else {
            return Err(Broken("an mg was answered with something else than VA or EN"));
        };
        let (mut key, mut flags) = (&b""[..], u64::MAX);
        for word in words {
            match word.split_first() {
                Some((b'k', text)) => key = text,
                Some((b'f', text)) => flags = number(text).unwrap_or(u64::MAX),
                _ => {}
            }
        }
        self.value(workload, expected, key, flags, bytes, rest)
    }

    /// Checks a value by its key, flags, length and first bytes, and goes on behind those.
    fn value(
        &mut self,
        workload: &Workload,
        expected: &mut Expected,
        key: &[u8],
        flags: u64,
        bytes: u64,
        rest: &[u8],
    ) -> Result<Step, Broken> {
        let bytes = usize::try_from(bytes).map_err(|_| Broken("a value too long to believe"))?;
        let checked = bytes.min(crate::workload::KEY_BYTES);
        let Some(first) = rest.get(..checked) else { return Ok(Step::NeedMore) };
        self.seen.values += 1;
        self.body_left = bytes - checked;
        self.at_body_end = true;

        let mut asked = expected.key;
        let mut passed = 0;
        while passed < expected.keys && workload.key(asked) != key {
            asked = workload.key_after(asked);
            passed += 1;
        }
        if passed == expected.keys {
            self.seen.wrong += 1;
            self.complain(|| format!("the value of a key that was not asked for: {}", key.escape_ascii()));
            return Ok(Step::Used(checked));
        }
        self.seen.misses += u64::from(passed);
        expected.keys -= passed + 1;
        expected.key = workload.key_after(asked);
        if bytes != workload.value_bytes(asked)
            || flags != u64::from(Workload::flags(asked))
            || first != workload.first_bytes(asked)
        {
            self.seen.wrong += 1;
            self.complain(|| {
                format!("{}: {bytes} bytes, flags {flags}, {}", key.escape_ascii(), first.escape_ascii())
            });
        }
        Ok(Step::Used(checked))
    }

    fn body_end(&mut self, expected: &Expected, input: &[u8]) -> Result<Step, Broken> {
        match input.get(..2) {
            None => Ok(Step::NeedMore),
            Some(b"\r\n") => {
                self.at_body_end = false;
                Ok(if expected.kind == Kind::MetaGet { Step::Answered(2) } else { Step::Used(2) })
            }
            Some(_) => Err(Broken("a value that is longer than it said")),
        }
    }

    fn complain(&mut self, words: impl FnOnce() -> String) {
        if self.complaint.is_none() {
            self.complaint = Some(words());
        }
    }
}

fn is_error(line: &[u8]) -> bool {
    line == b"ERROR" || line.starts_with(b"SERVER_ERROR") || line.starts_with(b"CLIENT_ERROR")
}

fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 18 {
        return None;
    }
    text.iter().try_fold(0, |sum, &digit| match digit {
        b'0'..=b'9' => Some(sum * 10 + u64::from(digit - b'0')),
        _ => None,
    })
}

/// Longer than any line memcached answers these requests with.
const LINE_BYTES_MAX: usize = 2048;

#[cfg(test)]
mod tests;
