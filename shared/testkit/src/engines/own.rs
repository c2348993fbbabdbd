//! An engine of a test's own. What a test adds to the crate `engines` is that it cannot go on without one.

use std::ops::{Deref, DerefMut};

use ::engines::{Installed, Setup};

use super::{POSTGRES, REDIS, Sources, report};

/// A Redis or Postgres server that belongs to one test: it may be killed, frozen and
/// started again, and it is gone when this value is dropped or the test process dies.
#[derive(Debug)]
pub struct Engine(::engines::Engine);

impl Engine {
    /// A Redis of its own, in memory only, with `args` appended to its command line
    /// (`["--appendonly", "yes"]` for one that remembers).
    ///
    /// # Panics
    /// When there is no `redis-server` on this machine, or it does not start.
    pub fn own_redis(args: &[&str]) -> Self {
        Self::own(&REDIS, args)
    }

    /// A Postgres of its own, durable as Postgres is by default, with `args` appended to
    /// its command line (`["-c", "synchronous_commit=off"]`). The URL is that of the
    /// database `postgres`, its superuser, and needs no password.
    ///
    /// # Panics
    /// When there is no `postgres` on this machine, or it does not start.
    pub fn own_postgres(args: &[&str]) -> Self {
        Self::own(&POSTGRES, args)
    }

    fn own(sources: &Sources, args: &[&str]) -> Self {
        let kind = sources.kind;
        let Some(installed) = kind.find() else {
            panic!(
                "this test needs a {} of its own, and there is no {} here: run `make deps`",
                kind.name, kind.binary
            );
        };
        let engine = Self::start(&installed, args).and_then(|engine| {
            report(kind, "local server", &installed.version()?);
            Ok(engine)
        });
        engine.unwrap_or_else(|problem| panic!("{problem}"))
    }

    pub(super) fn start(installed: &Installed, args: &[&str]) -> Result<Self, String> {
        let setup = Setup {
            root: &std::env::temp_dir(),
            args,
            group: None,
        };
        installed.start(&setup).map(Self)
    }

    /// Starts it again on the same port and folder, after a `kill -9` if it still runs.
    ///
    /// # Panics
    /// When it does not become ready again.
    pub fn restart(&mut self) {
        self.0.restart().unwrap_or_else(|problem| panic!("{problem}"));
    }
}

/// Everything else is as the crate `engines` has it.
impl Deref for Engine {
    type Target = ::engines::Engine;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Engine {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}
