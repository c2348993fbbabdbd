//! What the port promises, asked of every adapter: each on real files or a real Redis, beside a sorted vector.

#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

mod contract {
    pub(crate) mod adapters;
    pub(crate) mod model;
    mod sabotage;
}

use contract::adapters::{ordered_tree, sharded, sorted_set, sqlite};
use contract::model::{self, all_time, board, edition, score, submission};
use leaderboard::domain::{
    Change, Error, EventId, From, HIGHEST_SCORE, Member, Order, Period, Place, Policy, Ranking, Settings,
};
use leaderboard::ports::Board;

testkit::contract! {
    cases: [
        does_what_a_sorted_vector_does,
        knows_a_board_by_what_it_was_made_with,
        keeps_scores_exact_to_the_last,
        counts_an_event_once,
        keeps_editions_apart,
        finds_its_way_among_many_equals,
        takes_many_at_once_in_their_order,
        puts_nobody_behind_his_equals_who_changed_nothing,
        goes_on_after_a_place_that_nobody_ever_had,
    ],
    sqlite,
    ordered_tree,
    sorted_set,
    sharded,
}

/// Sequences of a hundred steps each, on boards of their own.
const SEQUENCES: u64 = 25;

async fn does_what_a_sorted_vector_does<B: Board>(board: &B) {
    for seed in 0..SEQUENCES {
        if let Err(difference) = model::compare(board, seed).await {
            panic!("sequence {seed}: {difference}");
        }
    }
}

async fn knows_a_board_by_what_it_was_made_with<B: Board>(store: &B) {
    let made = Settings {
        policy: Policy::Sum,
        ranking: Ranking::Competition,
        order: Order::LowFirst,
        period: Period::Weekly,
    };
    let other = Settings {
        policy: Policy::Best,
        ..made
    };
    let name = board("chess");
    assert_eq!(store.settings(&name).await.unwrap(), None);
    assert_eq!(store.create(&name, made).await.unwrap(), made);
    assert_eq!(store.create(&name, other).await.unwrap(), made, "it stays what it is");
    assert_eq!(store.settings(&name).await.unwrap(), Some(made));
    // The adapters here have room for sixty.
    for nth in 1..60 {
        store.create(&board(&format!("b{nth}")), made).await.unwrap();
    }
    assert!(matches!(
        store.create(&board("one-more"), made).await,
        Err(Error::TooManyBoards)
    ));
    assert_eq!(store.create(&name, made).await.unwrap(), made);
}

/// Redis stores 2^53 + 1 as 2^53 and says that it stored it; and an increment of 2^53 by one does nothing there.
async fn keeps_scores_exact_to_the_last<B: Board>(store: &B) {
    let edition = all_time(store, "b").await;
    let top = HIGHEST_SCORE;
    for (nth, number) in [top, top - 1, top - 2, 1, 0, -1, -top + 1, -top]
        .into_iter()
        .enumerate()
    {
        let standing = submission(&format!("m{number}"), Change::SetTo(score(number)));
        let standing = store.submit(&edition, standing).await;
        assert_eq!(standing.unwrap().before, nth as u64, "{number}");
    }
    let page = store.page(&edition, From::Top, 100).await.unwrap();
    let scores: Vec<i64> = page.entries.iter().map(|entry| entry.place.score.get()).collect();
    assert_eq!(scores, [top, top - 1, top - 2, 1, 0, -1, -top + 1, -top]);
    let add = |member: &str, delta| submission(member, Change::Add(score(delta)));
    for (member, delta) in [
        (format!("m{top}"), 1),
        (format!("m{top}"), top),
        (format!("m-{top}"), -1),
        (format!("m{}", top - 1), 2),
    ] {
        let refused = store.submit(&edition, add(&member, delta)).await;
        assert!(matches!(refused, Err(Error::OutOfRange)), "{member} + {delta}");
    }
    assert_eq!(
        store.page(&edition, From::Top, 100).await.unwrap(),
        page,
        "and nothing has changed"
    );
    let standing = store.submit(&edition, add(&format!("m{}", top - 1), 1)).await.unwrap();
    assert_eq!(
        (standing.score, standing.before),
        (score(top), 1),
        "it got there second"
    );
}

