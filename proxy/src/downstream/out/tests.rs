use proptest::prelude::*;

use super::*;

const SORRY: &str = "sorry";

fn say(out: &mut Out, answer: &str) {
    out.bytes().extend_from_slice(answer.as_bytes());
}

fn write(out: &mut Out, answer: &str) {
    out.open(Some(Form::Text));
    say(out, answer);
    out.close(true);
}

fn held(out: &mut Out) -> HoldId {
    out.hold().expect("something is to be held").0
}

/// Sends what may leave.
fn sent(out: &mut Out) -> String {
    out.settle();
    let text = String::from_utf8(out.waiting().to_vec()).unwrap();
    out.left(text.len());
    out.compact(4);
    text
}

#[test]
fn a_long_answer_is_held_in_parts() {
    let mut out = Out::default();
    let values = "v".repeat(40_000);
    for part in 1..=4 {
        out.open(Some(Form::Text));
        say(&mut out, &values);
        out.part(true);
        assert_eq!(out.waiting().len(), 0, "all of it waits");
        assert_eq!(out.hold().is_some(), part % 2 == 0, "part {part}");
    }
    out.open(Some(Form::Text));
    say(&mut out, "END\n");
    out.close(false);
    assert!(out.hold().is_none(), "nothing of the last part was changed");
}

#[test]
fn reads_before_a_write_leave_and_reads_behind_it_wait() {
    let mut out = Out::default();
    say(&mut out, "END ");
    write(&mut out, "STORED ");
    say(&mut out, "VALUE ");
    let hold = held(&mut out);
    assert_eq!(sent(&mut out), "END ");
    out.release(hold, None);
    assert_eq!(sent(&mut out), "STORED VALUE ");
    assert_eq!((out.unsent(), out.held_writes()), (0, 0));
    assert!(out.hold().is_none());
}

#[test]
fn a_write_that_changed_nothing_is_not_held() {
    let mut out = Out::default();
    out.open(None);
    say(&mut out, "NOT_");
    assert_eq!(sent(&mut out), "", "nobody knows yet");
    say(&mut out, "STORED ");
    out.close(false);
    assert!(out.hold().is_none());
    assert_eq!(sent(&mut out), "NOT_STORED ");
}

#[test]
fn what_is_released_early_waits_for_what_stands_before() {
    let mut out = Out::default();
    write(&mut out, "1 ");
    let first = held(&mut out);
    write(&mut out, "2 ");
    let second = held(&mut out);
    out.release(second, None);
    assert_eq!(sent(&mut out), "");
    out.release(first, None);
    assert_eq!(sent(&mut out), "1 2 ");
    // One that is over is nobody's.
    out.release(first, Some(SORRY));
    write(&mut out, "3 ");
    let third = held(&mut out);
    assert_eq!(sent(&mut out), "");
    out.release(third, None);
    assert_eq!(sent(&mut out), "3 ");
}

#[test]
fn each_answer_of_a_failed_hold_gives_way_to_an_error() {
    let mut out = Out::default();
    write(&mut out, "STORED\r\n");
    say(&mut out, "END\r\n");
    write(&mut out, "");
    let first = held(&mut out);
    write(&mut out, "7\r\n");
    let second = held(&mut out);
    out.open(Some(Form::Text));
    say(&mut out, "VALUE");
    out.release(first, Some("no"));
    assert_eq!(sent(&mut out), "SERVER_ERROR no\r\nEND\r\nSERVER_ERROR no\r\n");
    out.close(true);
    let third = held(&mut out);
    out.release(second, None);
    out.release(third, Some("never"));
    assert_eq!(sent(&mut out), "7\r\nSERVER_ERROR never\r\n");
}

#[test]
fn a_packet_fails_under_its_own_opcode_and_opaque() {
    let mut out = Out::default();
    out.open(Some(Form::Packet { opcode: 0x11, opaque: 9 }));
    out.close(true);
    let hold = held(&mut out);
    out.release(hold, Some("no"));
    out.settle();
    let header = binary::Header::read(out.waiting()).unwrap();
    assert_eq!((header.opcode, header.opaque, header.body_len), (0x11, 9, 2));
    assert_eq!(header.status_or_vbucket, binary::status::TEMPORARY_FAILURE);
}

