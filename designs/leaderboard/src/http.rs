//! The wire: routes, what requests and answers look like, and which status each error is.
//!
//! | route                                   | does                                                        |
//! |-----------------------------------------|-------------------------------------------------------------|
//! | `PUT /boards/{b}`                       | makes a board, once                                         |
//! | `GET /boards/{b}`                       | what it is; in a browser, a page that shows it live         |
//! | `POST /boards/{b}/scores`               | reports a score; answers where its member stands then       |
//! | `POST /boards/{b}/scores:batch`         | reports many; answers their scores                          |
//! | `GET /boards/{b}/top`                   | the best, a page at a time                                  |
//! | `GET /boards/{b}/members/{m}`           | where a member stands                                       |
//! | `GET /boards/{b}/around/{m}`            | a member among his neighbours                               |
//! | `POST /boards/{b}/members:batch`        | where several members stand: one's friends                  |
//! | `DELETE /boards/{b}/members/{m}`        | takes a member off                                          |
//! | `GET /boards/{b}/live`                  | the best, whenever they change (`http/live.rs`)             |
//!
//! The only file that knows status codes.

mod live;
mod page;
mod wire;

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode};
use service::extract::{Json, Query, WantsHtml};
use service::problem::ProblemBody;
use service::{Class, Problem, Routes};
use utoipa::OpenApi;

use crate::domain::{Error, From, Settings};
use crate::ports::Board;
use crate::service::{Leaderboard, Made, Report};

use self::live::Live;
use self::wire::{
    Around, BatchResult, BatchResults, BoardReport, BoardSettings, Friends, FriendsReport, Line, Lines, MemberReport,
    NamedBoard, NamedMember, Reports, ScoreReport, Top, WhenQuery,
};

/// The most reports in one batch, and the most members that can be asked for at once.
const LARGEST_BATCH: usize = 1_000;
const MOST_FRIENDS: usize = 100;

/// What every handler has at hand.
struct App<B> {
    leaderboard: Leaderboard<B>,
    live: Live,
}

type Shared<B> = State<Arc<App<B>>>;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Leaderboard",
        description = "Who is where, among millions, while scores come in."
    ),
    paths(
        create,
        overview,
        report,
        report_all,
        top,
        member,
        around,
        friends,
        remove,
        live::follow
    ),
    components(schemas(ProblemBody))
)]
struct Document;

/// The routes of a stage.
pub fn routes<B: Board>(leaderboard: Leaderboard<B>) -> Routes {
    Routes::new(Document::openapi())
        .add(Class::Write, Method::PUT, "/boards/{board}", create::<B>)
        .add(Class::Read, Method::GET, "/boards/{board}", overview::<B>)
        .add(Class::Write, Method::POST, "/boards/{board}/scores", report::<B>)
        .add(
            Class::Bulk,
            Method::POST,
            "/boards/{board}/scores:batch",
            report_all::<B>,
        )
        .add(Class::Read, Method::GET, "/boards/{board}/top", top::<B>)
        .add(
            Class::Read,
            Method::GET,
            "/boards/{board}/members/{member}",
            member::<B>,
        )
        .add(
            Class::Write,
            Method::DELETE,
            "/boards/{board}/members/{member}",
            remove::<B>,
        )
        .add(Class::Read, Method::GET, "/boards/{board}/around/{member}", around::<B>)
        .add(Class::Read, Method::POST, "/boards/{board}/members:batch", friends::<B>)
        .add(Class::Stream, Method::GET, "/boards/{board}/live", live::follow::<B>)
        .with_state(Arc::new(App {
            leaderboard,
            live: Live::default(),
        }))
}

/// Make a board. Doing so again with the same settings changes nothing.
#[utoipa::path(
    put, path = "/boards/{board}", params(("board" = String, Path, description = "1 to 64 letters, digits, - and _")),
    request_body = BoardSettings,
    responses(
        (status = 201, description = "It is made", body = BoardSettings),
        (status = 200, description = "It was there already, with these settings", body = BoardSettings),
        (status = 409, description = "It was there already, with others", body = ProblemBody),
        (status = 507, description = "There are as many boards as may be", body = ProblemBody),
    )
)]
async fn create<B: Board>(
    State(app): Shared<B>,
    board: Result<NamedBoard, Problem>,
    Json(asked): Json<BoardSettings>,
) -> Result<Response, Problem> {
    let Ok(NamedBoard(board)) = board else {
        return Err(invalid("", "the name of a board is 1 to 64 letters, digits, - and _"));
    };
    let settings = Settings::from(asked);
    let status = match app.leaderboard.create(&board, settings).await? {
        Made::Now => StatusCode::CREATED,
        Made::Before => StatusCode::OK,
    };
    Ok((status, Json(BoardSettings::from(settings))).into_response())
}

