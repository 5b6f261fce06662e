//! Dispatch of text requests, classic and meta.
//!
//! | request | goes |
//! |---|---|
//! | plainly valid, one answer | on the connection in use, loud |
//! | `get` of one key | on a shared connection as `mg KEY k f v`: memcached answers a batch of those at once |
//! | a write | the same, holding its key's gate where there are peers |
//! | long, odd, administrative, streaming | on the session's own connection |
//! | `stats memcloud` | nowhere: answered here |

use std::cell::Cell;
use std::rc::Rc;

use memcloud_protocol::memcache::binary::HEADER;
use memcloud_protocol::memcache::text::{
    self, Command, Decoded, GatVerb, GetVerb, Keys, Meta, MetaMode, MetaVerb, Request,
};

use super::flush::When;
use super::label::label;
use super::odd::reflects_any_bytes;
use super::versioned::Store;
use super::{Session, Step, WHOLE_REQUEST_MAX, intent};
use crate::metrics::CommandName;
use crate::replication::effect::{Intent, Refused};
use crate::upstream::{Conversion, Hold, Lookup, Quiet, Shape, Upstream, Write};

impl Session {
    /// Hands on the request at the front of `rest`. 0 if it is not all here.
    pub(super) fn text(&mut self, rest: &[u8]) -> Result<usize, Step> {
        let framing = self.context.capability.get().framing;
        if self.context.capability.get().binary_only {
            // As memcached does, once it has read what could be a header. Nothing is handed on: by now it may be another one, which
            // takes text, and then nobody would hear of what is written.
            return if rest.len() < HEADER { Ok(0) } else { Err(Step::Over) };
        }
        match text::decode(rest, &framing) {
            // No command at all, perhaps, and memcached one that would not wait for the end of it.
            Decoded::Incomplete if self.must_ask() => Err(Step::Capability),
            Decoded::Incomplete => Ok(0),
            Decoded::LineTooLong if memchr::memchr(b'\n', rest).is_some() => {
                self.text_request(rest, &text::decode_line(rest, &framing))
            }
            Decoded::LineTooLong => Err(self.own_or_over(Step::Raw)),
            // Touching many keys, it has to be understood as a whole.
            Decoded::LongGet if rest.trim_ascii_start().starts_with(b"gat") => {
                if (rest.len() as u64) < WHOLE_REQUEST_MAX { Ok(0) } else { Err(Step::Over) }
            }
            Decoded::LongGet => Err(self.own_or_over(Step::LongLine)),
            Decoded::Request(request) => self.text_request(rest, &request),
        }
    }

    /// Whether what memcached makes of ill-formed input is still to be asked. Once: it may be away.
    pub(super) fn must_ask(&self) -> bool {
        !self.context.capability_known.get() && !self.asked_capability
    }

    /// This step on an own connection, which is got first. If that is refused the line cannot be passed on at all.
    fn own_or_over(&mut self, step: Step) -> Step {
        match (&self.own, self.refusal.take()) {
            (Some(_), _) => step,
            (None, None) => Step::Own,
            (None, Some(_)) => Step::Over,
        }
    }

    fn text_request(&mut self, rest: &[u8], request: &Request<'_>) -> Result<usize, Step> {
        match request.command {
            Command::Quit => return Err(Step::Over),
            Command::Stats { args: b"memcloud" } => return self.stats_of_our_own(request.line.len()),
            _ => {}
        }
        if self.refusal.is_some() && self.downstream.owed.in_flight() > 0 {
            // An answer of our own has its place behind those that are owed.
            return Err(Step::Idle);
        }
        if let Some(reason) = self.refusal.take() {
            return Ok(self.refuse(request, rest.len(), &reason));
        }
        if matches!(request.command, Command::Shutdown) && self.is_away() {
            return Ok(self.refuse(request, rest.len(), "a peer serves for the memcached of this site"));
        }
        if matches!(request.command, Command::Odd) && self.must_ask() {
            return Err(Step::Capability);
        }
        if matches!(request.command, Command::Dump | Command::Watch) && self.stands_behind_answers() {
            return if self.pipelined {
                Ok(self.refuse_pipelined(request))
            } else {
                Err(self.note_pipelined())
            };
        }
        if self.own.is_none() && self.wants_own(request) {
            return Err(Step::Own);
        }
        let upstream = match self.upstream() {
            Ok(upstream) => Rc::clone(upstream),
            Err(reason) => return Ok(self.refuse(request, rest.len(), &reason)),
        };
        let len = request.line.len() as u64 + request.body;
        if (rest.len() as u64) < len {
            let streams = request.body > WHOLE_REQUEST_MAX || self.context.settings.dedicated;
            return if streams { Err(Step::Stream) } else { Ok(0) };
        }
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        self.send_text(&upstream, request, &rest[request.line.len()..len])?;
        self.behind_get = matches!(request.command, Command::Get { .. } | Command::GetAndTouch { .. });
        Ok(len)
    }

