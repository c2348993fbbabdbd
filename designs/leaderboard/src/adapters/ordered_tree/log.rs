//! The log of all commands, and the snapshots that make it short.
//!
//! ```text
//! log-1 ──────────────▶│ log-2 ────────────▶│ log-3 ──▶       every command, in the order in which it was carried out
//!                      │                    │
//!                snapshot-2           snapshot-3              everything as it was when that log began
//! ```
//!
//! A restart reads the newest snapshot and the logs from there on. When a log has grown longer than the last snapshot, the
//! next one is begun; then a thread of its own makes the next snapshot, and takes what came before away.
//!
//! That thread does not look at the boards in memory, which are changing. It reads the *files*, the last snapshot and the
//! log that has ended, as a restart would, and writes down what comes of it. So nobody waits while a snapshot is made, and
//! each one is a rehearsal of recovery. What it costs is a second copy of the boards in memory for as long as it takes.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::events::{Digests, Events};
use super::frames::{Frame, Frames, Next, damaged, empty};
use super::record::{Record, member};
use super::sheet::Restoring;
use super::state::{Bounds, Command, State};

/// A log shorter than this is not worth a snapshot, in bytes.
const SHORT: u64 = 32 << 20;

/// What reads to the end whatever happens.
static NEVER: AtomicBool = AtomicBool::new(false);

/// How long a frame of a snapshot gets, in bytes.
const SNAPSHOT_FRAME: usize = 1 << 18;

/// The log that is being written.
pub(super) struct Log {
    folder: PathBuf,
    number: u64,
    file: File,
    /// Bytes of whole frames.
    length: u64,
    /// Bytes of the last snapshot.
    snapshot: u64,
    /// What is in the file is not what is thought to be: nothing may follow.
    broken: bool,
    /// Held for as long as this server has the folder.
    lock: File,
}

impl Drop for Log {
    fn drop(&mut self) {
        // Closing it is not enough: a program that is being started right now has a copy of the file until it runs.
        let _ = self.lock.unlock();
    }
}

impl Log {
    /// Opens the log in a folder, and reads all that is there; begins one if nothing is.
    ///
    /// # Errors
    /// It cannot be read or written, is damaged, or another server has it.
    pub(super) fn open(folder: &Path, bounds: Bounds) -> io::Result<(Self, State)> {
        fs::create_dir_all(folder)?;
        let lock = File::create(folder.join("lock"))?;
        lock.try_lock().map_err(|_| {
            io::Error::new(
                io::ErrorKind::ResourceBusy,
                format!("another server has {}", folder.display()),
            )
        })?;
        remove_unfinished(folder)?;
        let first = newest_snapshot(folder)?.unwrap_or(1);
        let last = newest(folder, "log-")?.unwrap_or(0).max(first);
        if last == 1 && !log(folder, 1).exists() {
            begin(folder, 1)?;
        }
        let mut state = replay(folder, first, last, &NEVER)?;
        let length = read_log(folder, last, &mut state, Torn::IsCutOff, &NEVER)?;
        remove_older(folder, first)?;
        let file = File::options().append(true).open(log(folder, last))?;
        // The last frame may have been written and not synced: it is about to be shown.
        file.sync_data()?;
        let mut log = Self {
            file,
            folder: folder.to_owned(),
            number: last,
            length,
            snapshot: size(&snapshot(folder, first))?,
            broken: false,
            lock,
        };
        if state.bounds() != bounds {
            log.limit(bounds, &mut state)?;
        }
        Ok((log, state))
    }

    /// From here on other bounds hold. What was decided under those of before stays as it was.
    fn limit(&mut self, bounds: Bounds, state: &mut State) -> io::Result<()> {
        let mut frame = Frame::new();
        write_record(&Record::limit(bounds), &mut frame)?;
        self.append(&frame.finish()?).map_err(io::Error::other)?;
        state.apply(Command::Limit(bounds));
        let (boards, members) = (state.boards().count(), state.members());
        if boards > bounds.boards || members > bounds.members {
            tracing::warn!(
                boards,
                members,
                "there is more than may be by now: it stays, and nothing is added"
            );
        }
        Ok(())
    }

