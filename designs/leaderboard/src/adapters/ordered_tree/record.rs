//! What is written to disk, in postcard's format.
//!
//! Records have types of their own: what is on disk must be read for as long as there are disks, and the domain may change
//! its mind. Kinds of record may be added at the end; none may be removed or moved, since a kind is its position. The same
//! holds of the lists that give policies and the like their numbers.

use serde::{Deserialize, Serialize};

use crate::domain::{
    BoardName, Change, Edition, EventId, Member, Order, Period, Place, Policy, Ranking, Score, Settings, Submission,
};

use super::events::Digest;
use super::state::{Bounds, Command};

/// A record of the log or of a snapshot.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(super) enum Record<'a> {
    /// A board; policy, ranking, order and period by their numbers.
    Create { board: &'a str, settings: [u8; 4] },
    /// One submission. Those of a command are records that follow each other.
    Submit {
        #[serde(borrow)]
        edition: EditionRecord<'a>,
        member: &'a str,
        change: (u8, i64),
        event: Option<&'a str>,
        at_ms: u64,
    },
    /// A member leaves.
    Remove {
        #[serde(borrow)]
        edition: EditionRecord<'a>,
        member: &'a str,
    },
    /// What is over at this time is forgotten.
    Forget { now_ms: u64 },
    /// In a snapshot: an edition after so many changes. Its lines follow, best first.
    Edition {
        #[serde(borrow)]
        edition: EditionRecord<'a>,
        reached: u64,
    },
    /// In a snapshot: a line.
    Line { member: &'a str, score: i64, reached: u64 },
    /// In a snapshot: in which hour the last event was. Events of it and of the one before follow.
    Events { hour: u64 },
    /// In a snapshot: an event.
    Event { digest: Digest, this_hour: bool },
    /// The end of a snapshot: so many records came before.
    End { records: u64 },
    /// From here on there may be so many boards and members.
    Limit { boards: u64, members: u64 },
}

/// Which edition of which board.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct EditionRecord<'a> {
    board: &'a str,
    number: u64,
    forgotten_at: Option<u64>,
}

/// A record that says something no board can have.
#[derive(Debug)]
pub(super) struct Nonsense;

const POLICIES: [Policy; 3] = [Policy::Best, Policy::Latest, Policy::Sum];
const RANKINGS: [Ranking; 2] = [Ranking::Ordinal, Ranking::Competition];
const ORDERS: [Order; 2] = [Order::HighFirst, Order::LowFirst];
const PERIODS: [Period; 3] = [Period::AllTime, Period::Daily, Period::Weekly];

fn number<T: PartialEq>(of: &T, list: &[T]) -> u8 {
    let found = list.iter().position(|other| other == of);
    found.and_then(|place| u8::try_from(place).ok()).unwrap_or(u8::MAX)
}

fn at<T: Copy>(number: u8, list: &[T]) -> Result<T, Nonsense> {
    list.get(usize::from(number)).copied().ok_or(Nonsense)
}

impl<'a> From<&'a Edition> for EditionRecord<'a> {
    fn from(edition: &'a Edition) -> Self {
        Self {
            board: edition.board.as_str(),
            number: edition.number,
            forgotten_at: edition.forgotten_at,
        }
    }
}

impl EditionRecord<'_> {
    pub(super) fn edition(self) -> Result<Edition, Nonsense> {
        Ok(Edition {
            board: board(self.board)?,
            number: self.number,
            forgotten_at: self.forgotten_at,
        })
    }
}

impl<'a> Record<'a> {
    pub(super) fn create(board: &'a BoardName, settings: Settings) -> Self {
        Self::Create {
            board: board.as_str(),
            settings: [
                number(&settings.policy, &POLICIES),
                number(&settings.ranking, &RANKINGS),
                number(&settings.order, &ORDERS),
                number(&settings.period, &PERIODS),
            ],
        }
    }

    pub(super) fn limit(bounds: Bounds) -> Self {
        Self::Limit {
            boards: bounds.boards as u64,
            members: bounds.members as u64,
        }
    }

    pub(super) fn line(member: &'a str, place: Place) -> Self {
        Self::Line {
            member,
            score: place.score.get(),
            reached: place.reached,
        }
    }

    fn submit(edition: &'a Edition, submission: &'a Submission) -> Self {
        Self::Submit {
            edition: edition.into(),
            member: submission.member.as_str(),
            change: match submission.change {
                Change::RaiseTo(score) => (0, score.get()),
                Change::SetTo(score) => (1, score.get()),
                Change::Add(score) => (2, score.get()),
            },
            event: submission.event.as_ref().map(EventId::as_str),
            at_ms: submission.at_ms,
        }
    }