    fn wants_own(&self, request: &Request<'_>) -> bool {
        let alone = match request.command {
            Command::Watch | Command::Dump | Command::Shutdown | Command::Admin | Command::Odd => true,
            Command::Meta(meta) => reflects_any_bytes(&meta),
            _ => false,
        };
        alone
            || self.shared.is_none()
            // Who is let in is a matter of the connection.
            || self.context.capability.get().authentication
            || matches!(request.command, Command::Get { keys, .. } if self.downstream.owed.is_too_much(keys.count()))
            || request.body > WHOLE_REQUEST_MAX
            || self.downstream.owed.saw_large_reply() && self.upstream().is_ok()
    }

    /// Answers in memcached's place; says how many bytes of the input that settles.
    fn refuse(&mut self, request: &Request<'_>, have: usize, reason: &str) -> usize {
        self.downstream.cut_write();
        if request.quiet.is_none() || matches!(request.command, Command::Meta(_)) {
            self.answered = true;
            self.downstream.deliver(b"SERVER_ERROR ");
            self.downstream.deliver(reason.as_bytes());
            self.downstream.deliver(b"\r\n");
        }
        self.keys_sent = 0;
        drop(self.granted.take());
        let len = request.line.len() as u64 + request.body;
        let used = len.min(have as u64);
        self.skip = len - used;
        usize::try_from(used).unwrap_or(have)
    }

    fn send_text(&mut self, upstream: &Rc<Upstream>, request: &Request<'_>, body: &[u8]) -> Result<(), Step> {
        let value = body.strip_suffix(b"\r\n").unwrap_or(body);
        let now_s = self.context.wall_seconds();
        match request.command {
            Command::Get { verb, keys } => self.send_get(upstream, request, verb, keys),
            Command::GetAndTouch { verb, keys, .. } => return self.send_gat(upstream, request, verb, keys),
            Command::Store { verb, key, flags, exptime, cas } => {
                if self.context.capability.get().authentication {
                    // ASCII authentication poses as a `set`; what it carries is nobody else's business.
                    self.alone = true;
                    self.send_line(upstream, request, body, Shape::Line, None);
                    return Ok(());
                }
                let hold = self.gate(key, upstream)?;
                let write = hold.map(|hold| held(hold, intent::of_store(verb, flags, exptime, value, now_s)));
                let store = Store { verb, key, flags, exptime, cas, body };
                if let Err(write) = self.send_versioned_store(upstream, request, store, write) {
                    self.send_line(upstream, request, body, Shape::Line, write);
                }
            }
            Command::Delete { key } => self.send_write(upstream, request, key, Intent::Delete)?,
            Command::Arithmetic { verb, key, delta } => {
                let write = self.gate(key, upstream)?.map(|hold| held(hold, Intent::Change(Refused::Kept)));
                let arithmetic = (verb, key, delta);
                if let Err(write) = self.send_versioned_arithmetic(upstream, request, arithmetic, write) {
                    self.send_line(upstream, request, b"", Shape::Line, write);
                }
            }
            Command::Touch { key, .. } => self.send_write(upstream, request, key, Intent::Touch)?,
            Command::FlushAll { delay } => self.send_flush(upstream, request, delay.unwrap_or(0))?,
            Command::Meta(meta) if reflects_any_bytes(&meta) => {
                return self.send_odd(upstream, request, body);
            }
            Command::Meta(meta) => self.send_meta(upstream, request, &meta, body)?,
            Command::Version | Command::MetaNoop => {
                self.send_line(upstream, request, body, Shape::Line, None)
            }
            Command::Stats { args } if args.starts_with(b"detail") => {
                self.context.note_prefix_statistics();
                self.send_line(upstream, request, body, Shape::Stats, None);
            }
            Command::Stats { .. } => self.send_line(upstream, request, body, Shape::Stats, None),
            Command::Watch => return Err(Step::Watch),
            Command::Dump => {
                self.alone = true;
                self.send_line(upstream, request, body, Shape::Dump, None);
            }
            Command::Admin | Command::Shutdown | Command::Odd => {
                return self.send_odd(upstream, request, body);
            }
            Command::Quit => return Err(Step::Over),
        }
        Ok(())
    }