/// What a board is; in a browser, a page that shows it.
#[utoipa::path(
    get, path = "/boards/{board}", params(("board" = String, Path)),
    responses(
        (status = 200, description = "The board; a page for whoever likes text/html better", body = BoardReport),
        (status = 404, description = "No such board", body = ProblemBody),
    )
)]
async fn overview<B: Board>(
    State(app): Shared<B>,
    NamedBoard(board): NamedBoard,
    WantsHtml(html): WantsHtml,
) -> Result<Response, Problem> {
    let overview = app.leaderboard.overview(&board).await?;
    if html {
        return Ok(page::page());
    }
    Ok(Json(BoardReport {
        board: board.as_str().to_owned(),
        settings: overview.settings.into(),
        members: overview.members,
        ends_at: overview.ends_at.map(rfc3339),
    })
    .into_response())
}

/// Report a score, or what to add to one.
#[utoipa::path(
    post, path = "/boards/{board}/scores", params(("board" = String, Path)), request_body = ScoreReport,
    responses(
        (status = 200, description = "It is counted, or was before; where the member stands now", body = Line),
        (status = 404, description = "No such board", body = ProblemBody),
        (status = 422, description = "Not a score, or not what this board keeps", body = ProblemBody),
    )
)]
async fn report<B: Board>(
    State(app): Shared<B>,
    NamedBoard(board): NamedBoard,
    Json(asked): Json<ScoreReport>,
) -> Result<Json<Line>, Problem> {
    let ranked = app.leaderboard.report(&board, Report::from(asked)).await?;
    Ok(Json(ranked.into()))
}

/// Report many scores; they are counted in this order. Where their members stand is not said.
#[utoipa::path(
    post, path = "/boards/{board}/scores:batch", params(("board" = String, Path)), request_body = Reports,
    responses(
        (status = 200, description = "An answer for each, in order", body = BatchResults),
        (status = 404, description = "No such board", body = ProblemBody),
    )
)]
async fn report_all<B: Board>(
    State(app): Shared<B>,
    NamedBoard(board): NamedBoard,
    Json(asked): Json<Reports>,
) -> Result<Json<BatchResults>, Problem> {
    if !(1..=LARGEST_BATCH).contains(&asked.scores.len()) {
        return Err(invalid("/scores", "must be 1 to 1,000"));
    }
    let reports = asked.scores.into_iter().map(Report::from).collect();
    let answers = app.leaderboard.report_all(&board, reports).await?;
    let results = answers.into_iter().map(|answer| match answer {
        Ok((member, score)) => BatchResult::done(StatusCode::OK.as_u16(), &member, score),
        Err(error) => {
            let problem = Problem::from(error);
            BatchResult::refused(problem.status().as_u16(), problem.into_body())
        }
    });
    Ok(Json(BatchResults {
        results: results.collect(),
    }))
}

/// The best of a board, a page at a time.
#[utoipa::path(
    get, path = "/boards/{board}/top", params(("board" = String, Path), Top),
    responses(
        (status = 200, description = "A page", body = Lines),
        (status = 404, description = "No such board", body = ProblemBody),
    )
)]
async fn top<B: Board>(
    State(app): Shared<B>,
    NamedBoard(board): NamedBoard,
    Query(asked): Query<Top>,
) -> Result<Json<Lines>, Problem> {
    let from = match asked.cursor {
        Some(cursor) => From::After(cursor.0),
        None => From::Top,
    };
    let list = app
        .leaderboard
        .top(&board, asked.when.into(), from, asked.limit.get())
        .await?;
    Ok(Json(list.into()))
}

/// Where a member stands.
#[utoipa::path(
    get, path = "/boards/{board}/members/{member}",
    params(("board" = String, Path), ("member" = String, Path), WhenQuery),
    responses(
        (status = 200, description = "There", body = MemberReport),
        (status = 404, description = "No such board, or the member is not on it", body = ProblemBody),
    )
)]
async fn member<B: Board>(
    State(app): Shared<B>,
    NamedMember(board, member): NamedMember,
    Query(asked): Query<WhenQuery>,
) -> Result<Json<MemberReport>, Problem> {
    let profile = app.leaderboard.profile(&board, asked.when.into(), member).await?;
    Ok(Json(profile.into()))
}

