//! Node ids lent by Redis: a script for each step, by Redis's own clock.
//!
//! Three keys, which begin alike so that a cluster keeps them together:
//!
//! ```text
//! {ids}:leases    sorted set   node id -> when its lease ends, in milliseconds of Redis's clock
//! {ids}:fences    hash         node id -> epoch and fence: which loan it was, and up to which time its ids may go
//! {ids}:layout    string       which bits they have
//! ```
//!
//! # What Redis may forget
//!
//! With `appendfsync always` and one server, nothing. With `everysec`, a power cut takes the last second; without an
//! append-only file, a kill takes everything since the last snapshot; and a replica that takes over has not heard of what
//! its primary acknowledged last. Each time a node id may be lent again for a span that was lent already, and ids meet.
//! Where they must not, lend from Postgres.

use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;
use stores::Redis;

use super::{another_layout, lease};
use crate::domain::Error;
use crate::layout::Layout;
use crate::lease::Lease;
use crate::ports::NodeIds;

const LEASES: &str = "{ids}:leases";
const FENCES: &str = "{ids}:fences";
const LAYOUT: &str = "{ids}:layout";

/// How many node ids whose leases have ended are looked at for the one with the lowest fence.
const LOOKED_AT: u32 = 128;

/// KEYS: leases, fences. ARGV: how long a loan lasts, how many node ids there are, the claimant's clock, its reach, how
/// many to look at. Answers node, epoch, from, until; or nothing.
static CLAIM: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"local time = redis.call('TIME')
          local now = time[1] * 1000 + math.floor(time[2] / 1000)
          local clock, best, from, epoch = tonumber(ARGV[3]), nil, nil, 0
          for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[5])) do
            local loan, fence = string.match(redis.call('HGET', KEYS[2], node) or '', '(%d+) (%d+)')
            local begin = math.max(tonumber(fence or 0), clock)
            node = tonumber(node)
            if not best or begin < from or (begin == from and node < best) then
              best, from, epoch = node, begin, tonumber(loan or 0)
            end
          end
          local used = redis.call('ZCARD', KEYS[1])
          if (not best or from > clock) and used < tonumber(ARGV[2]) then best, from, epoch = used, clock, 0 end
          if not best then return false end
          -- No less than the microseconds of the clock: a store that forgot its loans must not give their epochs again, or
          -- two holders could both renew for ever.
          epoch = math.max(epoch + 1, time[1] * 1000000 + time[2])
          local till = math.max(from, clock + ARGV[4])
          redis.call('ZADD', KEYS[1], now + ARGV[1], best)
          redis.call('HSET', KEYS[2], best, string.format('%.0f %.0f', epoch, till))
          return {best, epoch, from, till}",
    )
});

/// KEYS: leases, fences. ARGV: how long a loan lasts, node, epoch, the wished fence. Answers the fence; or nothing.
static RENEW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"local loan, fence = string.match(redis.call('HGET', KEYS[2], ARGV[2]) or '', '(%d+) (%d+)')
          if loan ~= ARGV[3] then return false end
          local time = redis.call('TIME')
          local now = time[1] * 1000 + math.floor(time[2] / 1000)
          local till = math.max(tonumber(fence), tonumber(ARGV[4]))
          redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[2])
          redis.call('HSET', KEYS[2], ARGV[2], string.format('%s %.0f', loan, till))
          return till",
    )
});

/// KEYS: leases, fences. ARGV: node, epoch, the fence.
static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"local loan = string.match(redis.call('HGET', KEYS[2], ARGV[1]) or '', '(%d+)')
          if loan ~= ARGV[2] then return end
          redis.call('ZADD', KEYS[1], 0, ARGV[1])
          redis.call('HSET', KEYS[2], ARGV[1], loan .. ' ' .. ARGV[3])",
    )
});

/// Lends node ids from Redis.
#[derive(Clone, Debug)]
pub struct RedisNodes {
    redis: Redis,
    nodes: u32,
    lasts: Duration,
}

impl RedisNodes {
    /// All node ids of the layout, lent for so long.
    ///
    /// # Errors
    /// Ids of another layout were made with this Redis, or the store's.
    pub async fn open(redis: Redis, layout: &Layout, lasts: Duration) -> Result<Self, Error> {
        let meaning = layout.meaning();
        let () = redis
            .write(redis::cmd("SET").arg(LAYOUT).arg(&meaning).arg("NX"))
            .await?;
        let found: String = redis.read(redis::cmd("GET").arg(LAYOUT)).await?;
        if found != meaning {
            return Err(another_layout(&found, &meaning));
        }
        Ok(Self {
            redis,
            nodes: layout.last_node() + 1,
            lasts,
        })
    }

    fn lasts_ms(&self) -> u64 {
        u64::try_from(self.lasts.as_millis()).unwrap_or(u64::MAX)
    }
}

impl NodeIds for RedisNodes {
    fn lasts(&self) -> Option<Duration> {
        Some(self.lasts)
    }

    async fn claim(&self, clock_ms: u64, reach_ms: u64) -> Result<Option<Lease>, Error> {
        let mut claim = CLAIM.key(LEASES);
        claim.key(FENCES).arg(self.lasts_ms()).arg(self.nodes);
        claim.arg(clock_ms).arg(reach_ms).arg(LOOKED_AT);
        let row: Option<(i64, i64, i64, i64)> = self.redis.run(&claim).await?;
        row.map(lease).transpose()
    }

    async fn renew(&self, lease: &Lease, until_ms: u64) -> Result<Option<Lease>, Error> {
        let mut renew = RENEW.key(LEASES);
        renew.key(FENCES).arg(self.lasts_ms());
        renew.arg(lease.node).arg(lease.epoch).arg(until_ms);
        let until_ms: Option<u64> = self.redis.run(&renew).await?;
        Ok(until_ms.map(|until_ms| Lease { until_ms, ..*lease }))
    }

    async fn release(&self, lease: &Lease, until_ms: u64) -> Result<(), Error> {
        let mut release = RELEASE.key(LEASES);
        release.key(FENCES).arg(lease.node).arg(lease.epoch).arg(until_ms);
        let () = self.redis.run(&release).await?;
        Ok(())
    }
}
