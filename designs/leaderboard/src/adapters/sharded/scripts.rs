//! What runs inside Redis. Each script sees one partition, and gets all keys that it touches.
//!
//! `home` is the hash of records, `pending` the sorted set of those that are not settled, by the time of their last change in
//! milliseconds. `order`, `tags`, `changes` and `left` are those of one shard. In `tags` a member has the tag of his element
//! and, after a space, the version of his record that put him there.

use std::sync::LazyLock;

use redis::Script;

use crate::adapters::in_redis::script;

/// How long a shard knows whom it must not take back, in milliseconds. Commands are under way for a second at most, and a
/// connection that the network swallows is given up after two; but a process that is frozen for longer than this, and then
/// goes on, may put somebody where he is no longer.
pub(super) const GONE_MS: u64 = 60_000;

/// How many of those who have left a shard last it can name.
pub(super) const LEFT: usize = 1_000;

/// What the scripts of records begin with. A record is `SCORE VERSION SHARDS`, of one who was taken off `- VERSION SHARDS`.
const RECORDS: &str = r"
local home, pending = KEYS[1], KEYS[2]
local function read(member)
  local record = redis.call('HGET', home, member)
  if not record then return nil, 0, 0 end
  local score, version, shards = string.match(record, '^(%S+) (%d+) (%d+)$')
  return tonumber(score), tonumber(version), tonumber(shards)
end
local function write(member, score, version, shards)
  redis.call('HSET', home, member, string.format('%s %.0f %d', score, version, shards))
end
local function settle(prefix, member, version, shards)
  local score, newest, had = read(member)
  if newest ~= 0 and newest ~= tonumber(version) then return end
  redis.call('ZREM', pending, prefix .. member)
  if not score then redis.call('HDEL', home, member)
  elseif had ~= tonumber(shards) then write(member, string.format('%.0f', score), newest, shards)
  end
end
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end
";

fn records(body: &str) -> Script {
    script(&format!("{RECORDS}{body}"))
}

/// KEYS: home, pending, and those of events. ARGV: when all is forgotten or 0, how long an event is remembered, what elements
/// of `pending` begin with, how many records are settled, each with member, version and shards; how many cuts, and these;
/// then for each submission what to do, with how much, whose, and at which place in KEYS its event is, or 0. Answers each
/// with score, version, shards, and whether that is still to be settled; or in a word why not.
pub(super) static SUBMIT: LazyLock<Script> = LazyLock::new(|| {
    records(
        r"
local forgotten_at, kept, prefix = ARGV[1], ARGV[2], ARGV[3]
local at = 5
for _ = 1, tonumber(ARGV[4]) do
  settle(prefix, ARGV[at], ARGV[at + 1], ARGV[at + 2])
  at = at + 3
end
local first = at + 1
local cuts = tonumber(ARGV[at])
local function shard_of(score)
  local shard = 0
  while shard < cuts and score >= tonumber(ARGV[first + shard]) do shard = shard + 1 end
  return shard
end
local answers, time = {}, now()
for at = first + cuts, #ARGV, 4 do
  local what, amount, member, event = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2], tonumber(ARGV[at + 3])
  local old, version, shards = read(member)
  local counted = event > 0 and redis.call('EXISTS', KEYS[event]) == 1
  local new = changed(what, amount, old, counted)
  if not new then
    answers[#answers + 1] = 'gone'
  elseif math.abs(new) > 9007199254740991 then
    answers[#answers + 1] = 'range'
  else
    local score = string.format('%.0f', new)
    if new ~= old then
      version = math.max(version + 1, time)
      shards = bit.bor(shards, bit.lshift(1, shard_of(new)))
      write(member, score, version, shards)
      redis.call('ZADD', pending, math.floor(time / 1000), prefix .. member)
      if forgotten_at ~= '0' then redis.call('PEXPIREAT', home, forgotten_at) end
    end
    if event > 0 and not counted then redis.call('SET', KEYS[event], '1', 'PX', kept) end
    -- One that was decided before may not have been placed.
    local open = new ~= old or redis.call('ZSCORE', pending, prefix .. member)
    answers[#answers + 1] = {score, string.format('%.0f', version), shards, open and 1 or 0}
  end
end
return answers",
    )
});

/// KEYS: home, pending. ARGV: what elements of `pending` begin with, and the member. Answers version, shards, and
/// whether he was there; or nothing if he is nobody.
pub(super) static TAKE_OFF: LazyLock<Script> = LazyLock::new(|| {
    records(
        r"
local old, version, shards = read(ARGV[2])
if not old then return version ~= 0 and {string.format('%.0f', version), shards, 0} end
local time = now()
version = math.max(version + 1, time)
write(ARGV[2], '-', version, shards)
redis.call('ZADD', pending, math.floor(time / 1000), ARGV[1] .. ARGV[2])
return {string.format('%.0f', version), shards, 1}",
    )
});

/// KEYS: home, pending. ARGV: what elements of `pending` begin with; then members, versions and shards.
pub(super) static SETTLE: LazyLock<Script> = LazyLock::new(|| {
    records(
        r"
for at = 2, #ARGV, 3 do settle(ARGV[1], ARGV[at], ARGV[at + 1], ARGV[at + 2]) end",
    )
});

/// KEYS: pending. ARGV: for how many milliseconds, after how many others, and how many at most. Answers elements of `pending`.
pub(super) static STUCK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local time = redis.call('TIME')
local before = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[1])
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', before), 'LIMIT', ARGV[2], ARGV[3])",
    )
});

