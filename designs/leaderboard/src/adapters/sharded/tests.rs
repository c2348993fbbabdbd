//! The orders in which the steps of a reader and of a mover can come, on a real cluster: all for one move, every fifth for two.

use super::shards::{Which, Window};
use super::*;
use crate::domain::{Change, Order, Period, Policy, Ranking};

/// Those who stay: two in each shard.
const STAY: [i64; 6] = [1, 2, 11, 12, 21, 22];

fn edition(name: &str) -> Edition {
    Edition {
        board: BoardName::new(name).unwrap(),
        number: 0,
        forgotten_at: None,
    }
}

fn submission(member: &str, score: i64) -> Submission {
    Submission {
        member: Member::new(member).unwrap(),
        change: Change::SetTo(Score::new(score).unwrap()),
        event: None,
        at_ms: 0,
    }
}

async fn board() -> (Sharded, testkit::engines::Cluster) {
    let cluster = testkit::engines::redis_cluster();
    let redis = Redis::open_cluster(cluster.url(), &ledger::Ledger::new())
        .await
        .unwrap();
    let board = Sharded::new(&redis, Cuts::new(&[10, 20]).unwrap(), 10);
    let settings = Settings {
        policy: Policy::Latest,
        ranking: Ranking::Ordinal,
        order: Order::HighFirst,
        period: Period::AllTime,
    };
    board.create(&BoardName::new("b").unwrap(), settings).await.unwrap();
    (board, cluster)
}

/// A member who moves, a step at a time: decided, placed, gone from where he was, and so on with the next score.
struct Mover<'a> {
    board: &'a Sharded,
    edition: &'a Edition,
    scores: Vec<i64>,
    step: usize,
    record: Option<Record>,
}

impl Mover<'_> {
    fn steps(&self) -> usize {
        3 * self.scores.len()
    }

    async fn next(&mut self) {
        let member = Member::new("mover").unwrap();
        let submission = submission("mover", self.scores[self.step / 3]);
        match (self.step % 3, self.record) {
            (0, _) => {
                let decided = self.board.decide(self.edition, &[submission], Pace::Prompt).await;
                self.record = Some(decided[0].as_ref().unwrap().record);
            }
            (1, Some(record)) => {
                let shard = self.board.0.shards.cuts().shard(record.score);
                self.board
                    .0
                    .shards
                    .place(self.edition, shard, &[(&member, record)], Pace::Prompt)
                    .await
                    .unwrap();
            }
            (_, Some(record)) => {
                let shard = self.board.0.shards.cuts().shard(record.score);
                let others = record.shards & !(1 << shard);
                self.board
                    .leave(self.edition, &member, record.version, others)
                    .await
                    .unwrap();
            }
            (_, None) => unreachable!("the first step decides"),
        }
        self.step += 1;
    }
}

/// A reader of the whole board: how many changes, then a shard at a time in some order.
struct Reader<'a> {
    board: &'a Sharded,
    edition: &'a Edition,
    order: [usize; 3],
    since: Vec<u64>,
    windows: Vec<Option<Window>>,
    step: usize,
}

impl Reader<'_> {
    const STEPS: usize = 4;

    async fn next(&mut self) {
        match self.step {
            0 => {
                for shard in 0..3 {
                    self.since
                        .push(self.board.0.shards.changes(self.edition, shard).await.unwrap());
                }
            }
            step => {
                let shard = self.order[step - 1];
                let since = Some(self.since[shard]);
                let window = self.board.0.shards.window(self.edition, shard, Which::First(20), since);
                self.windows[shard] = window.await.unwrap();
            }
        }
        self.step += 1;
    }
}

/// Which of so many steps are the reader's: all choices, each as a set of bits.
fn interleavings(reader: usize, mover: usize) -> impl Iterator<Item = u32> {
    (0..1_u32 << (reader + mover)).filter(move |bits| bits.count_ones() as usize == reader)
}

