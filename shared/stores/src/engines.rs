//! Where the engines are, as flags that are the same in every design, and the wait at the start for those that start later.
//!
//! A server and its engines are often started together, in any order. So an engine that does not answer yet is waited for,
//! up to a bound, and said so. Whatever waiting cannot mend (a wrong URL, password or schema) ends the start at once.

use std::convert::Infallible;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use ledger::Ledger;
use redis::IntoConnectionInfo as _;
use tokio::time::Instant;

use crate::{Error, Migrator, Postgres, Redis};

/// How often an engine that is waited for is asked.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// How often the log says what is waited for.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// The engines that a stage may need.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Engines")]
pub struct Engines {
    /// The Postgres of stages that need one, such as `postgres://user:password@host:5432/database`
    #[arg(long, env = "POSTGRES_URL", hide_env_values = true, value_name = "URL")]
    pub postgres_url: Option<EngineUrl>,

    /// Connections to Postgres that a server holds
    #[arg(long, env = "POSTGRES_CONNECTIONS", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub postgres_connections: u32,

    /// The Redis of stages that need one, such as `redis://host:6379/0`
    #[arg(long, env = "REDIS_URL", hide_env_values = true, value_name = "URL")]
    pub redis_url: Option<EngineUrl>,

    /// The Redis Cluster of stages that need one: its nodes, or some of them, such as `redis://host:6379,redis://other:6379`
    #[arg(long, env = "REDIS_CLUSTER_URL", hide_env_values = true, value_name = "URLS")]
    pub redis_cluster_url: Option<EngineUrl>,

    /// How long to wait at the start for an engine that does not answer yet, in seconds
    #[arg(long, env = "ENGINE_WAIT_S", default_value_t = 30, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    pub engine_wait_s: u64,
}

/// The address of an engine; may hold a password, and is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct EngineUrl(String);

impl FromStr for EngineUrl {
    type Err = Infallible;

    // Read where it is used: a refusal by the command line's parser would print the password.
    fn from_str(url: &str) -> Result<Self, Infallible> {
        Ok(Self(url.to_owned()))
    }
}

impl std::fmt::Debug for EngineUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EngineUrl(secret)")
    }
}

/// Why an engine cannot be used: a sentence for whoever started the server.
#[derive(Debug, thiserror::Error)]
pub enum NoEngine {
    /// The stage needs it and nobody said where it is.
    #[error("this stage needs {engine}: say where it is with --{flag} URL, or {variable} in the environment")]
    NotNamed {
        /// Its name.
        engine: &'static str,
        /// The flag that names it.
        flag: &'static str,
        /// The same as an environment variable.
        variable: &'static str,
    },
    /// The URL cannot be read.
    #[error("--{flag}: {}", reason(.error))]
    WrongUrl {
        /// The flag that names it.
        flag: &'static str,
        /// What is wrong.
        error: Error,
    },
    /// Nobody answered there in time.
    #[error("{place} did not answer within {} s: {cause}", .waited.as_secs())]
    Absent {
        /// Which engine, and where.
        place: String,
        /// For how long it was asked.
        waited: Duration,
        /// What came of the last attempt.
        cause: String,
    },
    /// It is there and cannot be used.
    #[error("{place}: {cause}")]
    Refused {
        /// Which engine, and where.
        place: String,
        /// What it said.
        cause: String,
    },
}

/// What came of asking an engine whether it is there.
enum Silence {
    /// Nobody is there yet.
    Yet(String),
    /// Somebody is, and says no.
    Refused(String),
}

impl Engines {
    /// The Postgres of these flags, with its schema brought to the newest, once it answers.
    ///
    /// # Errors
    /// What stands in the way, in one line, without the password.
    pub async fn postgres(&self, migrations: &Migrator, ledger: &Ledger) -> Result<Postgres, NoEngine> {
        let flag = "postgres-url";
        let url = named(self.postgres_url.as_ref(), "Postgres", flag, "POSTGRES_URL")?;
        let options = crate::postgres::options(url).map_err(|error| NoEngine::WrongUrl { flag, error })?;
        let place = format!("postgres at {}:{}", options.get_host(), options.get_port());
        self.wait_for(&place, async || match crate::postgres::connect_once(&options).await {
            Ok(_) => Ok(()),
            Err(error) if is_absent(&error) => Err(Silence::Yet(cause(&error))),
            Err(error) => Err(Silence::Refused(cause(&error))),
        })
        .await?;
        Postgres::open(url, self.postgres_connections, migrations, ledger)
            .await
            .map_err(|error| NoEngine::Refused {
                place,
                cause: reason(&error),
            })
    }

