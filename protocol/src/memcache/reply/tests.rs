use super::*;

#[test]
fn every_answer_by_its_exact_word() {
    let table: &[(&[u8], Line<'_>)] = &[
        (b"STORED", Line::Stored),
        (b"NOT_STORED", Line::NotStored),
        (b"EXISTS", Line::Exists),
        (b"NOT_FOUND", Line::NotFound),
        (b"DELETED", Line::Deleted),
        (b"TOUCHED", Line::Touched),
        (b"OK", Line::Ok),
        (b"RESET", Line::Reset),
        (b"END", Line::End),
        (b"0", Line::Number(0)),
        (b"18446744073709551615", Line::Number(u64::MAX)),
        (b"HD", Line::Hd),
        (b"HD c5 Oabc", Line::Hd),
        (b"NS", Line::Ns),
        (b"EX c0", Line::Ex),
        (b"NF kzz O1", Line::Nf),
        (b"EN", Line::En),
        (b"EN kzz", Line::En),
        (b"MN", Line::Mn),
        (b"VA 5", Line::Va { len: 5 }),
        (b"VA 0 f0 c7 W", Line::Va { len: 0 }),
        (b"VALUE k 0 5", Line::Value { len: 5 }),
        (b"VALUE k 4294967295 5 18446744073709551615", Line::Value { len: 5 }),
        (b"ME a exp=-1 la=0 cas=22 fetch=no cls=1 size=65", Line::Me),
        (b"ERROR", Line::Error),
        (b"ERROR Too many open connections", Line::Error),
        (b"ERROR: shutdown not enabled", Line::Error),
        (b"CLIENT_ERROR bad data chunk", Line::ClientError),
        (b"SERVER_ERROR object too large for cache", Line::ServerError),
        (b"STAT pid 1", Line::Stat),
        (b"ITEM k [5 b; 0 s]", Line::Stat),
        (b"PREFIX a get 1", Line::Stat),
        (b"key=a exp=-1 la=1 cas=1 fetch=no cls=1 size=64", Line::Stat),
        (b"mg a", Line::Stat),
        (b"VERSION 1.6.18", Line::Version),
    ];
    for (line, expected) in table {
        assert_eq!(classify(line), *expected, "{:?}", String::from_utf8_lossy(line));
    }
}

#[test]
fn what_resembles_an_answer_is_none() {
    for line in [
        &b""[..],
        b"STORED ",
        b"stored",
        b"HDx",
        b"VA",
        b"VA x",
        b"VA  5",
        b"VA -1",
        b"VALUE k 0",
        b"VALUE  0 5",
        b"VALUE k 0 5 6 7",
        b"VALUE k x 5",
        b"1x",
        b"18446744073709551616",
        b"ERRORS",
        b"Error TLS not enabled",
        b"BUSY currently processing crawler request",
    ] {
        assert_eq!(classify(line), Line::Other(line), "{:?}", String::from_utf8_lossy(line));
    }
}

#[test]
fn flags_of_meta_answers() {
    let flags = |line| meta_flags(line).map(|(letter, token)| (letter, token.to_vec())).collect::<Vec<_>>();
    assert_eq!(
        flags(b"VA 2 t-1 c19 ka O5"),
        [(b't', b"-1".to_vec()), (b'c', b"19".to_vec()), (b'k', b"a".to_vec()), (b'O', b"5".to_vec())]
    );
    assert_eq!(flags(b"HD  W"), [(b'W', vec![])]);
    for line in [&b"HD"[..], b"VA 5", b"STORED", b"CLIENT_ERROR bad token", b"MN", b""] {
        assert!(flags(line).is_empty());
    }
    assert_eq!(meta_number(b"VA 2 t-1 c18446744073709551615 k7", b't'), Some(-1));
    assert_eq!(meta_number(b"HD c18446744073709551615", b'c'), Some(i128::from(u64::MAX)));
    assert_eq!((meta_number(b"HD kx", b'k'), meta_number(b"HD", b't')), (None, None));
}

#[test]
fn a_meta_hit_becomes_a_classic_one() {
    let convert = |line: &[u8], with_cas| {
        let mut out = b"before ".to_vec();
        write_value_line(line, with_cas, &mut out).map(|len| (len, String::from_utf8(out).unwrap()))
    };
    assert_eq!(convert(b"VA 5 kfoo f7 c9", false), Ok((5, "before VALUE foo 7 5\r\n".into())));
    assert_eq!(convert(b"VA 5 kfoo f7 c9", true), Ok((5, "before VALUE foo 7 5 9\r\n".into())));
    assert_eq!(convert(b"VA 0 f0 kfoo W Z", false), Ok((0, "before VALUE foo 0 0\r\n".into())));
    assert_eq!(convert(b"VA 5 kZm9v b f7 c9", true), Ok((5, "before VALUE foo 7 5 9\r\n".into())));
    for (line, with_cas) in [
        (&b"VA 5 kfoo f7"[..], true),
        (b"VA 5 f7", false),
        (b"VA 5 kfoo", false),
        (b"VA 5 kYQ= f0 b", false),
        (b"VA 5 k f0", false),
        (b"VA 5 kfoo f4294967296", false),
        (b"HD kfoo f7", false),
        (b"EN", false),
    ] {
        assert_eq!(convert(line, with_cas), Err(Malformed { len: line.len() }));
    }
}

proptest::proptest! {
    #[test]
    fn value_lines_round_trip(key in "[!-~]{1,250}", flags: u32, len: u64, cas: Option<u64>) {
        let line = ValueLine { key: key.as_bytes(), flags, len, cas };
        let mut out = Vec::new();
        line.write(&mut out);
        proptest::prop_assert_eq!(ValueLine::parse(out.strip_suffix(b"\r\n").unwrap()), Some(line));
    }

    #[test]
    fn any_line_is_classified(line: Vec<u8>) {
        let _ = classify(&line);
        let _ = meta_flags(&line).count();
        let _ = write_value_line(&line, true, &mut Vec::new());
    }
}

#[test]
fn classic_words_of_meta_answers() {
    let words = [&b"HD"[..], b"NS", b"EX", b"NF"].map(classic_words);
    assert_eq!(words, [&b"STORED"[..], b"NOT_STORED", b"EXISTS", b"NOT_FOUND"].map(Some));
    for alike in [&b"SERVER_ERROR object too large for cache"[..], b"VA 1", b"CLIENT_ERROR bad data chunk"] {
        assert_eq!(classic_words(alike), None);
    }
    assert!(
        is_unknown_flag(b"CLIENT_ERROR invalid flag") && !is_unknown_flag(b"CLIENT_ERROR bad data chunk")
    );
}