    /// The records of a command.
    pub(super) fn of(command: &'a Command) -> Vec<Self> {
        match command {
            Command::Create(board, settings) => vec![Self::create(board, *settings)],
            Command::Submit(edition, submission) => vec![Self::submit(edition, submission)],
            Command::Load(edition, submissions) => submissions
                .iter()
                .map(|submission| Self::submit(edition, submission))
                .collect(),
            Command::Remove(edition, member) => vec![Self::Remove {
                edition: edition.into(),
                member: member.as_str(),
            }],
            Command::Forget(now_ms) => vec![Self::Forget { now_ms: *now_ms }],
            Command::Limit(bounds) => vec![Self::limit(*bounds)],
        }
    }

    /// The command that it records, if it is one of the log's.
    pub(super) fn command(self) -> Result<Command, Nonsense> {
        Ok(match self {
            Self::Create {
                board: name,
                settings: [policy, ranking, order, period],
            } => Command::Create(
                board(name)?,
                Settings {
                    policy: at(policy, &POLICIES)?,
                    ranking: at(ranking, &RANKINGS)?,
                    order: at(order, &ORDERS)?,
                    period: at(period, &PERIODS)?,
                },
            ),
            Self::Submit {
                edition,
                member: name,
                change: (kind, amount),
                event,
                at_ms,
            } => {
                let amount = Score::new(amount).ok_or(Nonsense)?;
                let submission = Submission {
                    member: member(name)?,
                    change: match kind {
                        0 => Change::RaiseTo(amount),
                        1 => Change::SetTo(amount),
                        2 => Change::Add(amount),
                        _ => return Err(Nonsense),
                    },
                    event: event.map(|id| EventId::new(id).ok_or(Nonsense)).transpose()?,
                    at_ms,
                };
                // Whoever asked where its member stands was told, or never will be.
                Command::Load(edition.edition()?, vec![submission])
            }
            Self::Remove { edition, member: name } => Command::Remove(edition.edition()?, member(name)?),
            Self::Forget { now_ms } => Command::Forget(now_ms),
            Self::Limit { boards, members } => Command::Limit(Bounds {
                boards: usize::try_from(boards).map_err(|_| Nonsense)?,
                members: usize::try_from(members).map_err(|_| Nonsense)?,
            }),
            Self::Edition { .. } | Self::Line { .. } | Self::Events { .. } | Self::Event { .. } | Self::End { .. } => {
                return Err(Nonsense);
            }
        })
    }
}

fn board(name: &str) -> Result<BoardName, Nonsense> {
    BoardName::new(name).ok_or(Nonsense)
}

/// A member of this name, if there can be one.
pub(super) fn member(name: &str) -> Result<Member, Nonsense> {
    Member::new(name).ok_or(Nonsense)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands() -> Vec<Command> {
        let edition = Edition {
            board: BoardName::new("b").unwrap(),
            number: 3,
            forgotten_at: Some(17),
        };
        let boards = POLICIES.iter().flat_map(|policy| {
            PERIODS.iter().map(|period| {
                let settings = Settings {
                    policy: *policy,
                    ranking: Ranking::Competition,
                    order: Order::LowFirst,
                    period: *period,
                };
                Command::Create(BoardName::new("b").unwrap(), settings)
            })
        });
        let score = Score::new(-5).unwrap();
        let submissions = [Change::RaiseTo(score), Change::SetTo(score), Change::Add(score)].map(|change| {
            let submission = Submission {
                member: Member::new("m").unwrap(),
                change,
                event: EventId::new("e"),
                at_ms: 9,
            };
            Command::Load(edition.clone(), vec![submission])
        });
        let others = [
            Command::Remove(edition.clone(), Member::new("m").unwrap()),
            Command::Forget(4),
            Command::Limit(Bounds { boards: 3, members: 5 }),
        ];
        boards.chain(submissions).chain(others).collect()
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        for command in commands() {
            let bytes = postcard::to_allocvec(&Record::of(&command)[0]).unwrap();
            let record: Record<'_> = postcard::from_bytes(&bytes).unwrap();
            assert_eq!(record.command().unwrap(), command);
        }
    }

    /// A record of an old log must be read for ever: these bytes were written by the first version.
    #[test]
    fn records_stay_as_they_were() {
        let old: [(&[u8], Record<'_>); 3] = [
            (
                b"\x00\x01b\x02\x01\x01\x02",
                Record::Create {
                    board: "b",
                    settings: [2, 1, 1, 2],
                },
            ),
            (b"\x03\x04", Record::Forget { now_ms: 4 }),
            (
                b"\x05\x01m\x09\x02",
                Record::Line {
                    member: "m",
                    score: -5,
                    reached: 2,
                },
            ),
        ];
        for (bytes, record) in old {
            assert_eq!(postcard::from_bytes::<Record<'_>>(bytes).unwrap(), record);
            assert_eq!(postcard::to_allocvec(&record).unwrap(), bytes);
        }
    }

    #[test]
    fn what_no_board_can_have_is_no_command() {
        for record in [
            Record::Create {
                board: "",
                settings: [0; 4],
            },
            Record::Create {
                board: "b",
                settings: [3, 0, 0, 0],
            },
            Record::End { records: 0 },
        ] {
            assert!(record.command().is_err());
        }
    }
}
