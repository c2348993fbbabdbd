//! A table in SQLite: the schema is `migrations/sqlite/`.
//!
//! Everything that has to do with order is an index. But an index knows no positions, so where a member stands is counted,
//! each time, along all who come before him; and each submission is a transaction, and an fsync, of its own.

use sqlx::{Connection as _, Sqlite as Driver, SqliteConnection, Transaction};
use stores::Sqlite as Db;

use super::words;
use crate::domain::{
    BoardName, Edition, Entry, Error, From, Member, Page, Place, Score, Settings, Standing, Submission,
};
use crate::ports::Board;

/// How long events are remembered.
const EVENTS_KEPT_MS: u64 = 60 * 60 * 1_000;

/// Scores that are forgotten in one transaction: nobody else writes meanwhile.
const FORGOTTEN_AT_ONCE: u64 = 1_000;

/// Boards in a database. Survives `kill -9`, and a power cut as far as the disk keeps its word.
#[derive(Clone, Debug)]
pub struct Sqlite {
    db: Db,
    most_boards: u64,
}

impl Sqlite {
    /// In this database, up to so many boards.
    #[must_use]
    pub fn new(db: Db, most_boards: u64) -> Self {
        Self { db, most_boards }
    }

    async fn load_all(
        &self,
        edition: &Edition,
        submissions: &[Submission],
    ) -> Result<Vec<Result<Score, Error>>, Error> {
        let mut writer = self.db.writer().await?;
        let mut transaction = begin(&mut writer, "BEGIN IMMEDIATE").await?;
        let id = edition_or_new(&mut transaction, edition).await?;
        let mut answers = Vec::with_capacity(submissions.len());
        for submission in submissions {
            answers.push(match submit(&mut transaction, id, submission).await {
                Err(error @ (Error::OutOfRange | Error::NoMember)) => Err(error),
                Err(error) => return Err(error),
                Ok(place) => Ok(place.score),
            });
        }
        transaction.commit().await.map_err(stores::Error::at_commit)?;
        Ok(answers)
    }
}

/// A transaction. Of one that only reads, all statements see the same moment.
async fn begin<'a>(connection: &'a mut SqliteConnection, how: &'static str) -> Result<Transaction<'a, Driver>, Error> {
    let begun = connection.begin_with(how).await;
    begun.map_err(|error| stores::Error::before_commit(error).into())
}

async fn edition_id(connection: &mut SqliteConnection, edition: &Edition) -> Result<Option<i64>, Error> {
    sqlx::query_scalar(
        "SELECT editions.id FROM editions JOIN boards ON boards.id = editions.board
         WHERE boards.name = ?1 AND editions.number = ?2",
    )
    .bind(edition.board.as_str())
    .bind(edition.number.cast_signed())
    .fetch_optional(connection)
    .await
    .map_err(before)
}

async fn edition_or_new(connection: &mut SqliteConnection, edition: &Edition) -> Result<i64, Error> {
    if let Some(id) = edition_id(connection, edition).await? {
        return Ok(id);
    }
    let id: Option<i64> = sqlx::query_scalar(
        "INSERT INTO editions (board, number, forgotten_at)
         SELECT id, ?2, ?3 FROM boards WHERE name = ?1 RETURNING id",
    )
    .bind(edition.board.as_str())
    .bind(edition.number.cast_signed())
    .bind(edition.forgotten_at.map(u64::cast_signed))
    .fetch_optional(connection)
    .await
    .map_err(before)?;
    id.ok_or(Error::NoBoard)
}

/// Carries out a submission; gives the place of its member.
async fn submit(connection: &mut SqliteConnection, edition: i64, submission: &Submission) -> Result<Place, Error> {
    let member = submission.member.as_str();
    let old = place(connection, edition, &submission.member).await?;
    if let Some(event) = &submission.event {
        let counted: Option<i64> =
            sqlx::query_scalar("SELECT 1 FROM events WHERE edition = ?1 AND member = ?2 AND event = ?3")
                .bind(edition)
                .bind(member)
                .bind(event.as_str())
                .fetch_optional(&mut *connection)
                .await
                .map_err(before)?;
        if counted.is_some() {
            return old.ok_or(Error::NoMember);
        }
    }
    let new = submission.change.of(old.map(|place| place.score))?;
    if let Some(event) = &submission.event {
        sqlx::query("INSERT INTO events (edition, member, event, at_ms) VALUES (?1, ?2, ?3, ?4)")
            .bind(edition)
            .bind(member)
            .bind(event.as_str())
            .bind(submission.at_ms.cast_signed())
            .execute(&mut *connection)
            .await
            .map_err(before)?;
    }
    match (new, old) {
        (None, old) => old.ok_or(Error::NoMember),
        (Some(score), _) => {
            let reached: i64 =
                sqlx::query_scalar("UPDATE editions SET reached = reached + 1 WHERE id = ?1 RETURNING reached")
                    .bind(edition)
                    .fetch_one(&mut *connection)
                    .await
                    .map_err(before)?;
            sqlx::query(
                "INSERT INTO scores (edition, member, score, reached) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (edition, member) DO UPDATE SET score = excluded.score, reached = excluded.reached",
            )
            .bind(edition)
            .bind(member)
            .bind(score.get())
            .bind(reached)
            .execute(&mut *connection)
            .await
            .map_err(before)?;
            Ok(Place {
                score,
                reached: reached.cast_unsigned(),
            })
        }
    }
}

