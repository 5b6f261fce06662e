//! Writes that tell memcached their version, where it takes one as the CAS of the item (flag `E`).
//!
//! Classic commands have no word for that, so they go up as their meta forms and the answers come back in classic words:
//!
//! | app | memcached | back |
//! |---|---|---|
//! | `set k 5 60 3` | `ms k 3 F5 T60 E<version>` | `HD` as `STORED` |
//! | `add`, `replace`, `append`, `prepend` | the same with `ME`, `MR`, `MA`, `MP` | `NS` as `NOT_STORED` |
//! | `cas k 5 60 3 7` | the same with `C7` | `EX` as `EXISTS`, `NF` as `NOT_FOUND` |
//! | `incr k 3`, `decr k 3` | `ma k MI D3 v E<version>`, `MD` | `VA 1`, `8` as `8` |
//! | `ms`, `ma`, `md … I`, `md … x`, `mg … N` | the same with `E<version>` behind it | as it is |
//!
//! Errors are worded alike in both forms. What could be seen to differ goes up as it came: see
//! [`ExplicitCas::fits`](crate::upstream::ExplicitCas::fits). A command with an `E` of the app's own keeps it. `ma` with flag `c` is
//! left alone, because memcached reports the CAS it was told, and gives another one if the number needs a digit more.
//! A body that streams has a CAS of when it began, because its version is given when it is stored.
//! Deletions and new expiries leave no CAS behind; they are promised a version all the same, so that all versions of
//! a key are in the order of its writes.

use memcloud_protocol::memcache::encode::MetaRequest;
use memcloud_protocol::memcache::key::{TextForm, text_form};
use memcloud_protocol::memcache::number::write_u64;
use memcloud_protocol::memcache::text::{ArithmeticVerb, Command, Meta, MetaVerb, Request, StoreVerb};

use super::Session;
use super::label::label;
use super::text::quiet_of;
use crate::replication::Version;
use crate::upstream::{Conversion, ExplicitCas, Hold, Pending, Shape, Upstream, Write};

/// A classic store, taken apart.
#[derive(Clone, Copy)]
pub(super) struct Store<'a> {
    pub(super) verb: StoreVerb,
    pub(super) key: &'a [u8],
    pub(super) flags: u32,
    pub(super) exptime: i64,
    pub(super) cas: Option<u64>,
    /// The value and its line end.
    pub(super) body: &'a [u8],
}

impl Session {
    /// The version to tell memcached with this write, and what it takes.
    fn told(&self, write: Option<&Write>) -> Option<(Version, ExplicitCas)> {
        let Hold::Promised(_, version) = write?.hold else { return None };
        self.context.explicit_cas().map(|explicit| (version, explicit))
    }

    /// Sends a store with its version; gives the write back if it has to go as it came.
    pub(super) fn send_versioned_store(
        &self,
        upstream: &Upstream,
        request: &Request<'_>,
        store: Store<'_>,
        write: Option<Box<Write>>,
    ) -> Result<(), Option<Box<Write>>> {
        let Some((version, explicit)) = self.told(write.as_deref()) else { return Err(write) };
        let plain = text_form(store.key) == TextForm::Plain && store.body.ends_with(b"\r\n");
        if !plain || !explicit.fits(store.verb, store.key.len() + store.body.len()) {
            return Err(write);
        }
        let mut write = write;
        if let Some(write) = &mut write {
            write.intent.goes_as_meta_set();
        }
        let pending = self.converted(request, Conversion::Stored, write);
        upstream.request_with(|out| encode_store(store, version, out), pending);
        Ok(())
    }

    /// The same of `incr` and `decr`.
    pub(super) fn send_versioned_arithmetic(
        &self,
        upstream: &Upstream,
        request: &Request<'_>,
        (verb, key, delta): (ArithmeticVerb, &[u8], u64),
        write: Option<Box<Write>>,
    ) -> Result<(), Option<Box<Write>>> {
        let Some((version, _)) = self.told(write.as_deref()) else { return Err(write) };
        if text_form(key) != TextForm::Plain {
            return Err(write);
        }
        let mode: &[u8] = if verb == ArithmeticVerb::Incr { b"I" } else { b"D" };
        let pending = self.converted(request, Conversion::Number, write);
        let line = |out: &mut Vec<u8>| {
            let Ok(line) = MetaRequest::arithmetic(key, out) else { return };
            line.token(b'M', mode).number(b'D', delta).flag(b'v').number(b'E', version.time()).finish();
        };
        upstream.request_with(line, pending);
        Ok(())
    }

