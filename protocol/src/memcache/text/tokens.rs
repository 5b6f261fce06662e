//! The tokens of a line, by the strict rule: one blank between two, none elsewhere.

use crate::memcache::key;

/// The rest of a line, behind its verb.
#[derive(Clone, Copy)]
pub(super) struct Tokens<'a> {
    text: &'a [u8],
    /// Where the next token begins; beyond the text when there is none.
    at: usize,
}

impl<'a> Tokens<'a> {
    /// The tokens behind the first `verb_len` bytes of `text`.
    pub(super) fn behind(text: &'a [u8], verb_len: usize) -> Self {
        Self { text, at: verb_len + 1 }
    }

    /// Whether no token is left. A trailing blank leaves one, the empty one, which no reader accepts.
    pub(super) fn is_empty(&self) -> bool {
        self.at > self.text.len()
    }

    /// Where the blank before the next token stands.
    pub(super) fn blank(&self) -> usize {
        self.at - 1
    }

    /// All that is left.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The next token if it is a run of key bytes, of whatever length but none.
    pub(super) fn word(&mut self) -> Option<&'a [u8]> {
        let rest = self.text.get(self.at..)?;
        let mut len = rest.len();
        for (at, &byte) in rest.iter().enumerate() {
            if !key::is_key_byte(byte) {
                if byte != b' ' {
                    return None;
                }
                len = at;
                break;
            }
        }
        self.at += len + 1;
        (len > 0).then_some(&rest[..len])
    }

    /// The next token if it is a valid key.
    pub(super) fn key(&mut self) -> Option<&'a [u8]> {
        self.word().filter(|word| word.len() <= key::KEY_MAX)
    }

    /// Whether the line ends in `noreply` here; nothing when something else is left.
    pub(super) fn noreply(&self) -> Option<bool> {
        match self.text.get(self.at..) {
            None => Some(false),
            Some(b"noreply") => Some(true),
            Some(_) => None,
        }
    }
}
