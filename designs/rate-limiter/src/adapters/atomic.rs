//! The bucket in Redis, decided upon where it is: one script, one key, by Redis's own clock.
//!
//! A script runs alone: nothing comes between reading the bucket and writing it. The clock is that of Redis, so servers
//! need none. What the numbers mean is in `meter.rs`; they stay below 2^53, where doubles are exact.
//!
//! A key is written together with its time to live, in one command: it goes when the bucket would be full, and no bucket
//! stays for ever. When Redis's clock is set back, a bucket is found to be of the future: what is in it is then taken to be
//! so now, and written down, so that it fills up from there. Nobody gets a burst for it, and nobody waits for the clock.

use std::sync::LazyLock;

use redis::Script;
use stores::Redis;

use super::meter::Meter;
use crate::domain::{Charge, Decision, Error, Rule, Unfit};
use crate::ports::Limiter;

/// KEYS: the bucket. ARGV: units of a request, units of a microsecond, units of a burst, how many requests at least, how
/// many at most. Answers how many were charged, and the backlog.
static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"local cost, leak, capacity = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
          local least, most = tonumber(ARGV[4]), tonumber(ARGV[5])
          local time = redis.call('TIME')
          local now = time[1] * 1000000 + time[2]
          local backlog, at = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) (%d+)$')
          backlog, at = tonumber(backlog or 0), tonumber(at or now)
          -- What the clock has moved on by; as much as empties the bucket is as good as more. Back, it moves not at all.
          local gone = math.min(math.max(now - at, 0), math.ceil(backlog / leak))
          backlog = math.max(backlog - gone * leak, 0)
          local taken = math.min(most, math.floor((capacity - backlog) / cost))
          if taken < least then taken = 0 end
          backlog = backlog + taken * cost
          if backlog > 0 and (taken > 0 or at > now) then
            redis.call('SET', KEYS[1], string.format('%.0f %.0f', backlog, now), 'PX', math.ceil(backlog / leak / 1000))
          end
          return {taken, backlog}",
    )
});

/// Buckets in Redis.
#[derive(Clone, Debug)]
pub struct Atomic {
    redis: Redis,
}

impl Atomic {
    /// On this Redis.
    #[must_use]
    pub fn new(redis: Redis) -> Self {
        Self { redis }
    }

    /// Charges as much as is there, up to `most`, but no less than the charge; says how much, and what is in the bucket. If
    /// there is less, it charges nothing.
    pub(super) async fn take_some(&self, meter: &Meter, charge: Charge<'_>, most: u64) -> Result<(u64, u64), Error> {
        let mut take = TAKE.key(meter.key(charge.key));
        take.arg(meter.cost).arg(meter.leak).arg(meter.capacity);
        take.arg(charge.cost).arg(most);
        Ok(self.redis.waiting(charge.within).run(&take).await?)
    }
}

impl Limiter for Atomic {
    type Buckets = Meter;

    fn open(&self, rule: &Rule) -> Result<Meter, Unfit> {
        Meter::of(rule)
    }

    async fn take(&self, meter: &Meter, charge: Charge<'_>) -> Result<Decision, Error> {
        let (taken, backlog) = self.take_some(meter, charge, charge.cost).await?;
        let lacks = charge.cost > taken;
        let wants = backlog.saturating_add(charge.cost.saturating_mul(meter.cost));
        let retry = lacks.then(|| wants.saturating_sub(meter.capacity));
        Ok(meter.decision(backlog, retry))
    }
}
