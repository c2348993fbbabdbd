//! The use cases, written once for all stages: make a board, report scores, and ask where somebody stands.
//!
//! Here is what the port does not know: which edition of a board is meant, that low scores may win, and how ranks are
//! counted. Scores of a board on which the lowest wins are negated on their way in and on their way out, and nowhere else.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use service::Clock;

use crate::domain::{
    BoardName, Change, Edition, Error, EventId, From, Member, Order, Page, Place, Policy, Ranking, Score, Settings,
    Standing, Submission,
};
use crate::ports::Board;

/// Settings that are remembered. They never change; of more boards than this, the rest is asked for each time.
const REMEMBERED: usize = 10_000;

/// A leaderboard on whatever its port is: the type of a stage says what it is.
pub struct Leaderboard<B> {
    board: B,
    clock: Arc<dyn Clock>,
    settings: RwLock<HashMap<BoardName, Settings>>,
}

/// What somebody reports.
#[derive(Clone, Debug)]
pub struct Report {
    /// Whose score it is.
    pub member: Member,
    /// The score, on a board that keeps the best or the latest.
    pub score: Option<Score>,
    /// What to add, on a board that keeps the sum.
    pub delta: Option<Score>,
    /// Which event it is, if it may be reported more than once.
    pub event: Option<EventId>,
}

/// Which edition of a board is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// The one of now.
    #[default]
    Current,
    /// The one before; of a board that never begins anew, none.
    Previous,
}

/// A member as he is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranked {
    /// Who.
    pub member: Member,
    /// His score.
    pub score: Score,
    /// His rank, from 1.
    pub rank: u64,
}

/// Lines of a board as they are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// The lines, best first.
    pub entries: Vec<Ranked>,
    /// Where the next page begins, if there is one.
    pub next: Option<Place>,
}

/// A member, and how many there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The member.
    pub ranked: Ranked,
    /// Members of the board, this one included.
    pub members: u64,
    /// How many of the others come after this one.
    pub after: u64,
}

/// A board, and how it is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overview {
    /// What was decided when it was made.
    pub settings: Settings,
    /// How many are on it.
    pub members: u64,
    /// When it begins anew, in milliseconds since 1970.
    pub ends_at: Option<u64>,
}

/// Whether a board had to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// It had.
    Now,
    /// It was there already, with these settings.
    Before,
}

impl<B: Board> Leaderboard<B> {
    /// A leaderboard over this port.
    pub fn new(board: B, clock: Arc<dyn Clock>) -> Self {
        Self {
            board,
            clock,
            settings: RwLock::default(),
        }
    }

    /// Makes a board.
    ///
    /// # Errors
    /// [`Error::OtherSettings`] if there is one with others, [`Error::TooManyBoards`], or the store's.
    pub async fn create(&self, board: &BoardName, settings: Settings) -> Result<Made, Error> {
        let before = self.board.settings(board).await?;
        let found = match before {
            Some(found) => found,
            None => self.board.create(board, settings).await?,
        };
        if found != settings {
            return Err(Error::OtherSettings(found));
        }
        Ok(if before.is_some() { Made::Before } else { Made::Now })
    }

    /// What a board is and how many are on it.
    ///
    /// # Errors
    /// [`Error::NoBoard`], or the store's.
    pub async fn overview(&self, board: &BoardName) -> Result<Overview, Error> {
        let settings = self.settings(board).await?;
        let (edition, ends_at) = self.edition(board, settings, When::Current);
        let members = match &edition {
            Some(edition) => self.board.count(edition).await?,
            None => 0,
        };
        Ok(Overview {
            settings,
            members,
            ends_at,
        })
    }

    /// Carries out a report, and says where its member stands then.
    ///
    /// # Errors
    /// [`Error::NoBoard`], what the report is refused for, or the store's.
    pub async fn report(&self, board: &BoardName, report: Report) -> Result<Ranked, Error> {
        let settings = self.settings(board).await?;
        let edition = self.current(board, settings)?;
        let member = report.member.clone();
        let submission = self.submission(settings, report)?;
        Ok(ranked(settings, member, self.board.submit(&edition, submission).await?))
    }

    /// Carries out reports in their order, and says of each which score its member has then.
    ///
    /// # Errors
    /// [`Error::NoBoard`], or the store's; then nothing was done.
    pub async fn report_all(
        &self,
        board: &BoardName,
        reports: Vec<Report>,
    ) -> Result<Vec<Result<(Member, Score), Error>>, Error> {
        let settings = self.settings(board).await?;
        let edition = self.current(board, settings)?;
        let mut answers: Vec<Result<Member, Error>> = Vec::with_capacity(reports.len());
        let mut submissions = Vec::with_capacity(reports.len());
        for report in reports {
            let member = report.member.clone();
            answers.push(self.submission(settings, report).map(|submission| {
                submissions.push(submission);
                member
            }));
        }
        let mut loaded = match submissions.is_empty() {
            true => Vec::new(),
            false => self.board.load(&edition, submissions).await,
        }
        .into_iter();
        let answers = answers.into_iter().map(|planned| {
            let member = planned?;
            let score = loaded.next().unwrap_or_else(|| Err(no_answer()))?;
            Ok((member, turned(settings, score)))
        });
        Ok(answers.collect())
    }