async fn place(connection: &mut SqliteConnection, edition: i64, member: &Member) -> Result<Option<Place>, Error> {
    let row: Option<(i64, i64)> =
        sqlx::query_as("SELECT score, reached FROM scores WHERE edition = ?1 AND member = ?2")
            .bind(edition)
            .bind(member.as_str())
            .fetch_optional(connection)
            .await
            .map_err(before)?;
    row.map(|(score, reached)| to_place(score, reached)).transpose()
}

/// Where a place stands, by counting who comes before it.
async fn standing(connection: &mut SqliteConnection, edition: i64, place: Place) -> Result<Standing, Error> {
    let (above, beside): (i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM scores WHERE edition = ?1 AND score > ?2),
                (SELECT count(*) FROM scores WHERE edition = ?1 AND score = ?2 AND reached < ?3)",
    )
    .bind(edition)
    .bind(place.score.get())
    .bind(place.reached.cast_signed())
    .fetch_one(connection)
    .await
    .map_err(before)?;
    Ok(Standing {
        score: place.score,
        before: (above + beside).cast_unsigned(),
        above: above.cast_unsigned(),
    })
}

/// How many there are, by counting them.
async fn count(connection: &mut SqliteConnection, edition: i64) -> Result<u64, Error> {
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM scores WHERE edition = ?1")
        .bind(edition)
        .fetch_one(connection)
        .await
        .map_err(before)?;
    Ok(count.cast_unsigned())
}

/// Lines from a position on.
async fn lines(connection: &mut SqliteConnection, edition: i64, first: u64, limit: usize) -> Result<Page, Error> {
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(
        "SELECT member, score, reached FROM scores WHERE edition = ?1
         ORDER BY score DESC, reached LIMIT ?2 OFFSET ?3",
    )
    .bind(edition)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1))
    .bind(first.cast_signed())
    .fetch_all(&mut *connection)
    .await
    .map_err(before)?;
    let more = rows.len() > limit;
    let entries = rows.into_iter().take(limit).map(|(member, score, reached)| {
        Ok(Entry {
            member: Member::new(&member).ok_or_else(|| foreign("a member"))?,
            place: to_place(score, reached)?,
        })
    });
    let entries = entries.collect::<Result<Vec<_>, Error>>()?;
    let above = match entries.first() {
        Some(entry) => standing(connection, edition, entry.place).await?.above,
        None => first,
    };
    Ok(Page {
        entries,
        before: first,
        above,
        more,
    })
}

fn to_place(score: i64, reached: i64) -> Result<Place, Error> {
    Ok(Place {
        score: Score::new(score).ok_or_else(|| foreign("a score"))?,
        reached: reached.cast_unsigned(),
    })
}

fn foreign(what: &str) -> Error {
    stores::Error::unavailable(format!("the database has {what} that no board has")).into()
}

fn before(error: sqlx::Error) -> Error {
    stores::Error::before_commit(error).into()
}

impl Board for Sqlite {
    async fn create(&self, board: &BoardName, settings: Settings) -> Result<Settings, Error> {
        let mut writer = self.db.writer().await?;
        let mut transaction = begin(&mut writer, "BEGIN IMMEDIATE").await?;
        if let Some(settings) = settings_of(&mut transaction, board).await? {
            return Ok(settings);
        }
        let boards: i64 = sqlx::query_scalar("SELECT count(*) FROM boards")
            .fetch_one(&mut *transaction)
            .await
            .map_err(before)?;
        if boards.cast_unsigned() >= self.most_boards {
            return Err(Error::TooManyBoards);
        }
        sqlx::query("INSERT INTO boards (name, settings) VALUES (?1, ?2)")
            .bind(board.as_str())
            .bind(words::write(settings))
            .execute(&mut *transaction)
            .await
            .map_err(before)?;
        transaction.commit().await.map_err(stores::Error::at_commit)?;
        Ok(settings)
    }

    async fn settings(&self, board: &BoardName) -> Result<Option<Settings>, Error> {
        let mut reader = self.db.reader().await?;
        settings_of(&mut reader, board).await
    }

    async fn submit(&self, edition: &Edition, submission: Submission) -> Result<Standing, Error> {
        let mut writer = self.db.writer().await?;
        let mut transaction = begin(&mut writer, "BEGIN IMMEDIATE").await?;
        let id = edition_or_new(&mut transaction, edition).await?;
        let place = submit(&mut transaction, id, &submission).await?;
        let standing = standing(&mut transaction, id, place).await?;
        transaction.commit().await.map_err(stores::Error::at_commit)?;
        Ok(standing)
    }

    async fn load(&self, edition: &Edition, submissions: Vec<Submission>) -> Vec<Result<Score, Error>> {
        match self.load_all(edition, &submissions).await {
            Ok(answers) => answers,
            Err(error) => vec![Err(error); submissions.len()],
        }
    }