    /// Sends a meta command with its version behind it.
    pub(super) fn send_versioned_meta(
        &self,
        upstream: &Upstream,
        request: &Request<'_>,
        (meta, body): (&Meta<'_>, &[u8]),
        write: Option<Box<Write>>,
    ) -> Result<(), Option<Box<Write>>> {
        let Some((version, _)) = self.told(write.as_deref()).filter(|_| takes_version(meta)) else {
            return Err(write);
        };
        let pending = self.converted(request, Conversion::Told, write);
        let line = |out: &mut Vec<u8>| {
            tell(request, version, out);
            out.extend_from_slice(body);
        };
        upstream.request_with(line, pending);
        Ok(())
    }

    /// The head of a store whose body streams, with a CAS of now: its version is given when it is stored.
    pub(super) fn streamed_head(&self, request: &Request<'_>) -> Option<(Vec<u8>, Conversion)> {
        let replication = self.context.replication.as_ref().filter(|_| self.replicates())?;
        let explicit = self.context.explicit_cas().filter(|_| replication.is_versioned())?;
        let reading = || replication.lock().reading(self.context.wall_ms());
        match request.command {
            Command::Store { verb, key, flags, exptime, cas } => {
                let len = usize::try_from(request.body).ok()?;
                if text_form(key) != TextForm::Plain || !explicit.fits(verb, key.len() + len) {
                    return None;
                }
                let mut head = Vec::new();
                encode_head(
                    Store { verb, key, flags, exptime, cas, body: b"" },
                    len - 2,
                    reading(),
                    &mut head,
                );
                Some((head, Conversion::Stored))
            }
            Command::Meta(meta) if takes_version(&meta) => {
                let mut head = Vec::new();
                tell(request, reading(), &mut head);
                Some((head, Conversion::Told))
            }
            _ => None,
        }
    }

    fn converted(&self, request: &Request<'_>, conversion: Conversion, write: Option<Box<Write>>) -> Pending {
        let mut pending = self.owed(Shape::Line, label(&request.command));
        pending.quiet = quiet_of(request);
        pending.conversion = conversion;
        pending.write = write;
        pending
    }
}

/// The line of a meta command, with its version behind it.
fn tell(request: &Request<'_>, version: Version, out: &mut Vec<u8>) {
    let (front, back) = request.loud();
    out.extend_from_slice(front);
    out.extend_from_slice(back);
    out.truncate(out.trim_ascii_end().len());
    out.extend_from_slice(b" E");
    write_u64(version.time(), out);
    out.extend_from_slice(b"\r\n");
}

fn encode_store(store: Store<'_>, version: Version, out: &mut Vec<u8>) {
    encode_head(store, store.body.len() - 2, version, out);
    out.extend_from_slice(store.body);
}

fn encode_head(store: Store<'_>, len: usize, version: Version, out: &mut Vec<u8>) {
    let Ok(mut line) = MetaRequest::set(store.key, len, out) else { return };
    let mode: &[u8] = match store.verb {
        StoreVerb::Set | StoreVerb::Cas => b"",
        StoreVerb::Add => b"E",
        StoreVerb::Replace => b"R",
        StoreVerb::Append => b"A",
        StoreVerb::Prepend => b"P",
    };
    if !mode.is_empty() {
        line = line.token(b'M', mode);
    }
    if store.flags != 0 {
        line = line.number(b'F', store.flags.into());
    }
    if store.exptime != 0 {
        line = line.seconds(b'T', store.exptime);
    }
    if let Some(cas) = store.cas {
        line = line.number(b'C', cas);
    }
    line.number(b'E', version.time()).finish();
}

/// Whether `E` behind the line makes the item's CAS and nothing else that an app could see.
fn takes_version(meta: &Meta<'_>) -> bool {
    let changes = match meta.verb {
        MetaVerb::Set => !meta.has(b'I'),
        MetaVerb::Arithmetic => !meta.has(b'c'),
        MetaVerb::Delete => meta.has(b'I') || meta.has(b'x'),
        MetaVerb::Get => meta.has(b'N'),
        MetaVerb::Debug => false,
    };
    changes && !meta.has(b'E') && meta.flags().count() < FLAGS_MAX
}

/// memcached bounds the tokens of a line; this is far below any version's bound.
const FLAGS_MAX: usize = 12;

#[cfg(test)]
mod tests {
    use memcloud_protocol::memcache::text::{Decoded, Framing, decode};

    use super::*;

    #[test]
    fn a_line_of_many_flags_goes_up_as_it_came() {
        for (line, flags) in
            [("ms k 2", "k q s c O1 P1 L1 C7 F7 T7 N7 MS"), ("mg k", "N7 k q f h l s t u v O1 P1")]
        {
            let flags: Vec<&str> = flags.split(' ').collect();
            for (count, takes) in [(FLAGS_MAX - 1, true), (FLAGS_MAX, false)] {
                let line = format!("{line} {}\r\n", flags[..count].join(" "));
                let decoded = decode(line.as_bytes(), &Framing::default());
                let Decoded::Request(Request { command: Command::Meta(meta), .. }) = decoded else {
                    panic!("{line}")
                };
                assert_eq!((meta.flags().count(), takes_version(&meta)), (count, takes), "{line}");
            }
        }
    }
}
