//! The meta commands.

use std::borrow::Cow;

use super::text::{BAD_CHUNK, TOO_LARGE, block, number};
use super::{Answer, ITEM_MAX, Item, KEY_MAX, Memcached, Mode, Server, Stored};

/// The flags of a request, in its order.
struct Flags<'a>(Vec<(u8, &'a [u8])>);

impl<'a> Flags<'a> {
    fn of(words: &[&'a [u8]]) -> Option<Self> {
        let mut seen = [false; 256];
        let mut flags = Vec::new();
        for word in words {
            let (letter, token) = word.split_first()?;
            if !letter.is_ascii_alphabetic() || std::mem::replace(&mut seen[usize::from(*letter)], true) {
                return None;
            }
            flags.push((*letter, token));
        }
        Some(Self(flags))
    }

    fn has(&self, letter: u8) -> bool {
        self.0.iter().any(|(flag, _)| *flag == letter)
    }

    fn number(&self, letter: u8) -> Option<i64> {
        self.0.iter().find(|(flag, _)| *flag == letter).and_then(|(_, token)| number(token))
    }

    fn token(&self, letter: u8) -> &'a [u8] {
        self.0.iter().find(|(flag, _)| *flag == letter).map_or(b"", |(_, token)| token)
    }

    /// What every answer repeats: opaque and key.
    fn repeat(&self, letter: u8, token: &[u8], key: &[u8]) -> Option<String> {
        match letter {
            b'O' => Some(format!(" O{}", String::from_utf8_lossy(token))),
            b'k' => Some(format!(" k{}", String::from_utf8_lossy(key))),
            b'b' if self.has(b'k') => Some(" b".to_owned()),
            _ => None,
        }
    }

    fn repeated(&self, key: &[u8]) -> String {
        self.0.iter().filter_map(|(letter, token)| self.repeat(*letter, token, key)).collect()
    }
}

const BAD_FORMAT: &str = "CLIENT_ERROR bad command line format";
const INVALID_FLAG: &str = "CLIENT_ERROR invalid flag";

impl Memcached {
    pub(super) fn meta_get(&mut self, args: &[&[u8]], answer: &mut Answer) {
        let Some((said_key, flags)) = key_and_flags(args) else { return answer.line(BAD_FORMAT) };
        let Some(key) = plain(said_key, &flags) else { return answer.line(BAD_FORMAT) };
        if !self.takes(&flags) {
            return answer.line(INVALID_FLAG);
        }
        let now_s = self.now_s;
        let touch = flags.number(b'T').map(|exptime| self.instant(exptime));
        let mut marks = "";
        if self.find(&key).is_none() {
            let Some(exptime) = flags.number(b'N') else {
                if !flags.has(b'q') {
                    answer.line(format!("EN{}", ""));
                }
                return;
            };
            let expires = self.instant(exptime);
            let cas = self.told(&flags).unwrap_or_else(|| self.next_cas());
            let item = Item { value: Vec::new(), flags: 0, expires, cas, stale: false, won: true };
            self.items.insert(key.to_vec(), item);
            marks = " W";
        }
        let Some(item) = self.find(&key) else { return };
        if marks.is_empty() {
            if item.stale {
                marks = if item.won { " X Z" } else { " W X" };
                item.won = true;
            } else if item.won {
                marks = " Z";
            } else if let Some(least) = flags.number(b'R')
                && item.expires != 0
                && item.expires - now_s < least as u64
            {
                marks = " W";
                item.won = true;
            }
        }
        if let Some(expires) = touch {
            item.expires = expires;
        }
        let mut shown = String::new();
        for (letter, token) in &flags.0 {
            let left = if item.expires == 0 { -1 } else { item.expires as i64 - now_s as i64 };
            shown += &match letter {
                b'c' => format!(" c{}", item.cas),
                b'f' => format!(" f{}", item.flags),
                b's' => format!(" s{}", item.value.len()),
                b't' => format!(" t{left}"),
                b'h' => " h0".to_owned(),
                b'l' => " l0".to_owned(),
                other => flags.repeat(*other, token, said_key).unwrap_or_default(),
            };
        }
        shown += marks;
        if flags.has(b'v') {
            let value = item.value.clone();
            answer.line(format!("VA {}{shown}", value.len()));
            answer.line(value);
        } else {
            answer.line(format!("HD{shown}"));
        }
    }