    /// A page of the board.
    ///
    /// # Errors
    /// [`Error::NoBoard`], or the store's.
    pub async fn top(&self, board: &BoardName, when: When, from: From, limit: usize) -> Result<List, Error> {
        let settings = self.settings(board).await?;
        let (Some(edition), _) = self.edition(board, settings, when) else {
            return Ok(List::default());
        };
        Ok(list(settings, self.board.page(&edition, from, limit).await?))
    }

    /// Where a member stands, and among how many.
    ///
    /// # Errors
    /// [`Error::NoBoard`], [`Error::NoMember`], or the store's.
    pub async fn profile(&self, board: &BoardName, when: When, member: Member) -> Result<Profile, Error> {
        let settings = self.settings(board).await?;
        let (Some(edition), _) = self.edition(board, settings, when) else {
            return Err(Error::NoMember);
        };
        let (standing, members) = self.board.standing(&edition, &member).await?.ok_or(Error::NoMember)?;
        // Of a board in several places, positions and sizes may be of different moments.
        let members = members.max(standing.before + 1);
        Ok(Profile {
            ranked: ranked(settings, member, standing),
            members,
            after: members - standing.before - 1,
        })
    }

    /// Where several members stand, in the order in which they were asked for: `None` for those who are not there.
    ///
    /// # Errors
    /// [`Error::NoBoard`], or the store's.
    pub async fn profiles(
        &self,
        board: &BoardName,
        when: When,
        members: Vec<Member>,
    ) -> Result<Vec<(Member, Option<Ranked>)>, Error> {
        let settings = self.settings(board).await?;
        let (Some(edition), _) = self.edition(board, settings, when) else {
            return Ok(members.into_iter().map(|member| (member, None)).collect());
        };
        let standings = self.board.standings(&edition, &members).await?;
        let shown = members.into_iter().zip(standings).map(|(member, standing)| {
            let ranked = standing.map(|standing| ranked(settings, member.clone(), standing));
            (member, ranked)
        });
        Ok(shown.collect())
    }

    /// A member among those right above and below.
    ///
    /// # Errors
    /// [`Error::NoBoard`], [`Error::NoMember`], or the store's.
    pub async fn around(
        &self,
        board: &BoardName,
        when: When,
        member: &Member,
        above: usize,
        below: usize,
    ) -> Result<List, Error> {
        let settings = self.settings(board).await?;
        let (Some(edition), _) = self.edition(board, settings, when) else {
            return Err(Error::NoMember);
        };
        let page = self.board.around(&edition, member, above, below).await?;
        Ok(list(settings, page.ok_or(Error::NoMember)?))
    }

    /// Takes a member off the board of now.
    ///
    /// # Errors
    /// [`Error::NoBoard`], [`Error::NoMember`], or the store's.
    pub async fn remove(&self, board: &BoardName, member: &Member) -> Result<(), Error> {
        let settings = self.settings(board).await?;
        let (Some(edition), _) = self.edition(board, settings, When::Current) else {
            return Err(Error::NoMember);
        };
        match self.board.remove(&edition, member).await? {
            true => Ok(()),
            false => Err(Error::NoMember),
        }
    }

    async fn settings(&self, board: &BoardName) -> Result<Settings, Error> {
        let known = self
            .settings
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(board)
            .copied();
        if let Some(settings) = known {
            return Ok(settings);
        }
        let settings = self.board.settings(board).await?.ok_or(Error::NoBoard)?;
        let mut known = self.settings.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() < REMEMBERED {
            known.insert(board.clone(), settings);
        }
        Ok(settings)
    }

    /// The edition of now.
    fn current(&self, board: &BoardName, settings: Settings) -> Result<Edition, Error> {
        self.edition(board, settings, When::Current).0.ok_or(Error::NoBoard)
    }

    fn submission(&self, settings: Settings, report: Report) -> Result<Submission, Error> {
        Ok(Submission {
            change: change(settings, &report)?,
            member: report.member,
            event: report.event,
            at_ms: self.clock.now_ms(),
        })
    }

    /// The edition that is meant, if there is one, and when the one of now ends.
    fn edition(&self, board: &BoardName, settings: Settings, when: When) -> (Option<Edition>, Option<u64>) {
        let Some(length_ms) = settings.period.length_ms() else {
            let edition = Edition {
                board: board.clone(),
                number: 0,
                forgotten_at: None,
            };
            return ((when == When::Current).then_some(edition), None);
        };
        let (number, ends_at) = settings.period.at(self.clock.now_ms());
        let back = u64::from(when == When::Previous);
        let edition = number.checked_sub(back).map(|number| Edition {
            board: board.clone(),
            number,
            // A period after its own: what was the previous one all that time is then no more.
            forgotten_at: ends_at.map(|end| end + length_ms - back * length_ms),
        });
        (edition, ends_at)
    }
}

