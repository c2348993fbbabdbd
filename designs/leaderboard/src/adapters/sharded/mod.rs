//! Boards over a Redis Cluster, each cut into shards by score.
//!
//! A sorted set is on one thread of one node. So a board is several of them, one for each range of scores, on different
//! nodes. A rank is how many are above in one's own shard, and the sizes of the shards above that. Who is at the top asks one
//! shard; who is further down asks for a few numbers more.
//!
//! ```text
//!     home of alice (partition of her name)                  shard 2: 700,000 and more    bob 912,001 · zoe 700,000
//!     alice -> score 699,999, version 17, in shard 1         shard 1: from 350,000        alice 699,999 · ...
//! ```
//!
//! A script of Redis sees one node, and there is nothing that spans two. What holds the shards together is a **record** of
//! each member, which one script alone decides on: his score, and a version that only grows. Shards follow:
//!
//! ```text
//! 1. decide    home        score, version + 1, pending              from here on it is true
//! 2. place     new shard   unless a newer version is known there
//! 3. leave     old shard   unless a newer version is there; older ones stay out for a minute
//! 4. settle    home        no longer pending                        along with some later change
//! ```
//!
//! All but the first may be done twice, late, or by anybody, and the order in which versions arrive, within a minute, does
//! not matter. So whoever finds a record whose member is not where it says puts him there, and what a server left undone
//! that died between two steps is done by any other within seconds. What one page shows while members move is in [`pages`].
//!
//! | | key | on the partition of |
//! |---|---|---|
//! | hash | `lb:{P}:home:BOARD/N` | a member: `SCORE VERSION SHARDS` |
//! | sorted set | `lb:{P}:pending` | the same: what is not settled, by time |
//! | text | `lb:{P}:event:BOARD/N:LENGTH:MEMBER/EVENT` | the same: an event that was counted |
//! | sorted set, hash, number | `lb:{P}:order:BOARD/N/SHARD`, `:tags:`, `:changes:` | a shard: as in stage `sorted_set` |
//! | sorted set | `lb:{P}:left:BOARD/N/SHARD` | a shard: who has left it last, by change |
//! | text | `lb:{P}:gone:BOARD/N/SHARD:MEMBER` | a shard: from which version on he is not here |

mod home;
mod pages;
mod places;
mod scripts;
mod shards;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use service::Lifecycle;
use stores::Redis;

use self::home::{Decided, Home, Kept, Pace, Record, Settled, Stuck};
pub use self::places::Cuts;
use self::places::PARTITIONS;
use self::shards::Shards;
use super::in_redis::{Boards, Foreign, LARGEST_SCRIPT};
use crate::domain::{BoardName, Edition, Error, From, Member, Page, Score, Settings, Standing, Submission};
use crate::ports::Board;

/// How often it is looked for what others left undone, and what is settled is said.
const LOOK: Duration = Duration::from_secs(1);

/// How long a change may take before others finish it, in milliseconds: longer than any request does.
const PATIENCE_MS: u64 = 5_000;

/// Of a partition, how much of that is read at once, and how often in one look.
const STUCK: usize = 100;
const STUCK_PAGES: usize = 100;

/// Boards over a cluster. What survives is up to how its nodes keep their data; the design's README says.
#[derive(Clone)]
pub struct Sharded(Arc<Parts>);

/// What clones share.
struct Parts {
    boards: Boards,
    home: Home,
    shards: Shards,
}

impl Sharded {
    /// Up to so many boards in this cluster, cut like this. All servers of a cluster MUST cut alike.
    #[must_use]
    pub fn new(cluster: &Redis, cuts: Cuts, most_boards: u64) -> Self {
        // Each partition fails alone: its node may be gone while others are well.
        let parts: Vec<Redis> = (0..PARTITIONS).map(|_| cluster.part()).collect();
        Self(Arc::new(Parts {
            boards: Boards::new(cluster.part(), most_boards),
            home: Home::new(parts.clone()),
            shards: Shards::new(parts, cuts),
        }))
    }

