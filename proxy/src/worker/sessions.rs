//! The sessions of a worker, so that they can be ended together.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use tokio::sync::Notify;

use crate::downstream::Downstream;

/// Who is here.
#[derive(Default)]
pub(crate) struct Sessions {
    seats: RefCell<Vec<Option<Weak<Downstream>>>>,
    free: RefCell<Vec<usize>>,
    count: Cell<usize>,
    draining: Cell<bool>,
    left: Notify,
}

impl Sessions {
    /// A session begins. While the worker drains it is ended at once.
    pub(crate) fn enter(&self, downstream: &Rc<Downstream>) -> usize {
        self.count.set(self.count.get() + 1);
        if self.draining.get() {
            downstream.drain();
        }
        let guest = Some(Rc::downgrade(downstream));
        let mut seats = self.seats.borrow_mut();
        match self.free.borrow_mut().pop() {
            Some(seat) => {
                seats[seat] = guest;
                seat
            }
            None => {
                seats.push(guest);
                seats.len() - 1
            }
        }
    }

    /// A session is over.
    pub(crate) fn leave(&self, seat: usize) {
        self.seats.borrow_mut()[seat] = None;
        self.free.borrow_mut().push(seat);
        self.count.set(self.count.get() - 1);
        if self.count.get() == 0 {
            self.left.notify_waiters();
        }
    }

    /// Every session ends once what was received is answered.
    pub(crate) fn drain_all(&self) {
        self.draining.set(true);
        for downstream in self.seats.borrow().iter().flatten().filter_map(Weak::upgrade) {
            downstream.drain();
        }
    }

    /// Waits until nobody is left.
    pub(crate) async fn empty(&self) {
        while self.count.get() > 0 {
            self.left.notified().await;
        }
    }
}
