//! How much goes into a message (pure): answers that do not fit are cut off and the message says so (TC, RFC 2181 section 9); additional
//! records are left out in silence, since whoever needs them asks.

use hickory_server::proto::rr::{Name, RData, Record};

use super::answer::Answer;

/// RFC 1035 section 2.3.4: what a client without EDNS takes.
pub const PLAIN: u16 = 512;
/// What passes nearly everywhere without fragments (DNS flag day 2020).
pub const EDNS_MAX: u16 = 1_232;
/// RFC 1035 section 4.2.2: the length before a message over TCP has 16 bits.
pub const TCP: u16 = u16::MAX;

/// RFC 1035 section 4.1.1.
const HEADER: usize = 12;
/// Type and class, behind the name in question.
const QUESTION: usize = 4;
/// RFC 6891 section 6.1.2, without options.
const OPT: usize = 11;
/// A pointer to the name in question, type, class, time to live, length (RFC 1035 section 4.1.3).
const RECORD_OF_THE_QUESTION: usize = 12;
/// Type, class, time to live, length.
const RECORD: usize = 10;
/// Priority, weight and port (RFC 2782).
const SRV: usize = 6;
/// A site, a shard and an appid, with the length of each label before it, at their longest.
const LONGEST_TARGET: usize = 64 + 7 + 11;

/// How much a client takes: what it says, within reason.
#[must_use]
pub fn limit(is_udp: bool, edns: Option<u16>) -> u16 {
    match (is_udp, edns) {
        (false, _) => TCP,
        (true, None) => PLAIN,
        (true, Some(says)) => says.clamp(PLAIN, EDNS_MAX),
    }
}

/// How many SRV records one message holds, whatever their names are: the same for every client and transport.
#[must_use]
pub fn services_in_one_message(zone: &Name) -> usize {
    let question = HEADER + QUESTION + OPT + 2 * LONGEST_TARGET + zone.len();
    (usize::from(TCP) - question) / (RECORD_OF_THE_QUESTION + SRV + LONGEST_TARGET + zone.len())
}

/// Leaves out what has no room. `true`: answers are missing, and the message has to say so.
pub fn fit(answer: &mut Answer, question: &Name, limit: u16, has_edns: bool) -> bool {
    let reserved = HEADER + question.len() + QUESTION + if has_edns { OPT } else { 0 };
    let mut room = usize::from(limit).saturating_sub(reserved);
    let is_cut = keep(&mut answer.answers, &mut room, RECORD_OF_THE_QUESTION)
        | keep(&mut answer.authority, &mut room, RECORD);
    if is_cut {
        answer.additionals.clear();
    }
    keep(&mut answer.additionals, &mut room, RECORD);
    is_cut
}

/// Keeps the first ones that fit; `true`: not all did.
fn keep(records: &mut Vec<Record>, room: &mut usize, head: usize) -> bool {
    let fits = |record: &Record| {
        let name = if head == RECORD { record.name.len() } else { 0 };
        let size = head + name + size_of_data(&record.data);
        let left = room.checked_sub(size);
        *room = left.unwrap_or(*room);
        left.is_some()
    };
    let before = records.len();
    let mut fits = fits;
    let kept = records.iter().take_while(|record| fits(record)).count();
    records.truncate(kept);
    kept < before
}

/// Without compression: a bound from above.
fn size_of_data(data: &RData) -> usize {
    match data {
        RData::A(_) => 4,
        RData::AAAA(_) => 16,
        RData::SRV(one) => SRV + one.target.len(),
        RData::NS(one) => one.0.len(),
        RData::CNAME(one) => one.0.len(),
        RData::TXT(one) => one.txt_data.iter().map(|text| 1 + text.len()).sum(),
        RData::SOA(one) => 20 + one.mname.len() + one.rname.len(),
        // Nothing else is ever answered.
        _ => usize::from(TCP),
    }
}
