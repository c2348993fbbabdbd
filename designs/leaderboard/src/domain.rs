//! What is ranked and how: boards and their editions, members, scores, what a submission changes, where a member stands.
//!
//! No I/O, no wire formats, no status codes: those are the business of the adapters and of `http.rs`.

use std::fmt;
use std::sync::Arc;

/// The highest score and, negated, the lowest: 2^53 - 1. A sorted set of Redis keeps scores as doubles, and up to here each
/// whole number is one of them. Beyond, 2^53 + 1 would be stored as 2^53 and said to be stored.
pub const HIGHEST_SCORE: i64 = (1 << 53) - 1;

/// The most bytes of a member's name.
const LONGEST_MEMBER: usize = 128;

/// The most characters of a board's name.
const LONGEST_BOARD: usize = 64;

/// The most characters of an event's id.
const LONGEST_EVENT: usize = 64;

/// A score within bounds: from -([`HIGHEST_SCORE`]) to [`HIGHEST_SCORE`].
///
/// Higher is better, everywhere but at the rim: a board on which low scores win keeps them negated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score(i64);

impl Score {
    /// A score, if it is within bounds.
    #[must_use]
    pub const fn new(score: i64) -> Option<Self> {
        if score >= -HIGHEST_SCORE && score <= HIGHEST_SCORE {
            Some(Self(score))
        } else {
            None
        }
    }

    /// As a number.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The sum, if it is within bounds.
    #[must_use]
    pub const fn plus(self, other: Self) -> Option<Self> {
        Self::new(self.0 + other.0) // two of 54 bits
    }

    /// Seen from the other end.
    #[must_use]
    pub const fn negated(self) -> Self {
        Self(-self.0)
    }
}

/// Who is ranked: 1 to 128 bytes of text without control characters, kept and compared as they are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member(Box<str>);

impl Member {
    /// A member of this name, if it is one.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let fits = (1..=LONGEST_MEMBER).contains(&name.len()) && !name.chars().any(char::is_control);
        fits.then(|| Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a board is called: 1 to 64 letters, digits, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BoardName(Arc<str>);

impl BoardName {
    /// A board of this name, if it is one.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let fits = (1..=LONGEST_BOARD).contains(&name.len()) && name.bytes().all(plain);
        fits.then(|| Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BoardName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an event is called by whoever reports it, so that it counts once however often it arrives: 1 to 64 visible ASCII
/// characters. Events of different members are different ones.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EventId(Box<str>);

impl EventId {
    /// An event of this id, if it is one.
    #[must_use]
    pub fn new(id: &str) -> Option<Self> {
        let fits = (1..=LONGEST_EVENT).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(id.into()))
    }

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What becomes of a member's score when another arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The better of the two stays.
    Best,
    /// The new one does.
    Latest,
    /// They are added.
    Sum,
}

/// How those who have the same score are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ranking {
    /// 1, 2, 3, 4: whoever reached the score first ranks higher.
    Ordinal,
    /// 1, 2, 2, 4: they share a rank. They are still listed in the order in which they reached it.
    Competition,
}

/// Which end is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// High scores first: points.
    HighFirst,
    /// Low scores first: lap times.
    LowFirst,
}

/// How long a board collects before it begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// For ever.
    AllTime,
    /// From midnight to midnight, UTC.
    Daily,
    /// From Monday to Sunday, UTC.
    Weekly,
}

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// 1970 began on a Thursday: the first Monday was four days later.
const FIRST_MONDAY_MS: u64 = 4 * DAY_MS;

impl Period {
    /// How long it is, if it ends.
    #[must_use]
    pub const fn length_ms(self) -> Option<u64> {
        match self {
            Self::AllTime => None,
            Self::Daily => Some(DAY_MS),
            Self::Weekly => Some(7 * DAY_MS),
        }
    }

