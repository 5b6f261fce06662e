//! Lines to try: well-formed ones by template, and careless ones out of the same words.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// A request line that is plainly valid. Storage lines announce two bytes.
pub(crate) fn valid_line() -> BoxedStrategy<Vec<u8>> {
    let noreply = prop_oneof![Just(""), Just(" noreply")];
    let end = prop_oneof![3 => Just("\r\n"), 1 => Just("\n")];
    let store = (select(STORES), key(), any::<u32>(), any::<i32>(), any::<u64>(), noreply.clone()).prop_map(
        |(verb, key, flags, exptime, cas, noreply)| match verb {
            "cas" => format!("cas {key} {flags} {exptime} 2 {cas}{noreply}"),
            verb => format!("{verb} {key} {flags} {exptime} 2{noreply}"),
        },
    );
    let get = (select(&["get", "gets", "gat 0", "gats -1"][..]), vec(key(), 1..5))
        .prop_map(|(verb, keys)| format!("{verb} {}", keys.join(" ")));
    let simple =
        (select(SIMPLE), key(), any::<u64>(), noreply).prop_map(|(verb, key, number, noreply)| match verb {
            "delete" => format!("delete {key}{noreply}"),
            "touch" => format!("touch {key} {}{noreply}", number as i32),
            "flush_all" => format!("flush_all {}{noreply}", number as i32),
            verb => format!("{verb} {key} {number}{noreply}"),
        });
    let bare =
        select(&["flush_all", "flush_all noreply", "version", "stats", "stats settings", "delete k 0"][..])
            .prop_map(str::to_owned);
    (prop_oneof![3 => store, 2 => get, 2 => simple, 1 => bare, 4 => valid_meta()], end)
        .prop_map(|(line, end)| format!("{line}{end}").into_bytes())
        .boxed()
}

fn valid_meta() -> impl Strategy<Value = String> {
    let flags =
        |words: &'static [&'static str]| proptest::sample::subsequence(words, 0..=words.len()).prop_shuffle();
    prop_oneof![
        (key(), flags(MG)).prop_map(|(key, flags)| join(format!("mg {key}"), &flags)),
        (key(), flags(MS)).prop_map(|(key, flags)| join(format!("ms {key} 2"), &flags)),
        (key(), flags(MD)).prop_map(|(key, flags)| join(format!("md {key}"), &flags)),
        (key(), flags(MA)).prop_map(|(key, flags)| join(format!("ma {key}"), &flags)),
        key().prop_map(|key| format!("me {key}")),
        flags(MG).prop_map(|flags| join("mg YSBi b".into(), &flags)),
        flags(MS).prop_map(|flags| join("ms YSBi 2 b".into(), &flags)),
    ]
}

fn join(mut line: String, flags: &[&str]) -> String {
    for flag in flags {
        line.push(' ');
        line.push_str(flag);
    }
    line
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![4 => Just("k".to_owned()), 1 => Just("noreply".to_owned()), 2 => "[!-~]{1,8}", 1 => Just("k".repeat(250))]
}

/// A line out of known words in any number and order, with blanks and ends to taste.
pub(crate) fn careless_line() -> BoxedStrategy<Vec<u8>> {
    let blank = prop_oneof![12 => Just(" "), 1 => Just("  ")];
    let word = prop_oneof![20 => select(WORDS).prop_map(str::to_owned), 1 => Just("k".repeat(251))];
    let start = prop_oneof![12 => Just(""), 1 => Just(" ")];
    let end = prop_oneof![6 => Just("\r\n"), 2 => Just("\n"), 1 => Just(" \r\n")];
    let verb = prop_oneof![2 => select(STORES), 1 => Just("ms"), 2 => select(VERBS)];
    (start, verb, vec((blank, word), 0..8), end)
        .prop_map(|(start, verb, words, end)| {
            let words: String = words.into_iter().map(|(blank, word)| format!("{blank}{word}")).collect();
            format!("{start}{verb}{words}{end}").into_bytes()
        })
        .boxed()
}

/// A storage line with the right number of words, one or two of which are wrong.
pub(crate) fn nearly_valid_store() -> BoxedStrategy<Vec<u8>> {
    let word = |good: &'static str| prop_oneof![4 => Just(good), 1 => select(WORDS)];
    (select(STORES), word("k"), word("0"), word("0"), word("2"), vec(select(WORDS), 0..3))
        .prop_map(|(verb, key, flags, exptime, len, more)| {
            join(format!("{verb} {key} {flags} {exptime} {len}"), &more).into_bytes()
        })
        .prop_map(|line| [&line[..], b"\r\n"].concat())
        .boxed()
}

const STORES: &[&str] = &["set", "add", "replace", "append", "prepend", "cas"];
const SIMPLE: &[&str] = &["delete", "incr", "decr", "touch", "flush_all"];
const VERBS: &[&str] = &[
    "get",
    "gets",
    "gat",
    "gats",
    "delete",
    "incr",
    "decr",
    "touch",
    "flush_all",
    "version",
    "stats",
    "verbosity",
    "mg",
    "md",
    "ma",
    "me",
    "mn",
    "mx",
    "x",
    "lru",
    "slabs",
    "bget",
    "",
];
// No number but 2 is a length, so that a wrong guess shows at once.
const WORDS: &[&str] = &[
    "k",
    "kk",
    "0",
    "2",
    "2",
    "-1",
    "+2",
    "noreply",
    "x",
    "4294967296",
    "2147483648",
    "18446744073709551616",
    "v",
    "q",
    "b",
    "T0",
    "T",
    "O1",
    "MS",
    "MX",
    "F1",
    "YSBi",
    "S2",
    "Z",
    "I",
    "\u{1}",
    "-",
];
const MG: &[&str] =
    &["c", "f", "h", "l", "s", "t", "u", "v", "k", "q", "O1", "Pany", "L1", "N30", "R30", "T60"];
const MS: &[&str] = &["c", "k", "q", "O1", "Pany", "L1", "C5", "F7", "I", "MS", "T-1"];
const MD: &[&str] = &["k", "q", "O1", "Pany", "L1", "C5", "I", "T30"];
const MA: &[&str] = &["t", "c", "v", "k", "q", "O1", "Pany", "L1", "C5", "J1", "D2", "M-", "T9"];
