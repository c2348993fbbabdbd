//! Boards in memory, in an order-statistic tree each, with every change in a log before it is made.
//!
//! ```text
//! submit ─▶ group commit ─▶ log, fsync ─▶ tree ─▶ answered with the position
//! read   ───────────────────────────────▶ tree
//! ```
//!
//! What is in the log is the *command*, not what came of it: the tree is asked only once, after the fsync, and nobody sees a
//! score that a crash could take back. The same commands in the same order make the same boards, to the byte.

mod events;
mod frames;
mod log;
mod record;
mod roster;
mod sheet;
mod state;

#[cfg(test)]
mod tests;

use std::io;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, TryLockError};

use ledger::{Ledger, Resource};
use service::Lifecycle;
use stores::GroupCommit;
use tokio::sync::Notify;

use self::frames::Frame;
use self::log::{Log, make_snapshot, write_record};
use self::record::Record;
use self::sheet::Sheet;
pub use self::state::Bounds;
use self::state::{Answer, Command, State};
use crate::domain::{BoardName, Edition, Error, From, Member, Page, Score, Settings, Standing, Submission};
use crate::ports::Board;

/// The most commands that share an fsync.
const LARGEST_BATCH: usize = 1_000;

/// Boards in memory. Survives `kill -9`, and a power cut as far as the disk keeps its word.
#[derive(Clone)]
pub struct OrderedTree {
    shared: Arc<Shared>,
    commits: GroupCommit<Command, Result<Answer, Error>>,
}

struct Shared {
    state: RwLock<State>,
    log: Mutex<Log>,
    /// The lock around the boards, as whoever waits for it sees it.
    boards: Resource,
    /// A log has ended, and wants a snapshot: its successor's number.
    ended: Mutex<Option<u64>>,
    wake: Notify,
}

impl OrderedTree {
    /// Opens the boards in a folder, and reads all that is there.
    ///
    /// # Errors
    /// What is there cannot be read, is damaged, or belongs to another server.
    pub async fn open(folder: &Path, bounds: Bounds, lifecycle: &Lifecycle, ledger: &Ledger) -> io::Result<Self> {
        let folder = folder.to_owned();
        let place = folder.clone();
        let opened = tokio::task::spawn_blocking(move || Log::open(&place, bounds)).await;
        let (log, state) = opened.unwrap_or_else(|error| resume_unwind(error.into_panic()))?;
        let shared = Arc::new(Shared {
            state: RwLock::new(state),
            log: Mutex::new(log),
            boards: ledger.resource("boards", "locks", 1.0),
            ended: Mutex::new(None),
            wake: Notify::new(),
        });
        let committer = Arc::clone(&shared);
        let commits = GroupCommit::start(LARGEST_BATCH, lifecycle, ledger, move |commands: Vec<Command>| {
            let shared = Arc::clone(&committer);
            async move {
                // The disk blocks the thread that waits for it.
                let done = tokio::task::spawn_blocking(move || shared.commit(commands)).await;
                done.unwrap_or_else(|error| resume_unwind(error.into_panic()))
            }
        });
        let snapshots = Arc::clone(&shared);
        lifecycle.spawn("snapshots", |stopping| async move {
            let stop = Arc::new(AtomicBool::new(false));
            loop {
                tokio::select! {
                    () = snapshots.wake.notified() => {}
                    () = stopping.requested() => return,
                }
                let (shared, folder, told) = (Arc::clone(&snapshots), folder.clone(), Arc::clone(&stop));
                let mut work = tokio::task::spawn_blocking(move || shared.snapshot(&folder, &told));
                tokio::select! {
                    _ = &mut work => {}
                    () = stopping.requested() => {
                        stop.store(true, Ordering::Relaxed);
                        // What it has not finished is removed by the next start.
                        let _ = work.await;
                        return;
                    }
                }
            }
        });
        Ok(Self { shared, commits })
    }

    async fn carry_out(&self, command: Command) -> Result<Answer, Error> {
        let done = self.commits.submit(command).await;
        done.map_err(|refused| match refused {
            stores::Refused::Ending => stores::Error::unavailable(refused),
            stores::Refused::BrokenOff => stores::Error::unknown(refused),
        })?
    }

    /// Asks about an edition, on which nobody may be yet.
    fn ask<T>(&self, edition: &Edition, about: impl FnOnce(&Sheet) -> T) -> Option<T> {
        self.shared.read().sheet(edition).map(about)
    }
}

