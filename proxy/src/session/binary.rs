//! Dispatch of binary requests. A binary session always has its own connection: replies are matched in order,
//! quiet requests go up in their loud form, and what the app did not want to hear stays here.

use std::rc::Rc;

use memcloud_protocol::memcache::binary::{self, Command, Decoded, Request};

use super::flush::{When, without_body};
use super::label::binary_label;
use super::{Session, Step, WHOLE_REQUEST_MAX, intent};
use crate::replication::effect::Intent;
use crate::upstream::{Hold, Quiet, Shape, Upstream, Write};

impl Session {
    /// Hands on the request at the front of `rest`. 0 if it is not all here.
    pub(super) fn binary(&mut self, rest: &[u8]) -> Result<usize, Step> {
        let request = match binary::decode(rest) {
            Decoded::Incomplete => return Ok(0),
            Decoded::BadMagic => return Err(Step::Over),
            Decoded::Request(request) => request,
        };
        if request.quiet.is_some() && matches!(request.command, Command::Quit) {
            return Err(Step::Over);
        }
        if self.refusal.is_some() && self.downstream.owed.in_flight() > 0 {
            return Err(Step::Idle);
        }
        if let Some(reason) = self.refusal.take() {
            return Ok(self.refuse_packet(&request, rest.len(), &reason));
        }
        if self.own.is_none() {
            return Err(Step::Own);
        }
        let upstream = match self.upstream() {
            Ok(upstream) => Rc::clone(upstream),
            Err(reason) => return Ok(self.refuse_packet(&request, rest.len(), &reason)),
        };
        if !request.valid {
            // memcached answers an error and closes, in words of its own.
            return Err(Step::Raw);
        }
        let len = request.head as u64 + request.body;
        if (rest.len() as u64) < len {
            let streams = request.body > WHOLE_REQUEST_MAX || self.context.settings.dedicated;
            return if streams { Err(Step::Stream) } else { Ok(0) };
        }
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        self.send_packet(&upstream, &request, &rest[..len])?;
        Ok(len)
    }

    fn refuse_packet(&mut self, request: &Request<'_>, have: usize, reason: &str) -> usize {
        drop(self.granted.take());
        let (opcode, opaque) = (request.header.opcode, request.header.opaque);
        self.answered = true;
        self.downstream.deliver_with(|out| {
            binary::write_error(opcode, binary::status::OUT_OF_MEMORY, opaque, reason.as_bytes(), out);
        });
        let len = request.head as u64 + request.body;
        let used = len.min(have as u64);
        self.skip = len - used;
        usize::try_from(used).unwrap_or(have)
    }

    fn send_packet(
        &mut self,
        upstream: &Rc<Upstream>,
        request: &Request<'_>,
        packet: &[u8],
    ) -> Result<(), Step> {
        if matches!(request.command, Command::Flush { .. }) && self.replicates() {
            return self.send_flush_packet(upstream, request, packet);
        }
        let write = self.write_of(upstream, request, &packet[request.head..])?;
        let shape = if matches!(request.command, Command::Stat) { Shape::Packets } else { Shape::Packet };
        let mut pending = self.owed(shape, binary_label(&request.command));
        pending.write = write.map(Box::new);
        let reads = matches!(request.command, Command::Get { .. });
        let key = || std::iter::once(request.key);
        match request.quiet {
            Some(loud) => {
                pending.quiet = quiet_of(request);
                let pieces: [&[u8]; 2] = [&[packet[0], loud], &packet[2..]];
                pending.lookup = reads.then(|| self.lookup(&pieces, key())).flatten();
                upstream.request(&pieces, pending);
            }
            None => {
                pending.lookup = reads.then(|| self.lookup(&[packet], key())).flatten();
                upstream.request(&[packet], pending);
            }
        }
        Ok(())
    }

    fn send_flush_packet(
        &mut self,
        upstream: &Rc<Upstream>,
        request: &Request<'_>,
        packet: &[u8],
    ) -> Result<(), Step> {
        let Command::Flush { delay } = request.command else { return Ok(()) };
        let mut pending = self.owed(Shape::Packet, binary_label(&request.command));
        pending.quiet = quiet_of(request);
        let mut at_once = Vec::new();
        let packet = match self.note_flush(delay.unwrap_or(0).into())? {
            When::Noted if request.quiet.is_some() => return Ok(()),
            When::Noted => {
                self.say_success(&request.header);
                return Ok(());
            }
            When::Now => {
                self.gate_of_all(upstream)?;
                pending.write =
                    Some(Box::new(Write { hold: Hold::All, intent: Intent::Flush, effect: None }));
                without_body(&request.header).write(&mut at_once);
                &at_once
            }
            When::Refused => packet,
        };
        let opcode = request.quiet.unwrap_or(request.header.opcode);
        upstream.request(&[&[packet[0], opcode], &packet[2..]], pending);
        Ok(())
    }

    fn write_of(
        &mut self,
        upstream: &Rc<Upstream>,
        request: &Request<'_>,
        value: &[u8],
    ) -> Result<Option<Write>, Step> {
        if !self.replicates() {
            return Ok(None);
        }
        let now_s = self.context.wall_seconds();
        let Some(intent) = intent::of_binary(request, value, now_s) else { return Ok(None) };
        let hold = self.gate(request.key, upstream)?;
        Ok(hold.map(|hold| Write { hold, intent, effect: None }))
    }
}

/// What of the reply the app does not want.
pub(super) fn quiet_of(request: &Request<'_>) -> Quiet {
    if request.quiet.is_some() { Quiet::Packet(request.opcode) } else { Quiet::No }
}
