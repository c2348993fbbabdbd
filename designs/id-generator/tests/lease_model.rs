//! The lease protocol in every order: stateright walks through all that two holders and a store can do, with `src/lease.rs`
//! itself as the store (`Leases`) and as the holder's look (`Tenure::covers`).
//!
//! One node id, two holders, time in ticks. A request is one step, in which the store does what it says; when it was sent,
//! and what the sender's clock showed then, is free, and so is when its answer is heard, if ever. That makes requests late,
//! and lost with or without effect; a copy of a request is one more whose answer nobody hears. A holder dies, or sleeps
//! between any two of its steps, of which taking a number, looking at the lease and telling the number are three. Wall
//! clocks are off by one and are set whenever they are read; monotonic clocks fall behind, by no more than the margin.
//!
//! What is not here: how numbers are taken within a tick. A loan makes one id a tick, so a tick that is told twice is an id
//! that came twice; the rest is `tests/loom.rs`.

#![allow(clippy::print_stdout, reason = "how much was explored is part of what was found")]

use id_generator::lease::{Lease, Leases, Tenure};
use stateright::{Checker, HasDiscoveries, Model, Property};

/// How long a loan lasts, and what a holder takes off it.
const LASTS: u64 = 2;
const MARGIN: u64 = 1;
/// How far ahead of a holder's wall clock a loan reaches.
const REACH: u64 = 2;
/// The last moment, and the most loans: what makes it finite.
const END: u64 = 3;
const LOANS: u64 = 2;
/// What a right wall clock shows at moment 0, and what wrong ones add, of which a right one has 1.
const NOON: u64 = 10;
const SKEWS: [u64; 2] = [0, 2];
/// How long a request may have been under way.
const DELAYS: [u64; 2] = [0, 1];

/// The rules that are played by: the real ones, or those with one of them taken away.
#[derive(Clone, Copy, Debug)]
struct Rules {
    /// The next loan begins where the last one ends, and not at the claimant's clock.
    fence: bool,
    /// A holder counts its lease from when it asked, and not from when the answer came.
    from_asking: bool,
    /// A holder looks at its lease after it took a number.
    look: bool,
    /// How far a monotonic clock may have fallen behind since the holder asked, whenever it is read.
    lag: u64,
}

const REAL: Rules = Rules {
    fence: true,
    from_asking: true,
    look: true,
    lag: MARGIN,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    /// The store's time.
    now: u64,
    store: Leases,
    /// The epoch of the latest loan.
    lent: u64,
    holders: [Holder; 2],
    /// The tick whose id is taken in this walk, and whether it was told. There is a walk for every tick: to take others as
    /// well would only move the holder on.
    watched: u64,
    told: bool,
    told_twice: bool,
    /// A look found a loan in force after the node id had been lent to somebody else.
    looked_in_vain: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Holder {
    tenure: Option<Tenure<u64>>,
    /// The first tick without an id of this process.
    next: u64,
    answer: Option<Answer>,
    taken: Option<Taken>,
    /// What it gave back, and from when on: the store may not have heard of it yet, or hear of it again.
    released: Option<(Lease, u64)>,
}

/// An answer of the store that is under way; without a lease, its no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Answer {
    asked: u64,
    lease: Option<Lease>,
}

/// A number that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Taken {
    epoch: u64,
    looked: bool,
}

/// What can happen. `which` is the holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    /// Time goes on.
    Time,
    /// A request reaches the store that was sent at `asked`; `clock` is what its sender's wall clock showed.
    Claim {
        which: usize,
        asked: u64,
        clock: u64,
        lost: bool,
    },
    Renew {
        which: usize,
        asked: u64,
        clock: u64,
        lost: bool,
    },
    /// A holder gives its node id back; the store hears of it.
    Release(usize),
    Released(usize),
    /// A renewal from before that, which was long under way.
    Straggler(usize, u64),
    /// The answer arrives.
    Hear(usize),
    Take(usize),
    /// By a monotonic clock that has fallen so far behind.
    Look(usize, u64),
    Tell(usize),
    /// The process dies, and begins anew.
    Die(usize),
}

