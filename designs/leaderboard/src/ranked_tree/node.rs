//! The two kinds of node: plain arrays, with what shifts their elements about, and the search that both share.
//!
//! A key is kept in two halves, each in an array of its own: the upper halves nearly always tell keys apart, so that the
//! lower ones need not be read. Places that are not in use hold the highest number, which is lower than no key: so a search
//! goes through whole arrays, without asking how long they are.

/// No leaf.
pub(super) const NONE: u32 = u32::MAX;

/// Numbers in a line of the processor's cache.
const LINE: usize = 8;

/// What fills places that are not in use.
const UNUSED: u64 = u64::MAX;

fn halves(key: u128) -> (u64, u64) {
    let [a, b, c, d, e, f, g, h, rest @ ..] = key.to_be_bytes();
    (u64::from_be_bytes([a, b, c, d, e, f, g, h]), u64::from_be_bytes(rest))
}

fn whole(upper: u64, lower: u64) -> u128 {
    u128::from(upper) << 64 | u128::from(lower)
}

/// Keys in order. They begin with a line of the cache, so that they are on no more lines than they have to.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Keys<const N: usize> {
    upper: [u64; N],
    lower: [u64; N],
}

impl<const N: usize> Keys<N> {
    const EMPTY: Self = Self {
        upper: [UNUSED; N],
        lower: [UNUSED; N],
    };

    fn get(&self, at: usize) -> u128 {
        whole(self.upper[at], self.lower[at])
    }

    fn set(&mut self, at: usize, key: u128) {
        (self.upper[at], self.lower[at]) = halves(key);
    }

    /// How many keys have an upper half that is lower than this one.
    ///
    /// First the last number of each line, then those of one line: the reads of the first kind do not wait for each other,
    /// so that memory that is not in cache is waited for once. Halving would wait for it at each step.
    fn with_lower_upper(&self, upper: u64) -> usize {
        let lines = self.upper.chunks_exact(LINE);
        let full: usize = lines.map(|line| usize::from(line[LINE - 1] < upper)).sum();
        let line = self.upper.chunks_exact(LINE).nth(full);
        let rest: usize = line.map_or(0, |line| line.iter().map(|other| usize::from(*other < upper)).sum());
        full * LINE + rest
    }

    /// How many of the first `len` keys are lower than one; or, if `with` it, not higher.
    fn below(&self, key: u128, with: bool, len: usize) -> usize {
        let (upper, lower) = halves(key);
        let mut at = self.with_lower_upper(upper);
        // Nothing is lower than 0: then the lower halves are not read.
        let passes = |other: &u64| lower > 0 && *other < lower || with && *other == lower;
        while at < len && self.upper[at] == upper && passes(&self.lower[at]) {
            at += 1;
        }
        at
    }

    /// As [`Self::below`] for one that is there: if no other has its upper half, no lower half has to be read.
    fn place(&self, key: u128, len: usize) -> usize {
        let (upper, _) = halves(key);
        let at = self.with_lower_upper(upper);
        match self.upper.get(at + 1) {
            Some(next) if *next == upper => self.below(key, false, len),
            _ => at,
        }
    }

    /// Makes room for one at `at`.
    fn open(&mut self, at: usize, len: usize) {
        self.upper.copy_within(at..len, at + 1);
        self.lower.copy_within(at..len, at + 1);
    }

    /// Takes out the one at `at`.
    fn close(&mut self, at: usize, len: usize) {
        self.upper.copy_within(at + 1..len, at);
        self.lower.copy_within(at + 1..len, at);
        self.upper[len - 1] = UNUSED;
    }

    /// Gives away those from `keep` on.
    fn split(&mut self, keep: usize, len: usize) -> Self {
        let mut given = Self::EMPTY;
        given.upper[..len - keep].copy_from_slice(&self.upper[keep..len]);
        given.lower[..len - keep].copy_from_slice(&self.lower[keep..len]);
        self.upper[keep..len].fill(UNUSED);
        given
    }

    /// Takes over the first `more` of others behind the first `len`.
    fn append(&mut self, len: usize, others: &Self, more: usize) {
        self.upper[len..len + more].copy_from_slice(&others.upper[..more]);
        self.lower[len..len + more].copy_from_slice(&others.lower[..more]);
    }
}

/// Keys in order, without anything below.
#[derive(Clone, Copy)]
pub(super) struct Leaf<const LEAF: usize> {
    keys: Keys<LEAF>,
    len: u32,
    /// The leaf to the right, if any.
    pub(super) next: u32,
}

