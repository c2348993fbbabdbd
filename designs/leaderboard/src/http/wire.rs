//! What requests and answers look like, and how they become what the use cases speak of.

use std::borrow::Cow;

use axum::extract::FromRequestParts;
use http::request::Parts;
use percent_encoding::percent_decode_str;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use service::Problem;
use service::problem::ProblemBody;
use utoipa::{IntoParams, ToSchema};

use crate::domain::{
    BoardName, Error, EventId, HIGHEST_SCORE, Member, Order, Period, Place, Policy, Ranking, Score, Settings,
};
use crate::service::{List, Profile, Ranked, Report, When};

/// The board in the path.
pub(super) struct NamedBoard(pub(super) BoardName);

/// The board and the member in the path.
pub(super) struct NamedMember(pub(super) BoardName, pub(super) Member);

impl<S: Sync> FromRequestParts<S> for NamedBoard {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut segments = parts.uri.path().split('/').skip(2);
        board(segments.next()).map(Self)
    }
}

impl<S: Sync> FromRequestParts<S> for NamedMember {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut segments = parts.uri.path().split('/').skip(2);
        let board = board(segments.next())?;
        // A member is any text, so some of it comes in escapes. What is no text is nobody's name.
        let name = segments.nth(1).unwrap_or_default();
        let name = percent_decode_str(name).decode_utf8().ok();
        let member = name.and_then(|name: Cow<'_, str>| Member::new(&name));
        Ok(Self(board, member.ok_or(Error::NoMember)?))
    }
}

fn board(segment: Option<&str>) -> Result<BoardName, Problem> {
    Ok(segment.and_then(BoardName::new).ok_or(Error::NoBoard)?)
}

/// What a board does with scores.
#[derive(Clone, Copy, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BoardSettings {
    policy: PolicyName,
    #[serde(default)]
    rank: RankName,
    #[serde(default)]
    order: OrderName,
    #[serde(default)]
    period: PeriodName,
}

/// What becomes of a member's score when another arrives.
#[derive(Clone, Copy, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum PolicyName {
    /// The better of the two stays.
    Best,
    /// The new one does.
    Latest,
    /// They are added.
    Sum,
}

/// How those who have the same score are numbered.
#[derive(Clone, Copy, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum RankName {
    /// 1, 2, 3, 4: whoever reached the score first ranks higher.
    #[default]
    Ordinal,
    /// 1, 2, 2, 4: they share a rank.
    Competition,
}

/// Which end is up.
#[derive(Clone, Copy, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum OrderName {
    /// High scores first.
    #[default]
    HighFirst,
    /// Low scores first.
    LowFirst,
}

/// When the board begins anew.
#[derive(Clone, Copy, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum PeriodName {
    /// Never.
    #[default]
    AllTime,
    /// At midnight, UTC.
    Daily,
    /// On Mondays at midnight, UTC.
    Weekly,
}

impl From<BoardSettings> for Settings {
    fn from(asked: BoardSettings) -> Self {
        Self {
            policy: match asked.policy {
                PolicyName::Best => Policy::Best,
                PolicyName::Latest => Policy::Latest,
                PolicyName::Sum => Policy::Sum,
            },
            ranking: match asked.rank {
                RankName::Ordinal => Ranking::Ordinal,
                RankName::Competition => Ranking::Competition,
            },
            order: match asked.order {
                OrderName::HighFirst => Order::HighFirst,
                OrderName::LowFirst => Order::LowFirst,
            },
            period: match asked.period {
                PeriodName::AllTime => Period::AllTime,
                PeriodName::Daily => Period::Daily,
                PeriodName::Weekly => Period::Weekly,
            },
        }
    }
}

impl From<Settings> for BoardSettings {
    fn from(settings: Settings) -> Self {
        Self {
            policy: match settings.policy {
                Policy::Best => PolicyName::Best,
                Policy::Latest => PolicyName::Latest,
                Policy::Sum => PolicyName::Sum,
            },
            rank: match settings.ranking {
                Ranking::Ordinal => RankName::Ordinal,
                Ranking::Competition => RankName::Competition,
            },
            order: match settings.order {
                Order::HighFirst => OrderName::HighFirst,
                Order::LowFirst => OrderName::LowFirst,
            },
            period: match settings.period {
                Period::AllTime => PeriodName::AllTime,
                Period::Daily => PeriodName::Daily,
                Period::Weekly => PeriodName::Weekly,
            },
        }
    }
}

