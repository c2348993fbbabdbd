//! Records: the truth about each member, in the partition of his name, where one script decides alone.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use redis::{ScriptInvocation, Value, cmd, from_redis_value_ref};

use super::places::{self, Cuts};
use super::scripts::{SETTLE, STUCK, SUBMIT, TAKE_OFF};
use crate::adapters::in_redis::{EVENTS_KEPT_MS, Foreign, amount, event_key, foreign};
use crate::domain::{BoardName, Edition, Error, Member, Score, Submission};
use stores::Redis;

/// Records that are settled along with a submission.
const ALONG: usize = 50;

/// How long an answer is worth waiting for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// Somebody looks on.
    Prompt,
    /// It is one of a batch.
    Patient,
}

impl Pace {
    /// Runs a script that answers a list.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn run(self, redis: &Redis, call: &ScriptInvocation<'_>) -> Result<Vec<Value>, stores::Error> {
        match self {
            Self::Prompt => redis.run(call).await,
            Self::Patient => redis.patient().run(call).await,
        }
    }
}

/// What is true of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// His score.
    pub(super) score: Score,
    /// Which change it is of. Higher is newer: microseconds since 1970, or one more than the last.
    pub(super) version: u64,
    /// The shards that he may be found in, a bit each: until it is settled, those of before too.
    pub(super) shards: u32,
}

/// A record as it is kept: also that of one who was taken off, until he is gone from everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// The score; nothing of one who was taken off.
    pub(super) score: Option<Score>,
    pub(super) version: u64,
    pub(super) shards: u32,
}

impl Kept {
    /// Of somebody who is on the board.
    pub(super) fn record(self) -> Option<Record> {
        Some(Record {
            score: self.score?,
            version: self.version,
            shards: self.shards,
        })
    }
}

/// What came of a submission.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decided {
    pub(super) record: Record,
    /// Whether he has still to be placed: his score has changed, now or by something that was not settled yet.
    pub(super) open: bool,
}

/// A record whose member is where it says, and nowhere else.
#[derive(Clone, Debug)]
pub(super) struct Settled {
    pub(super) member: Member,
    pub(super) version: u64,
    pub(super) shards: u32,
}

/// A record that was not settled in time.
#[derive(Clone, Debug)]
pub(super) struct Stuck {
    pub(super) edition: Edition,
    pub(super) member: Member,
}

/// All records.
pub(super) struct Home {
    /// The cluster, as seen from each partition.
    parts: Vec<Redis>,
    /// What is settled and not said yet, by partition.
    settled: Mutex<HashMap<(usize, Edition), Vec<Settled>>>,
}

fn home_key(partition: usize, edition: &Edition) -> String {
    format!(
        "lb:{{{}}}:home:{}/{}",
        places::tag(partition),
        edition.board,
        edition.number
    )
}

fn pending_key(partition: usize) -> String {
    format!("lb:{{{}}}:pending", places::tag(partition))
}

/// What elements of `pending` begin with; the member follows.
fn prefix(edition: &Edition) -> String {
    let forgotten_at = edition.forgotten_at.unwrap_or(0);
    format!("{} {} {forgotten_at} ", edition.board, edition.number)
}

fn stuck(element: &str) -> Option<Stuck> {
    let mut parts = element.splitn(4, ' ');
    let board = BoardName::new(parts.next()?)?;
    let number = parts.next()?.parse().ok()?;
    let forgotten_at = Some(parts.next()?.parse().ok()?).filter(|at| *at != 0);
    let member = Member::new(parts.next()?)?;
    let edition = Edition {
        board,
        number,
        forgotten_at,
    };
    Some(Stuck { edition, member })
}

fn kept(text: &str) -> Result<Kept, Foreign> {
    let mut words = text.split(' ');
    let mut next = || words.next().ok_or(Foreign);
    let (score, version, shards) = (next()?, next()?, next()?);
    Ok(Kept {
        score: match score {
            "-" => None,
            score => Some(score.parse().ok().and_then(Score::new).ok_or(Foreign)?),
        },
        version: version.parse().map_err(|_| Foreign)?,
        shards: shards.parse().map_err(|_| Foreign)?,
    })
}

fn decided(answer: &Value) -> Result<Result<Decided, Error>, Foreign> {
    match answer {
        Value::BulkString(word) if word == b"gone" => Ok(Err(Error::NoMember)),
        Value::BulkString(word) if word == b"range" => Ok(Err(Error::OutOfRange)),
        answer => {
            let (score, version, shards, open): (i64, u64, u32, bool) =
                from_redis_value_ref(answer).map_err(|_| Foreign)?;
            let record = Record {
                score: Score::new(score).ok_or(Foreign)?,
                version,
                shards,
            };
            Ok(Ok(Decided { record, open }))
        }
    }
}

impl Home {
    pub(super) fn new(parts: Vec<Redis>) -> Self {
        Self {
            parts,
            settled: Mutex::default(),
        }
    }