    /// Says that boards are cut like this, if nobody has cut them before; gives the cuts if they are others.
    ///
    /// # Errors
    /// The store's.
    pub async fn cut_otherwise(&self) -> Result<Option<String>, Error> {
        let cuts: Vec<String> = self
            .0
            .shards
            .cuts()
            .scores()
            .iter()
            .map(|cut| cut.get().to_string())
            .collect();
        let cuts = cuts.join(",");
        let in_force = self.0.boards.agree_on_cuts(&cuts).await?;
        Ok(Some(in_force).filter(|in_force| *in_force != cuts))
    }

    /// Finishes in the background what was left undone, here or by a server that is gone.
    pub fn keep_settled(&self, lifecycle: &Lifecycle) {
        let board = self.clone();
        lifecycle.spawn("settle", |stopping| async move {
            while stopping.pause(LOOK).await {
                board.finish(PATIENCE_MS).await;
            }
            board.finish(PATIENCE_MS).await;
        });
    }

    /// Finishes once what has been pending for so long. What cannot be finished now is tried again with the next call.
    pub async fn finish(&self, patience_ms: u64) {
        if let Err(error) = self.0.home.flush().await {
            tracing::warn!(%error, "what is settled could not be said; it is found out again");
        }
        let all = (0..PARTITIONS).map(|partition| self.finish_partition(partition, patience_ms));
        for result in join_all(all).await {
            if let Err(error) = result {
                tracing::warn!(%error, "what is pending could not be finished; the next try is in a second");
            }
        }
    }

    /// What waits for a node that is gone does not keep back the rest.
    async fn finish_partition(&self, partition: usize, patience_ms: u64) -> Result<(), Error> {
        let mut failed = Ok(());
        for page in 0..STUCK_PAGES {
            let all = self.0.home.stuck(partition, patience_ms, page * STUCK, STUCK).await?;
            let last = all.len() < STUCK;
            for stuck in all {
                if let Err(error) = self.finish_one(partition, stuck).await {
                    failed = Err(error);
                }
            }
            if last {
                break;
            }
        }
        failed
    }

    async fn finish_one(&self, partition: usize, Stuck { edition, member }: Stuck) -> Result<(), Error> {
        let kept = self.0.home.read(partition, &edition, &[&member]).await?;
        let Some(kept) = kept.into_iter().next().flatten() else {
            // Its edition is over.
            let settled = Settled {
                member,
                version: 0,
                shards: 0,
            };
            self.0.home.settled(&edition, settled);
            return Ok(());
        };
        match kept.record() {
            Some(record) => self.settle(&edition, &member, record).await.map(|_| ()),
            None => self.leave_for_good(&edition, &member, kept.version, kept.shards).await,
        }
    }

    async fn record(&self, edition: &Edition, member: &Member) -> Result<Option<Record>, Error> {
        let kept = self.0.home.read(places::home(member), edition, &[member]).await?;
        Ok(kept.into_iter().next().flatten().and_then(Kept::record))
    }

    /// Puts a member where his record says, and takes him from everywhere else. Says where he stands in his shard.
    async fn settle(&self, edition: &Edition, member: &Member, record: Record) -> Result<Standing, Error> {
        let shard = self.0.shards.cuts().shard(record.score);
        let standing = self
            .0
            .shards
            .place(edition, shard, &[(member, record)], Pace::Prompt)
            .await?;
        self.leave(edition, member, record.version, record.shards & !(1 << shard))
            .await?;
        self.0.home.settled(
            edition,
            Settled {
                member: member.clone(),
                version: record.version,
                shards: 1 << shard,
            },
        );
        standing.first().copied().ok_or_else(no_answer)
    }

    /// Takes a member from some shards.
    async fn leave(&self, edition: &Edition, member: &Member, version: u64, shards: u32) -> Result<(), Error> {
        let some = (0..self.0.shards.cuts().shards()).filter(|shard| shards & (1 << shard) != 0);
        try_join_all(some.map(|shard| self.0.shards.leave(edition, shard, member, version))).await?;
        Ok(())
    }