#[test]
fn an_answer_in_parts_fails_as_one() {
    let mut out = Out::default();
    for (part, changed) in [("VALUE a ", true), ("VALUE b ", false)] {
        out.open(Some(Form::Text));
        say(&mut out, part);
        out.part(changed);
    }
    assert!(out.hold().is_none(), "it is not complete");
    assert_eq!(sent(&mut out), "");
    out.open(Some(Form::Text));
    say(&mut out, "END");
    out.close(false);
    let hold = held(&mut out);
    out.release(hold, Some("no"));
    assert_eq!(sent(&mut out), "SERVER_ERROR no\r\n");
    // One that is cut off is nothing.
    out.open(Some(Form::Text));
    say(&mut out, "VALUE");
    out.part(true);
    out.cut();
    assert_eq!(sent(&mut out), "VALUE");
}

/// What may happen to a session.
#[derive(Clone, Debug)]
enum Step {
    Read,
    /// A miss that may be filled.
    Miss,
    /// Whether it changes something.
    Write(bool),
    Hold,
    /// One of the holds, and whether it fails; a miss is filled then.
    Release(usize, bool),
    Send,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Read),
        2 => Just(Step::Miss),
        4 => any::<bool>().prop_map(Step::Write),
        3 => Just(Step::Hold),
        3 => (0..8_usize, any::<bool>()).prop_map(|(which, fails)| Step::Release(which, fails)),
        2 => Just(Step::Send),
    ]
}

proptest! {
    /// Beside a plain list of answers: the same bytes in the same order, none before its time.
    #[test]
    fn answers_leave_in_order_and_in_time(steps in prop::collection::vec(step(), 1..200)) {
        let mut out = Out::default();
        // Each answer, the hold it belongs to, and whether it is a write's.
        let mut answers: Vec<(String, Option<HoldId>, bool)> = Vec::new();
        let mut over: Vec<(HoldId, bool)> = Vec::new();
        let mut open = Vec::new();
        let mut misses = Vec::new();
        let mut stream = String::new();
        for (number, step) in steps.into_iter().chain([Step::Hold]).enumerate() {
            let text = format!("{number};");
            match step {
                Step::Read => {
                    say(&mut out, &text);
                    answers.push((text, None, false));
                }
                Step::Miss => {
                    let start = out.end();
                    // Every other one is quiet.
                    let text = if number % 2 == 0 { text } else { String::new() };
                    say(&mut out, &text);
                    let hold = out.hold_from(start);
                    answers.push((text, Some(hold), true));
                    misses.push(hold);
                    open.push(hold);
                }
                Step::Write(changed) => {
                    out.open(Some(Form::Text));
                    say(&mut out, &text);
                    out.close(changed);
                    answers.push((text, None, changed));
                }
                Step::Hold => if let Some((hold, writes)) = out.hold() {
                    let mut gathered = 0;
                    for answer in answers.iter_mut().filter(|(_, hold, write)| *write && hold.is_none()) {
                        answer.1 = Some(hold);
                        gathered += 1;
                    }
                    prop_assert_eq!(gathered, writes);
                    open.push(hold);
                },
                Step::Release(which, fails) if which < open.len() => {
                    let hold = open.remove(which);
                    if fails && misses.contains(&hold) {
                        out.set_aside();
                        out.aside().unwrap().extend_from_slice(b"SERVER_ERROR sorry\r\n");
                        out.replace(hold);
                    } else {
                        out.release(hold, fails.then_some(SORRY));
                    }
                    over.push((hold, fails));
                }
                Step::Release(..) => {}
                Step::Send => {
                    stream += &sent(&mut out);
                    let mut expected = String::new();
                    for (text, hold, write) in &answers {
                        let ended = over.iter().find(|(over, _)| Some(*over) == *hold);
                        match (write, ended) {
                            (false, _) | (true, Some((_, false))) => expected += text,
                            (true, Some((_, true))) => expected += "SERVER_ERROR sorry\r\n",
                            (true, None) => break,
                        }
                    }
                    prop_assert_eq!(&stream, &expected);
                }
            }
        }
        for hold in open {
            out.release(hold, None);
        }
        stream += &sent(&mut out);
        prop_assert_eq!(out.unsent(), 0);
        prop_assert_eq!(out.held_writes(), 0);
        let silent = answers.iter().filter(|(text, hold, _)| {
            text.is_empty() && !over.iter().any(|(over, filled)| Some(*over) == *hold && *filled)
        });
        let silent = silent.count();
        prop_assert_eq!(stream.matches([';', '\n']).count(), answers.len() - silent);
    }
}
