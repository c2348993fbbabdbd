//! What the two adapters on Redis have in common: elements of a sorted set that are in first-come order among equals, what
//! scripts find among them, events, and the list of boards.

use std::sync::LazyLock;

use redis::{FromRedisValue, Script, ScriptInvocation, Value, cmd, from_redis_value_ref};
use stores::Redis;

use super::words;
use crate::domain::{
    BoardName, Change, Edition, Entry, Error, HIGHEST_SCORE, Member, Page, Place, Score, Settings, Standing, Submission,
};

/// Hexadecimal digits of a tag: as many as 53 bits have.
const TAG: usize = 14;

/// How long events are remembered.
pub(super) const EVENTS_KEPT_MS: u64 = 60 * 60 * 1_000;

/// Submissions, or members, that one script takes: Redis does nothing else meanwhile.
pub(super) const LARGEST_SCRIPT: usize = 100;

const BOARDS: &str = "lb:boards";

/// How boards are cut into shards. It does not change: members would be looked for where they are not.
const CUTS: &str = "lb:cuts";

/// What all scripts begin with. A standing is a score, how many come before, and how many of these have a higher one. Those
/// with the same score are in the order of their tags: the first one after a tag is found by halving.
const COMMON: &str = r"
local function next_tag(changes)
  return string.format('%014x', 9007199254740991 - redis.call('INCR', changes))
end
local function standing(order, element, score)
  score = string.format('%.0f', score)
  return {score, redis.call('ZREVRANK', order, element), redis.call('ZCOUNT', order, '(' .. score, '+inf')}
end
local function lines(order, before, limit)
  local found = {}
  if limit > 0 then found = redis.call('ZREVRANGE', order, before, before + limit - 1, 'WITHSCORES') end
  local above = before
  if found[2] then above = redis.call('ZCOUNT', order, '(' .. found[2], '+inf') end
  return {before, above, redis.call('ZCARD', order), found}