impl BoardSettings {
    /// For whoever wanted others.
    pub(super) fn in_words(self) -> String {
        serde_json::to_string(&self).unwrap_or_default()
    }
}

/// A board, and how it is doing.
#[derive(Serialize, ToSchema)]
pub(super) struct BoardReport {
    pub(super) board: String,
    #[serde(flatten)]
    pub(super) settings: BoardSettings,
    /// How many are on it.
    pub(super) members: u64,
    /// When it begins anew, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ends_at: Option<String>,
}

/// A score or an amount.
#[derive(ToSchema)]
#[schema(value_type = i64, example = 4_200)]
struct ScoreValue(Score);

impl<'de> Deserialize<'de> for ScoreValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let score = Score::new(i64::deserialize(deserializer)?).map(Self);
        score.ok_or_else(|| {
            D::Error::custom(format_args!(
                "must be a whole number from -{HIGHEST_SCORE} to {HIGHEST_SCORE}"
            ))
        })
    }
}

/// The name of a member: 1 to 128 bytes without control characters.
#[derive(ToSchema)]
#[schema(value_type = String, example = "alice")]
pub(super) struct MemberName(pub(super) Member);

impl<'de> Deserialize<'de> for MemberName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Cow::<str>::deserialize(deserializer)?;
        let member = Member::new(&name).map(Self);
        member.ok_or_else(|| D::Error::custom("must be 1 to 128 bytes without control characters"))
    }
}

/// The id of an event: 1 to 64 visible ASCII characters.
#[derive(ToSchema)]
#[schema(value_type = String, example = "match-17")]
struct EventName(EventId);

impl<'de> Deserialize<'de> for EventName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let id = Cow::<str>::deserialize(deserializer)?;
        let event = EventId::new(&id).map(Self);
        event.ok_or_else(|| D::Error::custom("must be 1 to 64 visible ASCII characters"))
    }
}

/// A score that somebody reports.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScoreReport {
    member: MemberName,
    /// On a board that keeps the best or the latest: the score.
    score: Option<ScoreValue>,
    /// On a board that keeps sums: what to add.
    delta: Option<ScoreValue>,
    /// If it may be reported again: which event it is. One is counted once, for an hour at least.
    event_id: Option<EventName>,
}

impl From<ScoreReport> for Report {
    fn from(asked: ScoreReport) -> Self {
        Self {
            member: asked.member.0,
            score: asked.score.map(|score| score.0),
            delta: asked.delta.map(|delta| delta.0),
            event: asked.event_id.map(|event| event.0),
        }
    }
}

/// Scores to report.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Reports {
    /// 1 to 1,000.
    pub(super) scores: Vec<ScoreReport>,
}

/// A member where he stands.
#[derive(Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct Line {
    #[schema(example = "alice")]
    member: String,
    #[schema(example = 4_200)]
    score: i64,
    /// From 1.
    #[schema(example = 1)]
    rank: u64,
}

impl From<Ranked> for Line {
    fn from(ranked: Ranked) -> Self {
        Self {
            member: ranked.member.as_str().to_owned(),
            score: ranked.score.get(),
            rank: ranked.rank,
        }
    }
}

/// One answer of a batch: the score that the member has now, or the problem.
#[derive(Serialize, ToSchema)]
pub(super) struct BatchResult {
    /// What the status would have been for this report alone.
    status: u16,
    #[serde(flatten)]
    outcome: BatchOutcome,
}

#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum BatchOutcome {
    Done { member: String, score: i64 },
    Refused { problem: ProblemBody },
}

impl BatchResult {
    pub(super) fn done(status: u16, member: &Member, score: Score) -> Self {
        Self {
            status,
            outcome: BatchOutcome::Done {
                member: member.as_str().to_owned(),
                score: score.get(),
            },
        }
    }

    pub(super) fn refused(status: u16, problem: ProblemBody) -> Self {
        Self {
            status,
            outcome: BatchOutcome::Refused { problem },
        }
    }
}

/// The answers of a batch, in the order of the reports.
#[derive(Serialize, ToSchema)]
pub(super) struct BatchResults {
    pub(super) results: Vec<BatchResult>,
}

/// Which edition of a board is meant.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum WhenName {
    /// That of now.
    #[default]
    Current,
    /// The one before, of a board that begins anew.
    Previous,
}

