//! Everything in memory, and how a command changes it: the same commands in the same order make the same state, here and
//! when they are read from the log.

use std::collections::HashMap;

use crate::domain::{BoardName, Edition, Error, Member, Score, Settings, Standing, Submission};

use super::super::full;
use super::events::{Events, digest};
use super::sheet::Sheet;

/// What may be there at the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// From here on there may be so much. It decides which of the commands that follow are refused, so it is one itself.
    Limit(Bounds),
}

/// What came of a command.
#[derive(Debug)]
pub(super) enum Answer {
    Created(Result<Settings, Error>),
    Submitted(Result<Standing, Error>),
    Loaded(Vec<Result<Score, Error>>),
    Removed(bool),
    /// What is no longer there. To take it apart takes time, which nobody is to wait for.
    Forgotten(Vec<Sheet>),
    Limited,
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
    /// Nothing, and no bounds yet.
    pub(super) fn new() -> Self {
        Self {
            bounds: Bounds {
                boards: usize::MAX,
                members: usize::MAX,
            },
            boards: HashMap::new(),
            sheets: HashMap::new(),
            events: Events::default(),
            members: 0,
        }
    }

    pub(super) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// How many members there are on all boards.
    pub(super) fn members(&self) -> usize {
        self.members
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
                let over = |edition: &Edition| edition.forgotten_at.is_some_and(|end| end <= now_ms);
                let forgotten: Vec<Sheet> = self
                    .sheets
                    .extract_if(|edition, _| over(edition))
                    .map(|(_, sheet)| sheet)
                    .collect();
                self.members -= forgotten.iter().map(Sheet::count).sum::<usize>();
                Answer::Forgotten(forgotten)
            }
            Command::Limit(bounds) => {
                self.bounds = bounds;
                Answer::Limited
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
        let known = self
            .sheets
            .get(edition)
            .and_then(|sheet| sheet.score(&submission.member));
        if self.members >= self.bounds.members && known.is_none() {
            return Err(full("there are as many members as may be, --max-members"));
        }
        if !self.sheets.contains_key(edition) {
            self.sheets.insert(edition.clone(), Sheet::new());
        }
        let sheet = self.sheets.get_mut(edition).ok_or(Error::NoBoard)?;
        let before = sheet.count();
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