async fn counts_an_event_once<B: Board>(store: &B) {
    let edition = all_time(store, "b").await;
    let event = |member: &str, delta, event: &str| {
        let mut submission = submission(member, Change::Add(score(delta)));
        submission.event = Some(EventId::new(event).unwrap());
        submission
    };
    let scores = async |submission| store.submit(&edition, submission).await.unwrap().score.get();
    assert_eq!(scores(event("a", 5, "e1")).await, 5);
    assert_eq!(scores(event("a", 5, "e1")).await, 5, "the same again");
    assert_eq!(scores(event("a", 7, "e1")).await, 5, "whatever it says the second time");
    assert_eq!(scores(event("a", 5, "e2")).await, 10);
    assert_eq!(scores(event("b", 1, "e1")).await, 1, "events of others are others");
    assert_eq!(scores(event("a", 0, "e0")).await, 10);
    let twice = store
        .load(&edition, vec![event("a", 1, "e3"), event("a", 1, "e3")])
        .await;
    let twice: Vec<i64> = twice.into_iter().map(|score| score.unwrap().get()).collect();
    assert_eq!(twice, [11, 11], "also within one call");
    // What is refused was not counted, and may come again.
    let refused = store.submit(&edition, event("a", HIGHEST_SCORE, "e4")).await;
    assert!(matches!(refused, Err(Error::OutOfRange)));
    assert_eq!(scores(event("a", 2, "e4")).await, 13);
    assert!(store.remove(&edition, &Member::new("b").unwrap()).await.unwrap());
    let gone = store.submit(&edition, event("b", 1, "e1")).await;
    assert!(
        matches!(gone, Err(Error::NoMember)),
        "who was removed does not come back by an old event"
    );
}

async fn keeps_editions_apart<B: Board>(store: &B) {
    let settings = Settings {
        policy: Policy::Best,
        ranking: Ranking::Ordinal,
        order: Order::HighFirst,
        period: Period::Daily,
    };
    store.create(&board("daily"), settings).await.unwrap();
    store.create(&board("other"), settings).await.unwrap();
    // Redis forgets by its own clock, so these end far ahead of it.
    let editions = [("daily", 1), ("daily", 2), ("other", 1)].map(|(name, number)| {
        let mut edition = edition(name, number);
        edition.forgotten_at = Some(4_000_000_000_000 + number);
        edition
    });
    for (points, edition) in (1..).zip(&editions) {
        let submission = submission("m", Change::RaiseTo(score(points)));
        store.submit(edition, submission).await.unwrap();
    }
    let points = async |edition| {
        let page = store.page(edition, From::Top, 9).await.unwrap();
        page.entries
            .iter()
            .map(|entry| entry.place.score.get())
            .collect::<Vec<_>>()
    };
    for (expected, edition) in (1..).zip(&editions) {
        assert_eq!(points(edition).await, [expected]);
    }
    store.forget(4_000_000_000_000).await.unwrap();
    for (expected, edition) in (1..).zip(&editions) {
        assert_eq!(points(edition).await, [expected]);
    }
}

/// An edition that ends soon, with one member who left and came back: what Redis kept of him is new then.
async fn a_short_edition<B: Board>(store: &B, forgotten_at: u64) -> leaderboard::domain::Edition {
    all_time(store, "short").await;
    let mut edition = edition("short", 1);
    edition.forgotten_at = Some(forgotten_at);
    let member = Member::new("m").unwrap();
    for _ in 0..2 {
        let one = submission("m", Change::SetTo(score(1)));
        store.submit(&edition, one).await.unwrap();
        assert!(store.remove(&edition, &member).await.unwrap());
    }
    let one = submission("m", Change::SetTo(score(2)));
    store.submit(&edition, one).await.unwrap();
    assert_eq!(store.count(&edition).await.unwrap(), 1);
    edition
}

async fn forgets_an_edition_when_it_is_told_the_time<B: Board>(store: &B) {
    let edition = a_short_edition(store, 5_000).await;
    store.forget(4_999).await.unwrap();
    assert_eq!(store.count(&edition).await.unwrap(), 1);
    store.forget(5_000).await.unwrap();
    assert_eq!(store.count(&edition).await.unwrap(), 0);
    assert_eq!(store.page(&edition, From::Top, 9).await.unwrap().entries, []);
}

#[test]
fn a_table_and_a_tree_forget_an_edition_when_they_are_told_the_time() {
    testkit::contract::run(async {
        forgets_an_edition_when_it_is_told_the_time(sqlite().await.adapter()).await;
        forgets_an_edition_when_it_is_told_the_time(ordered_tree().await.adapter()).await;
    });
}