    /// Writes a frame; when this returns, it is on disk.
    ///
    /// # Errors
    /// [`stores::Error::Unavailable`] or [`stores::Error::Full`]: it is not there. [`stores::Error::Unknown`]: it may be.
    pub(super) fn append(&mut self, frame: &[u8]) -> Result<(), stores::Error> {
        if self.broken {
            return Err(stores::Error::unavailable(
                "the log broke off before: restart the server",
            ));
        }
        if let Err(error) = self.file.write_all(frame) {
            // A part of it may be there, and must go before anything else comes.
            self.broken = self.file.set_len(self.length).is_err();
            return Err(refused(error));
        }
        if let Err(error) = self.file.sync_data() {
            // Nobody knows what is on disk now, and a second try would not tell: the pages count as written.
            self.broken = true;
            return Err(stores::Error::unknown(error));
        }
        self.length += frame.len() as u64;
        Ok(())
    }

    /// Whether it is time for a snapshot.
    pub(super) fn is_long(&self) -> bool {
        self.length > SHORT.max(self.snapshot)
    }

    /// Begins the next log. Gives its number: a snapshot of what came before may be made now.
    ///
    /// # Errors
    /// It cannot be written; then the old one goes on.
    pub(super) fn roll(&mut self) -> io::Result<u64> {
        let next = self.number + 1;
        self.file = begin(&self.folder, next)?;
        self.number = next;
        self.length = empty().len() as u64;
        Ok(next)
    }

    /// A snapshot of this many bytes was made.
    pub(super) fn snapshot_made(&mut self, bytes: u64) {
        self.snapshot = bytes;
    }
}

/// Makes the snapshot from which log `number` goes on, out of the files before it, and takes these away. Gives its size in
/// bytes; `None` if it was told to stop.
///
/// # Errors
/// A file cannot be read or written. Nothing is lost by that: a restart reads what is there.
pub(super) fn make_snapshot(folder: &Path, number: u64, stop: &AtomicBool) -> io::Result<Option<u64>> {
    let made = try_snapshot(folder, number, stop);
    if !matches!(made, Ok(Some(_))) {
        // It may be what has filled the disk.
        remove_unfinished(folder)?;
    }
    match made {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        made => made,
    }
}

fn try_snapshot(folder: &Path, number: u64, stop: &AtomicBool) -> io::Result<Option<u64>> {
    let first = newest_snapshot(folder)?.unwrap_or(1);
    let state = replay(folder, first, number, stop)?;
    let unfinished = folder.join("snapshot.unfinished");
    let mut file = Snapshot::new(File::create(&unfinished)?)?;
    if !write_state(&state, &mut file, stop)? {
        return Ok(None);
    }
    let bytes = file.finish()?;
    fs::rename(&unfinished, snapshot(folder, number))?;
    sync(folder)?;
    remove_older(folder, number)?;
    Ok(Some(bytes))
}

/// Everything as it was when log `number` began, from the snapshot of log `first` on.
fn replay(folder: &Path, first: u64, number: u64, stop: &AtomicBool) -> io::Result<State> {
    let mut state = State::new();
    read_snapshot(folder, first, &mut state, stop)?;
    for log in first..number {
        read_log(folder, log, &mut state, Torn::IsDamage, stop)?;
    }
    Ok(state)
}

/// Whoever reads is told to stop by an error, which the system's own calls never give.
fn go_on(stop: &AtomicBool) -> io::Result<()> {
    match stop.load(Ordering::Relaxed) {
        true => Err(io::ErrorKind::Interrupted.into()),
        false => Ok(()),
    }
}

/// Writes all records of a state. Says whether it got to the end.
fn write_state(state: &State, file: &mut Snapshot, stop: &AtomicBool) -> io::Result<bool> {
    for (board, settings) in state.boards() {
        file.write(&Record::create(board, settings))?;
    }
    // Behind the boards, of which there may be more.
    file.write(&Record::limit(state.bounds()))?;
    for (edition, sheet) in state.sheets() {
        file.write(&Record::Edition {
            edition: edition.into(),
            reached: sheet.reached(),
        })?;
        for (name, place) in sheet.entries() {
            file.write(&Record::line(name, place))?;
            if stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
        }
    }
    let (hour, this_hour, last_hour) = state.events().parts();
    file.write(&Record::Events { hour })?;
    for (events, this_hour) in [(this_hour, true), (last_hour, false)] {
        for digest in events.iter() {
            file.write(&Record::Event {
                digest: *digest,
                this_hour,
            })?;
        }
    }
    Ok(!stop.load(Ordering::Relaxed))
}

