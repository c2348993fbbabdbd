//! The ladder: each stage put together from the same parts. The return types, read in a column, are the story.
//!
//! Nothing outside this file asks which stage it is.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;
use rand::RngExt as _;
use service::{Clock as _, Host, Knob, Routes, SystemClock, Traits};

use crate::adapters::key_table::Stock;
use crate::adapters::{
    AutoIncrement, Buffered, Cached, Grouped, KeyTable, NumberRanges, Numbering, Permuted, Pooled, Postgres,
    RedisCached, RedisClicks, Sqlite,
};
use crate::config::{self, CodeKey, Config};
use crate::domain::{CODES, Code, Error};
use crate::http;
use crate::permutation::Permutation;
use crate::ports::{Clicks, Keys, Links};
use crate::service::Shortener;
use crate::target::Rules;

/// How long the answer to an idempotency key is kept.
const ANSWERS_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// The steps from naive to scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Stage {
    /// One row a link; every redirect is a query and an UPDATE
    SingleTable,
    /// A read-through cache; clicks flushed off the request path
    Cached,
    /// Random keys made ahead, claimed in blocks; creates share fsyncs
    Pregenerated,
    /// Permuted sequence numbers: nothing stored ahead, inserts in order
    Permuted,
    /// Any number of servers: links in Postgres, the cache and the clicks of all in Redis
    Shared,
}

/// One table; every redirect is a query and a durable click.
///
/// Adds:        nothing yet.
/// Fixes:       -
/// Costs:       an fsync a redirect.
/// Breaks when: redirects outgrow the disk's fsyncs; and codes are enumerable from the first day.
async fn single_table(config: &Config, host: &Host) -> anyhow::Result<Shortener<Sqlite, AutoIncrement, Sqlite>> {
    let links = sqlite(config, host, &Numbering::Counted).await?.0;
    Ok(shortener(config, host, links.clone(), AutoIncrement, links))
}

/// A cache in front, and clicks that nobody waits for.
///
/// Adds:        a read-through cache with negative entries, one fetch per missing key; a click buffer.
/// Fixes:       redirects touch neither query nor fsync.
/// Costs:       memory; clicks of the last second die with the process.
/// Breaks when: each create is its own fsync.
async fn cached(
    config: &Config,
    host: &Host,
) -> anyhow::Result<Shortener<Cached<Sqlite>, AutoIncrement, Buffered<Sqlite>>> {
    let links = sqlite(config, host, &Numbering::Counted).await?.0;
    let clicks = Buffered::new(links.clone(), &host.lifecycle, &host.ledger);
    let links = Cached::new(links, config.cache_links);
    Ok(shortener(config, host, links, AutoIncrement, clicks))
}

/// Random keys from a table of unused ones; many creates under one fsync.
///
/// Adds:        keys made ahead, claimed in durable blocks; group commit.
/// Fixes:       codes cannot be guessed; a commit carries every create that waits for it.
/// Costs:       a table of keys as long as the one of links, and a page dirtied for each random key.
/// Breaks when: writing a page for every random row, and not the fsync, is what takes the core.
async fn pregenerated(
    config: &Config,
    host: &Host,
) -> anyhow::Result<Shortener<Cached<Grouped<Sqlite>>, Pooled<KeyTable>, Buffered<Sqlite>>> {
    let (links, db) = sqlite(config, host, &Numbering::Drawn).await?;
    let stock = Stock {
        size: config.key_stock,
        low_water: config.key_low_water.unwrap_or(config.key_stock / 2),
        block: config.key_block,
    };
    let table = KeyTable::open(db, stock, &host.lifecycle).await?;
    let keys = Pooled::new(table, &host.lifecycle, &host.ledger);
    let clicks = Buffered::new(links.clone(), &host.lifecycle, &host.ledger);
    let links = Cached::new(Grouped::new(links, &host.lifecycle, &host.ledger), config.cache_links);
    Ok(shortener(config, host, links, keys, clicks))
}

