//! What a stage needs beside its server: engines, given by address or started here.
//!
//! A stage says by name what it needs (`"needs": ["postgres", "redis"]`) and is told by flag where that is
//! (`--postgres-url URL`). An address that the user gave comes first. Otherwise the lab starts the engine from this
//! machine's own binary: on the server's cores, because it is a part of what is loaded; in the data root, because its disk
//! is a part too; as durable as a user would run it; and gone with the stage.

use std::path::Path;

use anyhow::{Result, anyhow, bail};
use engines::{Cluster, Engine, Installed, Kind, POSTGRES, REDIS, REDIS_CLUSTER, Setup};

use crate::layout::Layout;
use crate::output::climb::EngineReport;
use crate::platform;

/// The one engine that is several processes.
const CLUSTER: &str = "redis-cluster";

/// An engine that the lab can start.
struct Startable {
    /// As stages call it.
    name: &'static str,
    kind: &'static Kind,
    /// What is promised of it, and its size: in words, so that no distribution's default decides.
    args: &'static [&'static str],
}

const DURABLE_REDIS: &[&str] = &["--appendonly", "yes", "--appendfsync", "everysec"];

const STARTABLE: [Startable; 3] = [
    Startable {
        name: "postgres",
        kind: &POSTGRES,
        args: &[
            "-c",
            "fsync=on",
            "-c",
            "synchronous_commit=on",
            "-c",
            "shared_buffers=128MB",
            "-c",
            "max_connections=200",
        ],
    },
    Startable {
        name: "redis",
        kind: &REDIS,
        args: DURABLE_REDIS,
    },
    Startable {
        name: CLUSTER,
        kind: &REDIS_CLUSTER,
        args: DURABLE_REDIS,
    },
];

/// One engine that a stage needs, found.
#[derive(Debug, Clone)]
pub struct Need {
    name: String,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    /// Somebody runs it at this address, and the server is told so with the other flags of the user.
    Given(String),
    /// This machine has it.
    Local {
        installed: Installed,
        version: String,
        args: Vec<&'static str>,
    },
}

impl Need {
    /// The same with more on the command line of an engine that the lab starts; what comes last holds.
    #[must_use]
    pub fn with(mut self, more: &[&'static str]) -> Self {
        if let Source::Local { args, .. } = &mut self.source {
            args.extend(more);
        }
        self
    }
}

/// Finds what a stage needs. The text of an error says what is missing, and how to get it.
///
/// # Errors
/// There is no such engine here, and no address was given.
pub fn find(needs: &[String], set: &[(String, String)], data_root: &Path) -> Result<Vec<Need>, String> {
    let mut found = Vec::new();
    let mut absent = Vec::new();
    for name in needs {
        let given = set.iter().rev().find(|(key, _)| *key == format!("{name}-url"));
        let source = match given {
            Some((_, url)) => Some(Source::Given(url.clone())),
            None => local(name, data_root)?,
        };
        match source {
            Some(source) => found.push(Need {
                name: name.clone(),
                source,
            }),
            None => absent.push(name.as_str()),
        }
    }
    if absent.is_empty() {
        Ok(found)
    } else {
        Err(how_to_get(&absent))
    }
}

/// This machine's own engine of that name, for whoever takes no address. The text of an error says what is missing.
///
/// # Errors
/// There is no such engine here, or it cannot run in a folder below `data_root`.
pub fn own(name: &str, data_root: &Path) -> Result<Need, String> {
    let source = installed(name, data_root)?
        .ok_or_else(|| "It is not installed: `make deps`, as root on Debian, does that".to_owned())?;
    Ok(Need {
        name: name.to_owned(),
        source,
    })
}

fn local(name: &str, data_root: &Path) -> Result<Option<Source>, String> {
    installed(name, data_root).map_err(|problem| {
        format!("needs {name}: {problem}; give another place, --data-root DIR, or another {name}, --set {name}-url=URL")
    })
}

fn installed(name: &str, data_root: &Path) -> Result<Option<Source>, String> {
    let startable = STARTABLE.iter().find(|startable| startable.name == name);
    let Some((startable, installed)) = startable.and_then(|it| Some((it, it.kind.find()?))) else {
        return Ok(None);
    };
    let version = installed.fits(data_root).and_then(|()| installed.version())?;
    Ok(Some(Source::Local {
        installed,
        version,
        args: startable.args.to_vec(),
    }))
}

fn how_to_get(absent: &[&str]) -> String {
    let known = absent
        .iter()
        .all(|name| STARTABLE.iter().any(|startable| startable.name == *name));
    let it = if absent.len() == 1 { "it" } else { "them" };
    let urls: Vec<String> = absent.iter().map(|name| format!("--set {name}-url=URL")).collect();
    let get = if known {
        format!("install {it} (`make deps`, as root on Debian), or give")
    } else {
        format!("start {it} and give")
    };
    format!("needs {}: {get} {}", absent.join(" and "), urls.join(" "))
}

/// `postgres 15.18 and redis 7.0.15`: what is going to be started; nothing when all is given.
pub fn to_start(needs: &[Need]) -> Option<String> {
    let names: Vec<String> = needs
        .iter()
        .filter_map(|need| match &need.source {
            Source::Local { version, .. } => Some(format!("{} {version}", need.name)),
            Source::Given(_) => None,
        })
        .collect();
    (!names.is_empty()).then(|| names.join(" and "))
}

/// The engines of a running stage.
#[derive(Debug)]
pub struct Engines {
    needs: Vec<Need>,
    started: Vec<(String, Started)>,
}

/// An engine that runs.
#[derive(Debug)]
enum Started {
    One(Engine),
    Several(Cluster),
}

impl Started {
    fn start(name: &str, installed: &Installed, setup: &Setup<'_>) -> Result<Self> {
        let started = match name {
            CLUSTER => Cluster::start(installed, setup).map(Self::Several),
            _ => installed.start(setup).map(Self::One),
        };
        started.map_err(|text| anyhow!(text))
    }