    /// The number of the period in which a time in milliseconds since 1970 lies, and when it ends.
    #[must_use]
    pub fn at(self, now_ms: u64) -> (u64, Option<u64>) {
        match self {
            Self::AllTime => (0, None),
            Self::Daily => {
                let number = now_ms / DAY_MS;
                (number, Some((number + 1) * DAY_MS))
            }
            Self::Weekly => {
                // Numbered so that week 1 begins on the first Monday; the four days before it are week 0.
                let number = (now_ms + 7 * DAY_MS - FIRST_MONDAY_MS) / (7 * DAY_MS);
                (number, Some(number * 7 * DAY_MS + FIRST_MONDAY_MS))
            }
        }
    }
}

/// What was decided when a board was made. It never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What becomes of scores.
    pub policy: Policy,
    /// How equals are numbered.
    pub ranking: Ranking,
    /// Which end is up.
    pub order: Order,
    /// When it begins anew.
    pub period: Period,
}

/// A board during one of its periods: the unit in which scores are kept and ranked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Edition {
    /// The board.
    pub board: BoardName,
    /// The number of the period; 0 on a board that never begins anew.
    pub number: u64,
    /// When it is forgotten, in milliseconds since 1970: a whole period after its own has ended.
    pub forgotten_at: Option<u64>,
}

/// What a submission does to a member's score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Raises it to this, if it is lower.
    RaiseTo(Score),
    /// Sets it to this.
    SetTo(Score),
    /// Adds this.
    Add(Score),
}

impl Change {
    /// What a score becomes: `None` if it stays as it is, and with it the time at which it was reached.
    ///
    /// # Errors
    /// [`Error::OutOfRange`]: the sum would be.
    pub fn of(self, score: Option<Score>) -> Result<Option<Score>, Error> {
        let new = match (self, score) {
            (Self::RaiseTo(new), Some(old)) => new.max(old),
            (Self::RaiseTo(new) | Self::SetTo(new) | Self::Add(new), None) | (Self::SetTo(new), Some(_)) => new,
            (Self::Add(delta), Some(old)) => old.plus(delta).ok_or(Error::OutOfRange)?,
        };
        Ok((score != Some(new)).then_some(new))
    }
}

/// A score that somebody reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// Whose.
    pub member: Member,
    /// What it does.
    pub change: Change,
    /// Which event it is, if it may arrive more than once.
    pub event: Option<EventId>,
    /// When it arrived, in milliseconds since 1970.
    pub at_ms: u64,
}

/// A place on a board: a score, and when it was reached among all changes that the store numbers together. Whoever has the
/// higher score comes first, and of equals whoever reached it first; no two members have the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The score.
    pub score: Score,
    /// The number of the change.
    pub reached: u64,
}

/// A member where he stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// His score.
    pub score: Score,
    /// How many members come before him.
    pub before: u64,
    /// How many of these have a higher score.
    pub above: u64,
}

/// A line of a board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who.
    pub member: Member,
    /// Where.
    pub place: Place,
}

/// Lines of a board that follow each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The lines, best first.
    pub entries: Vec<Entry>,
    /// How many members come before the first of them.
    pub before: u64,
    /// How many of these have a higher score than he has.
    pub above: u64,
    /// Whether others come after the last.
    pub more: bool,
}

/// Where a page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// At the top.
    Top,
    /// After a place, whether anybody still stands there or not.
    After(Place),
}

