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
//! lb:{b/0}:event:5:alice/e17     an event that was counted, for an hour
//! lb:boards         hash         b "best ordinal high_first all_time"
//! ```
//!
//! All keys of an edition have the part in braces in common: in a cluster they are on one node. A script gets all keys that
//! it touches, and runs alone, so nobody sees a member between two scores. Scores are doubles in Redis; within
//! [`crate::domain::HIGHEST_SCORE`] every whole number is one.

use std::sync::LazyLock;

use redis::{FromRedisValue, Script, ScriptInvocation, Value, cmd, from_redis_value_ref};
use stores::Redis;

use super::words;
use crate::domain::{
    BoardName, Change, Edition, Entry, Error, From, HIGHEST_SCORE, Member, Page, Place, Score, Settings, Standing,
    Submission,
};
use crate::ports::Board;

/// Hexadecimal digits of a tag: as many as 53 bits have.
const TAG: usize = 14;

/// How long events are remembered.
const EVENTS_KEPT_MS: u64 = 60 * 60 * 1_000;

/// Submissions, or members, that one script takes: Redis does nothing else meanwhile.
const LARGEST_SCRIPT: usize = 100;

const BOARDS: &str = "lb:boards";

/// What all scripts begin with. A standing is a score, how many come before, and how many of these have a higher one.
const COMMON: &str = r"
local function standing(order, element, score)
  score = string.format('%.0f', score)
  return {score, redis.call('ZREVRANK', order, element), redis.call('ZCOUNT', order, '(' .. score, '+inf')}
end
local function lines(order, before, limit)
  local found = redis.call('ZREVRANGE', order, before, before + limit - 1, 'WITHSCORES')
  local above = before
  if found[2] then above = redis.call('ZCOUNT', order, '(' .. found[2], '+inf') end
  return {before, above, redis.call('ZCARD', order), found}
end
";

fn script(body: &str) -> Script {
    Script::new(&format!("{COMMON}{body}"))
}

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
  local new = amount
  if counted then new = old
  elseif old and what == 'raise' then new = math.max(old, amount)
  elseif old and what == 'add' then new = old + amount
  end
  if not new then
    answers[#answers + 1] = 'gone'
  elseif math.abs(new) > 9007199254740991 then
    answers[#answers + 1] = 'range'
  else
    if new ~= old then
      if tag then redis.call('ZREM', order, tag .. member) end
      local change = redis.call('INCR', changes)
      tag = string.format('%014x', 9007199254740991 - change)
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

/// KEYS: order, tags. ARGV: members. Answers each with its standing, or 'gone'.
static STANDINGS: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
local answers = {}
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

/// KEYS: order. ARGV: how many lines, and if they do not begin at the top, after which score and tag. Those with this score
/// are in the order of their tags: the first one after it is found by halving.
static PAGE: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
local order, limit, score, tag = KEYS[1], tonumber(ARGV[1]), ARGV[2], ARGV[3]
local low = 0
if score then
  low = redis.call('ZCOUNT', order, '(' .. score, '+inf')
  local high = low + redis.call('ZCOUNT', order, score, score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local element = redis.call('ZREVRANGE', order, middle, middle)[1]
    if string.sub(element, 1, 14) >= tag then low = middle + 1 else high = middle end
  end
end
return lines(order, low, limit)",
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

/// KEYS: boards. ARGV: name, settings, how many there may be. Answers the settings, or nothing if there are too many.
static CREATE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local found = redis.call('HGET', KEYS[1], ARGV[1])
if found then return found end
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then return false end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return ARGV[2]",
    )
});

/// Boards in Redis. What survives is up to how Redis keeps its data; the design's README says.
#[derive(Clone, Debug)]
pub struct SortedSet {
    redis: Redis,
    most_boards: u64,
}

/// The keys of an edition.
struct Keys {
    order: String,
    tags: String,
    changes: String,
}

impl Keys {
    fn of(edition: &Edition) -> Self {
        let key = |part| format!("lb:{{{}/{}}}:{part}", edition.board, edition.number);
        Self {
            order: key("order"),
            tags: key("tags"),
            changes: key("changes"),
        }
    }
}

/// The key of an event. The length of the member comes first, so that no two run together.
fn event_key(edition: &Edition, submission: &Submission) -> Option<String> {
    let (board, number) = (&edition.board, edition.number);
    let member = submission.member.as_str();
    let event = submission.event.as_ref()?.as_str();
    Some(format!(
        "lb:{{{board}/{number}}}:event:{}:{member}/{event}",
        member.len()
    ))
}

/// The tag of the change of this number.
fn tag(reached: u64) -> String {
    format!("{:014x}", HIGHEST_SCORE.unsigned_abs().saturating_sub(reached))
}

impl SortedSet {
    /// In this Redis, up to so many boards.
    #[must_use]
    pub fn new(redis: Redis, most_boards: u64) -> Self {
        Self { redis, most_boards }
    }