    pub(super) fn meta_set(
        &mut self,
        args: &[&[u8]],
        rest: &[u8],
        line: usize,
        answer: &mut Answer,
    ) -> Option<usize> {
        let (Some(said_key), Some(len)) =
            (args.first(), args.get(1).and_then(|len| number(len)).filter(|len| *len >= 0))
        else {
            answer.line(BAD_FORMAT);
            return Some(line);
        };
        let len = len as usize;
        if said_key.len() > KEY_MAX {
            answer.line(BAD_FORMAT);
            return Some(line);
        }
        let value = block(rest, line, len)?;
        let used = line + len + 2;
        let Some(flags) =
            Flags::of(&args[2..]).filter(|flags| flags.0.len() < TOKENS_MAX && self.takes(flags))
        else {
            answer.line(INVALID_FLAG);
            return Some(used);
        };
        let Ok(value) = value else {
            answer.line(BAD_CHUNK);
            return Some(used);
        };
        let Some(key) = plain(said_key, &flags) else {
            answer.line(BAD_FORMAT);
            return Some(used);
        };
        let mode = match flags.token(b'M').first().map(u8::to_ascii_uppercase) {
            Some(b'E') => Mode::Add,
            Some(b'A') => Mode::Append,
            Some(b'P') => Mode::Prepend,
            Some(b'R') => Mode::Replace,
            _ => Mode::Set,
        };
        if len > ITEM_MAX {
            self.delete(&key);
            answer.line(TOO_LARGE);
            return Some(used);
        }
        let mut compare = flags.number(b'C').unwrap_or(0) as u64;
        let held = self.find(&key).map(|item| item.cas);
        // A token older than the item's, with `I`: stored, and marked stale.
        let stale = flags.has(b'I') && compare != 0 && held.is_some_and(|cas| compare < cas);
        if stale {
            compare = 0;
        }
        let item = Item {
            value: value.to_vec(),
            flags: flags.number(b'F').unwrap_or(0) as u32,
            expires: self.instant(flags.number(b'T').unwrap_or(0)),
            cas: self.told(&flags).unwrap_or(0),
            stale,
            won: false,
        };
        let stored = self.store(&key, mode, compare, item);
        let code = match stored {
            Stored::Yes(_) => "HD",
            Stored::No => "NS",
            Stored::Exists => "EX",
            Stored::NotFound => "NF",
        };
        if !(flags.has(b'q') && code == "HD") {
            let mut shown = String::new();
            for (letter, token) in &flags.0 {
                shown += &match (letter, stored) {
                    (b'c', Stored::Yes(cas)) => format!(" c{cas}"),
                    (b'c', _) => " c0".to_owned(),
                    (other, _) => flags.repeat(*other, token, said_key).unwrap_or_default(),
                };
            }
            answer.line(format!("{code}{shown}"));
        }
        Some(used)
    }

    pub(super) fn meta_delete(&mut self, args: &[&[u8]], answer: &mut Answer) {
        let Some((said_key, flags)) = key_and_flags(args) else { return answer.line(BAD_FORMAT) };
        let Some(key) = plain(said_key, &flags) else { return answer.line(BAD_FORMAT) };
        let expires = flags.number(b'T').map(|exptime| self.instant(exptime));
        let compare = flags.number(b'C').unwrap_or(0) as u64;
        if !self.takes(&flags) {
            return answer.line(INVALID_FLAG);
        }
        let told = self.told(&flags);
        let cas = told.unwrap_or(self.cas + 1);
        let code = match self.find(&key) {
            None => "NF",
            Some(item) if compare != 0 && item.cas != compare => "EX",
            Some(item) if flags.has(b'I') => {
                (item.stale, item.won, item.cas) = (true, false, cas);
                item.expires = expires.unwrap_or(item.expires);
                if told.is_none() {
                    self.cas = cas;
                }
                "HD"
            }
            Some(_) => {
                self.delete(&key);
                "HD"
            }
        };
        if !(flags.has(b'q') && code == "HD") {
            answer.line(format!("{code}{}", flags.repeated(said_key)));
        }
    }