/// Why something was not done. Unless it says otherwise, nothing was changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// There is no such board.
    #[error("there is no such board")]
    NoBoard,
    /// The member is not on the board.
    #[error("the member is not on the board")]
    NoMember,
    /// The board was made with other settings.
    #[error("the board has other settings")]
    OtherSettings(Settings),
    /// There are as many boards as there may be.
    #[error("there are too many boards")]
    TooManyBoards,
    /// More events arrive than can be told apart for an hour.
    #[error("there are too many events")]
    TooManyEvents,
    /// The sum would leave the range of scores.
    #[error("the score would be out of range")]
    OutOfRange,
    /// What was sent cannot be used; says which member of it, and why.
    #[error("{0}: {1}")]
    Refused(&'static str, &'static str),
    /// The store has no space left.
    #[error("the store is full: {0}")]
    Full(Arc<dyn std::error::Error + Send + Sync>),
    /// The store cannot be asked.
    #[error("the store is unavailable: {0}")]
    Unavailable(Arc<dyn std::error::Error + Send + Sync>),
    /// The store broke off: it may have been done.
    #[error("the store broke off: {0}")]
    Unknown(Arc<dyn std::error::Error + Send + Sync>),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(score: i64) -> Score {
        Score::new(score).unwrap()
    }

    #[test]
    fn scores_are_whole_numbers_that_a_double_holds() {
        for (number, fits) in [
            (0, true),
            (HIGHEST_SCORE, true),
            (-HIGHEST_SCORE, true),
            (HIGHEST_SCORE + 1, false),
            (-HIGHEST_SCORE - 1, false),
            (i64::MAX, false),
            (i64::MIN, false),
        ] {
            assert_eq!(Score::new(number).is_some(), fits, "{number}");
        }
        assert_eq!(score(HIGHEST_SCORE).plus(score(1)), None);
        assert_eq!(score(HIGHEST_SCORE).plus(score(-HIGHEST_SCORE)), Some(score(0)));
        assert_eq!(score(HIGHEST_SCORE).negated(), score(-HIGHEST_SCORE));
    }

    #[test]
    fn what_a_submission_does_is_said_by_the_policy() {
        let five = Some(score(5));
        let of = |change: Change, old| change.of(old).unwrap();
        assert_eq!(
            of(Change::RaiseTo(score(4)), five),
            None,
            "a worse score changes nothing"
        );
        assert_eq!(of(Change::RaiseTo(score(5)), five), None, "nor does the same again");
        assert_eq!(of(Change::RaiseTo(score(6)), five), Some(score(6)));
        assert_eq!(of(Change::SetTo(score(4)), five), Some(score(4)));
        assert_eq!(of(Change::SetTo(score(5)), five), None);
        assert_eq!(of(Change::Add(score(-2)), five), Some(score(3)));
        assert_eq!(of(Change::Add(score(0)), five), None);
        for change in [
            Change::RaiseTo(score(0)),
            Change::SetTo(score(0)),
            Change::Add(score(0)),
        ] {
            assert_eq!(
                of(change, None),
                Some(score(0)),
                "whoever is new gets a score, also of nothing"
            );
        }
        let beyond = Change::Add(score(HIGHEST_SCORE)).of(Some(score(1)));
        assert!(matches!(beyond, Err(Error::OutOfRange)));
    }

    #[test]
    fn days_begin_at_midnight_and_weeks_on_mondays() {
        // 2026-11-25 was a Wednesday.
        let wednesday = 20_782 * DAY_MS;
        assert_eq!(Period::Daily.at(wednesday), (20_782, Some(wednesday + DAY_MS)));
        assert_eq!(Period::Daily.at(wednesday - 1), (20_781, Some(wednesday)));
        let monday = wednesday - 2 * DAY_MS;
        let (week, end) = Period::Weekly.at(wednesday);
        assert_eq!(end, Some(monday + 7 * DAY_MS));
        assert_eq!(Period::Weekly.at(monday), (week, end));
        assert_eq!(Period::Weekly.at(monday - 1), (week - 1, Some(monday)));
        assert_eq!(Period::Weekly.at(0), (0, Some(FIRST_MONDAY_MS)));
        assert_eq!(Period::AllTime.at(wednesday), (0, None));
    }

    #[test]
    fn names_are_kept_as_they_are_or_not_at_all() {
        for good in ["a", "Ærøskøbing 🏁", "a:b", "{tag}", "*", "'; DROP", " "] {
            assert_eq!(Member::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "\0", "a\nb", &"x".repeat(129)] {
            assert_eq!(Member::new(bad), None);
        }
        assert!(BoardName::new("Level-3_b").is_some() && BoardName::new(&"x".repeat(64)).is_some());
        for bad in ["", "a b", "a/b", "{a}", "a:b", &"x".repeat(65)] {
            assert_eq!(BoardName::new(bad), None);
        }
        assert!(EventId::new("{match:17}").is_some() && EventId::new("a b").is_none() && EventId::new("").is_none());
    }
}
