//! A node id on loan: how a server comes by a number that no other server has, and how it stops in time.
//!
//! # The problem
//!
//! Two servers with one node id make the same ids, and nobody notices until two rows meet (zitadel/zitadel, issue 9075,
//! where node ids came from addresses). A file that says `--node-id 7` is right until somebody copies it. So node ids are
//! handed out by a store that all servers share, each to one server at a time. But servers die without saying so, and a
//! number that is never given back is lost: so it is lent, for some seconds, and the loan is renewed. That is a *lease*
//! (Gray and Cheriton, 1989).
//!
//! # Where leases break
//!
//! A lease is a promise about time, and each side has a time of its own. A server is paused, by a debugger, a hypervisor or
//! a garbage collector; its lease ends; the store lends the number to another; the first one wakes up and goes on, in the
//! belief that no time has passed (Kleppmann, "How to do distributed locking", 2016).
//!
//! ```text
//! store       lends 7 to A until 10 ............. lends 7 to B until 25
//! server A    [issues as 7 ... paused          ]   wakes at 14 and issues as 7
//! server B                                      [issues as 7 ...
//! ```
//!
//! Looking at the clock before each id helps, and it is done here: the holder stops at the end of its lease, counted by the
//! *monotonic* clock from the moment when it *asked* (the store cannot have begun to count before), less a margin for clocks
//! that run at different speeds; and it looks *after* it took a number and before it tells it. A process that slept through
//! its lease therefore tells nothing when it wakes. But it is a race all the same: it may be paused between the look and
//! the answer. And no clock says what another machine does: a virtual machine that was suspended has a monotonic clock that
//! stood still with it.
//!
//! # The idea: lend the time as well
//!
//! The usual cure is a fencing token, a number that grows with each loan and that the resource checks. Here there is no
//! resource that could check; there are only ids. But the ids carry their time. So a loan covers *a span of time*: A has
//! node 7 for ids with times from `from` until `until`, and renewing moves `until` forward. Whoever gets the number after A
//! gets it for times from A's last `until` on. The spans of one node id never overlap, so their ids never meet: whoever
//! sleeps, whatever the clocks show, even where two servers hold one node id at one moment.
//!
//! ```text
//! times in ids     0         10        20        30
//! A has node 7     [--------)                          until = 10, and A tells no id with a time of 10 or later
//! B has node 7               [---------)               from = 10, until = 20: B's ids begin at 10
//! ```
//!
//! The fence is what makes it right. The lease is what makes it work: without it, two holders would wait for each other's
//! spans to end. It is hi/lo once more, with milliseconds in place of numbers, and a single server needs the same against
//! itself: what it wrote down before a crash is where it begins after it (`adapters/fixed_node.rs`).
//!
//! # What it rests on
//!
//! That the store does not forget. One Postgres with `synchronous_commit` on, as it comes, keeps a commit that it
//! acknowledged. A replica that takes over may not have heard of it, of Postgres as of Redis, unless replication is
//! synchronous. Then two servers get one node id for one span, and ids meet. `tests/faults/failover.rs` shows it.
//!
//! `tests/lease_model.rs` explores all orders of claims, renewals, lost and late messages, pauses and skewed clocks, within
//! bounds that it names (two holders, one node id, a few moments), and finds the double ids once the fence is taken away.

/// A node id for a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The node id.
    pub node: u32,
    /// Which loan of this node id it is. It grows with each: a renewal of an older one is refused.
    pub epoch: u64,
    /// The first time that ids may carry, in milliseconds since 1970.
    pub from_ms: u64,
    /// The first time that they may not carry, in milliseconds since 1970.
    pub until_ms: u64,
}

/// A lease as its holder sees it: with the end that its own monotonic clock will show. `M` is a moment of that clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tenure<M> {
    /// What was lent.
    pub lease: Lease,
    /// When to stop; `None` where nobody else can get the node id.
    pub ends: Option<M>,
}

impl<M: Ord> Tenure<M> {
    /// Whether ids up to a time, in milliseconds since 1970, may be told now. To be asked after they were taken.
    #[must_use]
    pub fn covers(&self, now: M, time_ms: u64) -> bool {
        let in_time = self.ends.as_ref().is_none_or(|ends| now < *ends);
        in_time && time_ms < self.lease.until_ms
    }
}

/// The store's side, in memory: the rules that every store keeps, each in its own language.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Leases {
    rows: Vec<Row>,
    /// How long a loan lasts, in milliseconds.
    lasts_ms: u64,
}

/// What is kept of a node id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Row {
    epoch: u64,
    /// When it may be lent again, by the store's clock.
    expires_ms: u64,
    /// Up to which time ids may have been made.
    until_ms: u64,
}

impl Leases {
    /// Node ids from 0 to `nodes - 1`, lent for so many milliseconds.
    #[must_use]
    pub fn new(nodes: u32, lasts_ms: u64) -> Self {
        Self {
            rows: (0..nodes).map(|_| Row::default()).collect(),
            lasts_ms,
        }
    }

    /// Lends a node id that nobody has at `now_ms` of the store's clock, to somebody whose own clock shows `clock_ms` and
    /// who wants to make ids up to `reach_ms` from there: the lowest of those whose time is over, so that ids can begin at
    /// once, or else the one whose time is over first.
    pub fn claim(&mut self, now_ms: u64, clock_ms: u64, reach_ms: u64) -> Option<Lease> {
        let free = (0_u32..)
            .zip(&mut self.rows)
            .filter(|(_, row)| row.expires_ms <= now_ms);
        let (node, row) = free.min_by_key(|(node, row)| (row.until_ms.max(clock_ms), *node))?;
        let from_ms = row.until_ms.max(clock_ms);
        *row = Row {
            epoch: row.epoch + 1,
            expires_ms: now_ms + self.lasts_ms,
            until_ms: from_ms.max(clock_ms + reach_ms),
        };
        Some(Lease {
            node,
            epoch: row.epoch,
            from_ms,
            until_ms: row.until_ms,
        })
    }

    /// Lends it for another while, and up to another time. `None`: somebody else has it, or had it since.
    pub fn renew(&mut self, now_ms: u64, lease: &Lease, until_ms: u64) -> Option<Lease> {
        let expires_ms = now_ms + self.lasts_ms;
        let row = self.held(lease)?;
        row.expires_ms = expires_ms;
        row.until_ms = row.until_ms.max(until_ms);
        Some(Lease {
            until_ms: row.until_ms,
            ..*lease
        })
    }

    /// Takes it back: its holder has made no id with a time of `until_ms` or later, and will make none.
    pub fn release(&mut self, lease: &Lease, until_ms: u64) {
        if let Some(row) = self.held(lease) {
            row.expires_ms = 0;
            row.until_ms = until_ms;
        }
    }

    fn held(&mut self, lease: &Lease) -> Option<&mut Row> {
        let row = self.rows.get_mut(usize::try_from(lease.node).ok()?)?;
        (row.epoch == lease.epoch).then_some(row)
    }
}