    /// Takes a member who was taken off from all shards that he may be found in.
    async fn leave_for_good(&self, edition: &Edition, member: &Member, version: u64, shards: u32) -> Result<(), Error> {
        self.leave(edition, member, version, shards).await?;
        let settled = Settled {
            member: member.clone(),
            version,
            shards: 0,
        };
        self.0.home.settled(edition, settled);
        Ok(())
    }

    /// Where a member stands whose score has just changed.
    async fn moved(&self, edition: &Edition, member: &Member, record: Record) -> Result<Standing, Error> {
        let shard = self.0.shards.cuts().shard(record.score);
        if record.shards >> shard > 1 {
            // He comes from above, and is not to be counted there.
            let standing = self.settle(edition, member, record).await?;
            return Ok(below(standing, self.counted_above(edition, shard).await?));
        }
        let (standing, higher) =
            tokio::try_join!(self.settle(edition, member, record), self.counted_above(edition, shard))?;
        Ok(below(standing, higher))
    }

    /// Where members stand, all of one shard; and how many are in it.
    async fn standings_of(
        &self,
        edition: &Edition,
        shard: usize,
        members: &[(&Member, Record)],
    ) -> Result<(Vec<Standing>, u64), Error> {
        let (found, count) = self.0.shards.standings(edition, shard, members).await?;
        let mut standings = Vec::with_capacity(found.len());
        for ((member, record), standing) in members.iter().zip(found) {
            standings.push(match standing {
                Some(standing) if record.shards == 1 << shard => standing,
                // He is on his way: whoever was to place him, or to take him from where he was, may be gone, or a moment late.
                _ => self.settle(edition, member, *record).await.map_err(only_read)?,
            });
        }
        Ok((standings, count))
    }

    /// Where a member stands by his record, and among how many.
    async fn standing_of(&self, edition: &Edition, member: &Member, record: Record) -> Result<(Standing, u64), Error> {
        let own = self.0.shards.cuts().shard(record.score);
        let others = (0..self.0.shards.cuts().shards()).filter(|shard| *shard != own);
        let one = [(member, record)];
        let ((standings, count), counts) = tokio::try_join!(
            self.standings_of(edition, own, &one),
            try_join_all(others.map(|shard| self.0.shards.count(edition, shard)))
        )?;
        let (lower, higher) = counts.split_at(own);
        let higher: u64 = higher.iter().sum();
        let standing = standings.into_iter().next().ok_or_else(no_answer)?;
        Ok((below(standing, higher), lower.iter().sum::<u64>() + count + higher))
    }

    /// Decides some submissions, and puts their members where they belong.
    async fn load_some(&self, edition: &Edition, submissions: &[Submission]) -> Vec<Result<Score, Error>> {
        let decided = self.decide(edition, submissions, Pace::Patient).await;
        // Of each member the last change is where he is to be; among equals in the order in which they came.
        let mut last: HashMap<&Member, usize> = HashMap::new();
        let decided_at = |at: usize| decided[at].as_ref().ok().map(|decided| decided.record);
        for (at, (submission, decided)) in submissions.iter().zip(&decided).enumerate() {
            let Ok(Decided { record, open: true }) = decided else {
                continue;
            };
            // One that changed nothing does not put its member behind his equals.
            let noted = last.get(&submission.member).and_then(|at| decided_at(*at));
            if noted.is_none_or(|noted| noted.version != record.version) {
                last.insert(&submission.member, at);
            }
        }
        let mut by_shard: Vec<Vec<(&Member, Record)>> = vec![Vec::new(); self.0.shards.cuts().shards()];
        for (at, (submission, decided)) in submissions.iter().zip(&decided).enumerate() {
            if let Ok(Decided { record, .. }) = decided
                && last.get(&submission.member) == Some(&at)
            {
                by_shard[self.0.shards.cuts().shard(record.score)].push((&submission.member, *record));
            }
        }
        let place = async |shard: usize, members: &[(&Member, Record)]| -> Result<(), Error> {
            self.0.shards.place(edition, shard, members, Pace::Patient).await?;
            let leaving = members
                .iter()
                .map(|(member, record)| self.leave(edition, member, record.version, record.shards & !(1 << shard)));
            try_join_all(leaving).await?;
            for (member, record) in members {
                let settled = Settled {
                    member: (*member).clone(),
                    version: record.version,
                    shards: 1 << shard,
                };
                self.0.home.settled(edition, settled);
            }
            Ok(())
        };
        let places = by_shard
            .iter()
            .enumerate()
            .map(|(shard, members)| place(shard, members));
        let failed: Vec<Option<Error>> = join_all(places).await.into_iter().map(Result::err).collect();
        let answers = submissions.iter().zip(&decided).map(|(submission, answer)| {
            let Decided { record, .. } = answer.clone()?;
            // Whatever became of him before, he is where the last change puts him, or nobody knows.
            let last = last.get(&submission.member).and_then(|at| decided_at(*at));
            match last.and_then(|last| failed[self.0.shards.cuts().shard(last.score)].clone()) {
                Some(error) => Err(decided_already(error)),
                None => Ok(record.score),
            }
        });
        answers.collect()
    }

