//! What a peer may say, and what it may not.

use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::*;
use crate::inventory::Entry;
use crate::replication::Expiry;

/// What is made of these bytes, the last that come.
async fn read(bytes: &[u8]) -> io::Result<Option<Request>> {
    let (mut peer, ours) = tokio::io::duplex(1 << 20);
    peer.write_all(bytes).await.unwrap();
    drop(peer);
    Request::read(&mut Local::over(Box::new(ours), Duration::from_secs(1))).await
}

#[tokio::test]
async fn requests_are_read_as_they_were_written() {
    let span = Span { first: 7, last: 7 };
    let state = b"ms k 1 T0 F0 Pmc1/a/1\r\nv\r\n".to_vec();
    for request in [
        Request::Survey,
        Request::Heard(vec![]),
        Request::Heard(vec![Origin::of("a"), Origin::of("b")]),
        Request::Items(Span::ALL),
        Request::Digests(Span::ALL, RANGE_BITS_MAX),
        Request::List(span),
        Request::StateOf(Box::from(&b"k"[..])),
        Request::StateOf([b' '; key::KEY_MAX].into()),
        Request::State(state.clone()),
        Request::Newer(state),
        Request::Done,
    ] {
        let mut out = Vec::new();
        request.encode(&mut out);
        assert_eq!(read(&out).await.unwrap(), Some(request));
    }
    assert_eq!(read(b"").await.unwrap(), None);
}

#[tokio::test]
async fn a_span_that_ends_before_it_begins_is_refused() {
    for request in ["ml list ff 0\r\n", "ml items 1 0\r\n", "ml digests 2 1 16\r\n"] {
        assert!(read(request.as_bytes()).await.is_err(), "{request}");
    }
}

#[tokio::test]
async fn more_ranges_than_there_may_be_are_refused() {
    let request = format!("ml digests 0 1 {}\r\n", RANGE_BITS_MAX + 1);
    assert!(read(request.as_bytes()).await.is_err());
    assert!(read(b"ml digests 0 1 64\r\n").await.is_err());
}

#[tokio::test]
async fn a_key_that_no_memcached_can_hold_is_refused() {
    let mut base64 = b"mg ".to_vec();
    key::base64::encode(&[b'k'; key::KEY_MAX + 1], &mut base64);
    base64.extend_from_slice(b" b\r\n");
    assert!(read(&base64).await.is_err());
    // Two bytes of a packet's header would hold 1 of this length.
    for len in [0, key::KEY_MAX + 1, message::LINE_MAX + 1, 65_537] {
        let request = [&b"mg "[..], &vec![b'k'; len], b"\r\n"].concat();
        assert!(read(&request).await.is_err(), "{len}");
    }
}

#[tokio::test]
async fn a_line_is_no_longer_than_on_any_link() {
    let blanks = [&b"ml survey"[..], &vec![b' '; 100_000], b"\r\n"].concat();
    assert!(read(&blanks).await.is_err());
}

#[tokio::test]
async fn no_more_sites_are_named_than_there_can_be() {
    for (sites, may_be) in [(PEERS_MAX, true), (PEERS_MAX + 1, false)] {
        let said = format!("ml heard{}\r\n", " 1f".repeat(sites));
        assert_eq!(read(said.as_bytes()).await.is_ok(), may_be, "{sites}");
        assert_eq!(heard(said.trim_end().as_bytes()).is_ok(), may_be, "{sites}");
        let said = format!("ml survey I1 L0 W0 P1{}", " 1f".repeat(sites));
        assert_eq!(Survey::decode(said.as_bytes()).is_ok(), may_be, "{sites}");
    }
}

#[test]
fn nobody_is_believed_to_hold_more_than_a_machine_can() {
    let survey = |items: u64| Survey::decode(format!("ml survey I{items} L0 W0 P1").as_bytes());
    assert_eq!(survey(ITEMS_MAX).unwrap().items, ITEMS_MAX);
    assert!(survey(ITEMS_MAX + 1).is_err());
}

#[test]
fn lists_hold_keys_that_can_be_asked_for() {
    let entry =
        |len: usize| Entry { hash: 1, key: vec![b'k'; len].into(), digest: 2, expiry: Expiry::At(3), cas: 4 };
    let longest = [entry(key::KEY_MAX)];
    assert_eq!(decode_list(&encode_list(longest.iter())).unwrap(), longest);
    for len in [0, key::KEY_MAX + 1] {
        assert!(decode_list(&encode_list([entry(len)].iter())).is_err(), "{len}");
    }
}

proptest::proptest! {
    #[test]
    fn whatever_is_said_is_refused_or_can_be_answered(
        words in proptest::collection::vec("ml|mg|ms|md|items|digests|list|newer|survey|k|b|[0-9a-f]{1,17}|.{0,3}", 1..6),
        rest in proptest::collection::vec(proptest::num::u8::ANY, 0..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut said = words.join(" ").into_bytes();
        said.extend_from_slice(b"\r\n");
        said.extend_from_slice(&rest);
        match runtime.block_on(read(&said)) {
            Ok(Some(Request::Items(span) | Request::List(span))) => proptest::prop_assert!(span.first <= span.last),
            Ok(Some(Request::Digests(span, bits))) => {
                proptest::prop_assert!(span.first <= span.last && bits <= RANGE_BITS_MAX);
                proptest::prop_assert!(!super::super::giver::ranges(&[], span, bits).is_empty());
            }
            Ok(Some(Request::StateOf(key))) => {
                proptest::prop_assert!((1..=key::KEY_MAX).contains(&key.len()));
            }
            _ => {}
        }
    }
}