impl Holder {
    /// What can be done at this moment.
    fn actions(&self, which: usize, world: &World, rules: Rules, actions: &mut Vec<Action>) {
        let clocks = SKEWS.map(|skew| NOON + world.now + skew);
        let idle = self.answer.is_none();
        for clock in clocks {
            if world.lent < LOANS {
                actions.push(Action::Claim {
                    which,
                    asked: world.now,
                    clock,
                    lost: true,
                });
            }
            if self.tenure.is_some() {
                actions.push(Action::Renew {
                    which,
                    asked: world.now,
                    clock,
                    lost: true,
                });
            }
            if self.released.is_some() {
                actions.push(Action::Straggler(which, clock));
            }
            for asked in DELAYS.iter().filter_map(|delay| world.now.checked_sub(*delay)) {
                if idle && self.tenure.is_none() && world.lent < LOANS {
                    actions.push(Action::Claim {
                        which,
                        asked,
                        clock,
                        lost: false,
                    });
                }
                if idle && self.tenure.is_some() {
                    actions.push(Action::Renew {
                        which,
                        asked,
                        clock,
                        lost: false,
                    });
                }
            }
        }
        if !idle {
            actions.push(Action::Hear(which));
        }
        match &self.taken {
            Some(taken) if taken.looked => actions.push(Action::Tell(which)),
            Some(_) => actions.extend((0..=rules.lag).map(|lag| Action::Look(which, lag))),
            None => {
                // A clock that is behind what was made makes nothing.
                let shows = (clocks[0]..=clocks[1]).contains(&world.watched);
                if shows && world.watched >= self.next && self.tenure.is_some() {
                    actions.push(Action::Take(which));
                }
                // Requests are done before the node id is given back, and so are renewals.
                if idle && self.tenure.is_some() {
                    actions.push(Action::Release(which));
                }
            }
        }
        if self.released.is_some() {
            actions.push(Action::Released(which));
        }
        if self.tenure.is_some() {
            actions.push(Action::Die(which));
        }
    }

    fn hear(&mut self, rules: Rules, now: u64) -> Option<()> {
        let Answer { asked, lease } = self.answer.take()?;
        let begins = if rules.from_asking { asked } else { now };
        self.tenure = lease.map(|lease| Tenure {
            lease,
            ends: Some(begins + LASTS - MARGIN),
        });
        self.next = self.next.max(lease.map_or(0, |lease| lease.from_ms));
        Some(())
    }
}

impl World {
    fn claim(&mut self, rules: Rules, clock: u64) -> Option<Lease> {
        let mut lease = self.store.claim(self.now, clock, REACH)?;
        self.lent = lease.epoch;
        if !rules.fence {
            lease.from_ms = clock;
        }
        Some(lease)
    }

    fn look(&mut self, which: usize, lag: u64, rules: Rules) -> Option<()> {
        let taken = self.holders[which].taken?;
        let tenure = self.holders[which]
            .tenure
            .filter(|tenure| tenure.lease.epoch == taken.epoch);
        let monotonic = self.now.saturating_sub(lag);
        let tells = !rules.look || tenure.is_some_and(|tenure| tenure.covers(monotonic, self.watched));
        self.looked_in_vain |= tells && taken.epoch < self.lent;
        self.holders[which].taken = tells.then_some(Taken { looked: true, ..taken });
        Some(())
    }

    fn after(&mut self, action: Action, rules: Rules) -> Option<()> {
        match action {
            Action::Time => self.now += 1,
            Action::Claim {
                which,
                asked,
                clock,
                lost,
            } => {
                let lease = self.claim(rules, clock);
                if !lost {
                    self.holders[which].answer = Some(Answer { asked, lease });
                }
            }
            Action::Renew {
                which,
                asked,
                clock,
                lost,
            } => {
                let lease = self.holders[which].tenure?.lease;
                let lease = self.store.renew(self.now, &lease, clock + REACH);
                if !lost {
                    self.holders[which].answer = Some(Answer { asked, lease });
                }
            }
            Action::Release(which) => {
                let holder = &mut self.holders[which];
                holder.released = Some((holder.tenure.take()?.lease, holder.next));
            }
            Action::Released(which) => {
                let (lease, until) = self.holders[which].released?;
                self.store.release(&lease, until);
            }
            Action::Straggler(which, clock) => {
                let (lease, _) = self.holders[which].released?;
                self.store.renew(self.now, &lease, clock + REACH);
            }
            Action::Hear(which) => self.holders[which].hear(rules, self.now)?,
            Action::Take(which) => {
                let holder = &mut self.holders[which];
                holder.next = self.watched + 1;
                holder.taken = Some(Taken {
                    epoch: holder.tenure?.lease.epoch,
                    looked: false,
                });
            }
            Action::Look(which, lag) => self.look(which, lag, rules)?,
            Action::Tell(which) => {
                self.holders[which].taken = None;
                self.told_twice |= self.told;
                self.told = true;
            }
            Action::Die(which) => self.holders[which] = Holder::default(),
        }
        Some(())
    }

