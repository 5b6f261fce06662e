//! The binary dialect, as far as tests need it: one frame out, one frame in.

use std::io;

use crate::client::Client;

/// A request. Fields that stay 0 or empty need not be named: `Frame { key: b"k", ..Frame::new(GET) }`.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    pub opcode: u8,
    pub extras: &'a [u8],
    pub key: &'a [u8],
    pub value: &'a [u8],
    pub opaque: u32,
    pub cas: u64,
}

/// A reply, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub opcode: u8,
    pub status: u16,
    pub opaque: u32,
    pub cas: u64,
    pub extras: Vec<u8>,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

impl Frame<'_> {
    pub fn new(opcode: u8) -> Self {
        Self { opcode, extras: b"", key: b"", value: b"", opaque: 0, cas: 0 }
    }

    /// Appends its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let body = self.extras.len() + self.key.len() + self.value.len();
        out.extend([0x80, self.opcode]);
        out.extend(u16::try_from(self.key.len()).unwrap().to_be_bytes());
        out.extend([u8::try_from(self.extras.len()).unwrap(), 0, 0, 0]);
        out.extend(u32::try_from(body).unwrap().to_be_bytes());
        out.extend(self.opaque.to_be_bytes());
        out.extend(self.cas.to_be_bytes());
        for part in [self.extras, self.key, self.value] {
            out.extend_from_slice(part);
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }
}

/// Takes the next reply from a connection.
pub fn reply(client: &mut Client) -> io::Result<Reply> {
    let head = client.take(24)?;
    if head[0] != 0x81 {
        return Err(io::Error::other(format!("not a reply: {head:?}")));
    }
    let number = |at: usize, bytes: usize| {
        head[at..at + bytes].iter().fold(0u64, |sum, &byte| sum << 8 | u64::from(byte))
    };
    let (keys, extras) = (number(2, 2) as usize, head[4] as usize);
    let mut body = client.take(number(8, 4) as usize)?;
    if keys + extras > body.len() {
        return Err(io::Error::other(format!("body shorter than its parts: {head:?}")));
    }
    let value = body.split_off(extras + keys);
    let key = body.split_off(extras);
    Ok(Reply {
        opcode: head[1],
        status: number(6, 2) as u16,
        opaque: number(12, 4) as u32,
        cas: number(16, 8),
        extras: body,
        key,
        value,
    })
}

pub const GET: u8 = 0x00;
pub const SET: u8 = 0x01;
pub const ADD: u8 = 0x02;
pub const REPLACE: u8 = 0x03;
pub const DELETE: u8 = 0x04;
pub const INCREMENT: u8 = 0x05;
pub const DECREMENT: u8 = 0x06;
pub const QUIT: u8 = 0x07;
pub const FLUSH: u8 = 0x08;
pub const GETQ: u8 = 0x09;
pub const NOOP: u8 = 0x0a;
pub const VERSION: u8 = 0x0b;
pub const GETK: u8 = 0x0c;
pub const GETKQ: u8 = 0x0d;
pub const APPEND: u8 = 0x0e;
pub const PREPEND: u8 = 0x0f;
pub const STAT: u8 = 0x10;
pub const SETQ: u8 = 0x11;
pub const ADDQ: u8 = 0x12;
pub const REPLACEQ: u8 = 0x13;
pub const DELETEQ: u8 = 0x14;
pub const INCREMENTQ: u8 = 0x15;
pub const DECREMENTQ: u8 = 0x16;
pub const QUITQ: u8 = 0x17;
pub const FLUSHQ: u8 = 0x18;
pub const APPENDQ: u8 = 0x19;
pub const PREPENDQ: u8 = 0x1a;
pub const VERBOSITY: u8 = 0x1b;
pub const TOUCH: u8 = 0x1c;
pub const GAT: u8 = 0x1d;
pub const GATQ: u8 = 0x1e;
pub const SASL_LIST: u8 = 0x20;
pub const GATK: u8 = 0x23;
pub const GATKQ: u8 = 0x24;