    fn send_get(&self, upstream: &Upstream, request: &Request<'_>, verb: GetVerb, keys: Keys<'_>) {
        let convertible = !upstream.is_own() && !upstream.is_tunnel() && self.context.gets_are_convertible();
        match keys.single() {
            Some(key) if convertible => {
                let cas = verb == GetVerb::Gets;
                let flags: &[u8] = if cas { b" k f c v\r\n" } else { b" k f v\r\n" };
                let pieces: [&[u8]; 3] = [b"mg ", key, flags];
                let mut pending = self.owed(Shape::Line, label(&request.command));
                pending.conversion = Conversion::Get { cas };
                pending.lookup = self.lookup(&pieces, std::iter::once(key));
                upstream.request(&pieces, pending);
            }
            _ => {
                let mut pending = self.owed(Shape::Values, label(&request.command));
                pending.keys = u32::try_from(keys.count()).unwrap_or(u32::MAX);
                pending.lookup = self.lookup(&[request.line], keys.iter());
                upstream.request(&[request.line], pending);
            }
        }
    }

    /// With peers, a `gat` of several keys goes up as one for each: each holds its own gate, and no two at once.
    fn send_gat(
        &mut self,
        upstream: &Rc<Upstream>,
        request: &Request<'_>,
        verb: GatVerb,
        keys: Keys<'_>,
    ) -> Result<(), Step> {
        if !self.replicates() {
            self.send_line(upstream, request, b"", Shape::Values, None);
            return Ok(());
        }
        let count = keys.count();
        let exptime = request.line.split(|&byte| byte == b' ').nth(1).unwrap_or_default();
        let word: &[u8] = if verb == GatVerb::Gats { b"gats " } else { b"gat " };
        for (position, key) in keys.iter().enumerate().skip(self.keys_sent) {
            if let Some(hold) = self.gate(key, upstream)? {
                let mut pending = self.owed(Shape::Values, label(&request.command));
                pending.write = Some(held(hold, Intent::Touch));
                pending.quiet = if position + 1 == count { Quiet::No } else { Quiet::End };
                upstream.request(&[word, exptime, b" ", key, b"\r\n"], pending);
            }
            self.keys_sent = position + 1;
        }
        self.keys_sent = 0;
        Ok(())
    }

    fn send_write(
        &mut self,
        up: &Rc<Upstream>,
        request: &Request<'_>,
        key: &[u8],
        intent: Intent,
    ) -> Result<(), Step> {
        let write = self.gate(key, up)?.map(|hold| held(hold, intent));
        self.send_line(up, request, b"", Shape::Line, write);
        Ok(())
    }

    fn send_flush(&mut self, upstream: &Rc<Upstream>, request: &Request<'_>, delay: i64) -> Result<(), Step> {
        let when = self.note_flush(delay)?;
        let held = matches!(when, When::Now) && self.gate_of_all(upstream)?;
        let write = held.then(|| Box::new(Write { hold: Hold::All, intent: Intent::Flush, effect: None }));
        match when {
            When::Noted => self.say_ok(request.quiet.is_some()),
            When::Now if held => {
                let mut pending = self.owed(Shape::Line, label(&request.command));
                pending.quiet = quiet_of(request);
                pending.write = write;
                upstream.request(&[b"flush_all\r\n"], pending);
            }
            When::Now | When::Refused => self.send_line(upstream, request, b"", Shape::Line, None),
        }
        Ok(())
    }

