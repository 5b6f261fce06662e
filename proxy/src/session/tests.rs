//! A memcached that takes nothing: how much of an app's stream is held for it.

use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::timeout;

use super::*;
use crate::upstream::Target;
use crate::worker::bare;

/// A session whose memcached has not taken so many bytes yet, and its app, which has more to say.
async fn held_up(unsent: usize) -> (Session, Rc<Upstream>, UnixStream) {
    let context = bare::context(usize::MAX);
    let (downstream, app) = bare::app(&context);
    let upstream = Upstream::shared(Rc::clone(&context), Target::Memcached);
    upstream.send(&[&vec![b'v'; unsent]]);
    let opening = Opening { read: Vec::new(), welcome: Vec::new(), tunnelled: false };
    let session = Session::new(&context, downstream, Some(Rc::clone(&upstream)), 0, opening);
    app.writable().await.unwrap();
    assert_eq!(app.try_write(b"mn\r\n").unwrap(), 4);
    (session, upstream, app)
}

#[tokio::test]
async fn no_request_is_looked_at_while_memcached_takes_nothing() {
    for (unsent, goes_on) in [(UNSENT_MAX, true), (UNSENT_MAX + 1, false)] {
        let (mut session, ..) = held_up(unsent).await;
        let (used, next) = session.dispatch(b"get k");
        assert_eq!(used, 0, "its line has no end yet");
        assert_eq!(matches!(next, Next::HeldUp), !goes_on, "{unsent}");
    }
}

/// However long it takes: time passes here when nothing else can happen.
#[tokio::test(start_paused = true)]
async fn no_more_of_a_long_request_is_read_while_memcached_takes_nothing() {
    for (unsent, goes_on) in [(slow::UNSENT_MAX, true), (slow::UNSENT_MAX + 1, false)] {
        let (mut session, upstream, _app) = held_up(unsent).await;
        let more = timeout(Duration::from_secs(60), poll_fn(|cx| session.poll_more(cx, &upstream))).await;
        assert_eq!(more.ok(), goes_on.then_some(true), "{unsent}");
        assert_eq!(session.input, if goes_on { &b"mn\r\n"[..] } else { b"" });
    }
}