/// Codes that are a secret permutation of sequence numbers.
///
/// Adds:        ranges of numbers in place of keys; a keyed permutation between number and code.
/// Fixes:       nothing is stored ahead; rows go to the end of the table.
/// Costs:       a secret to keep: without it no link resolves, and whoever has it can walk through all of them.
/// Breaks when: one machine is full.
async fn permuted(config: &Config, host: &Host) -> anyhow::Result<PermutedShortener> {
    let permutation = Permutation::new(secret(config)?.0);
    let numbering = Numbering::Permuted(fingerprint(&permutation));
    let (links, db) = sqlite(config, host, &numbering).await?;
    let ranges = NumberRanges::new(db, permutation, config.key_block);
    let keys = Pooled::new(ranges, &host.lifecycle, &host.ledger);
    let clicks = Permuted::new(links.clone(), permutation);
    let clicks = Buffered::new(clicks, &host.lifecycle, &host.ledger);
    let links = Permuted::new(Grouped::new(links, &host.lifecycle, &host.ledger), permutation);
    let links = Cached::new(links, config.cache_links);
    Ok(shortener(config, host, links, keys, clicks))
}

type PermutedShortener =
    Shortener<Cached<Permuted<Grouped<Sqlite>>>, Pooled<NumberRanges<stores::Sqlite>>, Buffered<Permuted<Sqlite>>>;

/// A stateless tier: any server may die, or be joined by another, at any time.
///
/// Adds:        Postgres for links and number ranges; Redis as the cache of all servers, and on the way of clicks.
/// Fixes:       one machine is no longer the limit, nor its disk the only copy.
/// Costs:       each redirect a round trip, each create two; two engines to run, and to do without when they fail.
/// Breaks when: one Postgres takes all creates.
async fn shared(config: &Config, host: &Host) -> anyhow::Result<SharedShortener> {
    let permutation = Permutation::new(secret(config)?.0);
    let migrations = shared_migrations();
    let (db, redis) = tokio::try_join!(
        config.engines.postgres(&migrations, &host.ledger),
        config.engines.redis(&host.ledger),
    )?;
    let links = Postgres::new(db.clone(), &fingerprint(&permutation), config.key_block).await?;
    let keeper = links.clone();
    forget_answers(host, move |before| {
        let keeper = keeper.clone();
        async move { keeper.forget_answers(before).await }
    });
    let ranges = NumberRanges::new(db, permutation, config.key_block);
    let keys = Pooled::new(ranges, &host.lifecycle, &host.ledger);
    let clicks = RedisClicks::new(redis.clone(), links.clone(), &host.lifecycle, &host.ledger);
    let clicks = Buffered::new(Permuted::new(clicks, permutation), &host.lifecycle, &host.ledger);
    let site = links.site().to_owned();
    let links = Grouped::new(RedisCached::new(links, redis, &site), &host.lifecycle, &host.ledger);
    Ok(shortener(config, host, Permuted::new(links, permutation), keys, clicks))
}

type SharedShortener = Shortener<
    Permuted<Grouped<RedisCached<Postgres>>>,
    Pooled<NumberRanges<stores::Postgres>>,
    Buffered<Permuted<RedisClicks>>,
>;

impl Stage {
    /// Puts the stage together, on the files in the data directory, and gives its routes.
    ///
    /// # Errors
    /// A sentence for whoever started it: what cannot be opened, and why.
    pub async fn build(self, config: &Config, host: &Host) -> anyhow::Result<Routes> {
        Ok(match self {
            Self::SingleTable => http::routes(single_table(config, host).await?, config, host),
            Self::Cached => http::routes(cached(config, host).await?, config, host),
            Self::Pregenerated => http::routes(pregenerated(config, host).await?, config, host),
            Self::Permuted => http::routes(permuted(config, host).await?, config, host),
            Self::Shared => http::routes(shared(config, host).await?, config, host),
        })
    }

    /// What must run beside it, and what can be turned.
    fn traits(self) -> Traits {
        match self {
            Self::SingleTable | Self::Cached | Self::Pregenerated | Self::Permuted => Traits::default(),
            Self::Shared => Traits {
                needs: &["postgres", "redis"],
                knobs: vec![Knob {
                    resource: "postgres_pool",
                    flag: "postgres-connections",
                }],
                ..Traits::default()
            },
        }
    }
}

/// The stages in order, as JSON.
#[must_use]
pub fn describe() -> String {
    service::describe("url-shortener", |stage: &Stage| stage.traits())
}

