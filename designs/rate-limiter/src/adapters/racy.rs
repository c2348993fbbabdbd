//! The bucket in Redis, read, decided upon here, and written back: wrong, and shown to be.
//!
//! ```text
//! one request      GET 4 left ─────────────── SET 3 left
//! another               GET 4 left ── SET 3 left          both pass, one is counted
//! ```
//!
//! Nothing about it looks wrong as long as one asks at a time. The clock is this server's, so servers whose clocks differ
//! fill the bucket up at different times, too.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis::cmd;
use stores::Redis;

use super::meter::{Level, Meter};
use crate::domain::{Charge, Decision, Error, Rule, Unfit};
use crate::ports::Limiter;

/// Buckets in Redis, without any care for who else is there.
#[derive(Clone, Debug)]
pub struct Racy {
    redis: Redis,
}

impl Racy {
    /// On this Redis.
    #[must_use]
    pub fn new(redis: Redis) -> Self {
        Self { redis }
    }
}

impl Limiter for Racy {
    type Buckets = Meter;

    fn open(&self, rule: &Rule) -> Result<Meter, Unfit> {
        Meter::of(rule)
    }

    async fn take(&self, meter: &Meter, charge: Charge<'_>) -> Result<Decision, Error> {
        let redis = self.redis.waiting(charge.within / 2);
        let key = meter.key(charge.key);
        let found: Option<String> = redis.read(cmd("GET").arg(&key)).await?;
        let now_us = now_us();
        let before = found
            .and_then(|text| Level::parse(&text))
            .unwrap_or(Level::empty(now_us));
        let (after, decision) = meter.decide(before, now_us, charge.cost);
        if decision.allowed && charge.cost > 0 {
            let ttl = meter.empty_in(after.backlog).max(Duration::from_millis(1)).as_millis();
            let ttl = u64::try_from(ttl).unwrap_or(u64::MAX);
            let mut set = cmd("SET");
            set.arg(&key).arg(after.to_string()).arg("PX").arg(ttl);
            let () = redis.write(&set).await?;
        }
        Ok(decision)
    }
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
