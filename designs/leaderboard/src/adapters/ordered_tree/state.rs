//! Everything in memory, and how a command changes it: the same commands in the same order make the same state, here and
//! when they are read from the log.

use std::collections::HashMap;

use crate::domain::{BoardName, Edition, Error, Member, Score, Settings, Standing, Submission};

use super::super::full;
use super::events::{Events, digest};
use super::sheet::Sheet;

/// What may be there at the most.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Boards.
    pub boards: usize,
    /// Members of all boards together.
    pub members: usize,
}

/// A change that somebody asks for. It is in the log before it is carried out.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Command {
    Create(BoardName, Settings),
    /// One, which is told where its member stands.
    Submit(Edition, Submission),
    /// Many, which are not.
    Load(Edition, Vec<Submission>),
    Remove(Edition, Member),
    /// Forget what is over at this time.
    Forget(u64),
}

/// What came of a command.
#[derive(Debug)]
pub(super) enum Answer {
    Created(Result<Settings, Error>),
    Submitted(Result<Standing, Error>),
    Loaded(Vec<Result<Score, Error>>),
    Removed(bool),
    Forgotten,
}

/// All boards.
pub(super) struct State {
    bounds: Bounds,
    boards: HashMap<BoardName, Settings>,
    sheets: HashMap<Edition, Sheet>,
    events: Events,
    /// On all sheets.
    members: usize,
}

impl State {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            boards: HashMap::new(),
            sheets: HashMap::new(),
            events: Events::default(),
            members: 0,
        }
    }

    pub(super) fn settings(&self, board: &BoardName) -> Option<Settings> {
        self.boards.get(board).copied()
    }

    pub(super) fn sheet(&self, edition: &Edition) -> Option<&Sheet> {
        self.sheets.get(edition)
    }

    pub(super) fn apply(&mut self, command: Command) -> Answer {
        match command {
            Command::Create(board, settings) => Answer::Created(self.create(board, settings)),
            Command::Submit(edition, submission) => {
                let submitted = self.submit(&edition, &submission);
                let standing = submitted.and_then(|_| {
                    let sheet = self.sheet(&edition);
                    let standing = sheet.and_then(|sheet| sheet.standing(&submission.member));
                    standing.ok_or(Error::NoMember)
                });
                Answer::Submitted(standing)
            }
            Command::Load(edition, submissions) => {
                let answers = submissions.iter().map(|submission| self.submit(&edition, submission));
                Answer::Loaded(answers.collect())
            }
            Command::Remove(edition, member) => {
                let removed = self.sheets.get_mut(&edition).is_some_and(|sheet| sheet.remove(&member));
                self.members -= usize::from(removed);
                Answer::Removed(removed)
            }
            Command::Forget(now_ms) => {
                self.events.forget(now_ms);
                self.sheets
                    .retain(|edition, _| edition.forgotten_at.is_none_or(|end| now_ms < end));
                self.members = self.sheets.values().map(Sheet::count).sum();
                Answer::Forgotten
            }
        }
    }

    fn create(&mut self, board: BoardName, settings: Settings) -> Result<Settings, Error> {
        if let Some(settings) = self.boards.get(&board) {
            return Ok(*settings);
        }
        if self.boards.len() >= self.bounds.boards {
            return Err(Error::TooManyBoards);
        }
        self.boards.insert(board, settings);
        Ok(settings)
    }

    fn submit(&mut self, edition: &Edition, submission: &Submission) -> Result<Score, Error> {
        self.events.forget(submission.at_ms);
        let event = submission
            .event
            .as_ref()
            .map(|event| digest(edition, &submission.member, event));
        if event.is_some_and(|event| self.events.has(&event)) {
            let sheet = self.sheets.get(edition);
            let score = sheet.and_then(|sheet| sheet.score(&submission.member));
            return score.ok_or(Error::NoMember);
        }
        if event.is_some() {
            self.events.room().map_err(|_| Error::TooManyEvents)?;
        }
        if !self.sheets.contains_key(edition) {
            self.sheets.insert(edition.clone(), Sheet::new());
        }
        let sheet = self.sheets.get_mut(edition).ok_or(Error::NoBoard)?;
        let before = sheet.count();
        if self.members >= self.bounds.members && sheet.score(&submission.member).is_none() {
            return Err(full("there are as many members as may be, --max-members"));
        }
        let score = sheet.submit(submission)?;
        self.members += sheet.count() - before;
        if let Some(event) = event {
            self.events.add(event);
        }
        Ok(score)
    }

    /// Puts in what a snapshot says.
    pub(super) fn restore(&mut self, edition: Edition, sheet: Sheet) {
        self.members += sheet.count();
        self.sheets.insert(edition, sheet);
    }

    pub(super) fn restore_events(&mut self, events: Events) {
        self.events = events;
    }

    pub(super) fn boards(&self) -> impl Iterator<Item = (&BoardName, Settings)> {
        self.boards.iter().map(|(board, settings)| (board, *settings))
    }

    pub(super) fn sheets(&self) -> impl Iterator<Item = (&Edition, &Sheet)> {
        self.sheets.iter()
    }

    pub(super) fn events(&self) -> &Events {
        &self.events
    }
}
