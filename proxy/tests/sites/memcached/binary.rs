//! Packets.

use super::{Answer, ITEM_MAX, Item, Memcached, Mode, Stored};

const NOT_FOUND: u16 = 1;
const EXISTS: u16 = 2;
const TOO_LARGE: u16 = 3;
const NOT_STORED: u16 = 5;
const NOT_A_NUMBER: u16 = 6;
const UNKNOWN: u16 = 0x81;

struct Packet<'a> {
    opcode: u8,
    opaque: &'a [u8],
    cas: u64,
    extras: &'a [u8],
    key: &'a [u8],
    value: &'a [u8],
}

impl Packet<'_> {
    fn word(&self, at: usize) -> u32 {
        self.extras.get(at..at + 4).map_or(0, |bytes| u32::from_be_bytes(bytes.try_into().unwrap()))
    }

    fn long(&self, at: usize) -> u64 {
        self.extras.get(at..at + 8).map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().unwrap()))
    }

    fn answer(&self, answer: &mut Answer, status: u16, cas: u64, extras: &[u8], key: &[u8], value: &[u8]) {
        let out = &mut answer.bytes;
        out.extend([0x81, self.opcode]);
        out.extend((key.len() as u16).to_be_bytes());
        out.extend([extras.len() as u8, 0]);
        out.extend(status.to_be_bytes());
        out.extend(((extras.len() + key.len() + value.len()) as u32).to_be_bytes());
        out.extend(self.opaque);
        out.extend(cas.to_be_bytes());
        for part in [extras, key, value] {
            out.extend(part);
        }
    }
}

impl Memcached {
    /// Carries out the first packet of `rest`; its length, or None if it is not whole.
    pub(super) fn packet(&mut self, rest: &[u8], answer: &mut Answer) -> Option<usize> {
        let header = rest.get(..24)?;
        if header[0] != 0x80 {
            answer.close = true;
            return Some(rest.len());
        }
        let body = u32::from_be_bytes(header[8..12].try_into().unwrap()) as usize;
        let body = rest.get(24..24 + body)?;
        let extras = usize::from(header[4]);
        let key = extras + usize::from(u16::from_be_bytes(header[2..4].try_into().unwrap()));
        let packet = Packet {
            opcode: header[1],
            opaque: &header[12..16],
            cas: u64::from_be_bytes(header[16..24].try_into().unwrap()),
            extras: &body[..extras],
            key: &body[extras..key],
            value: &body[key..],
        };
        self.obey(&packet, answer);
        Some(24 + body.len())
    }

    fn obey(&mut self, packet: &Packet<'_>, answer: &mut Answer) {
        match packet.opcode {
            0x00 | 0x09 | 0x0c | 0x0d | 0x1d | 0x1e | 0x23 | 0x24 => self.get_packet(packet, answer),
            0x01 | 0x02 | 0x03 | 0x11 | 0x12 | 0x13 | 0x0e | 0x0f | 0x19 | 0x1a => {
                self.store_packet(packet, answer);
            }
            0x04 | 0x14 => {
                let held = self.find(packet.key).map(|item| item.cas);
                let status = match held {
                    None => NOT_FOUND,
                    Some(cas) if packet.cas != 0 && packet.cas != cas => EXISTS,
                    Some(_) => u16::from(!self.delete(packet.key)),
                };
                if status != 0 || packet.opcode == 0x04 {
                    packet.answer(answer, status, 0, b"", b"", b"");
                }
            }
            0x05 | 0x06 | 0x15 | 0x16 => self.count_packet(packet, answer),
            0x1c => {
                let expires = self.instant(i64::from(packet.word(0)));
                let status = match self.find(packet.key) {
                    Some(item) => {
                        item.expires = expires;
                        0
                    }
                    None => NOT_FOUND,
                };
                packet.answer(answer, status, 0, b"", b"", b"");
            }
            0x08 | 0x18 => {
                self.flush(i64::from(packet.word(0)));
                if packet.opcode == 0x08 {
                    packet.answer(answer, 0, 0, b"", b"", b"");
                }
            }
            0x0a => packet.answer(answer, 0, 0, b"", b"", b""),
            0x0b => packet.answer(answer, 0, 0, b"", b"", self.server.version().as_bytes()),
            0x07 | 0x17 => {
                if packet.opcode == 0x07 {
                    packet.answer(answer, 0, 0, b"", b"", b"");
                }
                answer.close = true;
            }
            0x10 => packet.answer(answer, 0, 0, b"", b"", b""),
            _ => packet.answer(answer, UNKNOWN, 0, b"", b"", b"Unknown command"),
        }
    }

