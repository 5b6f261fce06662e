//! Requests and answers in the three dialects.

use super::{Request, Store};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Classic,
    Meta,
    Binary,
}

/// What an answer means to an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// It was done.
    Done,
    /// It was not done: there was, or was not, an item.
    No,
    Value {
        value: Vec<u8>,
        cas: u64,
    },
    Miss,
    /// Nothing was to be said, and whatever was asked has been carried out, or was refused.
    Silence,
    /// Nobody knows.
    Error,
}

impl Dialect {
    /// A quiet one has something behind it that is always answered.
    pub(crate) fn encode(self, out: &mut Vec<u8>, key: &[u8], request: &Request, quiet: bool) {
        match self {
            Self::Classic => classic(out, &String::from_utf8_lossy(key), request, quiet),
            Self::Meta => meta(out, &String::from_utf8_lossy(key), request, quiet),
            Self::Binary => binary(out, key, request, quiet),
        }
        match self {
            _ if !quiet => {}
            Self::Classic | Self::Meta => out.extend(b"mn\r\n"),
            Self::Binary => {
                out.extend([0x80, NOOP]);
                out.extend([0; 22]);
            }
        }
    }

    /// Up to the answer to what is behind a quiet request; refusals may stand before it. Behind an error nobody can
    /// tell whose answer is whose.
    pub(crate) fn silence(self, input: &[u8]) -> Option<(usize, Reply)> {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            let (len, reply) = self.reply(rest)?;
            used += len;
            let is_end = match self {
                Self::Classic | Self::Meta => rest.starts_with(b"MN\r\n"),
                Self::Binary => rest[1] == NOOP,
            };
            match reply {
                Reply::Error => return Some((used, reply)),
                _ if is_end => return Some((used, Reply::Silence)),
                _ => {}
            }
        }
    }

    /// The first whole answer, and its length.
    pub(crate) fn reply(self, input: &[u8]) -> Option<(usize, Reply)> {
        match self {
            Self::Binary => binary_reply(input),
            Self::Classic | Self::Meta => text_reply(input),
        }
    }
}

fn with_block(out: &mut Vec<u8>, line: String, value: &[u8]) {
    out.extend(line.bytes());
    out.extend(b"\r\n");
    out.extend(value);
    out.extend(b"\r\n");
}

fn classic(out: &mut Vec<u8>, key: &str, request: &Request, quiet: bool) {
    let noreply = if quiet { " noreply" } else { "" };
    let store = |out: &mut Vec<u8>, verb: &str, store: &Store, end: String| {
        let Store { value, flags, exptime, .. } = store;
        with_block(out, format!("{verb} {key} {flags} {exptime} {}{end}{noreply}", value.len()), value);
    };
    let line = match request {
        Request::Set(item) => return store(out, "set", item, String::new()),
        Request::Add(item) => return store(out, "add", item, String::new()),
        Request::Replace(item) => return store(out, "replace", item, String::new()),
        Request::Cas(item, cas) => return store(out, "cas", item, format!(" {cas}")),
        Request::Append(more) => {
            return with_block(out, format!("append {key} 0 0 {}{noreply}", more.len()), more);
        }
        Request::Prepend(more) => {
            return with_block(out, format!("prepend {key} 0 0 {}{noreply}", more.len()), more);
        }
        Request::Get | Request::MarkStale | Request::Vivify => format!("get {key}"),
        Request::Gets => format!("gets {key}"),
        Request::Increment(delta) => format!("incr {key} {delta}{noreply}"),
        Request::Decrement(delta) => format!("decr {key} {delta}{noreply}"),
        Request::Delete => format!("delete {key}{noreply}"),
        Request::Touch(exptime) => format!("touch {key} {exptime}"),
        Request::Gat(exptime) if exptime % 2 == 1 => format!("gats {exptime} {key}"),
        Request::Gat(exptime) => format!("gat {exptime} {key}"),
        Request::Flush(0) => "flush_all".to_owned(),
        Request::Flush(delay_s) => format!("flush_all {delay_s}"),
    };
    out.extend(line.bytes());
    out.extend(b"\r\n");
}

fn meta(out: &mut Vec<u8>, key: &str, request: &Request, quiet: bool) {
    let q = if quiet { " q" } else { "" };
    let store = |out: &mut Vec<u8>, store: &Store, end: String| {
        let Store { value, flags, exptime, .. } = store;
        with_block(out, format!("ms {key} {} F{flags} T{exptime}{end}{q}", value.len()), value);
    };
    let line = match request {
        Request::Set(item) => return store(out, item, String::new()),
        Request::Add(item) => return store(out, item, " ME".to_owned()),
        Request::Replace(item) => return store(out, item, " MR".to_owned()),
        Request::Cas(item, cas) => return store(out, item, format!(" C{cas}")),
        Request::Append(more) => return with_block(out, format!("ms {key} {} MA{q}", more.len()), more),
        Request::Prepend(more) => return with_block(out, format!("ms {key} {} MP{q}", more.len()), more),
        Request::Get => format!("mg {key} v"),
        Request::Gets => format!("mg {key} c v"),
        Request::Increment(delta) => format!("ma {key} D{delta} v{q}"),
        Request::Decrement(delta) => format!("ma {key} MD D{delta} v{q}"),
        Request::Delete => format!("md {key}{q}"),
        Request::Touch(exptime) => format!("mg {key} T{exptime}"),
        Request::Gat(exptime) => format!("mg {key} T{exptime} v"),
        Request::MarkStale => format!("md {key} I T30"),
        Request::Vivify => format!("mg {key} v N30 R5"),
        Request::Flush(0) => "flush_all".to_owned(),
        Request::Flush(delay_s) => format!("flush_all {delay_s}"),
    };
    out.extend(line.bytes());
    out.extend(b"\r\n");
}