end
local function first_after(order, score, tag)
  local low = redis.call('ZCOUNT', order, '(' .. score, '+inf')
  local high = low + redis.call('ZCOUNT', order, score, score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local element = redis.call('ZREVRANGE', order, middle, middle)[1]
    if string.sub(element, 1, 14) >= tag then low = middle + 1 else high = middle end
  end
  return low
end
-- What a score becomes: nothing if an event was counted whose member has left.
local function changed(what, amount, old, counted)
  if counted then return old end
  if old and what == 'raise' then return math.max(old, amount) end
  if old and what == 'add' then return old + amount end
  return amount
end
";

/// A script that may use what is common.
pub(super) fn script(body: &str) -> Script {
    Script::new(&format!("{COMMON}{body}"))
}

/// The tag of the change of this number: counted down, so that the first one is the highest.
pub(super) fn tag(reached: u64) -> String {
    format!("{:014x}", HIGHEST_SCORE.unsigned_abs().saturating_sub(reached))
}

/// What scripts call a change, and by how much.
pub(super) fn amount(change: Change) -> (&'static str, i64) {
    match change {
        Change::RaiseTo(score) => ("raise", score.get()),
        Change::SetTo(score) => ("set", score.get()),
        Change::Add(score) => ("add", score.get()),
    }
}

/// The key of a submission's event, if it has one. The length of the member comes first, so that no two run together.
pub(super) fn event_key(tag: &str, edition: &Edition, submission: &Submission) -> Option<String> {
    let (board, number) = (&edition.board, edition.number);
    let member = submission.member.as_str();
    let event = submission.event.as_ref()?.as_str();
    Some(format!(
        "lb:{{{tag}}}:event:{board}/{number}:{}:{member}/{event}",
        member.len()
    ))
}

/// Runs a script that only reads: whatever happens, nothing was changed.
pub(super) async fn ask<T: FromRedisValue>(redis: &Redis, call: &ScriptInvocation<'_>) -> Result<T, Error> {
    redis.run(call).await.map_err(|error| match error {
        stores::Error::Unknown(cause) => Error::Unavailable(cause),
        error => error.into(),
    })
}

/// A standing as scripts answer it.
pub(super) fn standing(answer: &Value) -> Result<Standing, Foreign> {
    let (score, before, above): (i64, u64, u64) = from_redis_value_ref(answer).map_err(|_| Foreign)?;
    Ok(Standing {
        score: Score::new(score).ok_or(Foreign)?,
        before,
        above,
    })
}

/// Standings as scripts answer them, a word in place of one that is not there; before them, how many there are.
pub(super) fn standings(answers: &[Value]) -> Result<(Vec<Option<Standing>>, u64), Foreign> {
    let (count, answers) = answers.split_first().ok_or(Foreign)?;
    let answers = answers.iter().map(|answer| match answer {
        Value::BulkString(_) => Ok(None),
        answer => standing(answer).map(Some),
    });
    let count = from_redis_value_ref(count).map_err(|_| Foreign)?;
    Ok((answers.collect::<Result<_, _>>()?, count))
}

/// Lines as scripts answer them: how many come before, how many of these are above, how many there are in all, and elements
/// with their scores by turns.
pub(super) type Lines = (u64, u64, u64, Vec<(Vec<u8>, i64)>);

pub(super) fn page((before, above, all, found): Lines) -> Result<Page, Foreign> {
    let entries = entries(&found)?;
    Ok(Page {
        more: before + (entries.len() as u64) < all,
        entries,
        before,
        above,
    })
}

pub(super) fn entries(found: &[(Vec<u8>, i64)]) -> Result<Vec<Entry>, Foreign> {
    let entries = found.iter().map(|(element, score)| entry(element, *score));
    entries.collect::<Option<_>>().ok_or(Foreign)
}

fn entry(element: &[u8], score: i64) -> Option<Entry> {
    let (tag, member) = std::str::from_utf8(element).ok()?.split_at_checked(TAG)?;
    Some(Entry {
        member: Member::new(member)?,
        place: Place {
            score: Score::new(score)?,
            reached: reached(tag)?,
        },
    })
}

/// The number of the change that has this tag.
pub(super) fn reached(tag: &str) -> Option<u64> {
    let down = u64::from_str_radix(tag, 16).ok()?;
    HIGHEST_SCORE.unsigned_abs().checked_sub(down)
}

/// Something in Redis was not written by this program.
#[derive(Debug, thiserror::Error)]
#[error("Redis holds something that no board has")]
pub(super) struct Foreign;

pub(super) fn foreign(foreign: Foreign) -> Error {
    stores::Error::unavailable(foreign).into()
}

/// The boards that there are, in one hash.
#[derive(Clone, Debug)]
pub(super) struct Boards {
    redis: Redis,
    most: u64,
}

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

impl Boards {
    /// Up to so many, in this Redis.
    pub(super) fn new(redis: Redis, most: u64) -> Self {
        Self { redis, most }
    }

    pub(super) async fn create(&self, board: &BoardName, settings: Settings) -> Result<Settings, Error> {
        let mut call = CREATE.key(BOARDS);
        call.arg(board.as_str()).arg(words::write(settings)).arg(self.most);
        let found: Option<String> = self.redis.run(&call).await?;
        Ok(words::read(&found.ok_or(Error::TooManyBoards)?)?)
    }

    /// The cuts of all boards, in Redis's words: these, if there are none yet.
    pub(super) async fn agree_on_cuts(&self, cuts: &str) -> Result<String, Error> {
        let mut set = cmd("SETNX");
        let _: i64 = self.redis.write(set.arg(CUTS).arg(cuts)).await?;
        Ok(self.redis.read(cmd("GET").arg(CUTS)).await?)
    }

    pub(super) async fn settings(&self, board: &BoardName) -> Result<Option<Settings>, Error> {
        let found: Option<String> = self.redis.read(cmd("HGET").arg(BOARDS).arg(board.as_str())).await?;
        Ok(found.map(|found| words::read(&found)).transpose()?)
    }
}
