//! From a decoded request to a message: the only place that knows hickory's handler.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::proto::op::{Edns, Header, HeaderCounts, MessageType, Metadata, OpCode, ResponseCode};
use hickory_server::proto::rr::{DNSClass, Record};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use metrics::Counter;
use tokio::time::Instant;

use super::answer::{Answer, answer};
use super::fit::{EDNS_MAX, PLAIN, fit, limit};
use super::limits::{Limits, Verdict};
use super::zone::Zone;
use crate::registrar::View;

/// Answers from the view of now. One for each socket: nothing here is shared between cores but the view.
pub(super) struct Handler {
    zone: Arc<Zone>,
    view: Arc<ArcSwap<View>>,
    limits: Mutex<Limits>,
    began: Instant,
    chance: AtomicU64,
    counted: Counted,
}

struct Counted {
    udp: Counter,
    tcp: Counter,
    truncated: Counter,
    limited: Counter,
    refused: Counter,
    unfit: Counter,
}

impl Handler {
    pub(super) fn new(zone: Arc<Zone>, view: Arc<ArcSwap<View>>, rate: u32, seed: u64) -> Self {
        Self {
            zone,
            view,
            limits: Mutex::new(Limits::new(rate)),
            began: Instant::now(),
            chance: AtomicU64::new(seed | 1),
            counted: Counted::new(),
        }
    }

    /// xorshift64*: who wants to foresee the order of equal replicas may.
    fn draw(&self, below: u32) -> u32 {
        let mut state = self.chance.load(Ordering::Relaxed);
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.chance.store(state, Ordering::Relaxed);
        let drawn = state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        u32::try_from(drawn % u64::from(below.max(1))).unwrap_or(0)
    }

    fn verdict(&self, request: &Request) -> Verdict {
        if request.protocol() != Protocol::Udp {
            return Verdict::Answer;
        }
        let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        limits.ask(request.src().ip(), now_ms)
    }

    /// The sections, and the code; pure but for the view and the draw.
    fn answer(&self, request: &Request) -> Answer {
        let code = |code| Answer { code, ..Answer::default() };
        if request.metadata.op_code != OpCode::Query {
            return code(ResponseCode::NotImp);
        }
        let Ok(info) = request.request_info() else { return code(ResponseCode::FormErr) };
        if info.query.query_class() != DNSClass::IN {
            return code(ResponseCode::Refused);
        }
        let view = self.view.load();
        let asked = info.query.original();
        answer(&self.zone, &view.directory, asked.name(), asked.query_type(), &mut |below| self.draw(below))
    }
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut out: R,
    ) -> ResponseInfo {
        let is_udp = request.protocol() == Protocol::Udp;
        if is_udp { &self.counted.udp } else { &self.counted.tcp }.increment(1);
        let mut metadata = Metadata::response_from_request(&request.metadata);
        let asked = request.edns.as_ref();
        let edns = asked.map(reply_edns);
        let mut answer = match self.verdict(request) {
            Verdict::Answer if asked.is_some_and(|edns| edns.version() > 0) => {
                Answer { code: ResponseCode::BADVERS, ..Answer::default() }
            }
            Verdict::Answer => self.answer(request),
            Verdict::Slip => {
                self.counted.limited.increment(1);
                metadata.truncation = true;
                Answer::default()
            }
            Verdict::Drop => {
                self.counted.limited.increment(1);
                return nothing(&metadata);
            }
        };
        if answer.code == ResponseCode::Refused {
            self.counted.refused.increment(1);
        }
        let room = limit(is_udp, asked.map(Edns::max_payload));
        if let Ok(info) = request.request_info()
            && fit(&mut answer, info.query.original().name(), room, edns.is_some())
        {
            self.counted.truncated.increment(1);
            metadata.truncation = true;
        }
        metadata.authoritative = answer.is_authoritative;
        metadata.recursion_available = false;
        metadata.response_code = answer.code;
        let builder = MessageResponseBuilder::new(&request.queries, edns.as_ref());
        let none = std::iter::empty::<&Record>();
        let message = builder.build(metadata, &answer.answers, &answer.authority, none, &answer.additionals);
        match out.send_response(message).await {
            Ok(info) => info,
            Err(error) => {
                self.counted.unfit.increment(1);
                tracing::debug!(%error, "an answer was not sent");
                nothing(&metadata)
            }
        }
    }
}

/// A client that knows EDNS is answered with it, and told how much we send.
fn reply_edns(asked: &Edns) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(asked.max_payload().clamp(PLAIN, EDNS_MAX));
    edns.set_version(0);
    // RFC 3225 section 3: copied, whether or not there is anything signed.
    edns.set_dnssec_ok(asked.flags().dnssec_ok);
    edns
}

fn nothing(metadata: &Metadata) -> ResponseInfo {
    let mut metadata = *metadata;
    metadata.message_type = MessageType::Response;
    Header { metadata, counts: HeaderCounts::default() }.into()
}

impl Counted {
    fn new() -> Self {
        let queries =
            |transport| metrics::counter!("memcloud_control_dns_queries_total", "transport" => transport);
        Self {
            udp: queries("udp"),
            tcp: queries("tcp"),
            truncated: metrics::counter!("memcloud_control_dns_truncated_total"),
            limited: metrics::counter!("memcloud_control_dns_limited_total"),
            refused: metrics::counter!("memcloud_control_dns_refused_total"),
            unfit: metrics::counter!("memcloud_control_dns_unsent_total"),
        }
    }
}
