//! A proxy's task that panics would only stand still: the runtime catches it. So whatever panics is remembered, and ends
//! the run.

use std::cell::RefCell;
use std::panic;
use std::sync::Once;

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Remembers panics of this thread from now on.
pub(crate) fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            LAST.set(Some(info.to_string()));
            before(info);
        }));
    });
    LAST.take();
}

/// Panics if something has.
pub(crate) fn check() {
    if let Some(what) = LAST.take() {
        panic!("a proxy panicked: {what}");
    }
}