fn text_reply(input: &[u8]) -> Option<(usize, Reply)> {
    let end = input.windows(2).position(|pair| pair == b"\r\n")?;
    let line = String::from_utf8_lossy(&input[..end]).into_owned();
    let words: Vec<&str> = line.split(' ').collect();
    let after = end + 2;
    let block = |len: usize| (input.len() >= after + len + 2).then(|| input[after..after + len].to_vec());
    let reply = match words[0] {
        "VALUE" => {
            let value = block(words[3].parse().ok()?)?;
            let used = after + value.len() + 2 + b"END\r\n".len();
            let cas = words.get(4).and_then(|cas| cas.parse().ok()).unwrap_or(0);
            return (input.len() >= used).then_some((used, Reply::Value { value, cas }));
        }
        "VA" => {
            let value = block(words[1].parse().ok()?)?;
            let used = after + value.len() + 2;
            let cas = words.iter().find_map(|word| word.strip_prefix('c')?.parse().ok()).unwrap_or(0);
            return Some((used, Reply::Value { value, cas }));
        }
        "STORED" | "HD" | "MN" | "DELETED" | "TOUCHED" | "OK" => Reply::Done,
        "NOT_STORED" | "NS" | "EXISTS" | "EX" | "NOT_FOUND" | "NF" => Reply::No,
        "END" | "EN" => Reply::Miss,
        "SERVER_ERROR" => Reply::Error,
        number if number.parse::<u64>().is_ok() => Reply::Done,
        _ if line.starts_with("CLIENT_ERROR cannot increment") => Reply::No,
        _ => panic!("an app was told {line:?}"),
    };
    Some((after, reply))
}

fn binary(out: &mut Vec<u8>, key: &[u8], request: &Request, quiet: bool) {
    let of_store = |store: &Store| [store.flags.to_be_bytes(), store.exptime.to_be_bytes()].concat();
    let of_count = |delta: u64| [delta.to_be_bytes().as_slice(), &[0; 8], &[0xff; 4]].concat();
    let (opcode, extras, value, cas): (u8, Vec<u8>, &[u8], u64) = match request {
        Request::Get | Request::Gets | Request::MarkStale | Request::Vivify => (0x00, Vec::new(), b"", 0),
        Request::Set(store) => (0x01, of_store(store), &store.value, 0),
        Request::Add(store) => (0x02, of_store(store), &store.value, 0),
        Request::Replace(store) => (0x03, of_store(store), &store.value, 0),
        Request::Cas(store, cas) => (0x01, of_store(store), &store.value, *cas),
        Request::Append(more) => (0x0e, Vec::new(), more, 0),
        Request::Prepend(more) => (0x0f, Vec::new(), more, 0),
        Request::Increment(delta) => (0x05, of_count(*delta), b"", 0),
        Request::Decrement(delta) => (0x06, of_count(*delta), b"", 0),
        Request::Delete => (0x04, Vec::new(), b"", 0),
        Request::Touch(exptime) => (0x1c, exptime.to_be_bytes().to_vec(), b"", 0),
        Request::Gat(exptime) => (0x1d, exptime.to_be_bytes().to_vec(), b"", 0),
        Request::Flush(0) => (0x08, Vec::new(), b"", 0),
        Request::Flush(delay_s) => (0x08, delay_s.to_be_bytes().to_vec(), b"", 0),
    };
    let key: &[u8] = if matches!(request, Request::Flush(_)) { b"" } else { key };
    let opcode = match opcode {
        _ if !quiet => opcode,
        0x0e | 0x0f => opcode + 0x0b,
        _ => opcode + 0x10,
    };
    out.extend([0x80, opcode]);
    out.extend((key.len() as u16).to_be_bytes());
    out.extend([extras.len() as u8, 0, 0, 0]);
    out.extend(((extras.len() + key.len() + value.len()) as u32).to_be_bytes());
    out.extend([0; 4]);
    out.extend(cas.to_be_bytes());
    for part in [&extras, key, value] {
        out.extend(part);
    }
}

fn binary_reply(input: &[u8]) -> Option<(usize, Reply)> {
    let header = input.get(..24)?;
    assert_eq!(header[0], 0x81, "an app was told no packet: {:?}", String::from_utf8_lossy(input));
    let body = u32::from_be_bytes(header[8..12].try_into().unwrap()) as usize;
    let used = 24 + body;
    let body = input.get(24..used)?;
    let status = u16::from_be_bytes(header[6..8].try_into().unwrap());
    let cas = u64::from_be_bytes(header[16..24].try_into().unwrap());
    let is_get = matches!(header[1], 0x00 | 0x1d);
    let reply = match status {
        0 if is_get => Reply::Value { value: body[usize::from(header[4])..].to_vec(), cas },
        0 => Reply::Done,
        1 if is_get => Reply::Miss,
        1 | 2 | 5 | 6 => Reply::No,
        _ => Reply::Error,
    };
    Some((used, reply))
}

const NOOP: u8 = 0x0a;