#[test]
fn whatever_the_order_of_steps_a_page_has_everybody_once() {
    testkit::contract::run(async {
        let (board, _cluster) = board().await;
        let mut tried = 0;
        for scores in [vec![25], vec![5], vec![15, 25], vec![25, 15], vec![5, 25], vec![25, 5]] {
            for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
                for bits in interleavings(Reader::STEPS, 3 * scores.len()) {
                    // Four of seven steps, or of ten, are the reader's: of the long ones every fifth is enough.
                    tried += 1;
                    if scores.len() > 1 && tried % 5 != 0 {
                        continue;
                    }
                    let edition = edition(&format!("b-{tried}"));
                    let start = if scores[0] == 15 { 5 } else { 15 };
                    let mut all: Vec<Submission> = STAY
                        .iter()
                        .map(|score| submission(&format!("m{score}"), *score))
                        .collect();
                    all.push(submission("mover", start));
                    board
                        .load(&edition, all)
                        .await
                        .into_iter()
                        .for_each(|score| assert!(score.is_ok()));
                    let mut mover = Mover {
                        board: &board,
                        edition: &edition,
                        scores: scores.clone(),
                        step: 0,
                        record: None,
                    };
                    let mut reader = Reader {
                        board: &board,
                        edition: &edition,
                        order,
                        since: Vec::new(),
                        windows: vec![None; 3],
                        step: 0,
                    };
                    for nth in 0..Reader::STEPS + mover.steps() {
                        match bits & (1 << nth) {
                            0 => mover.next().await,
                            _ => reader.next().await,
                        }
                    }
                    let windows = reader.windows.into_iter().map(Option::unwrap).collect();
                    let read = board
                        .put_together(&edition, 2, From::Top, windows)
                        .await
                        .unwrap()
                        .unwrap();
                    let page = read.page(&board, 0, 20);
                    let mut names: Vec<&str> = page.entries.iter().map(|entry| entry.member.as_str()).collect();
                    assert!(
                        page.entries.is_sorted_by(|x, y| x.place.score > y.place.score),
                        "{page:?}"
                    );
                    names.sort_unstable();
                    assert_eq!(
                        names,
                        ["m1", "m11", "m12", "m2", "m21", "m22", "mover"],
                        "{scores:?} {order:?} {bits:b}"
                    );
                }
            }
        }
    });
}

/// A server that dies leaves a change decided and not placed, or placed and not gone from where it was. Another finishes it;
/// and a step that arrives late, after all of that, changes nothing.
#[test]
fn what_a_server_left_undone_is_finished_and_what_comes_late_does_no_harm() {
    testkit::contract::run(async {
        let (board, _cluster) = board().await;
        let scores = [[25, 5], [25, 15]];
        for (done, scores) in [1, 2, 4, 5]
            .into_iter()
            .flat_map(|done| scores.map(|scores| (done, scores)))
        {
            let edition = edition(&format!("b-{done}-{}", scores[1]));
            board.submit(&edition, submission("other", 12)).await.unwrap();
            board.submit(&edition, submission("mover", 15)).await.unwrap();
            let mut mover = Mover {
                board: &board,
                edition: &edition,
                scores: scores.to_vec(),
                step: 0,
                record: None,
            };
            let mut late = Vec::new();
            for _ in 0..done {
                mover.next().await;
                late.extend(mover.record);
            }
            let another = board.clone();
            another.finish(0).await;
            // What it found is settled with the next look.
            another.finish(0).await;
            let last = scores[usize::from(done > 3)];
            let mut expected = [("mover", last), ("other", 12)];
            expected.sort_by_key(|(_, score)| -score);
            let check = async |when: &str| {
                let page = board.page(&edition, From::Top, 9).await.unwrap();
                let lines: Vec<(&str, i64)> = page
                    .entries
                    .iter()
                    .map(|entry| (entry.member.as_str(), entry.place.score.get()))
                    .collect();
                assert_eq!(lines, expected, "{done} steps, {when}");
                assert_eq!(board.count(&edition).await.unwrap(), 2, "{done} steps, {when}");
            };
            check("finished").await;
            let member = Member::new("mover").unwrap();
            for record in late {
                let shard = board.0.shards.cuts().shard(record.score);
                board
                    .0
                    .shards
                    .place(&edition, shard, &[(&member, record)], Pace::Prompt)
                    .await
                    .unwrap();
                check("placed late").await;
                board
                    .leave(&edition, &member, record.version, record.shards & !(1 << shard))
                    .await
                    .unwrap();
                check("left late").await;
            }
            for partition in 0..PARTITIONS {
                assert!(
                    board.0.home.stuck(partition, 0, 0, 9).await.unwrap().is_empty(),
                    "nothing is pending"
                );
            }
        }
    });
}

