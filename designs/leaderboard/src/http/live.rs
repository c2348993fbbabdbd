//! The best of a board, sent whenever they change: server-sent events.
//!
//! Changes come in by the thousand a second, and nobody reads that fast. So whoever watches looks four times a second and
//! says what is new, if anything is: many changes become one. All who watch a board look together, once for all of them, so
//! that a board with a thousand watchers is asked as often as one with a single one. Since it is the store that is looked
//! at, changes made through other servers are seen too.

#![allow(unused_qualifications, reason = "in what utoipa makes of a handler's arguments")]

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use futures_util::stream::unfold;
use serde::Deserialize;
use service::Problem;
use service::extract::Query;
use service::problem::ProblemBody;
use tokio::time::Instant;
use utoipa::IntoParams;

use super::wire::{Lines, NamedBoard, UpTo};
use super::{App, Shared};
use crate::domain;
use crate::domain::{BoardName, Error};
use crate::ports::Board;
use crate::service::When;

/// How often the board is looked at.
const PACE: Duration = Duration::from_millis(250);

/// How many lines are looked at: as many as somebody may watch.
const MOST: usize = 100;

/// Boards that somebody watches.
#[derive(Default)]
pub(super) struct Live {
    watched: Mutex<HashMap<BoardName, Weak<Watched>>>,
}

/// What was seen of a board last, by whichever of those who watch it looked.
#[derive(Default)]
struct Watched {
    last: tokio::sync::Mutex<Option<Look>>,
}

/// When somebody looked, and what was there.
type Look = (Instant, Result<Arc<Lines>, Error>);

impl Live {
    fn watch(&self, board: &BoardName) -> Arc<Watched> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = watched.get(board).and_then(Weak::upgrade) {
            return known;
        }
        // There are never more here than were watched at one time.
        watched.retain(|_, others| others.strong_count() > 0);
        let new = Arc::<Watched>::default();
        watched.insert(board.clone(), Arc::downgrade(&new));
        new
    }
}

impl Watched {
    /// What stands there now, or did a moment ago.
    async fn look<B: Board>(&self, app: &App<B>, board: &BoardName) -> Result<Arc<Lines>, Error> {
        let mut last = self.last.lock().await;
        match &*last {
            // A little less than the pace: all who watch look at the same time, and one of them is the first.
            Some((at, seen)) if at.elapsed() < PACE * 3 / 4 => seen.clone(),
            _ => {
                let list = app.leaderboard.top(board, When::Current, domain::From::Top, MOST).await;
                let seen = list.map(|list| Arc::new(list.into()));
                *last = Some((Instant::now(), seen.clone()));
                seen
            }
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Watch {
    /// How many lines, 1 to 100.
    #[serde(default = "ten")]
    #[param(value_type = Option<usize>, default = 10)]
    limit: UpTo<1, 100>,
}

fn ten() -> UpTo<1, 100> {
    UpTo::new(10)
}

/// One who watches.
struct Watcher<B> {
    app: Arc<App<B>>,
    board: BoardName,
    limit: usize,
    watched: Arc<Watched>,
    /// When to look again.
    next: Instant,
    /// What he was told last; nothing, if that was that the board cannot be read.
    told: Option<Option<Lines>>,
}

impl<B: Board> Watcher<B> {
    /// Waits until there is something new.
    async fn news(&mut self) -> Event {
        loop {
            tokio::time::sleep_until(self.next).await;
            self.next = Instant::now() + PACE;
            let (watched, app, board) = (Arc::clone(&self.watched), Arc::clone(&self.app), self.board.clone());
            // In a task of its own: whoever watches may stop reading, and then nobody goes on with this stream, which would
            // keep the lock, or its place in the line for it, from all others.
            let look = tokio::spawn(async move { watched.look(&app, &board).await });
            let seen = look.await.ok().and_then(Result::ok);
            let seen = seen.map(|lines| Lines {
                entries: lines.entries.iter().take(self.limit).cloned().collect(),
                next: None,
            });
            if self.told.as_ref() == Some(&seen) {
                continue;
            }
            let event = match &seen {
                Some(lines) => Event::default().event("top").json_data(lines),
                None => Ok(Event::default().event("unavailable").data("{}")),
            };
            self.told = Some(seen);
            if let Ok(event) = event {
                return event;
            }
        }
    }
}

/// The best of a board: at once, and then whenever they change, at most four times a second.
///
/// An event `top` has the lines, as `GET /boards/{board}/top` does; an event `unavailable` says that the board cannot be
/// read for now.
#[utoipa::path(
    get, path = "/boards/{board}/live", params(("board" = String, Path), Watch),
    responses(
        (status = 200, description = "Server-sent events, until somebody ends them", content_type = "text/event-stream", body = Lines),
        (status = 404, description = "No such board", body = ProblemBody),
    )
)]
pub(super) async fn follow<B: Board>(
    State(app): Shared<B>,
    NamedBoard(board): NamedBoard,
    Query(asked): Query<Watch>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    app.leaderboard.overview(&board).await?;
    let watcher = Watcher {
        watched: app.live.watch(&board),
        app,
        board,
        limit: asked.limit.get(),
        next: Instant::now(),
        told: None,
    };
    let news = unfold(watcher, async |mut watcher| {
        let event = watcher.news().await;
        Some((Ok(event), watcher))
    });
    Ok(Sse::new(news).keep_alive(KeepAlive::default()))
}
