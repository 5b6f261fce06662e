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
//! Deletions and new expiries leave no CAS behind; they are promised a version all the same, so that all versions of
//! a key are in the order of its writes.

use memcloud_protocol::memcache::encode::MetaRequest;
use memcloud_protocol::memcache::key::{TextForm, text_form};
use memcloud_protocol::memcache::number::write_u64;
use memcloud_protocol::memcache::text::{ArithmeticVerb, Meta, MetaVerb, Request, StoreVerb};

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
        let (front, back) = request.loud();
        let line = |out: &mut Vec<u8>| {
            out.extend_from_slice(front);
            out.extend_from_slice(back);
            out.truncate(out.trim_ascii_end().len());
            out.extend_from_slice(b" E");
            write_u64(version.time(), out);
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(body);
        };
        upstream.request_with(line, pending);
        Ok(())
    }

    fn converted(&self, request: &Request<'_>, conversion: Conversion, write: Option<Box<Write>>) -> Pending {
        let mut pending = self.owed(Shape::Line, label(&request.command));
        pending.quiet = quiet_of(request);
        pending.conversion = conversion;
        pending.write = write;
        pending
    }
}

fn encode_store(store: Store<'_>, version: Version, out: &mut Vec<u8>) {
    let Ok(mut line) = MetaRequest::set(store.key, store.body.len() - 2, out) else { return };
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
    out.extend_from_slice(store.body);
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