    fn get_packet(&mut self, packet: &Packet<'_>, answer: &mut Answer) {
        let with_key = matches!(packet.opcode, 0x0c | 0x0d | 0x23 | 0x24);
        let quiet = matches!(packet.opcode, 0x09 | 0x0d | 0x1e | 0x24);
        let touches = matches!(packet.opcode, 0x1d | 0x1e | 0x23 | 0x24);
        let expires = touches.then(|| self.instant(i64::from(packet.word(0))));
        let key: &[u8] = if with_key { packet.key } else { b"" };
        match self.find(packet.key) {
            Some(item) => {
                item.expires = expires.unwrap_or(item.expires);
                packet.answer(answer, 0, item.cas, &item.flags.to_be_bytes(), key, &item.value);
            }
            None if quiet => {}
            None => packet.answer(answer, NOT_FOUND, 0, b"", key, if with_key { b"" } else { b"Not found" }),
        }
    }

    fn store_packet(&mut self, packet: &Packet<'_>, answer: &mut Answer) {
        let (mode, quiet) = match packet.opcode {
            0x01 => (Mode::Set, false),
            0x11 => (Mode::Set, true),
            0x02 => (Mode::Add, false),
            0x12 => (Mode::Add, true),
            0x03 => (Mode::Replace, false),
            0x13 => (Mode::Replace, true),
            0x0e => (Mode::Append, false),
            0x19 => (Mode::Append, true),
            0x0f => (Mode::Prepend, false),
            _ => (Mode::Prepend, true),
        };
        if packet.value.len() > ITEM_MAX {
            if mode == Mode::Set {
                self.delete(packet.key);
            }
            return packet.answer(answer, TOO_LARGE, 0, b"", b"", b"Too large.");
        }
        let item = Item {
            value: packet.value.to_vec(),
            flags: packet.word(0),
            expires: self.instant(i64::from(packet.word(4))),
            cas: 0,
            stale: false,
            won: false,
        };
        let (status, cas) = match self.store(packet.key, mode, packet.cas, item) {
            Stored::Yes(cas) => (0, cas),
            Stored::Exists => (EXISTS, 0),
            Stored::NotFound => (NOT_FOUND, 0),
            Stored::No => match mode {
                Mode::Add => (EXISTS, 0),
                Mode::Replace => (NOT_FOUND, 0),
                _ => (NOT_STORED, 0),
            },
        };
        if status != 0 || !quiet {
            packet.answer(answer, status, cas, b"", b"", b"");
        }
    }

    fn count_packet(&mut self, packet: &Packet<'_>, answer: &mut Answer) {
        let up = matches!(packet.opcode, 0x05 | 0x15);
        let (delta, initial, exptime) = (packet.long(0), packet.long(8), packet.word(16));
        let (status, number) = match self.count(packet.key, delta, up, None) {
            Some(Some(number)) => (0, number),
            Some(None) => (NOT_A_NUMBER, 0),
            None if exptime == u32::MAX => (NOT_FOUND, 0),
            None => {
                let value = initial.to_string().into_bytes();
                let expires = self.instant(i64::from(exptime));
                let item = Item { value, flags: 0, expires, cas: 0, stale: false, won: false };
                self.store(packet.key, Mode::Add, 0, item);
                (0, initial)
            }
        };
        if status != 0 {
            packet.answer(answer, status, 0, b"", b"", b"");
        } else if matches!(packet.opcode, 0x05 | 0x06) {
            packet.answer(answer, 0, self.cas, b"", b"", &number.to_be_bytes());
        }
    }
}