    async fn standing(&self, edition: &Edition, member: &Member) -> Result<Option<(Standing, u64)>, Error> {
        let mut reader = self.db.reader().await?;
        let mut moment = begin(&mut reader, "BEGIN").await?;
        let Some(id) = edition_id(&mut moment, edition).await? else {
            return Ok(None);
        };
        let Some(place) = place(&mut moment, id, member).await? else {
            return Ok(None);
        };
        let standing = standing(&mut moment, id, place).await?;
        Ok(Some((standing, count(&mut moment, id).await?)))
    }

    async fn standings(&self, edition: &Edition, members: &[Member]) -> Result<Vec<Option<Standing>>, Error> {
        let mut reader = self.db.reader().await?;
        let mut moment = begin(&mut reader, "BEGIN").await?;
        let Some(id) = edition_id(&mut moment, edition).await? else {
            return Ok(vec![None; members.len()]);
        };
        let mut standings = Vec::with_capacity(members.len());
        for member in members {
            standings.push(match place(&mut moment, id, member).await? {
                Some(place) => Some(standing(&mut moment, id, place).await?),
                None => None,
            });
        }
        Ok(standings)
    }

    async fn page(&self, edition: &Edition, from: From, limit: usize) -> Result<Page, Error> {
        let mut reader = self.db.reader().await?;
        let mut moment = begin(&mut reader, "BEGIN").await?;
        let Some(id) = edition_id(&mut moment, edition).await? else {
            return Ok(Page::default());
        };
        let first = match from {
            From::Top => 0,
            From::After(place) => {
                let next = Place {
                    reached: place.reached.saturating_add(1),
                    ..place
                };
                standing(&mut moment, id, next).await?.before
            }
        };
        lines(&mut moment, id, first, limit).await
    }

    async fn around(
        &self,
        edition: &Edition,
        member: &Member,
        above: usize,
        below: usize,
    ) -> Result<Option<Page>, Error> {
        let mut reader = self.db.reader().await?;
        let mut moment = begin(&mut reader, "BEGIN").await?;
        let Some(id) = edition_id(&mut moment, edition).await? else {
            return Ok(None);
        };
        let Some(place) = place(&mut moment, id, member).await? else {
            return Ok(None);
        };
        let position = standing(&mut moment, id, place).await?.before;
        let above = position.min(above as u64);
        let limit = usize::try_from(above).unwrap_or_default() + 1 + below;
        lines(&mut moment, id, position - above, limit).await.map(Some)
    }

    async fn count(&self, edition: &Edition) -> Result<u64, Error> {
        let mut reader = self.db.reader().await?;
        let mut moment = begin(&mut reader, "BEGIN").await?;
        match edition_id(&mut moment, edition).await? {
            Some(id) => count(&mut moment, id).await,
            None => Ok(0),
        }
    }

    async fn remove(&self, edition: &Edition, member: &Member) -> Result<bool, Error> {
        let mut writer = self.db.writer().await?;
        let Some(id) = edition_id(&mut writer, edition).await? else {
            return Ok(false);
        };
        let removed = sqlx::query("DELETE FROM scores WHERE edition = ?1 AND member = ?2")
            .bind(id)
            .bind(member.as_str())
            .execute(&mut *writer)
            .await
            .map_err(stores::Error::at_commit)?;
        Ok(removed.rows_affected() > 0)
    }

    async fn forget(&self, now_ms: u64) -> Result<(), Error> {
        // In pieces, so that scores come in between.
        loop {
            let mut writer = self.db.writer().await?;
            let some = sqlx::query(
                "DELETE FROM scores WHERE (edition, member) IN (SELECT edition, member FROM scores WHERE edition IN \
                 (SELECT id FROM editions WHERE forgotten_at <= ?1) LIMIT ?2)",
            );
            let some = some.bind(now_ms.cast_signed()).bind(FORGOTTEN_AT_ONCE.cast_signed());
            let gone = some.execute(&mut *writer).await.map_err(stores::Error::at_commit)?;
            if gone.rows_affected() < FORGOTTEN_AT_ONCE {
                break;
            }
        }
        let mut writer = self.db.writer().await?;
        for (statement, before_ms) in [
            (
                "DELETE FROM events WHERE at_ms < ?1",
                now_ms.saturating_sub(EVENTS_KEPT_MS),
            ),
            ("DELETE FROM editions WHERE forgotten_at <= ?1", now_ms),
        ] {
            sqlx::query(statement)
                .bind(before_ms.cast_signed())
                .execute(&mut *writer)
                .await
                .map_err(stores::Error::at_commit)?;
        }
        Ok(())
    }
}

async fn settings_of(connection: &mut SqliteConnection, board: &BoardName) -> Result<Option<Settings>, Error> {
    let found: Option<String> = sqlx::query_scalar("SELECT settings FROM boards WHERE name = ?1")
        .bind(board.as_str())
        .fetch_optional(connection)
        .await
        .map_err(before)?;
    found.map(|found| words::read(&found).map_err(Error::from)).transpose()
}
