//! The buckets of one rule: from keys to words, bounded, and read without a lock.
//!
//! ```text
//! key ── hash ──> home slot
//!                    |
//!   ... | 9c..  TAT | 41..  TAT | e0..  TAT |  0    0  | ...
//!         \_ fingerprint of a key             \_ TAT 0, never used: whoever looks for a key stops here
//! ```
//!
//! A slot is two words: the fingerprint of its key, and the TAT of its bucket (`gcra.rs`). A key is looked for from its
//! home slot on, over at most `WINDOW` slots. Found, it is charged by one compare-and-swap.
//!
//! # Nothing has to be swept
//!
//! A TAT in the past is a full bucket, as good as none. So a new key takes the first slot of its window that was never used
//! or whose bucket is full. Buckets that are not full are never given away: where there are only those, the new key is
//! refused, and those that are there keep their limits.
//!
//! # Taking a slot over
//!
//! Between finding a bucket full and writing the new fingerprint, its old owner might come and charge it, and that charge
//! would be lost. So the TAT is swapped for `FROZEN` first, which fails if the owner was faster, and whoever meets it
//! looks again. Only then come the fingerprint and the new TAT. The TATs of a slot only grow, from one owner to the next
//! too, so a compare-and-swap that was prepared for the old owner never succeeds on the new one's.
//!
//! Of new keys, those that hash alike wait for each other (a lock of 64): otherwise one key could get two slots, and twice
//! its limit. Others pass a slot that is being taken, and settle behind it. So whoever looks for a key stops at a slot
//! without a TAT, and not at one without a fingerprint: that may be about to get its first.
//!
//! # Whoever is late
//!
//! A thread reads the clock, is held up, and comes here later with a time that has passed. Meanwhile its key's bucket may
//! have become full and been given away. To begin anew at the time that it brings would give it a burst that was spent
//! before, and another one now. So the table keeps the latest time at which anything was given away, and what begins anew
//! does so no earlier.
//!
//! # What a fingerprint forgets
//!
//! Of a key 64 bits are kept, by SipHash with a secret of the process: nobody outside can make two keys meet. Two that meet
//! by chance share a bucket, and together get the limit of one; with ten million keys, the odds that there is any such pair
//! are one in 370,000.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::OnceLock;

use crate::domain::Error;
use crate::gcra::{Cell, Rate, Taken};
use crate::sync::{AtomicU64, Mutex, Ordering, lock, spin};

/// How many slots from its home a key may stand.
const WINDOW: usize = 128;

/// Locks for new keys.
const STRIPES: usize = 64;

/// In place of a TAT: the slot is being taken over.
const FROZEN: u64 = u64::MAX;

/// Buckets by key.
pub struct Table {
    max_keys: usize,
    /// Made when the first key comes: many rules are never used.
    slots: OnceLock<Slots>,
    secret: RandomState,
}

pub(crate) struct Slots {
    all: Box<[Slot]>,
    /// How many slots are homes: from the last of them a whole window still fits.
    homes: u64,
    window: usize,
    new_keys: Box<[Mutex<()>]>,
    /// The latest time at which a slot went from one key to another, in nanoseconds.
    given_ns: AtomicU64,
}

/// Sixteen bytes that lie in one cache line.
#[derive(Default)]
#[repr(align(16))]
struct Slot {
    /// 0: never used.
    fingerprint: AtomicU64,
    bucket: Cell,
}

impl Table {
    /// Room for so many keys, at 24 bytes each; none of it is taken before the first key comes.
    #[must_use]
    pub fn new(max_keys: usize) -> Self {
        Self {
            max_keys,
            slots: OnceLock::new(),
            secret: RandomState::new(),
        }
    }

    /// Charges the bucket of a key, or refuses to.
    ///
    /// # Errors
    /// [`Error::Full`]: the key is new, and no bucket that might be its own is full.
    pub fn take(&self, rate: &Rate, now_ns: u64, key: &str, cost: u64) -> Result<Taken, Error> {
        self.slots().take(rate, now_ns, self.secret.hash_one(key), cost)
    }

    fn slots(&self) -> &Slots {
        // Two in three are used when there are as many keys as may be: then looking for one is still short.
        self.slots
            .get_or_init(|| Slots::new((self.max_keys.saturating_mul(3) / 2).max(1), WINDOW, STRIPES))
    }
}