    fn url(&self) -> &str {
        match self {
            Self::One(engine) => engine.url(),
            Self::Several(cluster) => cluster.url(),
        }
    }

    fn processes(&self) -> &[Engine] {
        match self {
            Self::One(engine) => std::slice::from_ref(engine),
            Self::Several(cluster) => cluster,
        }
    }

    fn check_alive(&mut self) -> Result<()> {
        let processes = match self {
            Self::One(engine) => std::slice::from_mut(engine),
            Self::Several(cluster) => cluster,
        };
        let mut alive = processes.iter_mut().map(Engine::check_alive);
        alive.try_for_each(|alive| alive.map_err(|text| anyhow!(text)))
    }

    /// Nothing where the system does not tell.
    fn cpu_s(&self) -> Option<f64> {
        let used = self.processes().iter().map(|process| platform::tree_cpu(process.pid()));
        used.map(|used| used.map(|used| used.as_secs_f64())).sum()
    }
}

impl Engines {
    /// Starts those that nobody runs yet, in folders below `data_root`, and in a control group when there is one. They get
    /// the cores and the priority of the calling thread.
    ///
    /// # Errors
    /// One of them does not start.
    pub fn start(needs: &[Need], data_root: &Path, group: Option<&Path>) -> Result<Self> {
        let mut started = Vec::new();
        for need in needs {
            if let Source::Local { installed, args, .. } = &need.source {
                let setup = Setup {
                    root: data_root,
                    args,
                    group,
                };
                started.push((need.name.clone(), Started::start(&need.name, installed, &setup)?));
            }
        }
        Ok(Self {
            needs: needs.to_vec(),
            started,
        })
    }

    /// The same, on the server's cores although the calling thread is on the generator's.
    ///
    /// # Errors
    /// One of them does not start.
    pub fn start_apart(needs: &[Need], data_root: &Path, layout: &Layout) -> Result<Self> {
        let start = || {
            layout.pin_server();
            Self::start(needs, data_root, None)
        };
        // In a thread of its own, because what it starts inherits its cores.
        std::thread::scope(|scope| {
            let started = scope.spawn(start).join();
            started.unwrap_or_else(|_| bail!("starting an engine panicked"))
        })
    }

