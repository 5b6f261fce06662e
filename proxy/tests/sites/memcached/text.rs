//! Lines: the classic commands, and administration as far as a proxy asks for it.

use super::{Answer, ITEM_MAX, Item, KEY_MAX, Memcached, Mode, Server, Stored};

const BAD_FORMAT: &str = "CLIENT_ERROR bad command line format";
pub(super) const TOO_LARGE: &str = "SERVER_ERROR object too large for cache";
pub(super) const BAD_CHUNK: &str = "CLIENT_ERROR bad data chunk";

/// The block behind a storage line; None while it is not whole. Err: what is there is none.
pub(super) fn block(rest: &[u8], line: usize, len: usize) -> Option<Result<&[u8], ()>> {
    let end = line + len;
    (rest.len() >= end + 2)
        .then(|| if &rest[end..end + 2] == b"\r\n" { Ok(&rest[line..end]) } else { Err(()) })
}

impl Memcached {
    /// Carries out the first request of `rest`; its length, or None if it is not whole.
    pub(super) fn line(&mut self, rest: &[u8], answer: &mut Answer) -> Option<usize> {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let text = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        let words: Vec<&[u8]> = text.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).collect();
        let used = end + 1;
        let Some((command, args)) = words.split_first() else {
            answer.line("ERROR");
            return Some(used);
        };
        match *command {
            b"set" | b"add" | b"replace" | b"append" | b"prepend" | b"cas" => {
                return self.store_line(command, args, rest, used, answer);
            }
            b"ms" => return self.meta_set(args, rest, used, answer),
            b"mg" => self.meta_get(args, answer),
            b"md" => self.meta_delete(args, answer),
            b"ma" => self.meta_arithmetic(args, answer),
            b"mn" => answer.line("MN"),
            b"me" => self.meta_debug(args, answer),
            b"get" | b"gets" => self.get_line(args, *command == b"gets", None, answer),
            b"gat" | b"gats" => match args.split_first().map(|(exptime, keys)| (number(exptime), keys)) {
                Some((Some(exptime), keys)) => {
                    self.get_line(keys, *command == b"gats", Some(exptime), answer)
                }
                _ => answer.line("CLIENT_ERROR invalid exptime argument"),
            },
            _ => self.other_line(command, args, answer),
        }
        Some(used)
    }

    fn store_line(
        &mut self,
        command: &[u8],
        args: &[&[u8]],
        rest: &[u8],
        line: usize,
        answer: &mut Answer,
    ) -> Option<usize> {
        let wanted = if command == b"cas" { 5 } else { 4 };
        let quiet = args.len() > wanted && args.last() == Some(&b"noreply".as_slice());
        let say = |text: &str, answer: &mut Answer| {
            if !quiet {
                answer.line(text);
            }
        };
        if args.len() != wanted + usize::from(quiet) {
            answer.line("ERROR");
            return Some(line);
        }
        let numbers: Option<Vec<i64>> = args[1..wanted].iter().map(|word| number(word)).collect();
        let Some(numbers) = numbers.filter(|numbers| args[0].len() <= KEY_MAX && numbers[2] >= 0) else {
            // 1.6.18 takes what follows for commands.
            answer.line(BAD_FORMAT);
            return Some(line);
        };
        let len = numbers[2] as usize;
        let used = line + len + 2;
        let value = match block(rest, line, len)? {
            Ok(value) => value,
            Err(()) => {
                say(BAD_CHUNK, answer);
                return Some(used);
            }
        };
        let mode = match command {
            b"add" => Mode::Add,
            b"replace" => Mode::Replace,
            b"append" => Mode::Append,
            b"prepend" => Mode::Prepend,
            _ => Mode::Set,
        };
        if len > ITEM_MAX {
            if mode == Mode::Set {
                self.delete(args[0]);
            }
            say(TOO_LARGE, answer);
            return Some(used);
        }
        let compare = if command == b"cas" { numbers[3] as u64 } else { 0 };
        let expires = self.instant(numbers[1]);
        let item = Item {
            value: value.to_vec(),
            flags: numbers[0] as u32,
            expires,
            cas: 0,
            stale: false,
            won: false,
        };
        let said = match self.store(args[0], mode, compare, item) {
            Stored::Yes(_) => "STORED",
            Stored::No => "NOT_STORED",
            Stored::Exists => "EXISTS",
            Stored::NotFound => "NOT_FOUND",
        };
        say(said, answer);
        Some(used)
    }

    fn get_line(&mut self, keys: &[&[u8]], with_cas: bool, touch: Option<i64>, answer: &mut Answer) {
        if keys.is_empty() {
            return answer.line("ERROR");
        }
        let expires = touch.map(|exptime| self.instant(exptime));
        for key in keys {
            let Some(item) = self.find(key) else { continue };
            if let Some(expires) = expires {
                item.expires = expires;
            }
            let key = String::from_utf8_lossy(key);
            let head = format!("VALUE {key} {} {}", item.flags, item.value.len());
            let value = item.value.clone();
            if with_cas {
                let cas = item.cas;
                answer.line(format!("{head} {cas}"));
            } else {
                answer.line(head);
            }
            answer.line(value);
        }
        answer.line("END");
    }

    fn other_line(&mut self, command: &[u8], args: &[&[u8]], answer: &mut Answer) {
        let quiet = args.last() == Some(&b"noreply".as_slice());
        let args = if quiet { &args[..args.len() - 1] } else { args };
        let said = match (command, args) {
            (b"delete", [key] | [key, b"0"]) => {
                if self.delete(key) {
                    "DELETED".to_owned()
                } else {
                    "NOT_FOUND".to_owned()
                }
            }
            (b"incr" | b"decr", [key, delta]) => {
                match number(delta).map(|delta| self.count(key, delta as u64, command == b"incr", None)) {
                    Some(Some(Some(number))) => number.to_string(),
                    Some(Some(None)) => {
                        "CLIENT_ERROR cannot increment or decrement non-numeric value".to_owned()
                    }
                    Some(None) => "NOT_FOUND".to_owned(),
                    None => "CLIENT_ERROR invalid numeric delta argument".to_owned(),
                }
            }
            (b"touch", [key, exptime]) => {
                let expires = self.instant(number(exptime).unwrap_or(0));
                match self.find(key) {
                    Some(item) => {
                        item.expires = expires;
                        "TOUCHED".to_owned()
                    }
                    None => "NOT_FOUND".to_owned(),
                }
            }
            (b"flush_all", _) => {
                self.flush(args.first().and_then(|delay| number(delay)).unwrap_or(0));
                "OK".to_owned()
            }
            (b"version", _) => format!("VERSION {}", self.server.version()),
            (b"verbosity", _) => "OK".to_owned(),
            (b"quit", _) => {
                answer.close = true;
                return;
            }
            (b"stats", _) => return self.stats(args, answer),
            (b"lru_crawler", [b"metadump", _]) => return self.dump(answer),
            _ => "ERROR".to_owned(),
        };
        if !quiet {
            answer.line(said);
        }
    }

    fn stats(&self, args: &[&[u8]], answer: &mut Answer) {
        let living = self.items.values().filter(|item| self.lives(item)).count();
        match args {
            [] => {
                answer.line(format!("STAT pid {}", self.pid));
                answer.line(format!("STAT uptime {}", self.now_s - self.started_s));
                answer.line(format!("STAT time {}", self.now_s));
                answer.line(format!("STAT version {}", self.server.version()));
                answer.line(format!("STAT curr_connections {}", self.connections.len()));
                answer.line(format!("STAT curr_items {living}"));
                answer.line(format!("STAT bytes {}", living * 100));
            }
            [b"settings"] => {
                for line in ["item_size_max 1048576", "evictions on", "cas_enabled yes", "detail_enabled no"]
                {
                    answer.line(format!("STAT {line}"));
                }
            }
            [b"reset"] => return answer.line("RESET"),
            _ => {}
        }
        answer.line("END");
    }

    fn dump(&self, answer: &mut Answer) {
        for (key, item) in &self.items {
            if !self.lives(item) {
                continue;
            }
            let exp = if item.expires == 0 { -1 } else { item.expires as i64 };
            let key: String = key.iter().map(|byte| encoded(*byte)).collect();
            let (cas, size, now_s) = (item.cas, item.value.len() + 50, self.now_s);
            let flags = match self.server {
                Server::Old => String::new(),
                Server::New => format!(" flags={}", item.flags),
            };
            let line =
                format!("key={key} exp={exp} la={now_s} cas={cas} fetch=no cls=1 size={size}{flags}\n");
            answer.bytes.extend(line.bytes());
        }
        answer.line("END");
    }
}

pub(super) fn number(word: &[u8]) -> Option<i64> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

fn encoded(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}