impl Slots {
    pub(crate) fn new(homes: usize, window: usize, stripes: usize) -> Self {
        Self {
            all: (1..homes.saturating_add(window)).map(|_| Slot::default()).collect(),
            homes: homes as u64,
            window,
            new_keys: (0..stripes).map(|_| Mutex::new(())).collect(),
            given_ns: AtomicU64::new(0),
        }
    }

    pub(crate) fn take(&self, rate: &Rate, now_ns: u64, hash: u64, cost: u64) -> Result<Taken, Error> {
        let fingerprint = hash.max(1);
        let window = self.window(hash);
        loop {
            let taken = match find(window, fingerprint) {
                Some(slot) => slot.charge(fingerprint, rate, now_ns, cost),
                // Not to be remembered: it is as full as before.
                None if cost == 0 => Some(rate.decide(0, now_ns, 0).1),
                None => self.add(window, fingerprint, rate, now_ns, cost)?,
            };
            match taken {
                Some(taken) => return Ok(taken),
                None => spin(),
            }
        }
    }

    /// Where a key may stand.
    fn window(&self, hash: u64) -> &[Slot] {
        let home = (u128::from(hash) * u128::from(self.homes)) >> 64;
        let home = usize::try_from(home).unwrap_or(0);
        &self.all[home..home + self.window]
    }

    /// Gives a new key a slot, and charges it; `None` where somebody else was there before.
    fn add(
        &self,
        window: &[Slot],
        fingerprint: u64,
        rate: &Rate,
        now_ns: u64,
        cost: u64,
    ) -> Result<Option<Taken>, Error> {
        let stripe = usize::try_from(fingerprint % self.new_keys.len() as u64).unwrap_or(0);
        let _one_of_its_kind = lock(&self.new_keys[stripe]);
        if find(window, fingerprint).is_some() {
            return Ok(None);
        }
        // Read after the search: whoever finds another's fingerprint in its slot sees when it was given away.
        let now_ns = now_ns.max(self.given_ns.load(Ordering::Acquire));
        let (tat, taken) = rate.decide(0, now_ns, cost);
        if !taken.allowed {
            return Ok(Some(taken));
        }
        let now = rate.ticks(now_ns);
        for slot in window {
            let before = slot.bucket.0.load(Ordering::Acquire);
            // `FROZEN` is the greatest of all.
            if before > now {
                continue;
            }
            let frozen = slot
                .bucket
                .0
                .compare_exchange(before, FROZEN, Ordering::AcqRel, Ordering::Relaxed);
            if frozen.is_ok() {
                if before > 0 {
                    self.given_ns.fetch_max(now_ns, Ordering::AcqRel);
                }
                slot.fingerprint.store(fingerprint, Ordering::Release);
                slot.bucket.0.store(tat, Ordering::Release);
                return Ok(Some(taken));
            }
        }
        Err(Error::Full)
    }
}

fn find(window: &[Slot], fingerprint: u64) -> Option<&Slot> {
    for slot in window {
        match slot.fingerprint.load(Ordering::Acquire) {
            other if other == fingerprint => return Some(slot),
            // A TAT is never 0 again, so nobody who went past this slot can have read it before.
            0 if slot.bucket.0.load(Ordering::Acquire) == 0 => return None,
            _ => {}
        }
    }
    None
}

impl Slot {
    /// Charges the bucket; `None` if it is not that key's any more.
    fn charge(&self, fingerprint: u64, rate: &Rate, now_ns: u64, cost: u64) -> Option<Taken> {
        let mut tat = self.bucket.0.load(Ordering::Acquire);
        loop {
            // After the TAT: whoever sees a new owner's TAT sees its fingerprint too.
            if tat == FROZEN || self.fingerprint.load(Ordering::Acquire) != fingerprint {
                return None;
            }
            let (after, taken) = rate.decide(tat, now_ns, cost);
            if !taken.allowed || cost == 0 {
                return Some(taken);
            }
            let swapped = self
                .bucket
                .0
                .compare_exchange_weak(tat, after, Ordering::AcqRel, Ordering::Acquire);
            match swapped {
                Ok(_) => return Some(taken),
                Err(other) => tat = other,
            }
        }
    }
}