    /// What tells the server where those are that were started here.
    pub fn flags(&self) -> impl Iterator<Item = String> {
        self.started
            .iter()
            .flat_map(|(name, engine)| [format!("--{name}-url"), engine.url().to_owned()])
    }

    /// An error when one that was started here is no longer there.
    ///
    /// # Errors
    /// One has died; the text ends with its log.
    pub fn check_alive(&mut self) -> Result<()> {
        self.started.iter_mut().try_for_each(|(_, engine)| engine.check_alive())
    }

    /// Seconds of CPU that each of those started here has used, where the system tells.
    pub fn cpu(&self) -> Vec<(&str, f64)> {
        self.started
            .iter()
            .filter_map(|(name, engine)| Some((name.as_str(), engine.cpu_s()?)))
            .collect()
    }

    /// What they are, for the record.
    pub fn reports(&self) -> Vec<EngineReport> {
        self.needs
            .iter()
            .map(|need| match &need.source {
                Source::Given(url) => EngineReport {
                    engine: need.name.clone(),
                    version: None,
                    place: without_password(url),
                },
                Source::Local { version, .. } => EngineReport {
                    engine: need.name.clone(),
                    version: Some(version.clone()),
                    place: EngineReport::LOCAL.to_owned(),
                },
            })
            .collect()
    }
}

/// A text in which the password of a URL, if there is one, is three stars: results are published.
pub fn without_password(text: &str) -> String {
    let hidden = || {
        let start = text.find("://")? + "://".len();
        let rest = &text[start..];
        let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
        let at = authority.rfind('@')?;
        let colon = authority[..at].find(':')?;
        Some(format!("{}:***{}", &text[..start + colon], &rest[at..]))
    };
    hidden().unwrap_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn set(keys: &[&str]) -> Vec<(String, String)> {
        keys.iter()
            .map(|key| (key.to_string(), format!("{key}://here")))
            .collect()
    }

    #[test]
    fn a_given_address_is_taken_whatever_is_installed() {
        let found = find(
            &names(&["postgres", "other"]),
            &set(&["postgres-url", "other-url"]),
            Path::new("/"),
        );
        let engines = Engines::start(&found.unwrap(), Path::new("/"), None).unwrap();
        assert_eq!(engines.flags().count(), 0, "the server gets it with the user's flags");
        let places: Vec<String> = engines.reports().into_iter().map(|report| report.place).collect();
        assert_eq!(places, ["postgres-url://here", "other-url://here"]);
    }

    #[test]
    fn what_is_absent_is_said_with_how_to_get_it() {
        assert_eq!(
            how_to_get(&["postgres", "redis"]),
            "needs postgres and redis: install them (`make deps`, as root on Debian), or give --set postgres-url=URL --set redis-url=URL"
        );
        assert_eq!(
            find(&names(&["other"]), &set(&["redis-url"]), Path::new("/")).unwrap_err(),
            "needs other: start it and give --set other-url=URL"
        );
    }

    #[test]
    fn an_engine_that_is_not_here_is_said_without_flags() {
        let text = own("other", Path::new("/")).unwrap_err();
        assert!(text.contains("not installed") && !text.contains("--"), "{text}");
    }

    #[test]
    fn a_stage_that_needs_nothing_has_it() {
        assert!(find(&[], &[], Path::new("/")).unwrap().is_empty());
    }

    #[test]
    fn passwords_are_not_published() {
        for (text, shown) in [
            (
                "postgres://app:s3:c@ret@db:5432/x?y=a@b",
                "postgres://app:***@db:5432/x?y=a@b",
            ),
            ("redis://:secret@cache/0", "redis://:***@cache/0"),
            ("redis-url=redis://:secret@cache", "redis-url=redis://:***@cache"),
            (
                "postgres://postgres@127.0.0.1:5432/x",
                "postgres://postgres@127.0.0.1:5432/x",
            ),
            ("redis://127.0.0.1:6379", "redis://127.0.0.1:6379"),
            ("cache-entries=1000", "cache-entries=1000"),
        ] {
            assert_eq!(without_password(text), shown);
        }
    }
}