/// A snapshot that is being written.
struct Snapshot {
    file: BufWriter<File>,
    frame: Frame,
    records: u64,
    bytes: u64,
}

impl Snapshot {
    fn new(file: File) -> io::Result<Self> {
        let mut file = BufWriter::with_capacity(1 << 20, file);
        file.write_all(empty())?;
        Ok(Self {
            file,
            frame: Frame::new(),
            records: 0,
            bytes: empty().len() as u64,
        })
    }

    fn write(&mut self, record: &Record<'_>) -> io::Result<()> {
        write_record(record, &mut self.frame)?;
        self.records += 1;
        if self.frame.len() >= SNAPSHOT_FRAME {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let frame = std::mem::replace(&mut self.frame, Frame::new()).finish()?;
        self.bytes += frame.len() as u64;
        self.file.write_all(&frame)
    }

    fn finish(mut self) -> io::Result<u64> {
        let records = self.records;
        self.write(&Record::End { records })?;
        self.flush()?;
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok(self.bytes)
    }
}

/// Adds a record to a frame.
///
/// # Errors
/// None, as long as records are of a kind that has a form on disk.
pub(super) fn write_record(record: &Record<'_>, frame: &mut Frame) -> io::Result<()> {
    postcard::to_io(record, frame.payload()).map_err(io::Error::other)?;
    Ok(())
}

/// Calls for each record of a frame.
fn for_each_record(mut payload: &[u8], mut each: impl FnMut(Record<'_>) -> io::Result<()>) -> io::Result<()> {
    while !payload.is_empty() {
        let (record, rest) =
            postcard::take_from_bytes(payload).map_err(|_| damaged("it holds a record of a newer version"))?;
        each(record)?;
        payload = rest;
    }
    Ok(())
}

/// What to make of a frame that is not whole.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Torn {
    /// Nothing: nobody was told that it was written.
    IsCutOff,
    /// It was whole once.
    IsDamage,
}

/// Carries out the commands of a log; gives the length up to which it is whole.
fn read_log(folder: &Path, number: u64, state: &mut State, torn: Torn, stop: &AtomicBool) -> io::Result<u64> {
    let path = log(folder, number);
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let mut frames = Frames::open(&path).map_err(named)?;
    loop {
        go_on(stop)?;
        match frames.next().map_err(named)? {
            Next::Frame(payload) => for_each_record(payload, |record| {
                let command = record
                    .command()
                    .map_err(|_| damaged("it holds a command that makes no sense"))?;
                state.apply(command);
                Ok(())
            })
            .map_err(named)?,
            Next::End => return size(&path),
            Next::Torn(_) if torn == Torn::IsDamage => {
                return Err(named(damaged("it breaks off, and another log follows")));
            }
            Next::Torn(good) => return cut(&path, good),
        }
    }
}

/// Takes away what a crash left behind the last whole frame.
fn cut(path: &Path, good: u64) -> io::Result<u64> {
    tracing::warn!(file = %path.display(), length = good, "the last write before a crash was not finished: it is cut off");
    let mut file = File::options().write(true).open(path)?;
    file.set_len(good)?;
    if good == 0 {
        file.write_all(empty())?;
    }
    file.sync_all()?;
    size(path)
}

/// Puts in what a snapshot says. There is none before the first log.
fn read_snapshot(folder: &Path, number: u64, state: &mut State, stop: &AtomicBool) -> io::Result<()> {
    let path = snapshot(folder, number);
    if number == 1 && !path.exists() {
        return Ok(());
    }
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let mut frames = Frames::open(&path).map_err(named)?;
    let mut reading = ReadSnapshot::default();
    while let Next::Frame(payload) = frames.next().map_err(named)? {
        go_on(stop)?;
        for_each_record(payload, |record| reading.take(record, state)).map_err(named)?;
    }
    if !reading.ended {
        return Err(named(damaged("it breaks off before its end")));
    }
    Ok(())
}

/// A snapshot that is being read.
#[derive(Default)]
struct ReadSnapshot {
    sheet: Option<(crate::domain::Edition, Restoring)>,
    events: (u64, Digests, Digests),
    records: u64,
    ended: bool,
}

impl ReadSnapshot {
    fn take(&mut self, record: Record<'_>, state: &mut State) -> io::Result<()> {
        let nonsense = |_| damaged("it holds a record that makes no sense");
        match record {
            Record::Create { .. } | Record::Limit { .. } => {
                state.apply(record.command().map_err(nonsense)?);
            }
            Record::Edition { edition, reached } => {
                self.close_sheet(state);
                self.sheet = Some((edition.edition().map_err(nonsense)?, Restoring::new(reached)));
            }
            Record::Line {
                member: name,
                score,
                reached,
            } => {
                let place = place(score, reached).ok_or_else(|| damaged("it holds a score out of range"))?;
                let (_, sheet) = self
                    .sheet
                    .as_mut()
                    .ok_or_else(|| damaged("it holds a line of no board"))?;
                sheet.add(&member(name).map_err(nonsense)?, place).map_err(damaged)?;
            }
            Record::Events { hour } => self.events.0 = hour,
            Record::Event { digest, this_hour } => {
                let events = if this_hour {
                    &mut self.events.1
                } else {
                    &mut self.events.2
                };
                events.insert(digest);
            }
            Record::End { records } => {
                if records != self.records {
                    return Err(damaged("it has fewer records than it says"));
                }
                self.close_sheet(state);
                let (hour, this_hour, last_hour) = std::mem::take(&mut self.events);
                state.restore_events(Events::restored(hour, this_hour, last_hour));
                self.ended = true;
            }
            Record::Submit { .. } | Record::Remove { .. } | Record::Forget { .. } => {
                return Err(damaged("it holds a command"));
            }
        }
        self.records += 1;
        Ok(())
    }