/// Tabcorp/redis-rate-limiter, issue 1, had a key without an end: here none of an edition's may be.
#[test]
fn redis_forgets_every_key_of_an_edition_by_itself() {
    testkit::contract::run(async {
        let url = testkit::engines::redis();
        let redis = stores::Redis::open(&url, &ledger::Ledger::new()).await.unwrap();
        let store = leaderboard::adapters::SortedSet::new(redis.clone(), 60);
        a_short_edition(&store, 4_000_000_000_000).await;
        for part in ["order", "tags", "changes"] {
            let key = format!("lb:{{short/1}}:{part}");
            let end: i64 = redis.read(redis::cmd("PEXPIRETIME").arg(key)).await.unwrap();
            assert_eq!(end, 4_000_000_000_000, "{part}");
        }
    });
}

/// A thousand on one score are told apart by when they reached it, whatever they are called.
async fn finds_its_way_among_many_equals<B: Board>(store: &B) {
    let edition = all_time(store, "b").await;
    let names: Vec<String> = (0..1_000)
        .map(|nth: u32| format!("{:x}", nth.wrapping_mul(2_654_435_761)))
        .collect();
    for some in names.chunks(250) {
        let submissions = some
            .iter()
            .map(|name| submission(name, Change::SetTo(score(7))))
            .collect();
        for answer in store.load(&edition, submissions).await {
            answer.unwrap();
        }
    }
    for nth in [0, 1, 499, 998, 999] {
        let member = Member::new(&names[nth]).unwrap();
        let standing = store.standings(&edition, &[member]).await.unwrap()[0].unwrap();
        assert_eq!((standing.before, standing.above), (nth as u64, 0));
    }
    let (mut from, mut seen) = (From::Top, Vec::new());
    loop {
        let page = store.page(&edition, from, 77).await.unwrap();
        assert_eq!(page.before, seen.len() as u64);
        seen.extend(page.entries.iter().map(|entry| entry.member.as_str().to_owned()));
        match page.entries.last() {
            Some(last) if page.more => from = From::After(last.place),
            _ => break,
        }
    }
    assert_eq!(seen, names);
}

async fn takes_many_at_once_in_their_order<B: Board>(store: &B) {
    let edition = all_time(store, "b").await;
    let many = (0..1_000)
        .map(|nth| submission(&format!("m{}", nth % 300), Change::Add(score(1))))
        .collect();
    let answers = store.load(&edition, many).await;
    for (nth, answer) in answers.iter().enumerate() {
        assert_eq!(answer.as_ref().unwrap().get(), nth as i64 / 300 + 1);
    }
    assert_eq!(store.count(&edition).await.unwrap(), 300);
    let members: Vec<Member> = (0..301).map(|nth| Member::new(&format!("m{nth}")).unwrap()).collect();
    let standings = store.standings(&edition, &members).await.unwrap();
    assert_eq!(standings[300], None);
    let first = standings[0].unwrap();
    assert_eq!(
        (first.score.get(), first.before, standings[100].unwrap().score.get()),
        (4, 0, 3)
    );
}

async fn names<B: Board>(store: &B, edition: &leaderboard::domain::Edition, from: From) -> Vec<String> {
    let page = store.page(edition, from, 9).await.unwrap();
    page.entries
        .iter()
        .map(|entry| entry.member.as_str().to_owned())
        .collect()
}

async fn puts_nobody_behind_his_equals_who_changed_nothing<B: Board>(store: &B) {
    let edition = all_time(store, "b").await;
    let all = ["a", "b", "a"].map(|name| submission(name, Change::SetTo(score(10))));
    for answer in store.load(&edition, all.into()).await {
        answer.unwrap();
    }
    assert_eq!(names(store, &edition, From::Top).await, ["a", "b"]);
    store
        .submit(&edition, submission("a", Change::Add(score(0))))
        .await
        .unwrap();
    assert_eq!(names(store, &edition, From::Top).await, ["a", "b"]);
}

/// Cursors come from outside: somebody may make one up.
async fn goes_on_after_a_place_that_nobody_ever_had<B: Board>(store: &B) {
    let edition = all_time(store, "b").await;
    for (name, points) in [("c", 1), ("b", 2), ("a", 3)] {
        let one = submission(name, Change::SetTo(score(points)));
        store.submit(&edition, one).await.unwrap();
    }
    for reached in [1 << 46, HIGHEST_SCORE.unsigned_abs()] {
        let after = |points| {
            From::After(Place {
                score: score(points),
                reached,
            })
        };
        assert_eq!(names(store, &edition, after(HIGHEST_SCORE)).await, ["a", "b", "c"]);
        assert_eq!(names(store, &edition, after(2)).await, ["c"]);
        assert_eq!(names(store, &edition, after(-HIGHEST_SCORE)).await, [""; 0]);
    }
}