/// What a report does on a board.
fn change(settings: Settings, report: &Report) -> Result<Change, Error> {
    let score = match (settings.policy, report.score, report.delta) {
        (Policy::Sum, None, Some(delta)) => delta,
        (Policy::Best | Policy::Latest, Some(score), None) => score,
        (Policy::Sum, ..) => {
            return Err(Error::Refused(
                "/delta",
                "this board keeps sums: send a delta and no score",
            ));
        }
        (Policy::Best | Policy::Latest, ..) => {
            return Err(Error::Refused(
                "/score",
                "this board keeps no sums: send a score and no delta",
            ));
        }
    };
    let score = turned(settings, score);
    Ok(match settings.policy {
        Policy::Best => Change::RaiseTo(score),
        Policy::Latest => Change::SetTo(score),
        Policy::Sum => Change::Add(score),
    })
}

/// A score on its way in or out: the port only knows that higher is better.
fn turned(settings: Settings, score: Score) -> Score {
    match settings.order {
        Order::HighFirst => score,
        Order::LowFirst => score.negated(),
    }
}

fn ranked(settings: Settings, member: Member, standing: Standing) -> Ranked {
    Ranked {
        member,
        score: turned(settings, standing.score),
        rank: 1 + match settings.ranking {
            Ranking::Ordinal => standing.before,
            Ranking::Competition => standing.above,
        },
    }
}

fn list(settings: Settings, page: Page) -> List {
    let next = page.entries.last().filter(|_| page.more).map(|last| last.place);
    let mut above = page.above;
    let mut score = None;
    let entries = (page.before..).zip(page.entries).map(|(before, entry)| {
        // Of the first line the store has said it; of every other, a score that is new is lower than all before.
        if score.is_some_and(|score| score != entry.place.score) {
            above = before;
        }
        score = Some(entry.place.score);
        let standing = Standing {
            score: entry.place.score,
            before,
            above,
        };
        ranked(settings, entry.member, standing)
    });
    List {
        entries: entries.collect(),
        next,
    }
}

/// An adapter broke its contract.
fn no_answer() -> Error {
    stores::Error::unknown("the store gave no answer for a submission").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Entry, Period};

    const POINTS: Settings = Settings {
        policy: Policy::Best,
        ranking: Ranking::Competition,
        order: Order::HighFirst,
        period: Period::AllTime,
    };

    fn page(before: u64, above: u64, scores: &[i64]) -> Page {
        let entries = (1..).zip(scores).map(|(reached, score)| Entry {
            member: Member::new(&format!("m{reached}")).unwrap(),
            place: Place {
                score: Score::new(*score).unwrap(),
                reached,
            },
        });
        Page {
            entries: entries.collect(),
            before,
            above,
            more: true,
        }
    }

    fn ranks(settings: Settings, page: Page) -> Vec<u64> {
        list(settings, page).entries.iter().map(|ranked| ranked.rank).collect()
    }

    #[test]
    fn equals_share_a_rank_where_the_board_says_so_also_across_pages() {
        assert_eq!(ranks(POINTS, page(0, 0, &[9, 7, 7, 5])), [1, 2, 2, 4]);
        // Two with 7 stood on the page before.
        assert_eq!(ranks(POINTS, page(3, 1, &[7, 7, 5])), [2, 2, 6]);
        let ordinal = Settings {
            ranking: Ranking::Ordinal,
            ..POINTS
        };
        assert_eq!(ranks(ordinal, page(3, 1, &[7, 7, 5])), [4, 5, 6]);
    }

    #[test]
    fn a_page_goes_on_after_its_last_line_if_there_is_more() {
        let list_of = |more| {
            list(
                POINTS,
                Page {
                    more,
                    ..page(0, 0, &[9, 7])
                },
            )
        };
        assert_eq!(
            list_of(true).next.map(|place| (place.score.get(), place.reached)),
            Some((7, 2))
        );
        assert_eq!(list_of(false).next, None);
    }

    #[test]
    fn where_low_scores_win_they_are_kept_negated_and_shown_as_they_were() {
        let laps = Settings {
            order: Order::LowFirst,
            ..POINTS
        };
        let report = Report {
            member: Member::new("m").unwrap(),
            score: Score::new(61),
            delta: None,
            event: None,
        };
        assert_eq!(
            change(laps, &report).unwrap(),
            Change::RaiseTo(Score::new(-61).unwrap())
        );
        let shown = list(laps, page(0, 0, &[-61, -70]));
        assert_eq!(
            shown
                .entries
                .iter()
                .map(|ranked| ranked.score.get())
                .collect::<Vec<_>>(),
            [61, 70]
        );
    }

    #[test]
    fn a_report_that_does_not_fit_the_policy_is_refused() {
        let report = |score, delta| Report {
            member: Member::new("m").unwrap(),
            score,
            delta,
            event: None,
        };
        let one = Score::new(1);
        for (policy, score, delta) in [
            (Policy::Best, None, one),
            (Policy::Best, None, None),
            (Policy::Latest, one, one),
            (Policy::Sum, one, None),
            (Policy::Sum, None, None),
        ] {
            let settings = Settings { policy, ..POINTS };
            assert!(
                matches!(change(settings, &report(score, delta)), Err(Error::Refused(..))),
                "{policy:?}"
            );
        }
    }
}