    /// How many holders are about to tell an id of this kind: they have looked, and may sleep now.
    fn about_to_tell(&self, kind: impl Fn(&Taken) -> bool) -> usize {
        let taken = self.holders.iter().filter_map(|holder| holder.taken.as_ref());
        taken.filter(|taken| taken.looked && kind(taken)).count()
    }
}

const UNIQUE: &str = "no id is told twice";
const IN_TIME: &str = "no look finds a loan in force once the node id was lent to another";
const SLEPT: &str = "somebody is about to tell an id whose loan was over long ago";
const INHERITED: &str = "the next holder is about to tell an id";

impl Model for Rules {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        // Those that two loans can want, by the clocks that there are.
        let ticks = NOON + 2..=NOON + 3;
        let walks = ticks.map(|watched| World {
            now: 0,
            store: Leases::new(1, LASTS),
            lent: 0,
            holders: Default::default(),
            watched,
            told: false,
            told_twice: false,
            looked_in_vain: false,
        });
        walks.collect()
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.now < END {
            actions.push(Action::Time);
        }
        // Who claims first is called 0.
        let begun = usize::from(world.lent > 0);
        for (which, holder) in world.holders.iter().enumerate().take(1 + begun) {
            holder.actions(which, world, *self, actions);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        next.after(action, *self)?;
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(UNIQUE, |_, world: &World| !world.told_twice),
            Property::always(IN_TIME, |_, world: &World| !world.looked_in_vain),
            Property::sometimes(SLEPT, |_, world: &World| {
                world.about_to_tell(|taken| taken.epoch < world.lent) > 0
            }),
            Property::sometimes(INHERITED, |_, world: &World| {
                world.about_to_tell(|taken| taken.epoch == LOANS) > 0
            }),
        ]
    }
}

/// All states, or those until one of `found` is found.
fn explored(rules: Rules, found: &[&'static str]) -> impl Checker<Rules> {
    let mut checker = rules.checker().threads(2);
    if !found.is_empty() {
        checker = checker.finish_when(HasDiscoveries::AnyOf(found.iter().copied().collect()));
    }
    let checker = checker.spawn_bfs().join();
    println!(
        "{} states, {} steps deep: {rules:?}",
        checker.unique_state_count(),
        checker.max_depth()
    );
    checker
}

#[test]
fn whatever_happens_no_id_is_told_twice() {
    explored(REAL, &[]).assert_properties();
}

/// A virtual machine that is suspended has a monotonic clock that stood still with it. Then no look can tell, and it is the
/// fence alone that keeps the ids apart.
#[test]
fn a_clock_that_stood_still_fools_the_look_and_not_the_fence() {
    let suspended = Rules { lag: LASTS, ..REAL };
    let checker = explored(suspended, &[]);
    checker.assert_any_discovery(IN_TIME);
    checker.assert_no_discovery(UNIQUE);
}

/// The control: leases alone, as they are used where nothing carries a time.
#[test]
fn without_the_fence_an_id_is_told_twice() {
    explored(Rules { fence: false, ..REAL }, &[UNIQUE]).assert_any_discovery(UNIQUE);
}

/// The control: an answer may have been long under way.
#[test]
fn a_lease_counted_from_its_answer_is_held_too_long() {
    let from_answer = Rules {
        from_asking: false,
        ..REAL
    };
    explored(from_answer, &[IN_TIME]).assert_any_discovery(IN_TIME);
}

/// The control: who looks only before it takes, tells after any pause.
#[test]
fn without_the_look_a_lease_is_held_too_long() {
    explored(Rules { look: false, ..REAL }, &[IN_TIME]).assert_any_discovery(IN_TIME);
}
