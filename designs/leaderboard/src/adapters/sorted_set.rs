//! Sorted sets of Redis, asked by scripts.
//!
//! A sorted set keeps its members in the order of their scores and, with equal scores, of their *bytes*: whoever is called
//! Zoe would rank above whoever is called Adam. So what is in the set is not the member but a tag and the member, and the tag
//! says when the score was reached: the number of the change, counted down, so that the first one is the highest. A hash
//! says which tag a member has.
//!
//! ```text
//! lb:{b/0}:order    sorted set   1ffffffffffffdalice 50 · 1ffffffffffffebob 70      best first, read in reverse
//! lb:{b/0}:tags     hash         alice 1ffffffffffffd · bob 1ffffffffffffe
//! lb:{b/0}:changes  number       2
//! lb:{b/0}:event:b/0:5:alice/e17 an event that was counted, for an hour
//! lb:boards         hash         b "best ordinal high_first all_time"
//! ```
//!
//! All keys of an edition have the part in braces in common: in a cluster they are on one node. A script gets all keys that
//! it touches, and runs alone, so nobody sees a member between two scores. Scores are doubles in Redis; within
//! [`crate::domain::HIGHEST_SCORE`] every whole number is one.

use std::sync::LazyLock;

use redis::{Script, Value, cmd, from_redis_value_ref};
use stores::Redis;

use super::in_redis::{
    Boards, EVENTS_KEPT_MS, Foreign, LARGEST_SCRIPT, Lines, amount, ask, event_key, foreign, page, script, standing,
    standings, tag,
};
use crate::domain::{BoardName, Edition, Error, From, Member, Page, Score, Settings, Standing, Submission};
use crate::ports::Board;

/// KEYS: order, tags, changes, and those of events. ARGV: when all is forgotten or 0, how long an event is remembered,
/// whether to answer 'standings' or 'scores', and for each submission what to do, with how much, whose, and at which place
/// in KEYS its event is, or 0. Answers each as was asked, or in a word why not.
static SUBMIT: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
local order, tags, changes = KEYS[1], KEYS[2], KEYS[3]
local forgotten_at, kept, answer = ARGV[1], ARGV[2], ARGV[3]
local answers = {}
for at = 4, #ARGV, 4 do
  local what, amount, member, event = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2], tonumber(ARGV[at + 3])
  local tag = redis.call('HGET', tags, member)
  local old = tag and tonumber(redis.call('ZSCORE', order, tag .. member))
  local counted = event > 0 and redis.call('EXISTS', KEYS[event]) == 1
  local new = changed(what, amount, old, counted)
  if not new then
    answers[#answers + 1] = 'gone'
  elseif math.abs(new) > 9007199254740991 then
    answers[#answers + 1] = 'range'
  else
    if new ~= old then
      if tag then redis.call('ZREM', order, tag .. member) end
      tag = next_tag(changes)
      redis.call('ZADD', order, string.format('%.0f', new), tag .. member)
      redis.call('HSET', tags, member, tag)
      -- Each time: a key that was emptied is gone, and the next one of its name would stay for ever.
      if forgotten_at ~= '0' then
        for key = 1, 3 do redis.call('PEXPIREAT', KEYS[key], forgotten_at) end
      end
    end
    if event > 0 and not counted then redis.call('SET', KEYS[event], '1', 'PX', kept) end
    if answer == 'standings' then answers[#answers + 1] = standing(order, tag .. member, new)
    else answers[#answers + 1] = {string.format('%.0f', new)} end
  end
end
return answers",
    )
});

/// KEYS: order, tags. ARGV: members. Answers how many there are, and each with its standing, or 'gone'.
static STANDINGS: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
local answers = {redis.call('ZCARD', KEYS[1])}
for _, member in ipairs(ARGV) do
  local tag = redis.call('HGET', KEYS[2], member)
  if tag then
    answers[#answers + 1] = standing(KEYS[1], tag .. member, redis.call('ZSCORE', KEYS[1], tag .. member))
  else
    answers[#answers + 1] = 'gone'
  end
end
return answers",
    )
});

