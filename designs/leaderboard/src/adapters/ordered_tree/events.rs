//! Which events were counted already: those of this hour and of the one before.
//!
//! Kept as the first half of a SHA-256 each: whoever wants two of them to be taken for one has to find a collision first.
//! The hour is that of the report that came last, not that of the clock: so the log says the same when it is read again.

use std::collections::HashSet;

use sha2::{Digest as _, Sha256};

use crate::domain::{Edition, EventId, Member};

const HOUR_MS: u64 = 60 * 60 * 1_000;

/// Events of an hour. Each takes about 20 bytes.
const MOST: usize = 4_000_000;

/// What is kept of an event.
pub(super) type Digest = [u8; 16];

/// Many digests, in parts by their first byte: a set that grows moves all that it has, and everybody waits for that.
pub(super) struct Digests([HashSet<Digest>; 256]);

impl Default for Digests {
    fn default() -> Self {
        Self(std::array::from_fn(|_| HashSet::new()))
    }
}

impl Digests {
    pub(super) fn insert(&mut self, digest: Digest) {
        self.0[usize::from(digest[0])].insert(digest);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Digest> {
        self.0.iter().flatten()
    }

    fn has(&self, digest: &Digest) -> bool {
        self.0[usize::from(digest[0])].contains(digest)
    }

    fn count(&self) -> usize {
        self.0.iter().map(HashSet::len).sum()
    }
}

/// Events that were counted.
#[derive(Default)]
pub(super) struct Events {
    hour: u64,
    this_hour: Digests,
    last_hour: Digests,
}

/// There are as many events of one hour as may be.
#[derive(Debug)]
pub(super) struct TooMany;

impl Events {
    /// These events, of this hour and of the one before.
    pub(super) fn restored(hour: u64, this_hour: Digests, last_hour: Digests) -> Self {
        Self {
            hour,
            this_hour,
            last_hour,
        }
    }

    /// Forgets what is older than an hour. A clock that was ahead and is set back makes what is there older, not eternal.
    pub(super) fn forget(&mut self, now_ms: u64) {
        let hour = now_ms / HOUR_MS;
        if hour > self.hour {
            let gone = std::mem::take(&mut self.this_hour);
            self.last_hour = if hour == self.hour + 1 {
                gone
            } else {
                Digests::default()
            };
            self.hour = hour;
        } else if hour + 1 < self.hour {
            for (some, last) in self.this_hour.0.iter_mut().zip(&mut self.last_hour.0) {
                last.extend(some.drain());
            }
            self.hour = hour;
        }
    }

    /// Whether it was counted before.
    pub(super) fn has(&self, event: &Digest) -> bool {
        self.this_hour.has(event) || self.last_hour.has(event)
    }

    /// Whether there is room for another.
    pub(super) fn room(&self) -> Result<(), TooMany> {
        if self.this_hour.count() < MOST {
            Ok(())
        } else {
            Err(TooMany)
        }
    }

    /// It is counted now.
    pub(super) fn add(&mut self, event: Digest) {
        self.this_hour.insert(event);
    }

    /// The hour, and what is kept of it and of the one before.
    pub(super) fn parts(&self) -> (u64, &Digests, &Digests) {
        (self.hour, &self.this_hour, &self.last_hour)
    }
}

/// What is kept of an event. Each part is preceded by its length, so that no two events run together into one text.
pub(super) fn digest(edition: &Edition, member: &Member, event: &EventId) -> Digest {
    let mut hash = Sha256::new();
    for part in [edition.board.as_str(), member.as_str(), event.as_str()] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.update(edition.number.to_le_bytes());
    let hash: [u8; 32] = hash.finalize().into();
    let mut half = Digest::default();
    half.copy_from_slice(&hash[..16]);
    half
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_remembered_for_an_hour_and_no_more_than_two() {
        let mut events = Events::default();
        events.forget(10 * HOUR_MS);
        events.add([1; 16]);
        events.forget(11 * HOUR_MS + HOUR_MS / 2);
        assert!(events.has(&[1; 16]));
        events.forget(12 * HOUR_MS);
        assert!(!events.has(&[1; 16]));
    }

    #[test]
    fn a_clock_that_was_days_ahead_and_is_set_back_neither_forgets_nor_keeps_for_ever() {
        let mut events = Events::default();
        events.forget(100 * HOUR_MS);
        events.add([1; 16]);
        events.forget(10 * HOUR_MS);
        assert!(events.has(&[1; 16]));
        events.add([2; 16]);
        events.forget(11 * HOUR_MS);
        assert!(!events.has(&[1; 16]) && events.has(&[2; 16]));
        // Requests of one moment may come in the other order.
        events.forget(11 * HOUR_MS - 1);
        events.forget(11 * HOUR_MS);
        assert!(events.has(&[2; 16]));
    }

    #[test]
    fn events_that_nobody_saw_for_hours_are_forgotten_at_once() {
        let mut events = Events::default();
        events.add([1; 16]);
        events.forget(2 * HOUR_MS);
        assert!(!events.has(&[1; 16]));
    }

    #[test]
    fn no_two_events_run_together() {
        use crate::domain::BoardName;
        let edition = |board: &str, number| Edition {
            board: BoardName::new(board).unwrap(),
            number,
            forgotten_at: None,
        };
        let of = |edition: &Edition, member: &str, event: &str| {
            digest(edition, &Member::new(member).unwrap(), &EventId::new(event).unwrap())
        };
        let all = [
            of(&edition("b", 0), "ab", "c"),
            of(&edition("b", 0), "a", "bc"),
            of(&edition("ba", 0), "b", "c"),
            of(&edition("b", 1), "ab", "c"),
        ];
        assert_eq!(HashSet::from(all).len(), all.len());
    }
}