/// KEYS: order, tags, changes, and where each member may be said to have left for good. ARGV: when all is forgotten or
/// 0; then members, scores and versions. Answers each with where he stands in this shard; where something newer is
/// known, behind those who have more.
pub(super) static PLACE: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
local order, tags, changes = KEYS[1], KEYS[2], KEYS[3]
local answers = {}
for at = 2, #ARGV, 3 do
  local member, score, version = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local had = redis.call('HGET', tags, member)
  local newest = had and tonumber(string.sub(had, 16)) or 0
  local gone = redis.call('GET', KEYS[4 + (at - 2) / 3])
  if gone then newest = math.max(newest, tonumber(gone)) end
  if newest < version then
    if had then redis.call('ZREM', order, string.sub(had, 1, 14) .. member) end
    local tag = next_tag(changes)
    redis.call('ZADD', order, score, tag .. member)
    had = tag .. ' ' .. ARGV[at + 2]
    redis.call('HSET', tags, member, had)
    newest = version
    if ARGV[1] ~= '0' then
      for key = 1, 3 do redis.call('PEXPIREAT', KEYS[key], ARGV[1]) end
    end
  end
  if newest == version and had then
    answers[#answers + 1] = standing(order, string.sub(had, 1, 14) .. member, score)
  else
    local above = redis.call('ZCOUNT', order, '(' .. score, '+inf')
    answers[#answers + 1] = {score, above, above}
  end
end
return answers",
    )
});

/// KEYS: order, tags, changes, left, and where it is said that the member has left for good. ARGV: when all is forgotten or
/// 0, how long that is to be said, how many who have left are known; the member, and the version from which on he is not
/// here. Does nothing to one who came back later.
pub(super) static LEAVE: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
local order, tags, changes, left, gone = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local member, version = ARGV[4], tonumber(ARGV[5])
local had = redis.call('HGET', tags, member)
if had and tonumber(string.sub(had, 16)) >= version then return end
if had then
  redis.call('ZREM', order, string.sub(had, 1, 14) .. member)
  redis.call('HDEL', tags, member)
  redis.call('ZADD', left, redis.call('INCR', changes), member)
  redis.call('ZREMRANGEBYRANK', left, 0, -1 - tonumber(ARGV[3]))
  if ARGV[1] ~= '0' then
    for key = 1, 4 do redis.call('PEXPIREAT', KEYS[key], ARGV[1]) end
  end
end
local before = redis.call('GET', gone)
if not before or tonumber(before) < version then redis.call('SET', gone, ARGV[5], 'PX', ARGV[2]) end",
    )
});

/// KEYS: order, tags. ARGV: members and versions. Answers how many there are, and each with where he stands in this shard, or
/// 'late' if what is here is older than that.
pub(super) static STANDINGS: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
local answers = {redis.call('ZCARD', KEYS[1])}
for at = 1, #ARGV, 2 do
  local had = redis.call('HGET', KEYS[2], ARGV[at])
  if had and tonumber(string.sub(had, 16)) >= tonumber(ARGV[at + 1]) then
    local element = string.sub(had, 1, 14) .. ARGV[at]
    answers[#answers + 1] = standing(KEYS[1], element, redis.call('ZSCORE', KEYS[1], element))
  else
    answers[#answers + 1] = 'late'
  end
end
return answers",
    )
});

/// KEYS: order, tags, left. ARGV: after which change those who have left are to be named, or nothing; how many who have left
/// are known; and which lines: 'first' N, 'last' N, 'after' N SCORE TAG, or 'around' ABOVE BELOW MEMBER VERSION. Answers the
/// lines; who has left, and whether there may be more of these. Nothing, if the member is not here by then.
pub(super) static WINDOW: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
local order, tags, left = KEYS[1], KEYS[2], KEYS[3]
local since, which, limit = ARGV[1], ARGV[3], tonumber(ARGV[4])
local first = 0
if which == 'last' then
  first = math.max(redis.call('ZCARD', order) - limit, 0)
elseif which == 'after' then
  first = first_after(order, ARGV[5], ARGV[6])
elseif which == 'around' then
  local had = redis.call('HGET', tags, ARGV[6])
  if not had or tonumber(string.sub(had, 16)) < tonumber(ARGV[7]) then return false end
  local position = redis.call('ZREVRANK', order, string.sub(had, 1, 14) .. ARGV[6])
  first = math.max(position - limit, 0)
  limit = position - first + 1 + tonumber(ARGV[5])
end
local gone, forgotten = {}, 0
if since ~= '' then
  gone = redis.call('ZRANGEBYSCORE', left, '(' .. since, '+inf')
  if #gone >= tonumber(ARGV[2]) then forgotten = 1 end
end
return {lines(order, first, limit), gone, forgotten}",
    )
});