/// KEYS: order. ARGV: how many lines, and if they do not begin at the top, after which score and tag.
static PAGE: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
local order, limit, score, tag = KEYS[1], tonumber(ARGV[1]), ARGV[2], ARGV[3]
local first = 0
if score then first = first_after(order, score, tag) end
return lines(order, first, limit)",
    )
});

/// KEYS: order, tags. ARGV: the member, how many lines above, how many below. Answers nothing if he is not there.
static AROUND: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
local order, member, above, below = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local tag = redis.call('HGET', KEYS[2], member)
if not tag then return false end
local position = redis.call('ZREVRANK', order, tag .. member)
local first = math.max(position - above, 0)
return lines(order, first, position - first + 1 + below)",
    )
});

/// KEYS: order, tags. ARGV: the member. Answers whether he was there.
static REMOVE: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
local tag = redis.call('HGET', KEYS[2], ARGV[1])
if not tag then return 0 end
redis.call('HDEL', KEYS[2], ARGV[1])
return redis.call('ZREM', KEYS[1], tag .. ARGV[1])",
    )
});

/// Boards in Redis. What survives is up to how Redis keeps its data; the design's README says.
#[derive(Clone, Debug)]
pub struct SortedSet {
    redis: Redis,
    boards: Boards,
}

/// The keys of an edition.
struct Keys {
    /// What they have in braces.
    tag: String,
    order: String,
    tags: String,
    changes: String,
}

impl Keys {
    fn of(edition: &Edition) -> Self {
        let tag = format!("{}/{}", edition.board, edition.number);
        let key = |part| format!("lb:{{{tag}}}:{part}");
        Self {
            order: key("order"),
            tags: key("tags"),
            changes: key("changes"),
            tag,
        }
    }
}

impl SortedSet {
    /// In this Redis, up to so many boards.
    #[must_use]
    pub fn new(redis: Redis, most_boards: u64) -> Self {
        let boards = Boards::new(redis.clone(), most_boards);
        Self { redis, boards }
    }

    /// Carries out submissions, and reads with `read` what is answered, `standings` or `scores`.
    async fn submit_some<T>(
        &self,
        redis: &Redis,
        edition: &Edition,
        submissions: &[Submission],
        answer: &str,
        read: fn(&Value) -> Result<T, Foreign>,
    ) -> Result<Vec<Result<T, Error>>, Error> {
        let keys = Keys::of(edition);
        let mut call = SUBMIT.key(keys.order);
        call.key(keys.tags).key(keys.changes);
        call.arg(edition.forgotten_at.unwrap_or(0))
            .arg(EVENTS_KEPT_MS)
            .arg(answer);
        let mut events = 3;
        for submission in submissions {
            let (what, amount) = amount(submission.change);
            let place = match event_key(&keys.tag, edition, submission) {
                Some(key) => {
                    call.key(key);
                    events += 1;
                    events
                }
                None => 0,
            };
            call.arg(what).arg(amount).arg(submission.member.as_str()).arg(place);
        }
        let answers: Vec<Value> = redis.run(&call).await?;
        answers.iter().map(|answer| submitted(answer, read)).collect()
    }

    /// Where members stand, and among how many.
    async fn some_standings(
        &self,
        edition: &Edition,
        members: &[Member],
    ) -> Result<(Vec<Option<Standing>>, u64), Error> {
        let keys = Keys::of(edition);
        let mut call = STANDINGS.key(&keys.order);
        call.key(&keys.tags);
        for member in members {
            call.arg(member.as_str());
        }
        let answers: Vec<Value> = ask(&self.redis, &call).await?;
        standings(&answers).map_err(foreign)
    }
}

