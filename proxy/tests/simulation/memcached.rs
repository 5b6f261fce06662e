//! A memcached as far as writes, evictions and flushes go.

use std::collections::BTreeMap;

use bytes::Bytes;
use memcloud_proxy::replication::{Effect, Expiry, Marks, Payload};

#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) struct Item {
    pub(crate) value: Bytes,
    pub(crate) expiry: Expiry,
}

#[derive(Clone, Debug)]
pub(crate) enum Command {
    Set(Item),
    Add(Item),
    Replace(Item),
    Append(&'static [u8]),
    Increment,
    Touch(u64),
    Delete,
    /// A store that is refused deletes the item that was there.
    TooLarge,
}

#[derive(Debug, Default)]
pub(crate) struct Memcached {
    pub(crate) items: BTreeMap<Vec<u8>, Item>,
}

impl Memcached {
    /// What the command does, as the proxy learns it from the answer.
    pub(crate) fn run(&mut self, key: &[u8], command: Command) -> Effect {
        let held = self.items.get_mut(key);
        let stored = match (command, held) {
            (Command::Set(item), _) | (Command::Add(item), None) | (Command::Replace(item), Some(_)) => item,
            (Command::Append(more), Some(item)) => {
                item.value = [&item.value, more].concat().into();
                return CHANGED;
            }
            (Command::Increment, Some(item)) => {
                let Some(number) = std::str::from_utf8(&item.value).ok().and_then(|s| s.parse::<u64>().ok())
                else {
                    return Effect::None;
                };
                item.value = (number + 1).to_string().into();
                return CHANGED;
            }
            (Command::Touch(expiry), Some(item)) => {
                item.expiry = Expiry::At(expiry);
                return CHANGED;
            }
            (Command::Delete | Command::TooLarge, _) => {
                self.items.remove(key);
                return Effect::Removed;
            }
            _ => return Effect::None,
        };
        let payload = Payload { flags: 0, expiry: stored.expiry, value: stored.value.clone() };
        self.items.insert(key.to_vec(), stored);
        Effect::Item { payload: Some(payload), marks: Marks::default() }
    }

    pub(crate) fn flush(&mut self) {
        self.items.clear();
    }
}

/// The outcome is not in hand: the sender reads the item.
const CHANGED: Effect =
    Effect::Item { payload: None, marks: Marks { stale: false, won: false, vivified: false } };