    pub(super) fn meta_arithmetic(&mut self, args: &[&[u8]], answer: &mut Answer) {
        let Some((said_key, flags)) = key_and_flags(args) else { return answer.line(BAD_FORMAT) };
        let Some(key) = plain(said_key, &flags) else { return answer.line(BAD_FORMAT) };
        let up = !matches!(flags.token(b'M'), b"D" | b"d" | b"-" | b"DECR" | b"decr");
        let delta = flags.number(b'D').unwrap_or(1) as u64;
        let expires = flags.number(b'T').map(|exptime| self.instant(exptime));
        if !self.takes(&flags) {
            return answer.line(INVALID_FLAG);
        }
        let told = self.told(&flags);
        let mut number = self.count(&key, delta, up, told);
        if let (None, Some(exptime)) = (number, flags.number(b'N')) {
            let initial = flags.number(b'J').unwrap_or(0) as u64;
            let value = initial.to_string().into_bytes();
            let item = Item {
                value,
                flags: 0,
                expires: self.instant(exptime),
                cas: told.unwrap_or(0),
                stale: false,
                won: false,
            };
            self.store(&key, Mode::Add, 0, item);
            number = Some(Some(initial));
        }
        let repeated = flags.repeated(said_key);
        match number {
            None => answer.line(format!("NF{repeated}")),
            Some(None) => answer.line("CLIENT_ERROR cannot increment or decrement non-numeric value"),
            Some(Some(number)) => {
                if let (Some(expires), Some(item)) = (expires, self.find(&key)) {
                    item.expires = expires;
                }
                if flags.has(b'q') {
                } else if flags.has(b'v') {
                    let number = number.to_string();
                    answer.line(format!("VA {}{repeated}", number.len()));
                    answer.line(number);
                } else {
                    answer.line(format!("HD{repeated}"));
                }
            }
        }
    }

    /// Whether it knows these flags.
    fn takes(&self, flags: &Flags<'_>) -> bool {
        self.server == Server::New || !flags.has(b'E')
    }

    /// The CAS that an item shall have.
    fn told(&self, flags: &Flags<'_>) -> Option<u64> {
        flags.number(b'E').map(|cas| cas as u64).filter(|cas| *cas != 0)
    }

    pub(super) fn meta_debug(&mut self, args: &[&[u8]], answer: &mut Answer) {
        let Some((said_key, flags)) = key_and_flags(args) else { return answer.line("ERROR") };
        let Some(key) = plain(said_key, &flags) else { return answer.line(BAD_FORMAT) };
        let (now_s, server) = (self.now_s, self.server);
        let Some(item) = self.find(&key) else { return answer.line("EN") };
        let left = item.expires as i64 - now_s as i64;
        let exp = match server {
            _ if item.expires == 0 => -1,
            // The sign is wrong before 1.6.24.
            Server::Old => -left,
            Server::New => left,
        };
        let (cas, size) = (item.cas, item.value.len() + 50);
        let said_key = String::from_utf8_lossy(said_key);
        answer.line(format!("ME {said_key} exp={exp} la=0 cas={cas} fetch=no cls=1 size={size}"));
    }
}

fn key_and_flags<'a>(args: &[&'a [u8]]) -> Option<(&'a [u8], Flags<'a>)> {
    let (key, flags) = args.split_first()?;
    (key.len() <= KEY_MAX).then_some(())?;
    Some((key, Flags::of(flags)?))
}

/// The key's own bytes.
fn plain<'a>(said: &'a [u8], flags: &Flags<'_>) -> Option<Cow<'a, [u8]>> {
    if !flags.has(b'b') {
        return Some(Cow::Borrowed(said));
    }
    let mut bytes = Vec::new();
    let mut bits = 0_u32;
    let mut held = 0_u32;
    for byte in said.iter().filter(|byte| **byte != b'=') {
        let value = BASE64.iter().position(|letter| letter == byte)? as u32;
        held = held << 6 | value;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
        }
    }
    Some(Cow::Owned(bytes))
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const TOKENS_MAX: usize = 20;