impl<const LEAF: usize> Leaf<LEAF> {
    pub(super) fn new() -> Self {
        Self {
            keys: Keys::EMPTY,
            len: 0,
            next: NONE,
        }
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = u128> {
        (0..self.len()).map(|at| self.keys.get(at))
    }

    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    pub(super) fn count(&self) -> u32 {
        self.len
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() == LEAF
    }

    /// How many keys are lower.
    pub(super) fn position(&self, key: u128) -> usize {
        self.keys.below(key, false, self.len())
    }

    /// The position of one that is there.
    pub(super) fn place(&self, key: u128) -> usize {
        self.keys.place(key, self.len())
    }

    /// Whether `key`, whose position is `at`, is there.
    pub(super) fn has(&self, at: usize, key: u128) -> bool {
        at < self.len() && self.keys.get(at) == key
    }

    pub(super) fn insert(&mut self, at: usize, key: u128) {
        self.keys.open(at, self.len());
        self.keys.set(at, key);
        self.len += 1;
    }

    pub(super) fn remove(&mut self, at: usize) {
        self.keys.close(at, self.len());
        self.len -= 1;
    }

    /// Takes out the key at `at` and puts in one whose position was `goal`.
    pub(super) fn shift(&mut self, at: usize, goal: usize, key: u128) {
        if at < goal {
            self.keys.upper.copy_within(at + 1..goal, at);
            self.keys.lower.copy_within(at + 1..goal, at);
            self.keys.set(goal - 1, key);
        } else {
            self.keys.open(goal, at);
            self.keys.set(goal, key);
        }
    }

    /// Gives the upper half to a new leaf, which comes before the one that came next. Linking it is left to the caller.
    pub(super) fn split(&mut self) -> Self {
        let keep = self.len / 2;
        let upper = Self {
            keys: self.keys.split(keep as usize, self.len()),
            len: self.len - keep,
            next: self.next,
        };
        self.len = keep;
        upper
    }

    /// Takes over the keys of the leaf to the right.
    pub(super) fn append(&mut self, right: &Self) {
        self.keys.append(self.len(), &right.keys, right.len());
        self.len += right.len;
        self.next = right.next;
    }

    pub(super) fn first(&self) -> u128 {
        self.keys.get(0)
    }
}

/// Children in order. Child `i` has the keys from `first(i)` on, up to but without `first(i + 1)`. Of child 0 nothing is
/// said, and 0 stands there: whatever is lower than `first(1)` goes there.
#[derive(Clone, Copy)]
pub(super) struct Inner<const INNER: usize> {
    first: Keys<INNER>,
    /// How many keys are below each child and all to the left of it: so what comes before one is one number.
    upto: [u32; INNER],
    children: [u32; INNER],
    len: u32,
}

impl<const INNER: usize> Inner<INNER> {
    pub(super) fn new() -> Self {
        Self {
            first: Keys::EMPTY,
            upto: [0; INNER],
            children: [0; INNER],
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() == INNER
    }

    pub(super) fn child(&self, at: usize) -> u32 {
        self.children[at]
    }

    /// Which child has `key`, if any has it.
    pub(super) fn search(&self, key: u128) -> usize {
        self.first.below(key, true, self.len()).saturating_sub(1)
    }

    pub(super) fn first(&self, at: usize) -> u128 {
        self.first.get(at)
    }

    /// How many keys are below the children to the left of one.
    pub(super) fn before(&self, at: usize) -> u32 {
        match at.checked_sub(1) {
            Some(left) => self.upto[left],
            None => 0,
        }
    }

    /// How many keys are below one.
    pub(super) fn count(&self, at: usize) -> u32 {
        self.upto[at] - self.before(at)
    }

    /// How many keys are below all of them.
    pub(super) fn all(&self) -> u32 {
        self.before(self.len())
    }

    /// Which child has the key at a position, and at which position of its own.
    pub(super) fn select(&self, position: u32) -> (usize, u32) {
        let upto = &self.upto[..self.len()];
        // Whoever asks for more than there is gets the end of the last one.
        let at = upto.partition_point(|upto| *upto <= position).min(self.len() - 1);
        (at, position - self.before(at))
    }

    /// One key more below a child.
    pub(super) fn add(&mut self, at: usize) {
        for upto in &mut self.upto[at..] {
            *upto = upto.wrapping_add(1);
        }
    }

    /// One key less below a child.
    pub(super) fn subtract(&mut self, at: usize) {
        for upto in &mut self.upto[at..] {
            *upto = upto.wrapping_sub(1);
        }
    }

    /// A new child to the right of one, with the upper `count` of its keys.
    pub(super) fn divide(&mut self, at: usize, first: u128, count: u32, child: u32) {
        let len = self.len();
        self.first.open(at + 1, len);
        self.first.set(at + 1, first);
        self.children.copy_within(at + 1..len, at + 2);
        self.children[at + 1] = child;
        self.upto.copy_within(at..len, at + 1);
        self.upto[at] -= count;
        self.len += 1;
    }

    /// The child to the right of `left` has gone into it. Gives the number of that one.
    pub(super) fn unite(&mut self, left: usize) -> u32 {
        let len = self.len();
        let gone = self.children[left + 1];
        self.first.close(left + 1, len);
        self.children.copy_within(left + 2..len, left + 1);
        self.upto.copy_within(left + 1..len, left);
        self.len -= 1;
        gone
    }

    /// A child behind all others.
    pub(super) fn push(&mut self, first: u128, count: u32, child: u32) {
        let (len, all) = (self.len(), self.all());
        self.first.set(len, if len == 0 { 0 } else { first });
        self.upto[len] = all + count;
        self.children[len] = child;
        self.len += 1;
    }

    /// Gives the upper half to a new node, and says where the keys of that begin.
    pub(super) fn split(&mut self) -> (u128, Self) {
        let (keep, len) = (self.len() / 2, self.len());
        let mut upper = Self {
            first: self.first.split(keep, len),
            len: self.len - self.len / 2,
            ..Self::new()
        };
        let kept = self.before(keep);
        for (given, upto) in upper.upto.iter_mut().zip(&self.upto[keep..len]) {
            *given = upto - kept;
        }
        upper.children[..len - keep].copy_from_slice(&self.children[keep..len]);
        self.len /= 2;
        let bound = upper.first.get(0);
        upper.first.set(0, 0);
        (bound, upper)
    }

    /// Takes over the children of the node to the right, whose keys begin at `bound`.
    pub(super) fn append(&mut self, right: &Self, bound: u128) {
        let (len, more, all) = (self.len(), right.len(), self.all());
        self.first.append(len, &right.first, more);
        self.first.set(len, bound);
        for (taken, upto) in self.upto[len..].iter_mut().zip(&right.upto[..more]) {
            *taken = all + upto;
        }
        self.children[len..len + more].copy_from_slice(&right.children[..more]);
        self.len += right.len;
    }

    #[cfg(test)]
    pub(super) fn miscount(&mut self) {
        self.upto[0] += 1;
    }
}