    /// Decides submissions, no more than a script takes, those of a partition in their order.
    async fn decide(&self, edition: &Edition, submissions: &[Submission], pace: Pace) -> Vec<Result<Decided, Error>> {
        let mut by_partition: Vec<Vec<usize>> = vec![Vec::new(); PARTITIONS];
        for (at, submission) in submissions.iter().enumerate() {
            by_partition[places::home(&submission.member)].push(at);
        }
        let decide = async |partition: usize, all: Vec<usize>| {
            let these: Vec<&Submission> = all.iter().map(|at| &submissions[*at]).collect();
            let decided = self
                .0
                .home
                .submit(partition, edition, &these, self.0.shards.cuts(), pace)
                .await;
            let decided = decided.unwrap_or_else(|error| these.iter().map(|_| Err(error.clone())).collect());
            all.into_iter().zip(decided).collect::<Vec<_>>()
        };
        let asked = by_partition.into_iter().enumerate().filter(|(_, all)| !all.is_empty());
        let answers = join_all(asked.map(|(partition, all)| decide(partition, all))).await;
        let mut all: Vec<Result<Decided, Error>> = submissions.iter().map(|_| Err(no_answer())).collect();
        for (at, answer) in answers.into_iter().flatten() {
            all[at] = answer;
        }
        all
    }
}

impl Board for Sharded {
    async fn create(&self, board: &BoardName, settings: Settings) -> Result<Settings, Error> {
        self.0.boards.create(board, settings).await
    }

    async fn settings(&self, board: &BoardName) -> Result<Option<Settings>, Error> {
        self.0.boards.settings(board).await
    }

    async fn submit(&self, edition: &Edition, submission: Submission) -> Result<Standing, Error> {
        let decided = self
            .decide(edition, std::slice::from_ref(&submission), Pace::Prompt)
            .await;
        let Decided { record, open } = decided.into_iter().next().unwrap_or_else(|| Err(no_answer()))?;
        let member = &submission.member;
        if open {
            return self.moved(edition, member, record).await.map_err(decided_already);
        }
        // Nothing has changed; but an event is written down by now, and will not count again.
        let standing = self.standing_of(edition, member, record).await;
        Ok(standing.map_err(decided_already)?.0)
    }

    async fn load(&self, edition: &Edition, submissions: Vec<Submission>) -> Vec<Result<Score, Error>> {
        let mut answers = Vec::with_capacity(submissions.len());
        // Not all at once: the nodes would be busy with nothing else, and late for everybody.
        for some in submissions.chunks(LARGEST_SCRIPT) {
            answers.extend(self.load_some(edition, some).await);
        }
        answers
    }

    async fn standing(&self, edition: &Edition, member: &Member) -> Result<Option<(Standing, u64)>, Error> {
        match self.record(edition, member).await? {
            Some(record) => Ok(Some(self.standing_of(edition, member, record).await?)),
            None => Ok(None),
        }
    }