    fn close_sheet(&mut self, state: &mut State) {
        if let Some((edition, sheet)) = self.sheet.take() {
            state.restore(edition, sheet.finish());
        }
    }
}

fn place(score: i64, reached: u64) -> Option<crate::domain::Place> {
    let score = crate::domain::Score::new(score)?;
    Some(crate::domain::Place { score, reached })
}

fn log(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("log-{number}"))
}

fn snapshot(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("snapshot-{number}"))
}

/// Begins a log that has no frames.
fn begin(folder: &Path, number: u64) -> io::Result<File> {
    let path = log(folder, number);
    let begun = (|| {
        // One of this number may be there if beginning it failed half-way before; nothing was ever written to it.
        let mut file = File::create(&path)?;
        file.write_all(empty())?;
        file.sync_all()?;
        sync(folder)?;
        File::options().append(true).open(&path)
    })();
    if begun.is_err() {
        // The one before goes on, and must not look as if another followed. If it cannot be removed, a start may say so.
        let _ = fs::remove_file(&path);
    }
    begun
}

/// Makes the names in a folder durable.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn size(path: &Path) -> io::Result<u64> {
    match fs::metadata(path) {
        Ok(file) => Ok(file.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

fn newest_snapshot(folder: &Path) -> io::Result<Option<u64>> {
    newest(folder, "snapshot-")
}

/// The highest number of a file whose name begins so.
fn newest(folder: &Path, prefix: &str) -> io::Result<Option<u64>> {
    let numbers = numbered(folder, prefix)?;
    Ok(numbers.into_iter().max())
}

fn numbered(folder: &Path, prefix: &str) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number: Option<u64> = name.to_str().and_then(|name| name.strip_prefix(prefix)?.parse().ok());
        numbers.extend(number);
    }
    Ok(numbers)
}

fn remove_older(folder: &Path, number: u64) -> io::Result<()> {
    for old in numbered(folder, "log-")?.into_iter().filter(|old| *old < number) {
        fs::remove_file(log(folder, old))?;
    }
    for old in numbered(folder, "snapshot-")?.into_iter().filter(|old| *old < number) {
        fs::remove_file(snapshot(folder, old))?;
    }
    Ok(())
}

fn remove_unfinished(folder: &Path) -> io::Result<()> {
    match fs::remove_file(folder.join("snapshot.unfinished")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn refused(error: io::Error) -> stores::Error {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    if matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge) {
        stores::Error::Full(std::sync::Arc::new(error))
    } else {
        stores::Error::unavailable(error)
    }
}