    fn send_meta(
        &mut self,
        upstream: &Rc<Upstream>,
        request: &Request<'_>,
        meta: &Meta<'_>,
        body: &[u8],
    ) -> Result<(), Step> {
        self.note_marks(request);
        if !self.replicates() {
            self.send_line(upstream, request, body, Shape::Line, None);
            return Ok(());
        }
        let value = body.strip_suffix(b"\r\n").unwrap_or(body);
        let intent =
            intent::of_meta(meta, value, self.context.wall_seconds(), self.context.stale_marks_seen());
        let Some(intent) = intent else {
            self.send_meta_read(upstream, request, meta, body);
            return Ok(());
        };
        let hold = self.gate(&meta.decoded_key(), upstream)?;
        let intent = self.ask_before(upstream, meta, intent);
        let write = hold.map(|hold| held(hold, intent));
        if let Err(write) = self.send_versioned_meta(upstream, request, (meta, body), write) {
            self.send_line(upstream, request, body, Shape::Line, write);
        }
        Ok(())
    }

    /// One that changes nothing.
    fn send_meta_read(&self, upstream: &Upstream, request: &Request<'_>, meta: &Meta<'_>, body: &[u8]) {
        let mut pending = self.owed(Shape::Line, label(&request.command));
        pending.quiet = quiet_of(request);
        let (front, back) = request.loud();
        if meta.verb == MetaVerb::Get {
            pending.lookup = self.lookup(&[front, back], std::iter::once(&*meta.decoded_key()));
        }
        upstream.request(&[front, back, body], pending);
    }

    /// What a peer may know of keys that memcached does not have.
    pub(super) fn lookup<'k>(
        &self,
        request: &[&[u8]],
        keys: impl Iterator<Item = &'k [u8]>,
    ) -> Option<Box<Lookup>> {
        (self.context.fills.is_some() && !self.is_away()).then(|| Lookup::new(request, keys))
    }

    /// Whether `ms … I C<cas>` will have marked its item stale, its answer does not tell: the item's CAS is asked
    /// for just in front of it, under the same gate.
    fn ask_before(&self, upstream: &Upstream, meta: &Meta<'_>, intent: Intent) -> Intent {
        let stale_store =
            meta.verb == MetaVerb::Set && meta.has(b'I') && meta.mode() != Some(MetaMode::Append);
        let cas = meta.token(b'C').and_then(|cas| std::str::from_utf8(cas).ok()?.parse().ok());
        let (true, Some(cas)) = (stale_store, cas) else { return intent };
        let before = Rc::new(Cell::new(None));
        let mut pending = self.owed(Shape::Line, CommandName::Other);
        pending.quiet = Quiet::Noreply;
        pending.conversion = Conversion::CasOf(Rc::clone(&before));
        let flag: &[u8] = if meta.is_base64() { b" b\r\n" } else { b"\r\n" };
        upstream.request(&[b"me ", meta.key, flag], pending);
        Intent::StoreStale { cas, before }
    }

    fn send_line(
        &self,
        up: &Upstream,
        request: &Request<'_>,
        body: &[u8],
        shape: Shape,
        write: Option<Box<Write>>,
    ) {
        let mut pending = self.owed(shape, label(&request.command));
        pending.quiet = quiet_of(request);
        pending.write = write;
        let (front, back) = request.loud();
        up.request(&[front, back, body], pending);
    }
}

/// What of the reply the app does not want.
pub(super) fn quiet_of(request: &Request<'_>) -> Quiet {
    match (&request.quiet, &request.command) {
        (None, _) => Quiet::No,
        (Some(_), Command::Meta(meta)) => Quiet::Meta(meta.verb),
        (Some(_), _) => Quiet::Noreply,
    }
}

fn held(hold: Hold, intent: Intent) -> Box<Write> {
    Box::new(Write { hold, intent, effect: None })
}
