//! Rules from files, read again whenever they change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use service::Lifecycle;

use crate::rules::{self, Fault, File};

/// What is limited where no rules are given.
const DEFAULT: &str = include_str!("../../rules/default.yaml");

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Files of rules; of none, the rules that are built in.
#[derive(Clone, Debug)]
pub struct RulesFiles {
    paths: Arc<[PathBuf]>,
}

/// What is looked at before a file is read again: a link that now leads elsewhere changes it as much as an editor does.
type Mark = (Option<SystemTime>, u64, PathBuf);

impl RulesFiles {
    /// These files, each with a domain of its own.
    #[must_use]
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self { paths: paths.into() }
    }

    /// Reads them all.
    ///
    /// # Errors
    /// One cannot be read, or is no file of rules: which, and in which line.
    pub async fn load(&self) -> Result<Vec<File>, Fault> {
        if self.paths.is_empty() {
            return Ok(vec![rules::parse(DEFAULT)?]);
        }
        let mut files = Vec::new();
        for path in self.paths.iter() {
            files.push(read(path).await?);
        }
        Ok(files)
    }

    /// Looks at them once a second until the service stops, and hands over all of them when they say something else than
    /// `loaded`, and then than the last time. Files that are refused are said so once, and what was installed before stays.
    pub fn watch<I>(self, loaded: Vec<File>, lifecycle: &Lifecycle, install: I)
    where
        I: Fn(Vec<File>) -> Result<(), Fault> + Send + 'static,
    {
        if self.paths.is_empty() {
            return;
        }
        lifecycle.spawn("rules", move |stopping| async move {
            let mut loaded = loaded;
            // Nothing has been seen yet: what changed since `loaded` was read is found at the first look.
            let mut seen = Vec::new();
            while stopping.pause(LOOK_EVERY).await {
                let marks = self.marks().await;
                if marks == seen {
                    continue;
                }
                seen = marks;
                let files = match self.load().await {
                    Ok(files) if files == loaded => continue,
                    other => other,
                };
                let installed = files.and_then(|files| install(files.clone()).map(|()| files));
                match installed {
                    Ok(files) => {
                        tracing::info!("the rules have changed");
                        loaded = files;
                    }
                    Err(fault) => tracing::error!(%fault, "the rules stay as they were"),
                }
            }
        });
    }

    async fn marks(&self) -> Vec<Option<Mark>> {
        let mut marks = Vec::with_capacity(self.paths.len());
        for path in self.paths.iter() {
            marks.push(mark(path).await);
        }
        marks
    }
}

async fn mark(path: &Path) -> Option<Mark> {
    let target = tokio::fs::canonicalize(path).await.ok()?;
    let meta = tokio::fs::metadata(&target).await.ok()?;
    Some((meta.modified().ok(), meta.len(), target))
}

async fn read(path: &Path) -> Result<File, Fault> {
    let name: Arc<str> = path.display().to_string().into();
    let unreadable = |error: std::io::Error| Fault {
        file: Some(Arc::clone(&name)),
        line: None,
        reason: format!("cannot be read: {error}"),
    };
    let text = tokio::fs::read_to_string(path).await.map_err(unreadable)?;
    let mut file = rules::parse(&text).map_err(|fault| fault.of(&name))?;
    file.name = Some(name);
    Ok(file)
}
