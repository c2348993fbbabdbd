//! The use cases, written once for all stages: ask a rule whether a request may pass, and put other rules in place.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use futures_util::future::join_all;

use crate::domain::{Charge, Decision, Error, FailureMode, Limit, Rule, Unit};
use crate::ports::Limiter;
use crate::rules::{self, Fault, File, Found, Kept, Rules};

/// Limits that callers brought along, of which there are buckets. One more than these is not kept.
const MOST_OVERRIDES: usize = 100;

/// Decides by rules, on whatever keeps the buckets.
pub struct RateLimiter<L: Limiter> {
    limiter: L,
    installed: RwLock<Arc<Installed<L::Buckets>>>,
    overrides: Mutex<HashMap<Override, Arc<Kept<L::Buckets>>>>,
}

struct Installed<B> {
    rules: Rules<B>,
    /// The domain of whoever names none: the first file's.
    domain: Arc<str>,
}

/// A limit that the caller brings along, instead of the one in the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Override {
    /// Requests in a window.
    pub requests: u32,
    /// The window.
    pub unit: Unit,
}

/// One question: may this pass?
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Whose rules.
    pub domain: &'a str,
    /// What is known of the request, from the general to the particular.
    pub entries: &'a [(String, String)],
    /// How much it costs.
    pub cost: u64,
    /// By which limit, if not by that of the rules.
    pub limit: Option<Override>,
    /// How long the store may take.
    pub within: Duration,
}

/// The answer.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Whether it may pass.
    pub allowed: bool,
    /// The rule that decided; `None` where nothing limits it.
    pub rule: Option<Arc<Rule>>,
    /// What was decided by it, if it could decide. A rule in shadow mode may have refused what is allowed all the same.
    pub decision: Option<Decision>,
    /// How much more than the rule promises one server may admit.
    pub excess: u64,
}

impl Verdict {
    /// Nothing limits it.
    const FREE: Self = Self {
        allowed: true,
        rule: None,
        decision: None,
        excess: 0,
    };
}

impl<L: Limiter> RateLimiter<L> {
    /// A rate limiter by the rules of these files.
    ///
    /// # Errors
    /// As [`Self::install`].
    pub fn new(limiter: L, files: Vec<File>) -> Result<Self, Fault> {
        let installed = build(&limiter, files, None)?;
        Ok(Self {
            limiter,
            installed: RwLock::new(Arc::new(installed)),
            overrides: Mutex::default(),
        })
    }

    /// Puts other rules in place: all of them or none. Requests under way go on by those that they began with; a rule that
    /// stays as it was keeps its buckets.
    ///
    /// # Errors
    /// They contradict each other, or one cannot be kept.
    pub fn install(&self, files: Vec<File>) -> Result<(), Fault> {
        let before = self.installed();
        let installed = build(&self.limiter, files, Some(&before.rules))?;
        *self.installed.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(installed);
        Ok(())
    }

    /// The domain of whoever names none.
    pub fn domain(&self) -> Arc<str> {
        Arc::clone(&self.installed().domain)
    }

    /// Asks once.
    ///
    /// # Errors
    /// Nothing was decided.
    pub async fn check(&self, asked: Asked<'_>) -> Result<Verdict, Error> {
        let installed = self.installed();
        let mut key = String::with_capacity(64);
        match self.limit(&installed.rules, &asked, &mut key, &mut Vec::new())? {
            Some(kept) => self.charge(&kept, &key, &asked).await,
            None => Ok(Verdict::FREE),
        }
    }