impl Shared {
    /// Writes a batch of commands to the log, then carries them out.
    fn commit(&self, commands: Vec<Command>) -> Vec<Result<Answer, Error>> {
        if let Err(error) = self.write_down(&commands) {
            let error = Error::from(error);
            return commands.iter().map(|_| Err(error.clone())).collect();
        }
        let carry_out = |command| {
            // For each of them anew, so that readers come in between.
            let mut state = match self.state.try_write() {
                Ok(state) => state,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {
                    let since = self.boards.begin_wait();
                    let state = self.state.write().unwrap_or_else(PoisonError::into_inner);
                    self.boards.end_wait(since);
                    state
                }
            };
            let mut held = self.boards.enter();
            // Only while a lab slows it. This thread is one that may block.
            if let Some(pause) = held.owes() {
                std::thread::sleep(pause);
                held.paid();
            }
            let mut answer = state.apply(command);
            drop(held);
            drop(state);
            // Here, on a thread that may take its time, and with nothing held.
            if let Answer::Forgotten(sheets) = &mut answer {
                sheets.clear();
            }
            Ok(answer)
        };
        commands.into_iter().map(carry_out).collect()
    }

    fn write_down(&self, commands: &[Command]) -> Result<(), stores::Error> {
        let mut frame = Frame::new();
        for record in commands.iter().flat_map(Record::of) {
            write_record(&record, &mut frame).map_err(stores::Error::unavailable)?;
        }
        let frame = frame.finish().map_err(stores::Error::unavailable)?;
        let mut log = self.log();
        log.append(&frame)?;
        if log.is_long() {
            let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            if ended.is_none() {
                match log.roll() {
                    Ok(number) => {
                        *ended = Some(number);
                        self.wake.notify_one();
                    }
                    Err(error) => tracing::warn!(%error, "no new log can be begun: the old one grows on"),
                }
            }
        }
        Ok(())
    }

    /// Makes the snapshot that is due.
    fn snapshot(&self, folder: &Path, stop: &AtomicBool) {
        let due = *self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(number) = due else { return };
        match make_snapshot(folder, number, stop) {
            Ok(Some(bytes)) => self.log().snapshot_made(bytes),
            Ok(None) => {}
            // The next one tries again, from the same files.
            Err(error) => tracing::error!(%error, "no snapshot was made: a restart reads a longer log"),
        }
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        match self.state.try_read() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                let since = self.boards.begin_wait();
                let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
                self.boards.end_wait(since);
                state
            }
        }
    }
}

impl Board for OrderedTree {
    async fn create(&self, board: &BoardName, settings: Settings) -> Result<Settings, Error> {
        match self.carry_out(Command::Create(board.clone(), settings)).await? {
            Answer::Created(created) => created,
            _ => Err(other_answer()),
        }
    }

    async fn settings(&self, board: &BoardName) -> Result<Option<Settings>, Error> {
        Ok(self.shared.read().settings(board))
    }

    async fn submit(&self, edition: &Edition, submission: Submission) -> Result<Standing, Error> {
        match self.carry_out(Command::Submit(edition.clone(), submission)).await? {
            Answer::Submitted(standing) => standing,
            _ => Err(other_answer()),
        }
    }

    async fn load(&self, edition: &Edition, submissions: Vec<Submission>) -> Vec<Result<Score, Error>> {
        let count = submissions.len();
        let answer = self.carry_out(Command::Load(edition.clone(), submissions)).await;
        match answer {
            Ok(Answer::Loaded(answers)) => answers,
            Ok(_) => vec![Err(other_answer()); count],
            Err(error) => vec![Err(error); count],
        }
    }

    async fn standing(&self, edition: &Edition, member: &Member) -> Result<Option<(Standing, u64)>, Error> {
        let found = self.ask(edition, |sheet| Some((sheet.standing(member)?, sheet.count() as u64)));
        Ok(found.flatten())
    }

    async fn standings(&self, edition: &Edition, members: &[Member]) -> Result<Vec<Option<Standing>>, Error> {
        let found = self.ask(edition, |sheet| {
            members.iter().map(|member| sheet.standing(member)).collect()
        });
        Ok(found.unwrap_or_else(|| vec![None; members.len()]))
    }

    async fn page(&self, edition: &Edition, from: From, limit: usize) -> Result<Page, Error> {
        Ok(self.ask(edition, |sheet| sheet.page(from, limit)).unwrap_or_default())
    }

    async fn around(
        &self,
        edition: &Edition,
        member: &Member,
        above: usize,
        below: usize,
    ) -> Result<Option<Page>, Error> {
        let found = self.ask(edition, |sheet| sheet.around(member, above, below));
        Ok(found.flatten())
    }

    async fn count(&self, edition: &Edition) -> Result<u64, Error> {
        Ok(self.ask(edition, Sheet::count).unwrap_or_default() as u64)
    }

    async fn remove(&self, edition: &Edition, member: &Member) -> Result<bool, Error> {
        // Most often he is not there: that is no reason to write.
        if self.ask(edition, |sheet| sheet.score(member)).flatten().is_none() {
            return Ok(false);
        }
        match self.carry_out(Command::Remove(edition.clone(), member.clone())).await? {
            Answer::Removed(removed) => Ok(removed),
            _ => Err(other_answer()),
        }
    }

    async fn forget(&self, now_ms: u64) -> Result<(), Error> {
        self.carry_out(Command::Forget(now_ms)).await.map(|_| ())
    }
}

/// An answer to something else than what was asked.
fn other_answer() -> Error {
    stores::Error::unknown("the committer answered another command").into()
}