    /// The Redis of these flags, once it answers.
    ///
    /// # Errors
    /// What stands in the way, in one line, without the password.
    pub async fn redis(&self, ledger: &Ledger) -> Result<Redis, NoEngine> {
        let flag = "redis-url";
        let url = named(self.redis_url.as_ref(), "Redis", flag, "REDIS_URL")?;
        let client = redis::Client::open(url).map_err(|error| NoEngine::WrongUrl {
            flag,
            error: Error::unavailable(error),
        })?;
        let place = format!("redis at {}", client.get_connection_info().addr());
        self.wait_for(&place, async || {
            let answer = async {
                let mut connection = client.get_multiplexed_async_connection().await?;
                redis::cmd("PING").query_async::<String>(&mut connection).await
            };
            let answer = tokio::time::timeout(Duration::from_secs(1), answer).await;
            match answer {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) if crate::redis::is_silence(&error) || error.code() == Some("LOADING") => {
                    Err(Silence::Yet(cause(&error)))
                }
                Ok(Err(error)) => Err(Silence::Refused(cause(&error))),
                Err(late) => Err(Silence::Yet(cause(&late))),
            }
        })
        .await?;
        Redis::open(url, ledger).await.map_err(|error| NoEngine::Refused {
            place,
            cause: reason(&error),
        })
    }

    /// The Redis Cluster of these flags, once it serves.
    ///
    /// # Errors
    /// What stands in the way, in one line, without the password.
    pub async fn redis_cluster(&self, ledger: &Ledger) -> Result<Redis, NoEngine> {
        let flag = "redis-cluster-url";
        let urls = named(
            self.redis_cluster_url.as_ref(),
            "a Redis Cluster",
            flag,
            "REDIS_CLUSTER_URL",
        )?;
        let wrong = |error| NoEngine::WrongUrl {
            flag,
            error: Error::unavailable(error),
        };
        let client = crate::redis::cluster(urls).map_err(wrong)?;
        let first = urls.split(',').next().unwrap_or_default();
        let place = format!(
            "redis cluster at {}",
            first.into_connection_info().map_err(wrong)?.addr()
        );
        self.wait_for(&place, async || {
            let answer = async {
                let mut connection = client.get_async_connection().await?;
                // Of any key: a cluster that is still being made refuses all.
                redis::cmd("EXISTS")
                    .arg("ready")
                    .query_async::<i64>(&mut connection)
                    .await
            };
            let answer = tokio::time::timeout(Duration::from_secs(2), answer).await;
            match answer {
                Ok(Ok(_)) => Ok(()),
                // The driver tells one that is not there from one that is not ready only in words.
                Ok(Err(error)) if error.kind() == redis::ErrorKind::AuthenticationFailed => {
                    Err(Silence::Refused(cause(&error)))
                }
                Ok(Err(error))
                    if error
                        .code()
                        .is_some_and(|code| code != "LOADING" && code != "CLUSTERDOWN") =>
                {
                    Err(Silence::Refused(cause(&error)))
                }
                Ok(Err(error)) => Err(Silence::Yet(cause(&error))),
                Err(late) => Err(Silence::Yet(cause(&late))),
            }
        })
        .await?;
        Redis::open_cluster(urls, ledger)
            .await
            .map_err(|error| NoEngine::Refused {
                place,
                cause: reason(&error),
            })
    }

    /// Asks until an engine answers, says so while it does not, and gives up at the bound.
    async fn wait_for(&self, place: &str, mut ask: impl AsyncFnMut() -> Result<(), Silence>) -> Result<(), NoEngine> {
        let bound = Duration::from_secs(self.engine_wait_s);
        let begun = Instant::now();
        let mut said = None;
        loop {
            match ask().await {
                Ok(()) => return Ok(()),
                Err(Silence::Refused(cause)) => {
                    let place = place.to_owned();
                    return Err(NoEngine::Refused { place, cause });
                }
                Err(Silence::Yet(cause)) if begun.elapsed() >= bound => {
                    return Err(NoEngine::Absent {
                        place: place.to_owned(),
                        waited: bound,
                        cause,
                    });
                }
                Err(Silence::Yet(cause)) => {
                    if said.is_none_or(|said: Instant| said.elapsed() >= SAY_EVERY) {
                        tracing::info!("waiting for {place}, up to {} s: {cause}", bound.as_secs());
                        said = Some(Instant::now());
                    }
                }
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
}

fn named<'a>(
    url: Option<&'a EngineUrl>,
    engine: &'static str,
    flag: &'static str,
    variable: &'static str,
) -> Result<&'a str, NoEngine> {
    url.map(|url| url.0.as_str())
        .ok_or(NoEngine::NotNamed { engine, flag, variable })
}