impl From<WhenName> for When {
    fn from(when: WhenName) -> Self {
        match when {
            WhenName::Current => Self::Current,
            WhenName::Previous => Self::Previous,
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhenQuery {
    /// Which edition.
    #[serde(default)]
    #[param(inline)]
    pub(super) when: WhenName,
}

/// A number of lines, up to `MOST`.
#[derive(Clone, Copy)]
pub(super) struct UpTo<const LEAST: usize, const MOST: usize>(usize);

impl<const LEAST: usize, const MOST: usize> UpTo<LEAST, MOST> {
    pub(super) const fn new(number: usize) -> Self {
        assert!(LEAST <= number && number <= MOST);
        Self(number)
    }

    pub(super) fn get(self) -> usize {
        self.0
    }
}

impl<'de, const LEAST: usize, const MOST: usize> Deserialize<'de> for UpTo<LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = usize::deserialize(deserializer).ok();
        let number = number.filter(|number| (LEAST..=MOST).contains(number)).map(Self);
        number.ok_or_else(|| D::Error::custom(format_args!("must be a number from {LEAST} to {MOST}")))
    }
}

/// Where a page begins, as the page before said it.
#[derive(Clone, Copy)]
pub(super) struct Cursor(pub(super) Place);

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let place = text.split_once('.').and_then(|(score, reached)| {
            Some(Place {
                score: Score::new(score.parse().ok()?)?,
                reached: reached.parse().ok()?,
            })
        });
        // No change has a number that high, and some stores count with doubles.
        let place = place.filter(|place| place.reached <= HIGHEST_SCORE.unsigned_abs());
        place
            .map(Self)
            .ok_or_else(|| D::Error::custom("must be the `next` of another page"))
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Top {
    /// How many lines, 1 to 100.
    #[serde(default = "a_page")]
    #[param(value_type = Option<usize>, default = 25)]
    pub(super) limit: UpTo<1, 100>,
    /// `next` of the page before.
    #[param(value_type = Option<String>)]
    pub(super) cursor: Option<Cursor>,
    /// Which edition.
    #[serde(default)]
    #[param(inline)]
    pub(super) when: WhenName,
}

fn a_page() -> UpTo<1, 100> {
    UpTo::new(25)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Around {
    /// How many lines above, up to 50.
    #[serde(default = "a_few")]
    #[param(value_type = Option<usize>, default = 5)]
    pub(super) above: UpTo<0, 50>,
    /// How many lines below, up to 50.
    #[serde(default = "a_few")]
    #[param(value_type = Option<usize>, default = 5)]
    pub(super) below: UpTo<0, 50>,
    /// Which edition.
    #[serde(default)]
    #[param(inline)]
    pub(super) when: WhenName,
}

fn a_few() -> UpTo<0, 50> {
    UpTo::new(5)
}

/// Lines of a board, best first.
#[derive(Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct Lines {
    pub(super) entries: Vec<Line>,
    /// The cursor of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
}

impl From<List> for Lines {
    fn from(list: List) -> Self {
        Self {
            entries: list.entries.into_iter().map(Line::from).collect(),
            next: list
                .next
                .map(|place| format!("{}.{}", place.score.get(), place.reached)),
        }
    }
}

/// A member, and how he compares.
#[derive(Serialize, ToSchema)]
pub(super) struct MemberReport {
    #[serde(flatten)]
    line: Line,
    /// How many of a hundred others he leaves behind; 100 for whoever is alone.
    #[schema(example = 99.5)]
    percentile: f64,
    /// Members of the board.
    members: u64,
}

impl From<Profile> for MemberReport {
    fn from(profile: Profile) -> Self {
        let others = profile.members - 1;
        let percentile = match others {
            0 => 100.0,
            others => profile.after as f64 * 100.0 / others as f64,
        };
        Self {
            line: profile.ranked.into(),
            percentile,
            members: profile.members,
        }
    }
}

/// Members to ask for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Friends {
    /// 1 to 100.
    pub(super) members: Vec<MemberName>,
}

/// Where they stand, in the order in which they were asked for.
#[derive(Serialize, ToSchema)]
pub(super) struct FriendsReport {
    members: Vec<Friend>,
}

/// A member, and where he stands if he is there.
#[derive(Serialize, ToSchema)]
struct Friend {
    member: String,
    score: Option<i64>,
    rank: Option<u64>,
}

impl From<Vec<(Member, Option<Ranked>)>> for FriendsReport {
    fn from(found: Vec<(Member, Option<Ranked>)>) -> Self {
        let members = found.into_iter().map(|(member, ranked)| Friend {
            member: member.as_str().to_owned(),
            score: ranked.as_ref().map(|ranked| ranked.score.get()),
            rank: ranked.map(|ranked| ranked.rank),
        });
        Self {
            members: members.collect(),
        }
    }
}