    async fn standings(&self, edition: &Edition, members: &[Member]) -> Result<Vec<Option<Standing>>, Error> {
        let mut by_partition: HashMap<usize, Vec<usize>> = HashMap::new();
        for (at, member) in members.iter().enumerate() {
            by_partition.entry(places::home(member)).or_default().push(at);
        }
        let read = async |partition: usize, all: Vec<usize>| -> Result<Vec<(usize, Option<Kept>)>, Error> {
            let names: Vec<&Member> = all.iter().map(|at| &members[*at]).collect();
            let kept = self.0.home.read(partition, edition, &names).await?;
            Ok(all.into_iter().zip(kept).collect())
        };
        let kept = try_join_all(by_partition.into_iter().map(|(partition, all)| read(partition, all))).await?;
        let mut by_shard: Vec<Vec<(usize, Record)>> = vec![Vec::new(); self.0.shards.cuts().shards()];
        for (at, kept) in kept.into_iter().flatten() {
            if let Some(record) = kept.and_then(Kept::record) {
                by_shard[self.0.shards.cuts().shard(record.score)].push((at, record));
            }
        }
        let Some(lowest) = by_shard.iter().position(|members| !members.is_empty()) else {
            return Ok(vec![None; members.len()]);
        };
        let stand = async |shard: usize| -> Result<Vec<Standing>, Error> {
            let asked: Vec<(&Member, Record)> = by_shard[shard]
                .iter()
                .map(|(at, record)| (&members[*at], *record))
                .collect();
            match asked.is_empty() {
                true => Ok(Vec::new()),
                false => Ok(self.standings_of(edition, shard, &asked).await?.0),
            }
        };
        let shards = lowest..self.0.shards.cuts().shards();
        let (found, counts) = tokio::try_join!(
            try_join_all(shards.clone().map(stand)),
            try_join_all(shards.clone().skip(1).map(|shard| self.0.shards.count(edition, shard)))
        )?;
        let mut standings = vec![None; members.len()];
        for (nth, (found, shard)) in found.into_iter().zip(shards).enumerate() {
            let higher = counts[nth..].iter().sum();
            for ((at, _), standing) in by_shard[shard].iter().zip(found) {
                standings[*at] = Some(below(standing, higher));
            }
        }
        Ok(standings)
    }

    async fn page(&self, edition: &Edition, from: From, limit: usize) -> Result<Page, Error> {
        self.lines(edition, from, limit).await
    }

    async fn around(
        &self,
        edition: &Edition,
        member: &Member,
        above: usize,
        below: usize,
    ) -> Result<Option<Page>, Error> {
        self.lines_around(edition, member, above, below).await
    }

    async fn count(&self, edition: &Edition) -> Result<u64, Error> {
        let shards = 0..self.0.shards.cuts().shards();
        let counts = try_join_all(shards.map(|shard| self.0.shards.count(edition, shard))).await?;
        Ok(counts.into_iter().sum())
    }

    async fn remove(&self, edition: &Edition, member: &Member) -> Result<bool, Error> {
        let Some((version, shards, there)) = self.0.home.take_off(edition, member).await? else {
            return Ok(false);
        };
        // Also of one who was taken off before and is still shown.
        self.leave_for_good(edition, member, version, shards)
            .await
            .map_err(decided_already)?;
        Ok(there)
    }

    /// Redis does, each key at its time.
    async fn forget(&self, _: u64) -> Result<(), Error> {
        Ok(())
    }
}

/// A standing in a shard, below so many of others.
fn below(standing: Standing, higher: u64) -> Standing {
    Standing {
        before: higher + standing.before,
        above: higher + standing.above,
        ..standing
    }
}

/// What could not be carried to its end after it was decided: it counts, and others will finish it.
fn decided_already(error: Error) -> Error {
    match error {
        Error::Unavailable(cause) | Error::Full(cause) => Error::Unknown(cause),
        error => error,
    }
}

/// Whoever only looks has changed nothing, though he helped another who had.
fn only_read(error: Error) -> Error {
    match error {
        Error::Unknown(cause) => Error::Unavailable(cause),
        error => error,
    }
}

fn no_answer() -> Error {
    stores::Error::unknown(Foreign).into()
}