/// Whether a Postgres that said this may be there in a moment: nobody listens, it starts or ends, or it is full.
fn is_absent(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => true,
        sqlx::Error::Database(error) => error
            .code()
            .is_some_and(|code| code.starts_with("57P") || code == "53300"),
        _ => false,
    }
}

/// An error on one line.
fn cause(error: &dyn std::error::Error) -> String {
    error.to_string().replace('\n', " ")
}

/// What an engine's own error says, without ours around it.
fn reason(error: &Error) -> String {
    match error {
        Error::Unavailable(source) | Error::Full(source) | Error::Unknown(source) => cause(source.as_ref()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        engines: Engines,
    }

    fn flags(flags: &[&str]) -> Engines {
        Flags::parse_from([&["test"], flags].concat()).engines
    }

    async fn refused(flags: &Engines) -> [String; 2] {
        let ledger = Ledger::new();
        let postgres = flags.postgres(&crate::migrations(&[]), &ledger).await;
        let redis = flags.redis(&ledger).await;
        [postgres.unwrap_err().to_string(), redis.unwrap_err().to_string()]
    }

    #[tokio::test]
    async fn an_engine_that_nobody_named_is_asked_for_by_flag_and_variable() {
        let [postgres, redis] = refused(&flags(&["--engine-wait-s", "0"])).await;
        assert!(
            postgres.contains("--postgres-url") && postgres.contains("POSTGRES_URL"),
            "{postgres}"
        );
        assert!(redis.contains("--redis-url") && redis.contains("REDIS_URL"), "{redis}");
    }

    #[tokio::test]
    async fn a_url_that_is_none_is_refused_at_once_and_a_password_in_it_never_shown() {
        for url in ["", "nonsense", "http://user:s3cret@host/", "//user:s3cret@host"] {
            let refused = refused(&flags(&["--postgres-url", url, "--redis-url", url])).await;
            for (line, flag) in refused.iter().zip(["--postgres-url: ", "--redis-url: "]) {
                assert!(line.starts_with(flag) && !line.contains("s3cret"), "{url}: {line}");
                assert!(!line.contains('\n'), "{line}");
            }
        }
        let shown = format!("{:?}", flags(&["--redis-url", "redis://:s3cret@host"]));
        assert!(!shown.contains("s3cret"), "{shown}");
    }

    #[tokio::test]
    async fn an_engine_that_does_not_answer_is_waited_for_up_to_the_bound_and_named_without_its_password() {
        let urls = [
            "--postgres-url",
            "postgres://user:s3cret@127.0.0.1:1/links",
            "--redis-url",
            "redis://:s3cret@127.0.0.1:1/",
            "--engine-wait-s",
            "1",
        ];
        let begun = Instant::now();
        let [postgres, redis] = refused(&flags(&urls)).await;
        assert!(begun.elapsed() >= Duration::from_secs(2));
        assert!(
            postgres.starts_with("postgres at 127.0.0.1:1 did not answer within 1 s"),
            "{postgres}"
        );
        assert!(
            redis.starts_with("redis at 127.0.0.1:1 did not answer within 1 s"),
            "{redis}"
        );
        assert!(!postgres.contains("s3cret") && !redis.contains("s3cret"));
    }
}
