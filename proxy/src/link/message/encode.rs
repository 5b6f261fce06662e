//! Writing: one message to bytes.

use memcloud_protocol::memcache::key;

use super::{Hello, Item, Memory, Message, Tag};

impl Message<'_> {
    /// Appends the message to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hello(hello) => hello.encode(out),
            Self::Refused(refusal) => words(out, &["ml refused ", refusal.token(), "\r\n"]),
            Self::Item(item) => item.encode(out),
            Self::Delete { key, tag } => {
                let base64 = keyed(out, b"md ", key);
                tag.encode(out);
                base64_flag(out, base64);
                out.extend_from_slice(b"\r\n");
            }
            Self::Vivify { key, exptime, tag } => {
                let base64 = keyed(out, b"mg ", key);
                number(out, b" N", (*exptime).into());
                tag.encode(out);
                base64_flag(out, base64);
                out.extend_from_slice(b"\r\n");
            }
            Self::Flush { delay_s, tag } => {
                number(out, b"ml flush D", (*delay_s).into());
                tag.encode(out);
                out.extend_from_slice(b"\r\n");
            }
            Self::Mark { tag, owed, loss, unfilled } => {
                out.extend_from_slice(b"ml mark");
                tag.encode(out);
                number(out, b" O", *owed);
                if let Some(loss) = loss {
                    number(out, b" L", *loss as u64);
                }
                if *unfilled {
                    out.extend_from_slice(b" U");
                }
                out.extend_from_slice(b"\r\n");
            }
            Self::Server { takes_versions } => {
                number(out, b"ml server E", u64::from(*takes_versions));
                out.extend_from_slice(b"\r\n");
            }
            Self::Memory(memory) => {
                out.extend_from_slice(b"ml memory ");
                match memory {
                    Memory::None => out.extend_from_slice(b"none"),
                    Memory::Clean => out.extend_from_slice(b"clean"),
                    Memory::Unfilled => out.extend_from_slice(b"unfilled"),
                    Memory::Killed { until, unfilled } => {
                        out.extend_from_slice(b"killed");
                        until.encode(out);
                        if *unfilled {
                            out.extend_from_slice(b" U");
                        }
                    }
                }
                out.extend_from_slice(b"\r\n");
            }
            Self::Goodbye { unfilled: false } => out.extend_from_slice(b"ml bye\r\n"),
            Self::Goodbye { unfilled: true } => out.extend_from_slice(b"ml bye unfilled\r\n"),
            Self::Ack(ack) => {
                number(out, b"ml ack ", ack.count);
                if ack.refused > 0 {
                    number(out, b" R", ack.refused);
                }
                out.extend_from_slice(b"\r\n");
            }
        }
    }
}

impl Hello<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        number(out, b"ml hello V", self.version.into());
        words(out, &[" S", self.site, " R"]);
        hex(out, self.run);
        if let Some(shard) = self.shard {
            words(out, &[" H", shard]);
        }
        if let Some(purpose) = self.purpose.token() {
            words(out, &[" Q", purpose]);
        }
        if let Some(clock) = self.clock {
            words(out, &[" C"]);
            hex(out, clock);
        }
        out.extend_from_slice(b"\r\n");
    }
}

impl Item<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        let base64 = keyed(out, b"ms ", &self.key);
        number(out, b" ", self.value.len() as u64);
        number(out, b" T", self.exptime.into());
        number(out, b" F", self.flags.into());
        self.tag.encode(out);
        base64_flag(out, base64);
        if self.stale {
            out.extend_from_slice(b" I");
        }
        if self.won {
            out.extend_from_slice(b" W");
        }
        if let Some(cas) = self.cas {
            number(out, b" E", cas);
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(self.value);
        out.extend_from_slice(b"\r\n");
    }
}

impl Tag<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        words(out, &[" Pmc1/", self.site, "/"]);
        hex(out, self.time);
    }
}

/// Writes verb and key; true when the key had to be written in base64. A key of the binary protocol may hold any
/// byte; a text token may not.
fn keyed(out: &mut Vec<u8>, verb: &[u8], key: &[u8]) -> bool {
    out.extend_from_slice(verb);
    let plain = key::is_valid(key);
    if plain {
        out.extend_from_slice(key);
    } else {
        key::base64::encode(key, out);
    }
    !plain
}

fn base64_flag(out: &mut Vec<u8>, base64: bool) {
    if base64 {
        out.extend_from_slice(b" b");
    }
}

fn words(out: &mut Vec<u8>, words: &[&str]) {
    for word in words {
        out.extend_from_slice(word.as_bytes());
    }
}

/// `before` and then `value` in decimal, without the machinery of `format!`: this runs for every mutation.
fn number(out: &mut Vec<u8>, before: &[u8], value: u64) {
    out.extend_from_slice(before);
    digits(out, value, 10);
}

fn hex(out: &mut Vec<u8>, value: u64) {
    digits(out, value, 16);
}

fn digits(out: &mut Vec<u8>, mut value: u64, radix: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[(value % radix) as usize];
        value /= radix;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}