    /// Carries out submissions, and reads with `read` what is answered, `standings` or `scores`.
    async fn submit_some<T>(
        &self,
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
            let (what, amount) = match submission.change {
                Change::RaiseTo(score) => ("raise", score),
                Change::SetTo(score) => ("set", score),
                Change::Add(score) => ("add", score),
            };
            let place = match event_key(edition, submission) {
                Some(key) => {
                    call.key(key);
                    events += 1;
                    events
                }
                None => 0,
            };
            call.arg(what)
                .arg(amount.get())
                .arg(submission.member.as_str())
                .arg(place);
        }
        let answers: Vec<Value> = self.redis.run(&call).await?;
        answers.iter().map(|answer| submitted(answer, read)).collect()
    }

    /// Runs a script that only reads: whatever happens, nothing was changed.
    async fn ask<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, Error> {
        self.redis.run(call).await.map_err(|error| match error {
            stores::Error::Unknown(cause) => Error::Unavailable(cause),
            error => error.into(),
        })
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

fn standing(answer: &Value) -> Result<Standing, Foreign> {
    let (score, before, above): (i64, u64, u64) = from_redis_value_ref(answer).map_err(|_| Foreign)?;
    Ok(Standing {
        score: Score::new(score).ok_or(Foreign)?,
        before,
        above,
    })
}

/// Lines as a script answers them: how many come before, how many of these are above, how many there are in all, and
/// elements with their scores by turns.
type Lines = (u64, u64, u64, Vec<(Vec<u8>, i64)>);

fn page((before, above, all, found): Lines) -> Result<Page, Foreign> {
    let entries = found.iter().map(|(element, score)| entry(element, *score));
    let entries: Vec<Entry> = entries.collect::<Option<_>>().ok_or(Foreign)?;
    Ok(Page {
        more: before + (entries.len() as u64) < all,
        entries,
        before,
        above,
    })
}

fn entry(element: &[u8], score: i64) -> Option<Entry> {
    let (tag, member) = std::str::from_utf8(element).ok()?.split_at_checked(TAG)?;
    let down = u64::from_str_radix(tag, 16).ok()?;
    Some(Entry {
        member: Member::new(member)?,
        place: Place {
            score: Score::new(score)?,
            reached: HIGHEST_SCORE.unsigned_abs().checked_sub(down)?,
        },
    })
}

/// Something in Redis was not written by this program.
#[derive(Debug, thiserror::Error)]
#[error("Redis holds something that no board has")]
struct Foreign;

fn foreign(foreign: Foreign) -> Error {
    stores::Error::unavailable(foreign).into()
}

impl Board for SortedSet {
    async fn create(&self, board: &BoardName, settings: Settings) -> Result<Settings, Error> {
        let mut call = CREATE.key(BOARDS);
        call.arg(board.as_str())
            .arg(words::write(settings))
            .arg(self.most_boards);
        let found: Option<String> = self.redis.run(&call).await?;
        Ok(words::read(&found.ok_or(Error::TooManyBoards)?)?)
    }

    async fn settings(&self, board: &BoardName) -> Result<Option<Settings>, Error> {
        let found: Option<String> = self.redis.read(cmd("HGET").arg(BOARDS).arg(board.as_str())).await?;
        Ok(found.map(|found| words::read(&found)).transpose()?)
    }

    async fn submit(&self, edition: &Edition, submission: Submission) -> Result<Standing, Error> {
        let one = std::slice::from_ref(&submission);
        let mut answers = self.submit_some(edition, one, "standings", standing).await?;
        answers
            .pop()
            .unwrap_or_else(|| Err(stores::Error::unknown(Foreign).into()))
    }

    async fn load(&self, edition: &Edition, submissions: Vec<Submission>) -> Vec<Result<Score, Error>> {
        let mut answers = Vec::with_capacity(submissions.len());
        for some in submissions.chunks(LARGEST_SCRIPT) {
            match self.submit_some(edition, some, "scores", score).await {
                Ok(some) => answers.extend(some),
                Err(error) => answers.extend(some.iter().map(|_| Err(error.clone()))),
            }
        }
        answers
    }

    async fn standings(&self, edition: &Edition, members: &[Member]) -> Result<Vec<Option<Standing>>, Error> {
        let keys = Keys::of(edition);
        let mut standings = Vec::with_capacity(members.len());
        for some in members.chunks(LARGEST_SCRIPT) {
            let mut call = STANDINGS.key(&keys.order);
            call.key(&keys.tags);
            for member in some {
                call.arg(member.as_str());
            }
            let answers: Vec<Value> = self.ask(&call).await?;
            for answer in &answers {
                standings.push(match answer {
                    Value::BulkString(_) => None,
                    answer => Some(standing(answer).map_err(foreign)?),
                });
            }
        }
        Ok(standings)
    }

    async fn page(&self, edition: &Edition, from: From, limit: usize) -> Result<Page, Error> {
        let mut call = PAGE.key(Keys::of(edition).order);
        call.arg(limit);
        if let From::After(place) = from {
            call.arg(place.score.get()).arg(tag(place.reached));
        }
        page(self.ask(&call).await?).map_err(foreign)
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
        let found: Option<Lines> = self.ask(&call).await?;
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
