//! A board as a sorted vector, and what is compared with it.

use std::collections::HashSet;

use leaderboard::domain::{
    BoardName, Change, Edition, EventId, From, Member, Order, Page, Period, Place, Policy, Ranking, Score, Settings,
    Standing, Submission,
};
use leaderboard::ports::Board;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

pub(crate) fn board(name: &str) -> BoardName {
    BoardName::new(name).unwrap()
}

pub(crate) fn score(score: i64) -> Score {
    Score::new(score).unwrap()
}

pub(crate) fn edition(name: &str, number: u64) -> Edition {
    Edition {
        board: board(name),
        number,
        forgotten_at: None,
    }
}

pub(crate) fn submission(member: &str, change: Change) -> Submission {
    Submission {
        member: Member::new(member).unwrap(),
        change,
        event: None,
        at_ms: 1_000,
    }
}

/// A board for ever, on which anything may be submitted.
pub(crate) async fn all_time<B: Board>(store: &B, name: &str) -> Edition {
    let settings = Settings {
        policy: Policy::Best,
        ranking: Ranking::Ordinal,
        order: Order::HighFirst,
        period: Period::AllTime,
    };
    store.create(&board(name), settings).await.unwrap();
    edition(name, 0)
}

#[derive(Clone, Debug)]
enum Step {
    Submit(Vec<(u8, u8, i64, Option<u8>)>),
    Remove(u8),
    Standings(Vec<u8>),
    /// From the top, or after a place that was seen on an earlier page, whoever stands there now; so many lines.
    Page(Option<u16>, usize),
    Around(u8, usize, usize),
}

/// Few members and few scores, so that equals are many.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let member = 0..25_u8;
    let one = (
        member.clone(),
        0..3_u8,
        -6..6_i64,
        proptest::option::weighted(0.3, 0..5_u8),
    );
    let step = prop_oneof![
        8 => proptest::collection::vec(one, 1..8).prop_map(Step::Submit),
        1 => member.clone().prop_map(Step::Remove),
        1 => proptest::collection::vec(member.clone(), 1..5).prop_map(Step::Standings),
        2 => (proptest::option::weighted(0.7, 0..1_000_u16), 1..12_usize).prop_map(|(from, limit)| Step::Page(from, limit)),
        1 => (member, 0..5_usize, 0..5_usize).prop_map(|(member, above, below)| Step::Around(member, above, below)),
    ];
    proptest::collection::vec(step, 100)
}

/// Names in whose bytes there is no order that could be mistaken for another, and what Redis or SQL might take for their own.
fn member(nth: u8) -> Member {
    let odd = ["{tag}", "a:b", "*", "Zoë", "'; --", " ", "%00"];
    let name = odd
        .get(usize::from(nth))
        .map_or_else(|| format!("m{}", nth.wrapping_mul(167)), ToString::to_string);
    Member::new(&name).unwrap()
}

/// The board as it should be: its lines in order, the changes up to now, the events that were counted.
#[derive(Default)]
struct Model {
    lines: Vec<(Member, Place)>,
    reached: u64,
    events: HashSet<(Member, EventId)>,
    /// Places that were on a page, here and there: stores may number changes otherwise, as long as the order is the same.
    seen: Vec<(Place, Place)>,
}

impl Model {
    fn find(&self, member: &Member) -> Option<usize> {
        self.lines.iter().position(|(other, _)| other == member)
    }

    fn standing(&self, at: usize) -> Standing {
        let score = self.lines[at].1.score;
        Standing {
            score,
            before: at as u64,
            above: self.lines.iter().filter(|(_, place)| place.score > score).count() as u64,
        }
    }

    fn submit(&mut self, submission: &Submission) -> Option<Standing> {
        let at = self.find(&submission.member);
        let counted = submission.event.clone().map(|event| (submission.member.clone(), event));
        if counted.as_ref().is_some_and(|event| self.events.contains(event)) {
            return at.map(|at| self.standing(at));
        }
        self.events.extend(counted);
        let old = at.map(|at| self.lines[at].1.score);
        if let Some(score) = submission.change.of(old).unwrap() {
            if let Some(at) = at {
                self.lines.remove(at);
            }
            self.reached += 1;
            let place = Place {
                score,
                reached: self.reached,
            };
            let before = |(_, other): &(Member, Place)| other.score >= score;
            let at = self.lines.partition_point(before);
            self.lines.insert(at, (submission.member.clone(), place));
        }
        self.find(&submission.member).map(|at| self.standing(at))
    }