/// A member among those right above and below.
#[utoipa::path(
    get, path = "/boards/{board}/around/{member}",
    params(("board" = String, Path), ("member" = String, Path), Around),
    responses(
        (status = 200, description = "These lines", body = Lines),
        (status = 404, description = "No such board, or the member is not on it", body = ProblemBody),
    )
)]
async fn around<B: Board>(
    State(app): Shared<B>,
    NamedMember(board, member): NamedMember,
    Query(asked): Query<Around>,
) -> Result<Json<Lines>, Problem> {
    let (above, below) = (asked.above.get(), asked.below.get());
    let list = app
        .leaderboard
        .around(&board, asked.when.into(), &member, above, below)
        .await?;
    Ok(Json(Lines {
        next: None,
        ..list.into()
    }))
}

/// Where several members stand, in the order in which they are named.
#[utoipa::path(
    post, path = "/boards/{board}/members:batch", params(("board" = String, Path), WhenQuery), request_body = Friends,
    responses(
        (status = 200, description = "An answer for each", body = FriendsReport),
        (status = 404, description = "No such board", body = ProblemBody),
    )
)]
async fn friends<B: Board>(
    State(app): Shared<B>,
    NamedBoard(board): NamedBoard,
    Query(when): Query<WhenQuery>,
    Json(asked): Json<Friends>,
) -> Result<Json<FriendsReport>, Problem> {
    if !(1..=MOST_FRIENDS).contains(&asked.members.len()) {
        return Err(invalid("/members", "must be 1 to 100"));
    }
    let members = asked.members.into_iter().map(|name| name.0).collect();
    let found = app.leaderboard.profiles(&board, when.when.into(), members).await?;
    Ok(Json(found.into()))
}

/// Take a member off the board.
#[utoipa::path(
    delete, path = "/boards/{board}/members/{member}", params(("board" = String, Path), ("member" = String, Path)),
    responses(
        (status = 204, description = "Gone"),
        (status = 404, description = "No such board, or the member is not on it", body = ProblemBody),
    )
)]
async fn remove<B: Board>(
    State(app): Shared<B>,
    NamedMember(board, member): NamedMember,
) -> Result<StatusCode, Problem> {
    app.leaderboard.remove(&board, &member).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn rfc3339(ms: u64) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms)).to_string()
}

/// Why a member of a request is refused; `pointer` says which.
fn invalid(pointer: &str, reason: &str) -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "invalid_request",
        "The request is well-formed but not acceptable",
    )
    .invalid(pointer, reason)
}

impl std::convert::From<Error> for Problem {
    fn from(error: Error) -> Self {
        let later =
            |code, title| Self::new(StatusCode::SERVICE_UNAVAILABLE, code, title).retry_after(Duration::from_secs(1));
        match error {
            Error::NoBoard => Self::new(StatusCode::NOT_FOUND, "board_not_found", "There is no such board"),
            Error::NoMember => Self::new(
                StatusCode::NOT_FOUND,
                "member_not_found",
                "The member is not on the board",
            ),
            Error::OtherSettings(settings) => Self::new(
                StatusCode::CONFLICT,
                "other_settings",
                "The board was made with other settings, which stay",
            )
            .detail(BoardSettings::from(settings).in_words()),
            Error::TooManyBoards => Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "too_many_boards",
                "There are as many boards as there may be",
            ),
            Error::TooManyEvents => later(
                "too_many_events",
                "More events arrive than can be told apart for an hour",
            ),
            Error::OutOfRange => invalid(
                "/delta",
                "the sum would leave the range of scores, which ends at 2^53 - 1",
            ),
            Error::Refused(pointer, reason) => invalid(pointer, reason),
            Error::Full(cause) => {
                tracing::warn!(%cause, "no space is left");
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "store_full", "No space is left")
            }
            Error::Unavailable(cause) => {
                tracing::warn!(%cause, "the store is unavailable");
                later("store_unavailable", "The store cannot be asked")
            }
            Error::Unknown(cause) => {
                tracing::warn!(%cause, "the outcome of a write is unknown");
                Self::new(StatusCode::GATEWAY_TIMEOUT, "outcome_unknown", "The store broke off")
                    .outcome_unknown()
                    .retry_after(Duration::from_secs(1))
            }
        }
    }
}
