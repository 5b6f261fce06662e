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
/// A pointer to the name, type, class, time to live, length (RFC 1035 section 4.1.3).
const RECORD_OF_THE_QUESTION: usize = 12;
/// Type, class, time to live, length.
const RECORD: usize = 10;
/// Priority, weight and port (RFC 2782).
const SRV: usize = 6;
/// hickory copies the question, writes the name whole in the first record behind it, points back to it from those up to this one, and
/// writes it whole again in the others.
const POINTERS_END: usize = 120;

/// How much a client takes: what it says, within reason.
#[must_use]
pub fn limit(is_udp: bool, edns: Option<u16>) -> u16 {
    match (is_udp, edns) {
        (false, _) => TCP,
        (true, None) => PLAIN,
        (true, Some(says)) => says.clamp(PLAIN, EDNS_MAX),
    }
}

/// How many SRV records with these targets one message holds: the same for every client and transport, and in every order.
#[must_use]
pub fn services_in_one_message<'a>(owner: &Name, targets: impl Iterator<Item = &'a Name>) -> usize {
    // Once more the name: it is written whole before it becomes a pointer.
    let mut room = usize::from(TCP) - HEADER - 2 * wire(owner) - QUESTION - OPT;
    let fits = |(number, target): (usize, &Name)| {
        let left = room.checked_sub(head_of_answer(owner, number) + SRV + wire(target));
        room = left.unwrap_or(0);
        left.is_some()
    };
    targets.enumerate().map(fits).take_while(|fits| *fits).count()
}

/// Leaves out what has no room. `true`: answers are missing, and the message has to say so.
pub fn fit(answer: &mut Answer, question: &Name, limit: u16, has_edns: bool) -> bool {
    let reserved = HEADER + wire(question) + QUESTION + if has_edns { OPT } else { 0 };
    let mut room = usize::from(limit).saturating_sub(reserved);
    let is_asked = |record: &Record| record.name.eq_case(question);
    let of_answer = |number, record: &Record| match is_asked(record) {
        true => head_of_answer(question, number),
        false => RECORD + wire(&record.name),
    };
    let of_other = |_, record: &Record| RECORD + wire(&record.name);
    let is_cut =
        keep(&mut answer.answers, &mut room, of_answer) | keep(&mut answer.authority, &mut room, of_other);
    if is_cut {
        answer.additionals.clear();
    }
    keep(&mut answer.additionals, &mut room, of_other);
    is_cut
}

/// What stands before the data of this record of the name in question.
fn head_of_answer(question: &Name, number: usize) -> usize {
    if (1..POINTERS_END).contains(&number) { RECORD_OF_THE_QUESTION } else { RECORD + wire(question) }
}

/// Keeps the first ones that fit; `true`: not all did.
fn keep(records: &mut Vec<Record>, room: &mut usize, head: impl Fn(usize, &Record) -> usize) -> bool {
    let mut fits = |(number, record): (usize, &Record)| {
        let size = head(number, record) + size_of_data(&record.data);
        // A name is written whole before it becomes a pointer.
        let is_kept = *room >= size.max(wire(&record.name));
        *room -= if is_kept { size } else { 0 };
        is_kept
    };
    let before = records.len();
    let kept = records.iter().enumerate().take_while(|&numbered| fits(numbered)).count();
    records.truncate(kept);
    kept < before
}

/// As it is sent: hickory does not count the root.
fn wire(name: &Name) -> usize {
    name.len() + 1
}

/// Without compression: a bound from above.
fn size_of_data(data: &RData) -> usize {
    match data {
        RData::A(_) => 4,
        RData::AAAA(_) => 16,
        RData::SRV(one) => SRV + wire(&one.target),
        RData::NS(one) => wire(&one.0),
        RData::CNAME(one) => wire(&one.0),
        RData::TXT(one) => one.txt_data.iter().map(|text| 1 + text.len()).sum(),
        RData::SOA(one) => 20 + wire(&one.mname) + wire(&one.rname),
        // Nothing else is ever answered.
        _ => usize::from(TCP),
    }
}