/// The page after the last of a shard: who has come there meanwhile from below is not on the page before, so he is on this.
#[test]
fn who_comes_up_behind_a_cursor_is_on_the_page_after_it() {
    testkit::contract::run(async {
        let (board, _cluster) = board().await;
        let edition = edition("b");
        let all = [("m25", 25), ("m23", 23), ("m12", 12), ("mover", 15)];
        let all = all.iter().map(|(name, score)| submission(name, *score)).collect();
        board
            .load(&edition, all)
            .await
            .into_iter()
            .for_each(|score| assert!(score.is_ok()));
        let from = From::After(board.page(&edition, From::Top, 2).await.unwrap().entries[1].place);
        let From::After(cursor) = from else {
            unreachable!("it was just made")
        };
        let mut since = Vec::new();
        for shard in 0..3 {
            since.push(board.0.shards.changes(&edition, shard).await.unwrap());
        }
        let window = async |shard: usize, which| {
            let window = board.0.shards.window(&edition, shard, which, Some(since[shard])).await;
            window.unwrap().unwrap()
        };
        let highest = window(2, Which::After(cursor, 9)).await;
        board.submit(&edition, submission("mover", 21)).await.unwrap();
        let lower = [window(0, Which::First(9)).await, window(1, Which::First(9)).await];
        let windows = lower.into_iter().chain([highest]).collect();
        let read = board.put_together(&edition, 2, from, windows).await.unwrap().unwrap();
        let page = read.page(&board, 0, 9);
        let names: Vec<&str> = page.entries.iter().map(|entry| entry.member.as_str()).collect();
        assert_eq!(names, ["mover", "m12"]);
    });
}

/// One who was taken off half-way is gone, and comes back by nothing but a new score.
#[test]
fn who_was_taken_off_is_not_put_back_by_what_comes_late() {
    testkit::contract::run(async {
        let (board, _cluster) = board().await;
        let edition = edition("b");
        let member = Member::new("mover").unwrap();
        board.submit(&edition, submission("mover", 15)).await.unwrap();
        let record = board.record(&edition, &member).await.unwrap().unwrap();
        let (version, shards, _) = board.0.home.take_off(&edition, &member).await.unwrap().unwrap();
        assert!(version > record.version && shards == record.shards);
        assert_eq!(
            board.standings(&edition, std::slice::from_ref(&member)).await.unwrap(),
            [None]
        );
        assert!(
            !board.remove(&edition, &member).await.unwrap(),
            "he was taken off before"
        );
        assert_eq!(board.count(&edition).await.unwrap(), 0, "and is no longer shown");
        for _ in 0..2 {
            board.finish(0).await;
        }
        board
            .0
            .shards
            .place(&edition, 1, &[(&member, record)], Pace::Prompt)
            .await
            .unwrap();
        assert_eq!(board.count(&edition).await.unwrap(), 0, "placed late");
        assert!(!board.remove(&edition, &member).await.unwrap());
        let standing = board.submit(&edition, submission("mover", 16)).await.unwrap();
        assert_eq!((standing.before, board.count(&edition).await.unwrap()), (0, 1));
    });
}

/// A server that cuts elsewhere would look for members where they are not.
#[test]
fn how_boards_are_cut_is_decided_once_for_a_cluster() {
    testkit::contract::run(async {
        let (board, cluster) = board().await;
        assert_eq!(board.cut_otherwise().await.unwrap(), None);
        assert_eq!(board.cut_otherwise().await.unwrap(), None);
        let redis = Redis::open_cluster(cluster.url(), &ledger::Ledger::new())
            .await
            .unwrap();
        let other = Sharded::new(&redis, Cuts::new(&[10, 30]).unwrap(), 10);
        assert_eq!(other.cut_otherwise().await.unwrap().as_deref(), Some("10,20"));
    });
}