    /// Decides submissions whose members are all of this partition, in their order.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn submit(
        &self,
        partition: usize,
        edition: &Edition,
        submissions: &[&Submission],
        cuts: &Cuts,
        pace: Pace,
    ) -> Result<Vec<Result<Decided, Error>>, Error> {
        let mut call = SUBMIT.key(home_key(partition, edition));
        call.key(pending_key(partition));
        call.arg(edition.forgotten_at.unwrap_or(0))
            .arg(EVENTS_KEPT_MS)
            .arg(prefix(edition));
        let along = self.take(partition, edition);
        call.arg(along.len());
        for settled in &along {
            call.arg(settled.member.as_str())
                .arg(settled.version)
                .arg(settled.shards);
        }
        call.arg(cuts.scores().len());
        for cut in cuts.scores() {
            call.arg(cut.get());
        }
        let mut keys = 2;
        for submission in submissions {
            let event = match event_key(places::tag(partition), edition, submission) {
                Some(key) => {
                    call.key(key);
                    keys += 1;
                    keys
                }
                None => 0,
            };
            let (what, amount) = amount(submission.change);
            call.arg(what).arg(amount).arg(submission.member.as_str()).arg(event);
        }
        // Records that were to be settled along stay as they are if this fails, and are found later: it costs nothing but time.
        let answers = pace.run(&self.parts[partition], &call).await?;
        let answers = answers.iter().map(decided).collect::<Result<Vec<_>, _>>();
        Ok(answers.map_err(stores::Error::unknown)?)
    }

    /// What is kept of members of this partition.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn read(
        &self,
        partition: usize,
        edition: &Edition,
        members: &[&Member],
    ) -> Result<Vec<Option<Kept>>, Error> {
        let mut command = cmd("HMGET");
        command.arg(home_key(partition, edition));
        for member in members {
            command.arg(member.as_str());
        }
        let found: Vec<Option<String>> = self.parts[partition].read(&command).await?;
        let all = found.iter().map(|found| found.as_deref().map(kept).transpose());
        all.collect::<Result<_, _>>().map_err(foreign)
    }

    /// Takes a member off; gives the version from which on he is gone, the shards that he may be found in, and whether he was
    /// there until now.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn take_off(&self, edition: &Edition, member: &Member) -> Result<Option<(u64, u32, bool)>, Error> {
        let partition = places::home(member);
        let mut call = TAKE_OFF.key(home_key(partition, edition));
        call.key(pending_key(partition));
        call.arg(prefix(edition)).arg(member.as_str());
        Ok(self.parts[partition].run(&call).await?)
    }

    /// Notes that a record is settled. That is said to Redis along with some later submission, or by [`Self::flush`].
    pub(super) fn settled(&self, edition: &Edition, settled: Settled) {
        let key = (places::home(&settled.member), edition.clone());
        self.lock().entry(key).or_default().push(settled);
    }

    /// Says to Redis what is settled and was not said along with a submission.
    pub(super) async fn flush(&self) -> Result<(), Error> {
        let all = std::mem::take(&mut *self.lock());
        let mut failed = Ok(());
        for ((partition, edition), settled) in all {
            for some in settled.chunks(ALONG) {
                let mut call = SETTLE.key(home_key(partition, &edition));
                call.key(pending_key(partition)).arg(prefix(&edition));
                for settled in some {
                    call.arg(settled.member.as_str())
                        .arg(settled.version)
                        .arg(settled.shards);
                }
                let said: Result<(), _> = self.parts[partition].run(&call).await;
                // What is on a node that is gone does not keep back the rest.
                if let Err(error) = said {
                    failed = Err(error.into());
                    break;
                }
            }
        }
        failed
    }

    /// Some records of a partition that have waited for so long to be settled, after so many others.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn stuck(
        &self,
        partition: usize,
        for_ms: u64,
        skip: usize,
        limit: usize,
    ) -> Result<Vec<Stuck>, Error> {
        let mut call = STUCK.key(pending_key(partition));
        call.arg(for_ms).arg(skip).arg(limit);
        let found: Vec<String> = self.parts[partition].run(&call).await?;
        let found = found.iter().map(|element| stuck(element).ok_or(Foreign));
        found.collect::<Result<_, _>>().map_err(foreign)
    }

    fn take(&self, partition: usize, edition: &Edition) -> Vec<Settled> {
        let mut all = self.lock();
        let Some(waiting) = all.get_mut(&(partition, edition.clone())) else {
            return Vec::new();
        };
        let rest = waiting.len().saturating_sub(ALONG);
        waiting.split_off(rest)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(usize, Edition), Vec<Settled>>> {
        // A list that somebody panicked over is whole, or lacks what will be found as stuck.
        self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pending_says_whose_it_is() {
        for (board, forgotten_at, name) in [("b", None, "alice"), ("b-2", Some(5_000), "a b  c"), ("b", None, " ")] {
            let edition = Edition {
                board: BoardName::new(board).unwrap(),
                number: 7,
                forgotten_at,
            };
            let found = stuck(&(prefix(&edition) + name)).unwrap();
            assert_eq!((found.edition, found.member.as_str()), (edition, name));
        }
        assert!(stuck("b 7 0").is_none() && stuck("b x 0 m").is_none());
    }

    #[test]
    fn a_record_that_no_script_writes_is_refused() {
        let score = Score::new(-5).unwrap();
        let read = kept("-5 17 6").unwrap();
        assert_eq!((read.score, read.version, read.shards), (Some(score), 17, 6));
        assert_eq!(kept("- 17 6").unwrap().record(), None);
        for wrong in [
            "",
            "5",
            "5 1",
            "x 1 1",
            "9007199254740992 1 1",
            "5 -1 1",
            "5 1 4294967296",
        ] {
            assert!(kept(wrong).is_err(), "{wrong}");
        }
    }
}