fn shortener<L: Links, K: Keys, C: Clicks>(
    config: &Config,
    host: &Host,
    links: L,
    keys: K,
    clicks: C,
) -> Shortener<L, K, C> {
    let address = host.address.to_string();
    let public = config.public_url.as_ref().and_then(url::Url::host_str);
    let rules = Rules::new(
        [Some(address.as_str()), public].into_iter().flatten(),
        config.allow_private_targets,
    );
    // Less than the deadline, so that who waits in vain hears 409 and not 504.
    let patience = config.service.deadline() * 3 / 4;
    Shortener::new(links, keys, clicks, rules, Arc::new(SystemClock), patience)
}

/// Opens the data directory's database, and forgets old answers in the background.
async fn sqlite(config: &Config, host: &Host, numbering: &Numbering) -> anyhow::Result<(Sqlite, stores::Sqlite)> {
    let directory = &config.service.data_dir;
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let db = stores::Sqlite::open(&directory.join("links.db"), &migrations(), &host.ledger).await?;
    let links = Sqlite::new(db.clone(), numbering).await?;
    let keeper = links.clone();
    forget_answers(host, move |before| {
        let keeper = keeper.clone();
        async move { keeper.forget_answers(before).await }
    });
    Ok((links, db))
}

/// Forgets old answers in the background, from time to time.
fn forget_answers<F>(host: &Host, forget: impl Fn(u64) -> F + Send + 'static)
where
    F: Future<Output = Result<(), Error>> + Send,
{
    host.lifecycle.spawn("forget answers", |stopping| async move {
        while stopping.pause(Duration::from_secs(600)).await {
            let kept = u64::try_from(ANSWERS_KEPT.as_millis()).unwrap_or(u64::MAX);
            if let Err(error) = forget(SystemClock.now_ms().saturating_sub(kept)).await {
                tracing::warn!(%error, "old answers stay for the moment");
            }
        }
    });
}

/// The schema of the embedded stages.
#[must_use]
pub fn migrations() -> stores::Migrator {
    stores::migrations(&[
        ("links", include_str!("../migrations/sqlite/1_links.sql")),
        ("keys", include_str!("../migrations/sqlite/2_keys.sql")),
    ])
}

/// The schema of the stage `shared`.
#[must_use]
pub fn shared_migrations() -> stores::Migrator {
    stores::migrations(&[("links", include_str!("../migrations/postgres/1_links.sql"))])
}

/// The configured secret, or the one in the data directory, made at the first start. It lies beside the database, never
/// in it: a copy of the database alone does not give the codes away.
fn secret(config: &Config) -> anyhow::Result<CodeKey> {
    if let Some(key) = config.code_key {
        return Ok(key);
    }
    let file = config.service.data_dir.join("code.key");
    if !file.exists() {
        std::fs::create_dir_all(&config.service.data_dir)?;
        let key = format!("{:032x}", rand::rng().random::<u128>());
        write_private(&file, &key).with_context(|| format!("cannot write {}", file.display()))?;
        tracing::info!(file = %file.display(), "made a code key; keep it: without it no link resolves");
    }
    let key = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    config::code_key(key.trim()).map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))
}

/// Writes a file that only its owner can read, all of it or nothing, and never over one that is there: of two servers that
/// start on a new directory at once, the second takes the key of the first.
fn write_private(file: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let draft = file.with_extension(format!("draft-{}", std::process::id()));
    let mut out = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?;
    out.write_all(text.as_bytes())?;
    out.sync_all()?;
    // Unlike a rename, a link replaces nothing.
    let linked = std::fs::hard_link(&draft, file);
    std::fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        // The name must survive a power cut as well as the links that will hang on it.
        Ok(()) => std::fs::File::open(file.parent().unwrap_or(file))?.sync_all(),
        Err(error) => Err(error),
    }
}

/// Tells keys apart without telling the key: the code of a number that is given out last of all.
fn fingerprint(permutation: &Permutation) -> String {
    Code::new(CODES - 1)
        .map(|last| permutation.code_of(last).to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_names_the_stages_in_order() {
        let description: serde_json::Value = serde_json::from_str(&describe()).unwrap();
        let names: Vec<_> = description["stages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|stage| &stage["name"])
            .collect();
        assert_eq!(names, ["single_table", "cached", "pregenerated", "permuted", "shared"]);
    }

    #[test]
    fn a_made_key_stays_the_same_and_is_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let mut config = <Config as clap::Parser>::parse_from(["url-shortener"]);
        config.service.data_dir = directory.path().to_owned();
        let key = secret(&config).unwrap();
        assert_eq!(secret(&config).unwrap(), key);
        let mode = std::fs::metadata(directory.path().join("code.key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
