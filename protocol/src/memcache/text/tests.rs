//! Golden tables: one line a case, what was tried on memcached 1.6.18 and what the notes say of 1.6.45.

use super::*;

fn decode_one<'a>(line: &'a [u8], framing: &Framing) -> Request<'a> {
    match decode(line, framing) {
        Decoded::Request(request) => {
            assert_eq!(request.line, line, "the table's lines are whole");
            request
        }
        other => panic!("{:?}: {other:?}", String::from_utf8_lossy(line)),
    }
}

fn plain(line: &'static str) -> Request<'static> {
    decode_one(line.as_bytes(), &Framing::default())
}

/// Body by the rules of 1.6.18 and by those of 1.6.45, for a line that has to be odd under both.
fn odd_bodies(line: &str) -> (u64, u64) {
    let [old, new] = [Framing::V1_6_18, Framing::V1_6_45].map(|framing| {
        let request = decode_one(line.as_bytes(), &framing);
        assert_eq!((request.command, request.quiet), (Command::Odd, None), "{line:?}");
        request.body
    });
    (old, new)
}

fn keys<'a>(request: &Request<'a>) -> Vec<&'a [u8]> {
    match request.command {
        Command::Get { keys, .. } | Command::GetAndTouch { keys, .. } => {
            assert_eq!(keys.iter().len(), keys.count());
            keys.into_iter().collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn retrievals() {
    let request = plain("get a\r\n");
    assert!(
        matches!(request.command, Command::Get { verb: GetVerb::Get, keys } if keys.single() == Some(b"a"))
    );
    assert_eq!((request.body, &request.quiet), (0, &None));
    assert_eq!(keys(&plain("gets a bb noreply\n")), [&b"a"[..], b"bb", b"noreply"]);
    assert_eq!(keys(&plain("get a b \r\n")), [b"a", b"b"], "nutcracker leaves a blank behind the last key");
    assert_eq!(keys(&plain("gat -1 a b\r\n")), [b"a", b"b"]);
    let Command::GetAndTouch { verb, exptime, keys } = plain("gats 60 a\r\n").command else { panic!() };
    assert_eq!((verb, exptime, keys.single()), (GatVerb::Gats, 60, Some(&b"a"[..])));
    let Command::Get { keys, .. } = plain("get a b\r\n").command else { panic!() };
    assert_eq!(keys.single(), None);
}

#[test]
fn stores() {
    for (name, verb) in [
        ("set", StoreVerb::Set),
        ("add", StoreVerb::Add),
        ("replace", StoreVerb::Replace),
        ("append", StoreVerb::Append),
        ("prepend", StoreVerb::Prepend),
    ] {
        for (end, loud) in [("\r\n", "\r\n"), (" noreply\r\n", "\r\n"), (" noreply\n", "\n"), ("\n", "\n")] {
            let line = format!("{name} k 4294967295 -1 5{end}");
            let request = decode_one(line.as_bytes(), &Framing::default());
            let store = Command::Store { verb, key: b"k", flags: u32::MAX, exptime: -1, cas: None };
            assert_eq!((request.command, request.body), (store, 7), "{line:?}");
            let (before, after) = request.loud();
            assert_eq!([before, after].concat(), format!("{name} k 4294967295 -1 5{loud}").as_bytes());
        }
    }
    let request = plain("cas k 1 0 0 18446744073709551615 noreply\r\n");
    let store = Command::Store { verb: StoreVerb::Cas, key: b"k", flags: 1, exptime: 0, cas: Some(u64::MAX) };
    assert_eq!((request.command, request.body), (store, 2));
    assert_eq!(plain("set k 0 2147483647 2147483645\r\n").body, 2147483647, "too large is still plain");
}

#[test]
fn other_classic_commands() {
    let table: &[(&str, Command<'_>)] = &[
        ("delete k\r\n", Command::Delete { key: b"k" }),
        ("delete k 0\r\n", Command::Delete { key: b"k" }),
        ("delete noreply\r\n", Command::Delete { key: b"noreply" }),
        ("incr k 1\r\n", Command::Arithmetic { verb: ArithmeticVerb::Incr, key: b"k", delta: 1 }),
        (
            "decr k 18446744073709551615\r\n",
            Command::Arithmetic { verb: ArithmeticVerb::Decr, key: b"k", delta: u64::MAX },
        ),
        ("touch k -5\r\n", Command::Touch { key: b"k", exptime: -5 }),
        ("flush_all\r\n", Command::FlushAll { delay: None }),
        ("flush_all 10\r\n", Command::FlushAll { delay: Some(10) }),
        ("flush_all -1\r\n", Command::FlushAll { delay: Some(-1) }),
        ("version\r\n", Command::Version),
        ("stats\r\n", Command::Stats { args: b"" }),
        ("stats detail on\r\n", Command::Stats { args: b"detail on" }),
        ("mn\r\n", Command::MetaNoop),
        ("mn x\r\n", Command::MetaNoop),
        ("mn\n", Command::MetaNoop),
        ("quit\r\n", Command::Quit),
        ("verbosity 1\r\n", Command::Admin),
        ("cache_memlimit 64\r\n", Command::Admin),
        ("slabs reassign 1 2\r\n", Command::Admin),
        ("lru mode flat\r\n", Command::Admin),
        ("lru_crawler enable\r\n", Command::Admin),
        ("refresh_certs\r\n", Command::Admin),
        ("watch\r\n", Command::Watch),
        ("watch  mutations\r\n", Command::Watch),
        (" watch\r\n", Command::Watch),
        ("lru_crawler metadump all\r\n", Command::Dump),
        ("lru_crawler  mgdump hash \r\n", Command::Dump),
        ("shutdown\r\n", Command::Shutdown),
        (" shutdown graceful\n", Command::Shutdown),
    ];
    for (line, command) in table {
        let request = plain(line);
        assert_eq!((request.command, request.body, request.quiet), (*command, 0, None), "{line:?}");
    }
}

#[test]
fn noreply_is_cut_out_with_its_blank() {
    for line in [
        "delete k noreply\r\n",
        "delete k 0 noreply\r\n",
        "incr k 1 noreply\r\n",
        "touch k 0 noreply\r\n",
        "flush_all noreply\r\n",
        "flush_all 0 noreply\r\n",
        "verbosity 1 noreply\r\n",
        "cache_memlimit 64 noreply\r\n",
    ] {
        let request = plain(line);
        let (before, after) = request.loud();
        assert_eq!([before, after].concat(), line.replacen(" noreply", "", 1).as_bytes());
        assert_eq!(
            plain(String::from_utf8([before, after].concat()).unwrap().leak()).command,
            request.command
        );
    }
    assert_eq!(plain("delete noreply noreply\r\n").loud(), (&b"delete noreply"[..], &b"\r\n"[..]));
    for always_answered in ["get noreply\r\n", "version\r\n", "stats noreply\r\n"] {
        assert_eq!(plain(always_answered).quiet, None);
    }
}

fn meta(line: &'static str) -> Meta<'static> {
    match plain(line).command {
        Command::Meta(meta) => meta,
        other => panic!("{line:?}: {other:?}"),
    }
}

#[test]
fn meta_commands() {
    let get = meta("mg foo s v t Oabc N30 Psome/thing\r\n");
    assert_eq!((get.verb, get.key), (MetaVerb::Get, &b"foo"[..]));
    assert_eq!(get.flags().map(|(letter, _)| letter).collect::<Vec<_>>(), b"svtONP");
    assert_eq!((get.token(b'O'), get.token(b'N')), (Some(&b"abc"[..]), Some(&b"30"[..])));
    assert_eq!(
        (get.token(b'v'), get.token(b'q'), get.has(b'q'), get.mode()),
        (Some(&b""[..]), None, false, None)
    );

    let request = plain("ms foo 5 T60 q F7 MA\r\n");
    let Command::Meta(set) = request.command else { panic!() };
    assert_eq!((set.verb, set.mode(), request.body), (MetaVerb::Set, Some(MetaMode::Append), 7));
    assert_eq!(request.loud(), (&b"ms foo 5 T60"[..], &b" F7 MA\r\n"[..]));
    assert_eq!(plain("ms foo 5 q\r\n").loud(), (&b"ms foo 5"[..], &b"\r\n"[..]));

    assert_eq!(meta("ms k 0\r\n").mode(), Some(MetaMode::Set));
    assert_eq!(meta("ms k 0 ME\r\n").mode(), Some(MetaMode::Add));
    assert_eq!(meta("ma k\r\n").mode(), Some(MetaMode::Incr));
    assert_eq!(meta("ma k M- D3 J0 N0\r\n").mode(), Some(MetaMode::Decr));
    assert_eq!(meta("md k I T30 x E99 C1\r\n").verb, MetaVerb::Delete);
    assert_eq!(meta("me k\r\n").verb, MetaVerb::Debug);

    let encoded = meta("mg YSBi b k v\r\n");
    assert!(encoded.is_base64());
    assert_eq!(&*encoded.decoded_key(), b"a b");
    assert_eq!(&*get.decoded_key(), b"foo");
}

#[test]
fn quiet_meta_hides_what_memcached_hides() {
    use crate::memcache::reply::Line;
    for (verb, hidden) in [
        (MetaVerb::Get, &[Line::En][..]),
        (MetaVerb::Set, &[Line::Hd]),
        (MetaVerb::Delete, &[Line::Hd]),
        (MetaVerb::Arithmetic, &[Line::Hd, Line::Va { len: 1 }]),
        (MetaVerb::Debug, &[]),
    ] {
        for answer in
            [Line::Hd, Line::Va { len: 1 }, Line::En, Line::Nf, Line::Ns, Line::Ex, Line::ClientError]
        {
            assert_eq!(verb.quiet_hides(&answer), hidden.contains(&answer), "{verb:?} {answer:?}");
        }
    }
}

#[test]
fn meta_lines_that_are_odd() {
    let opaque_too_long = format!("mg k O{}\r\n", "x".repeat(32));
    let too_many = "mg k k f c t s h l v u q O P L T0 N0 R0 C0 E0\r\n";
    for line in [
        "mg\r\n",
        "mg \r\n",
        "mg k \r\n",
        "mg  k\r\n",
        " mg k\r\n",
        "mg k v v\r\n",
        "mg k Z\r\n",
        "mg k 1\r\n",
        "mg k vv\r\n",
        "mg k T\r\n",
        "mg k Tx\r\n",
        "mg k T2147483648\r\n",
        "mg k N 3\r\n",
        "mg YQ= b\r\n",
        "mg k F1\r\n",
        "md k v\r\n",
        "ma k MX\r\n",
        "ma k D-1\r\n",
        "ma k Mi\r\n",
        "ma k N0 q\r\n",
        "me k k\r\n",
        "me k q\r\n",
        "mx k\r\n",
        "mg k\tv\r\n",
        &opaque_too_long,
        too_many,
    ] {
        assert_eq!(odd_bodies(line), (0, 0), "{line:?}");
    }
    assert!(
        matches!(plain("mg k k f c t s h l v u q O P L T0 N0 R0 C0\r\n").command, Command::Meta(_)),
        "19 tokens"
    );
}

/// Section 6 of the protocol notes, row by row: what follows an erroneous storage line.
#[test]
fn data_behind_odd_storage_lines() {
    let key = "k".repeat(251);
    let many = "k v c f t s h l u q O P L T0 N0 R0 I".to_owned();
    let table: &[(String, (u64, u64))] = &[
        (format!("set {key} 0 0 5\r\n"), (0, 7)),
        (format!("set {key} 0 0 5 noreply\r\n"), (0, 7)),
        (format!("ms {key} 5\r\n"), (0, 7)),
        ("set k x 0 5\r\n".into(), (0, 7)),
        ("set k -1 0 5\r\n".into(), (0, 7)),
        ("set k 0 x 5\r\n".into(), (0, 7)),
        ("cas k 0 0 5 x\r\n".into(), (0, 7)),
        ("set k 0 0 -1\r\n".into(), (0, 0)),
        ("set k 0 0 x\r\n".into(), (0, 0)),
        ("set k 0 0 2147483646\r\n".into(), (0, 0)),
        ("set k 0 0 4294967301\r\n".into(), (7, 0)),
        ("ms k 4294967301\r\n".into(), (7, 0)),
        ("set k 0 0\r\n".into(), (0, 0)),
        ("set k 0 0 noreply\r\n".into(), (0, 0)),
        ("cas k 0 0 5\r\n".into(), (0, 7)),
        ("cas k 0 0 5 noreply\r\n".into(), (0, 7)),
        ("set k 0 0 5 6\r\n".into(), (7, 7)),
        ("set k 0 0 5 6 7\r\n".into(), (0, 7)),
        ("set k 0 0 5 6 noreply\r\n".into(), (0, 7)),
        ("set k 0 0 5 noreply noreply\r\n".into(), (0, 7)),
        ("cas k 0 0 5 1 2\r\n".into(), (7, 7)),
        ("cas k 0 0 5 1 2 3\r\n".into(), (0, 7)),
        // Odd in writing only: these are stored.
        ("set  k 0 0 5\r\n".into(), (7, 7)),
        ("set k 0 0 5 \r\n".into(), (7, 7)),
        (" set k 0 0 5\r\n".into(), (7, 0)),
        ("set k +1 +0 +5\r\n".into(), (7, 7)),
        ("set k 4294967296 2147483648 5\r\n".into(), (7, 7)),
        ("set k\u{1} 0 0 5\r\n".into(), (7, 7)),
        ("set k\0 0 0 5\r\n".into(), (0, 0)),
        ("ms k 5 ~\r\n".into(), (7, 0)),
        ("ms k 5 Z\r\n".into(), (7, 7)),
        ("ms k 5 S5\r\n".into(), (7, 7)),
        ("ms k 5 k k\r\n".into(), (7, 7)),
        ("ms k 5 MX\r\n".into(), (7, 7)),
        ("ms k 5 Me\r\n".into(), (7, 7)),
        ("ms k 5 T\r\n".into(), (7, 7)),
        ("ms k= 5 b\r\n".into(), (7, 7)),
        ("ms k 5 v\r\n".into(), (7, 7)),
        ("ms  k 5\r\n".into(), (7, 7)),
        ("ms k\r\n".into(), (0, 0)),
        ("ms k S5\r\n".into(), (0, 0)),
        ("ms k -1\r\n".into(), (0, 0)),
        ("ms k 2147483646\r\n".into(), (0, 0)),
        (format!("ms k 5 {many}\r\n"), (0, 7)),
    ];
    for (line, bodies) in table {
        assert_eq!(odd_bodies(line), *bodies, "{line:?}");
    }
}

#[test]
fn lines_that_are_odd_and_bring_no_data() {
    let long = format!("get a {}\r\n", "k".repeat(251));
    for line in [
        "\r\n",
        "\n",
        " \r\n",
        "\r\r\n",
        "GET a\r\n",
        "get\r\n",
        "get \r\n",
        "gets\r\n",
        "get  a\r\n",
        " get a\r\n",
        "get a  \r\n",
        "get a\tb\r\n",
        "get a\r b\r\n",
        "get a\0\r\n",
        "gat 0\r\n",
        "gat x a\r\n",
        "gat 0 \r\n",
        "bget a\r\n",
        "delete k 1\r\n",
        "delete k 00\r\n",
        "delete k 0 0\r\n",
        "delete\r\n",
        "incr k\r\n",
        "incr k -1\r\n",
        "incr k +1\r\n",
        "incr k 1 x\r\n",
        "incr k 18446744073709551616\r\n",
        "incr k noreply\r\n",
        "touch k\r\n",
        "touch k x\r\n",
        "touch k 2147483648\r\n",
        "touch k 0 x\r\n",
        "flush_all x\r\n",
        "flush_all noreply 0\r\n",
        "flush_all 0 0\r\n",
        "flush_all \r\n",
        "version x\r\n",
        "quit x\r\n",
        "stats  x\r\n",
        "verbosity\r\n",
        "verbosity noreply\r\n",
        "verbosity 1 2 noreply\r\n",
        "lru noreply\r\n",
        "slabs automove 1 noreply\r\n",
        "x HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\n",
        "touch k 0 noreply \r\n",
        "auth\r\n",
        &long,
    ] {
        assert_eq!(odd_bodies(line), (0, 0), "{line:?}");
    }
}

#[test]
fn what_a_line_may_change() {
    fn reach(line: &'static str) -> Vec<Vec<u8>> {
        match plain(line).reach() {
            Reach::Nothing => vec![],
            Reach::Key(key) => vec![key.into_owned()],
            Reach::Keys(keys) => keys.map(<[u8]>::to_vec).collect(),
            Reach::Everything => vec![b"*".to_vec()],
        }
    }
    for line in [
        " set  k 0 0 5\r\n",
        "delete k 1\r\n",
        "ms k 5 Z\r\n",
        "touch  k 0\n",
        "set k 0 0 5\r\n",
        "mg  k T0\r\n",
    ] {
        assert_eq!(reach(line), [b"k"], "{line:?}");
    }
    assert_eq!(reach("ms  YSBi 5 b\r\n"), [b"a b"]);
    assert_eq!(reach("gat  0 a  b \r\n"), [b"a", b"b"]);
    assert_eq!(reach("flush_all  0\r\n"), [b"*"]);
    for line in ["get  a\r\n", "set\r\n", "\r\n", "stats\r\n"] {
        assert!(reach(line).is_empty(), "{line:?}");
    }
}

#[test]
fn the_end_of_a_line_is_awaited_within_limits() {
    let framing = Framing::default();
    let long = |verb: &str, len: usize| [verb.as_bytes(), &vec![b'k'; len - verb.len()]].concat();
    assert_eq!(decode(b"", &framing), Decoded::Incomplete);
    assert_eq!(decode(b"get a\r", &framing), Decoded::Incomplete);
    assert_eq!(decode(&long("set ", LINE_MAX), &framing), Decoded::Incomplete);
    assert_eq!(decode(&long("set ", LINE_MAX + 1), &framing), Decoded::LineTooLong);
    let mut whole = long("set ", LINE_MAX);
    whole.push(b'\n');
    assert!(matches!(decode(&whole, &framing), Decoded::Request(_)));
    whole.insert(4, b'k');
    assert_eq!(decode(&whole, &framing), Decoded::LineTooLong);
    for verb in ["get ", "gets ", "gat ", "gats ", "  get "] {
        assert_eq!(decode(&long(verb, LINE_MAX + 1), &framing), Decoded::LongGet, "{verb:?}");
    }
    let mut keys = b"get".to_vec();
    keys.extend(b" key".repeat(5000));
    keys.extend(b"\r\n");
    let Decoded::Request(Request { command: Command::Get { keys, .. }, .. }) = decode(&keys, &framing) else {
        panic!()
    };
    assert_eq!(keys.count(), 5000);
}