    fn page(&self, first: usize, limit: usize) -> Page {
        let lines = self.lines.iter().skip(first).take(limit);
        let entries = lines.map(|(member, place)| leaderboard::domain::Entry {
            member: member.clone(),
            place: *place,
        });
        Page {
            entries: entries.collect(),
            before: first as u64,
            above: if first < self.lines.len() {
                self.standing(first).above
            } else {
                first as u64
            },
            more: first + limit < self.lines.len(),
        }
    }
}

/// Takes a hundred steps, drawn by `seed`, on a board of its own and on a sorted vector.
///
/// # Errors
/// What the board answered, where the vector says something else.
pub(crate) async fn compare<B: Board>(store: &B, seed: u64) -> Result<(), String> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let steps = steps().new_tree(&mut runner).unwrap().current();
    let edition = all_time(store, &format!("model-{seed}")).await;
    let mut model = Model::default();
    for (nth, step) in steps.iter().enumerate() {
        take(store, &edition, &mut model, step)
            .await
            .map_err(|what| format!("step {nth}, {step:?}: {what}"))?;
    }
    let all = store.page(&edition, From::Top, 1_000).await;
    same(all.map(unnumbered), unnumbered(model.page(0, 1_000)))?;
    same(store.count(&edition).await, model.lines.len() as u64)
}

async fn take<B: Board>(store: &B, edition: &Edition, model: &mut Model, step: &Step) -> Result<(), String> {
    match step {
        Step::Submit(many) => {
            let submissions = many.iter().map(|(nth, kind, points, event)| Submission {
                member: member(*nth),
                change: [
                    Change::RaiseTo(score(*points)),
                    Change::SetTo(score(*points)),
                    Change::Add(score(*points)),
                ][usize::from(*kind)],
                event: event.and_then(|event| EventId::new(&format!("e{event}"))),
                at_ms: 1_000,
            });
            let submissions: Vec<Submission> = submissions.collect();
            let expected: Vec<Option<Standing>> = submissions.iter().map(|one| model.submit(one)).collect();
            if let [one] = &submissions[..] {
                let standing = store.submit(edition, one.clone()).await;
                return same(Ok::<_, String>(standing.ok()), expected[0]);
            }
            let scores = store.load(edition, submissions).await;
            let scores: Vec<Option<Score>> = scores.into_iter().map(Result::ok).collect();
            let expected = expected
                .into_iter()
                .map(|standing| standing.map(|standing| standing.score));
            same(Ok::<_, String>(scores), expected.collect())
        }
        Step::Remove(nth) => {
            let at = model.find(&member(*nth));
            if let Some(at) = at {
                model.lines.remove(at);
            }
            same(store.remove(edition, &member(*nth)).await, at.is_some())
        }
        Step::Standings(many) => {
            let members: Vec<Member> = many.iter().map(|nth| member(*nth)).collect();
            let expected = members
                .iter()
                .map(|member| model.find(member).map(|at| model.standing(at)));
            let expected: Vec<Option<Standing>> = expected.collect();
            let alone = store.standing(edition, &members[0]).await;
            same(alone, expected[0].map(|standing| (standing, model.lines.len() as u64)))?;
            same(store.standings(edition, &members).await, expected)
        }
        Step::Page(from, limit) => {
            let (from, first) = match from.and_then(|nth| model.seen.get(usize::from(nth) % model.seen.len().max(1))) {
                None => (From::Top, 0),
                Some((here, there)) => {
                    let before = |(_, other): &(Member, Place)| {
                        other.score > here.score || other.score == here.score && other.reached <= here.reached
                    };
                    (From::After(*there), model.lines.partition_point(before))
                }
            };
            let page = store.page(edition, from, *limit).await;
            let places = page.iter().flat_map(|page| &page.entries).map(|entry| entry.place);
            let seen: Vec<(Place, Place)> = model.lines[first..]
                .iter()
                .map(|(_, place)| *place)
                .zip(places)
                .collect();
            model.seen.extend(seen);
            same(page.map(unnumbered), unnumbered(model.page(first, *limit)))
        }
        Step::Around(nth, above, below) => {
            let expected = model.find(&member(*nth)).map(|at| {
                let first = at.saturating_sub(*above);
                model.page(first, at - first + 1 + below)
            });
            let found = store.around(edition, &member(*nth), *above, *below).await;
            same(found.map(|found| found.map(unnumbered)), expected.map(unnumbered))
        }
    }
}

/// A page without the numbers of changes, which are the store's own.
fn unnumbered(mut page: Page) -> Page {
    page.entries.iter_mut().for_each(|entry| entry.place.reached = 0);
    page
}

fn same<T: PartialEq + std::fmt::Debug, E: std::fmt::Debug>(found: Result<T, E>, expected: T) -> Result<(), String> {
    match found {
        Ok(found) if found == expected => Ok(()),
        found => Err(format!("{found:?} instead of {expected:?}")),
    }
}