    /// Asks several times at once, each for itself: what one of them is refused, the others are charged all the same. A rule
    /// that another one of them replaces does not count.
    pub async fn check_all(&self, asked: &[Asked<'_>]) -> Vec<Result<Verdict, Error>> {
        let installed = self.installed();
        let mut limits = Vec::with_capacity(asked.len());
        let mut replaced = Vec::new();
        for asked in asked {
            let mut key = String::with_capacity(64);
            let kept = self.limit(&installed.rules, asked, &mut key, &mut replaced);
            limits.push((key, kept));
        }
        let charges = asked.iter().zip(&limits).map(async |(asked, (key, kept))| match kept {
            Ok(Some(kept)) if !replaced.contains(&kept.rule.name.as_str()) => self.charge(kept, key, asked).await,
            Ok(_) => Ok(Verdict::FREE),
            Err(error) => Err(error.clone()),
        });
        join_all(charges).await
    }

    /// What limits it, if anything does, and by which bucket. `replaced` gets the names of rules that do not count beside
    /// what was found.
    fn limit<'a>(
        &self,
        rules: &'a Rules<L::Buckets>,
        asked: &Asked<'_>,
        key: &mut String,
        replaced: &mut Vec<&'a str>,
    ) -> Result<Option<Arc<Kept<L::Buckets>>>, Error> {
        if let Some(limit) = asked.limit {
            rules::bucket(asked.domain, asked.entries, key);
            return self.overriding(limit).map(Some);
        }
        let found = rules.find(asked.domain, asked.entries, key);
        replaced.extend(found.iter().flat_map(|found| found.replaces()).map(String::as_str));
        Ok(match found {
            Some(Found::Limited(kept)) => Some(Arc::clone(kept)),
            Some(Found::Unlimited(_)) | None => None,
        })
    }

    async fn charge(&self, kept: &Kept<L::Buckets>, key: &str, asked: &Asked<'_>) -> Result<Verdict, Error> {
        let decision = match self.decide(kept, key, asked).await {
            Ok(decision) => Some(decision),
            // It only watches: what it cannot decide is in nobody's way either.
            Err(error) if kept.rule.shadow => {
                tracing::debug!(%error, rule = kept.rule.name, "a rule in shadow mode did not decide");
                None
            }
            Err(error) => return Err(error),
        };
        Ok(Verdict {
            allowed: kept.rule.shadow || decision.is_some_and(|decision| decision.allowed),
            rule: Some(Arc::clone(&kept.rule)),
            decision,
            excess: self.limiter.excess(&kept.rule.limit),
        })
    }

    async fn decide(&self, kept: &Kept<L::Buckets>, key: &str, asked: &Asked<'_>) -> Result<Decision, Error> {
        let (limit, cost) = (kept.rule.limit, asked.cost);
        if limit.requests == 0 || limit.burst == 0 {
            return Ok(blocked(cost));
        }
        if cost > u64::from(limit.burst) {
            let burst = limit.burst;
            return Err(Error::AboveBurst { cost, burst });
        }
        let charge = Charge {
            key,
            cost,
            within: asked.within,
        };
        self.limiter.take(&kept.buckets, charge).await
    }

    /// The buckets of a limit that was brought along.
    fn overriding(&self, limit: Override) -> Result<Arc<Kept<L::Buckets>>, Error> {
        let mut overrides = self.overrides.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = overrides.get(&limit) {
            return Ok(Arc::clone(kept));
        }
        if overrides.len() >= MOST_OVERRIDES {
            return Err(Error::Full);
        }
        let rule = Rule {
            name: String::from("override"),
            limit: Limit {
                requests: limit.requests,
                unit: limit.unit,
                burst: limit.requests,
            },
            algorithm: None,
            failure: FailureMode::default(),
            shadow: false,
            single: false,
        };
        let buckets = self.limiter.open(&rule).map_err(Error::Unfit)?;
        let kept = Arc::new(Kept {
            rule: Arc::new(rule),
            replaces: Vec::new(),
            buckets: Arc::new(buckets),
        });
        overrides.insert(limit, Arc::clone(&kept));
        Ok(kept)
    }

    fn installed(&self) -> Arc<Installed<L::Buckets>> {
        Arc::clone(&self.installed.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn build<L: Limiter>(
    limiter: &L,
    files: Vec<File>,
    before: Option<&Rules<L::Buckets>>,
) -> Result<Installed<L::Buckets>, Fault> {
    let domain = files.first().map_or("", |file| file.domain.as_str()).into();
    let rules = Rules::build(files, before, |rule| limiter.open(rule))?;
    Ok(Installed { rules, domain })
}

/// What a limit of zero decides: only what costs nothing passes, and waiting does not help.
fn blocked(cost: u64) -> Decision {
    Decision {
        allowed: cost == 0,
        remaining: 0,
        reset_after: Duration::ZERO,
        retry_after: None,
        degraded: None,
    }
}
