//! What a session awaits: everything that does not fit into one turn.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use memcloud_protocol::memcache::{Dialect, binary, text};
use tokio::io::ReadBuf;
use tokio::time::sleep;

use super::{HeldGate, Session};
use crate::downstream::{Awaiting, End};
use crate::metrics::CommandName;
use crate::replication::effect::Intent;
use crate::replication::{Effect, LaneId, Wait};
use crate::upstream::{Conversion, Hold, Label, Pending, Quiet, Shape, Upstream, Write, open_own};

impl Session {
    /// Waits until no answer is owed, or the session is over.
    pub(super) async fn idle(&mut self) {
        // A gate must not wait for an app to read; and it is granted for the order of one connection.
        drop(self.granted.take());
        let downstream = Rc::clone(&self.downstream);
        poll_fn(|cx| {
            downstream.set_waker(cx.waker());
            downstream.set_awaiting(Awaiting::Idle);
            let flushed = downstream.poll_flush(cx);
            if downstream.owed.in_flight() == 0 && flushed.is_ready() || downstream.end().is_some() {
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }

    /// Gets a connection that this session has for itself, and keeps it.
    pub(super) async fn open_own(&mut self) {
        self.idle().await;
        if self.downstream.end().is_some() {
            return;
        }
        let Some(target) = self.target() else { return };
        match open_own(&self.context, &self.downstream, target).await {
            Ok(upstream) => self.own = Some(upstream),
            Err(reason) => self.stay_or_move(reason).await,
        }
    }

    /// Waits for a gate, but not longer than for memcached itself.
    pub(super) async fn wait_for_gate(&mut self, wait: Wait, lane: LaneId, key: Option<Box<[u8]>>) {
        match self.gate_in_time(wait, lane, key).await {
            Some(held) => self.granted = Some(held),
            None => self.refusal = Some("another write of this key has no answer yet".to_owned()),
        }
    }

    async fn gate_in_time(&self, wait: Wait, lane: LaneId, key: Option<Box<[u8]>>) -> Option<HeldGate> {
        self.context.counters.gate_wait();
        let limit = Duration::from_micros(self.context.settings.upstream_timeout_us);
        let shared = self.context.replication.clone()?;
        let mut wait = std::pin::pin!(wait);
        let granted = poll_fn(|cx| {
            // Earlier answers go on meanwhile.
            self.downstream.set_waker(cx.waker());
            let _ = self.downstream.poll_flush(cx);
            wait.as_mut().poll(cx)
        });
        let slot = tokio::time::timeout(limit, granted).await.ok()?;
        self.context.turn();
        Some(HeldGate { gate: Some((slot, shared)), lane, key })
    }

    /// Sends a request that is too long to be held, as it comes. Its key's gate is not held meanwhile, or an app that
    /// stalls would hold up others: the key is marked when the outcome is known.
    pub(super) async fn stream_request(&mut self) {
        let Some(plan) = self.plan() else { return };
        let Ok(upstream) = self.upstream().map(Rc::clone) else { return };
        let write = plan.write.map(|(key, intent)| {
            Box::new(Write { hold: Hold::Afterwards(vec![key.into()]), intent, effect: None })
        });
        upstream.send(&[&plan.head]);
        upstream.expect(Pending { write, open: true, ..plan.pending });
        self.input.drain(..plan.used);
        if self.pump(&upstream, plan.body).await {
            upstream.close_request();
            upstream.send(&[plan.behind]);
        }
    }

    /// Sends a `watch`. If memcached takes it, the connection is a log from then on.
    pub(super) async fn watch(&mut self) {
        let Ok(upstream) = self.upstream().map(Rc::clone) else { return };
        let Some(line) =
            memchr::memchr(b'\n', &self.input).map(|end| self.input.drain(..=end).collect::<Vec<_>>())
        else {
            return;
        };
        let told = Rc::new(RefCell::new(None));
        let mut asked = self.owed(Shape::Line, CommandName::Watch);
        let hold = Hold::Told(Rc::clone(&told));
        asked.write = Some(Box::new(Write { hold, intent: Intent::Flush, effect: None }));
        upstream.request(&[&line], asked);
        // Expected at once, because the log may begin in the same breath.
        upstream.expect(Pending { open: true, ..self.owed(Shape::Raw, CommandName::Watch) });
        let downstream = Rc::clone(&self.downstream);
        poll_fn(|cx| {
            downstream.set_waker(cx.waker());
            downstream.set_awaiting(Awaiting::Room);
            let _ = downstream.poll_flush(cx);
            if told.borrow().is_some() || downstream.end().is_some() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        match told.take() {
            None | Some(Effect::None) => upstream.expect_no_more(),
            Some(_) => self.pass_on(&upstream).await,
        }
    }

    /// Sends a line without end, as it comes.
    pub(super) async fn stream_line(&mut self) {
        let Ok(upstream) = self.upstream().map(Rc::clone) else { return };
        upstream.expect(Pending { open: true, ..self.owed(Shape::Values, CommandName::Get) });
        loop {
            let end = memchr::memchr(b'\n', &self.input).map(|at| at + 1);
            let len = end.unwrap_or(self.input.len());
            upstream.send(&[&self.input[..len]]);
            self.input.drain(..len);
            if end.is_some() {
                upstream.close_request();
                return;
            }
            if !self.more(&upstream, Duration::ZERO).await {
                return;
            }
        }
    }

    /// Passes on bytes both ways until somebody closes.
    pub(super) async fn relay(&mut self) {
        self.idle().await;
        let Ok(upstream) = self.upstream().map(Rc::clone) else { return };
        upstream.expect(Pending { open: true, ..self.owed(Shape::Raw, CommandName::Other) });
        self.pass_on(&upstream).await;
    }

    async fn pass_on(&mut self, upstream: &Rc<Upstream>) {
        loop {
            let input = std::mem::take(&mut self.input);
            upstream.send(&[&input]);
            if !self.more(upstream, Duration::ZERO).await {
                break;
            }
        }
    }

    /// What is known of the request at the front, which is not all here.
    fn plan(&self) -> Option<Plan> {
        match self.dialect {
            Some(Dialect::Text) => self.plan_text(),
            _ => self.plan_binary(),
        }
    }

    fn plan_text(&self) -> Option<Plan> {
        let capability = self.context.capability.get();
        let text::Decoded::Request(request) = text::decode(&self.input, &capability.framing) else {
            return None;
        };
        self.note_marks(&request);
        let odd = matches!(request.command, text::Command::Odd | text::Command::Admin);
        let mut pending = self
            .owed(if odd { Shape::UntilNoop } else { Shape::Line }, super::label::label(&request.command));
        pending.quiet = super::text::quiet_of(&request);
        let head = match self.streamed_head(&request) {
            Some((head, conversion)) => {
                pending.conversion = conversion;
                head
            }
            None => [request.loud().0, request.loud().1].concat(),
        };
        Some(Plan {
            used: request.line.len(),
            head,
            body: request.body,
            write: self.replicated(super::intent::of_streamed_text(&request)),
            behind: if odd { b"mn\r\n" } else { b"" },
            pending,
        })
    }

    fn plan_binary(&self) -> Option<Plan> {
        let binary::Decoded::Request(request) = binary::decode(&self.input) else { return None };
        let mut head = self.input[..request.head].to_vec();
        let mut pending = self.owed(Shape::Packet, super::label::binary_label(&request.command));
        if let Some(loud) = request.quiet {
            pending.quiet = super::binary::quiet_of(&request);
            head[1] = loud;
        }
        Some(Plan {
            used: request.head,
            head,
            body: request.body,
            write: self.replicated(super::intent::of_streamed_binary(&request)),
            behind: b"",
            pending,
        })
    }

    fn replicated(&self, write: Option<(Vec<u8>, Intent)>) -> Option<(Vec<u8>, Intent)> {
        write.filter(|_| self.replicates())
    }

    /// Sends `left` bytes of the app's stream, holding little of them at a time.
    async fn pump(&mut self, upstream: &Rc<Upstream>, mut left: u64) -> bool {
        loop {
            let len = usize::try_from(left).unwrap_or(usize::MAX).min(self.input.len());
            upstream.send(&[&self.input[..len]]);
            self.input.drain(..len);
            left -= len as u64;
            if left == 0 {
                return true;
            }
            if !self.more(upstream, UPLOAD_STALL).await {
                return false;
            }
        }
    }

    /// Reads more of the app's stream once memcached has taken what it was sent. False when there is no more, or, while
    /// the proxy drains, when nothing came for so long.
    async fn more(&mut self, upstream: &Rc<Upstream>, patience: Duration) -> bool {
        let mut stalled = std::pin::pin!(sleep(patience));
        let going_on = poll_fn(|cx| match self.poll_more(cx, upstream) {
            Poll::Pending if self.downstream.is_draining() => stalled.as_mut().poll(cx).map(|()| false),
            polled => polled,
        })
        .await;
        if !going_on {
            // A request that was cut off is not answered any more; what stands before it is.
            upstream.finish();
            self.downstream.finish();
        }
        going_on
    }

    pub(super) fn poll_more(&mut self, cx: &mut TaskContext<'_>, upstream: &Upstream) -> Poll<bool> {
        self.downstream.set_waker(cx.waker());
        let _ = self.downstream.poll_flush(cx);
        if self.downstream.end().is_some() {
            return Poll::Ready(false);
        }
        if upstream.unsent() > UNSENT_MAX {
            return Poll::Pending;
        }
        let context = Rc::clone(&self.context);
        let mut scratch = context.scratch.borrow_mut();
        let mut buf = ReadBuf::new(&mut scratch);
        match self.downstream.poll_read(cx, &mut buf) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(_)) => Poll::Ready(false),
            Poll::Ready(Ok(())) => {
                context.turn();
                context.counters.received(buf.filled().len() as u64);
                self.input.extend_from_slice(buf.filled());
                Poll::Ready(!buf.filled().is_empty())
            }
        }
    }

    /// A reply owed to this session, of the common kind.
    pub(super) fn owed(&self, shape: Shape, command: CommandName) -> Pending {
        Pending {
            downstream: Rc::clone(&self.downstream),
            shape,
            quiet: Quiet::No,
            conversion: Conversion::None,
            label: Label(self.dialect.unwrap_or(Dialect::Text), command),
            write: None,
            lookup: None,
            again: None,
            keys: 1,
            open: false,
            asked_us: self.context.now_us(),
        }
    }

    /// Ends the session: what is owed is delivered, as far as the app still takes it.
    pub(super) async fn close(mut self) {
        drop(self.granted.take());
        if self.downstream.end() != Some(End::Now) {
            let downstream = Rc::clone(&self.downstream);
            poll_fn(|cx| {
                downstream.set_waker(cx.waker());
                downstream.set_awaiting(Awaiting::Idle);
                let flushed = downstream.poll_flush(cx).is_ready() && !downstream.has_unsent();
                if downstream.end() == Some(End::Now) || flushed && downstream.owed.in_flight() == 0 {
                    return Poll::Ready(());
                }
                Poll::Pending
            })
            .await;
            let _ = poll_fn(|cx| self.downstream.poll_shutdown(cx)).await;
        }
        self.downstream.abort();
        if let Some(own) = &self.own {
            own.finish();
        }
    }
}

/// A request that is sent in pieces.
struct Plan {
    /// Bytes of the input that `head` stands for.
    used: usize,
    head: Vec<u8>,
    body: u64,
    write: Option<(Vec<u8>, Intent)>,
    /// Sent behind the body.
    behind: &'static [u8],
    pending: Pending,
}

/// While the proxy drains, a long request of which nothing came for so long is cut off.
const UPLOAD_STALL: Duration = Duration::from_secs(1);
/// What memcached has not taken yet of a long request, before the app is read again.
pub(super) const UNSENT_MAX: usize = 256 * 1024;