/// What a script answers for one submission.
///
/// # Errors
/// It is nothing that a script answers: it may have been carried out.
fn submitted<T>(answer: &Value, read: fn(&Value) -> Result<T, Foreign>) -> Result<Result<T, Error>, Error> {
    match answer {
        Value::BulkString(word) if word == b"gone" => Ok(Err(Error::NoMember)),
        Value::BulkString(word) if word == b"range" => Ok(Err(Error::OutOfRange)),
        answer => Ok(Ok(read(answer).map_err(stores::Error::unknown)?)),
    }
}

fn score(answer: &Value) -> Result<Score, Foreign> {
    let (score,): (i64,) = from_redis_value_ref(answer).map_err(|_| Foreign)?;
    Score::new(score).ok_or(Foreign)
}

impl Board for SortedSet {
    async fn create(&self, board: &BoardName, settings: Settings) -> Result<Settings, Error> {
        self.boards.create(board, settings).await
    }

    async fn settings(&self, board: &BoardName) -> Result<Option<Settings>, Error> {
        self.boards.settings(board).await
    }

    async fn submit(&self, edition: &Edition, submission: Submission) -> Result<Standing, Error> {
        let one = std::slice::from_ref(&submission);
        let mut answers = self
            .submit_some(&self.redis, edition, one, "standings", standing)
            .await?;
        answers
            .pop()
            .unwrap_or_else(|| Err(stores::Error::unknown(Foreign).into()))
    }

    async fn load(&self, edition: &Edition, submissions: Vec<Submission>) -> Vec<Result<Score, Error>> {
        let mut answers = Vec::with_capacity(submissions.len());
        let redis = self.redis.patient();
        for some in submissions.chunks(LARGEST_SCRIPT) {
            match self.submit_some(&redis, edition, some, "scores", score).await {
                Ok(some) => answers.extend(some),
                Err(error) => answers.extend(some.iter().map(|_| Err(error.clone()))),
            }
        }
        answers
    }

    async fn standing(&self, edition: &Edition, member: &Member) -> Result<Option<(Standing, u64)>, Error> {
        let (standings, count) = self.some_standings(edition, std::slice::from_ref(member)).await?;
        let standing = standings.into_iter().next().flatten();
        Ok(standing.map(|standing| (standing, count)))
    }

    async fn standings(&self, edition: &Edition, members: &[Member]) -> Result<Vec<Option<Standing>>, Error> {
        let mut standings = Vec::with_capacity(members.len());
        for some in members.chunks(LARGEST_SCRIPT) {
            standings.extend(self.some_standings(edition, some).await?.0);
        }
        Ok(standings)
    }

    async fn page(&self, edition: &Edition, from: From, limit: usize) -> Result<Page, Error> {
        let mut call = PAGE.key(Keys::of(edition).order);
        call.arg(limit);
        if let From::After(place) = from {
            call.arg(place.score.get()).arg(tag(place.reached));
        }
        page(ask(&self.redis, &call).await?).map_err(foreign)
    }

    async fn around(
        &self,
        edition: &Edition,
        member: &Member,
        above: usize,
        below: usize,
    ) -> Result<Option<Page>, Error> {
        let keys = Keys::of(edition);
        let mut call = AROUND.key(keys.order);
        call.key(keys.tags);
        call.arg(member.as_str()).arg(above).arg(below);
        let found: Option<Lines> = ask(&self.redis, &call).await?;
        found.map(page).transpose().map_err(foreign)
    }

    async fn count(&self, edition: &Edition) -> Result<u64, Error> {
        Ok(self.redis.read(cmd("ZCARD").arg(Keys::of(edition).order)).await?)
    }

    async fn remove(&self, edition: &Edition, member: &Member) -> Result<bool, Error> {
        let keys = Keys::of(edition);
        let mut call = REMOVE.key(keys.order);
        call.key(keys.tags).arg(member.as_str());
        Ok(self.redis.run(&call).await?)
    }

    /// Redis does, each key at its time.
    async fn forget(&self, _: u64) -> Result<(), Error> {
        Ok(())
    }
}
