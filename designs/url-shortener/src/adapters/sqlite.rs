//! Links and clicks in one SQLite file: the schema is `migrations/sqlite/`.
//!
//! Every insert, of one link or of a thousand, is one transaction of a few statements: rows travel to SQLite as one JSON
//! array, since a statement costs more than a row. Survives `kill -9`, and a power cut as far as the disk keeps its word.

use sqlx::{Connection, SqliteConnection};
use stores::Sqlite as Db;

use super::{slug_of, stored};
use crate::domain::{Alias, CODES, Error, Idempotency, Link, NewLink, Place, Slug};
use crate::ports::{Clicks, Links};
use crate::target::Target;

/// What the number of a link means. Fixed for a database by the first stage that opens it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Numbering {
    /// The table counts.
    Counted,
    /// Drawn at random.
    Drawn,
    /// Permuted before it is shown; holds a fingerprint of the key.
    Permuted(String),
}

/// Links and clicks in SQLite. Clones share the file.
#[derive(Clone, Debug)]
pub struct Sqlite {
    db: Db,
}

/// How a link stands in its table: number, URL, and when it was created, expires, was deleted.
type Row = (i64, String, i64, Option<i64>, Option<i64>);

impl Sqlite {
    /// Takes a database whose numbers mean what `numbering` says.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if they mean something else, or the store's.
    pub async fn new(db: Db, numbering: &Numbering) -> Result<Self, Error> {
        let meaning = numbering.meaning();
        let mut writer = db.writer().await?;
        sqlx::query("INSERT OR IGNORE INTO numbering (only_row, meaning) VALUES (1, ?1)")
            .bind(&meaning)
            .execute(&mut *writer)
            .await
            .map_err(stores::Error::at_commit)?;
        let found: String = sqlx::query_scalar("SELECT meaning FROM numbering")
            .fetch_one(&mut *writer)
            .await
            .map_err(stores::Error::before_commit)?;
        drop(writer);
        if found != meaning {
            return Err(stores::Error::unavailable(format!(
                "this database numbers its links as `{found}` and this stage as `{meaning}`: \
                 start it on another data directory, or with the stage and key that made this one"
            ))
            .into());
        }
        Ok(Self { db })
    }

    /// Forgets the answers to idempotency keys from before a time in milliseconds since 1970.
    ///
    /// # Errors
    /// The store's.
    pub async fn forget_answers(&self, before: u64) -> Result<(), Error> {
        let mut writer = self.db.writer().await?;
        sqlx::query("DELETE FROM idempotency WHERE created_at < ?1")
            .bind(before.cast_signed())
            .execute(&mut *writer)
            .await
            .map_err(stores::Error::at_commit)?;
        Ok(())
    }
}

impl Numbering {
    fn meaning(&self) -> String {
        match self {
            Self::Counted => "counted".to_owned(),
            Self::Drawn => "drawn".to_owned(),
            Self::Permuted(fingerprint) => format!("permuted {fingerprint}"),
        }
    }
}

impl Links for Sqlite {
    async fn insert(&self, links: Vec<NewLink>) -> Vec<Result<Link, Error>> {
        let count = links.len();
        match self.insert_all(links).await {
            Ok(answers) => answers,
            Err(error) => vec![Err(error); count],
        }
    }

    async fn find(&self, slug: &Slug) -> Result<Option<Link>, Error> {
        let mut reader = self.db.reader().await?;
        let row = find(&mut reader, slug).await?;
        row.map(|row| link(row, slug.clone())).transpose()
    }

    async fn delete(&self, slug: &Slug, at: u64) -> Result<bool, Error> {
        let mut writer = self.db.writer().await?;
        let Some((id, ..)) = find(&mut writer, slug).await? else {
            return Ok(false);
        };
        let deleted = sqlx::query("UPDATE links SET deleted_at = ?1 WHERE id = ?2 AND deleted_at IS NULL")
            .bind(at.cast_signed())
            .bind(id)
            .execute(&mut *writer)
            .await
            .map_err(stores::Error::at_commit)?;
        Ok(deleted.rows_affected() > 0)
    }

    async fn replay(&self, idempotency: &Idempotency) -> Result<Option<Link>, Error> {
        let mut reader = self.db.reader().await?;
        replay(&mut reader, idempotency).await
    }
}

impl Sqlite {
    async fn insert_all(&self, links: Vec<NewLink>) -> Result<Vec<Result<Link, Error>>, Error> {
        let mut writer = self.db.writer().await?;
        if let Some(answers) = attempt(&mut writer, &links, Rows::Together).await? {
            return Ok(answers);
        }
        // Some number was in use. The generator of codes is broken, or two stages that number differently wrote to one
        // database; both are bugs, so finding out whose it was may be slow.
        let answers = attempt(&mut writer, &links, Rows::OneByOne).await?;
        answers.ok_or_else(|| stores::Error::unavailable("rows written one by one were not counted one by one").into())
    }
}

/// How rows are written: in one statement, which tells how many were refused, or each in its own, which tells which.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rows {
    Together,
    OneByOne,
}

/// Inserts links in one transaction; `None`, and nothing inserted, if rows written together met a number in use.
async fn attempt(
    writer: &mut SqliteConnection,
    links: &[NewLink],
    rows: Rows,
) -> Result<Option<Vec<Result<Link, Error>>>, Error> {
    let mut transaction = begin(writer).await.map_err(stores::Error::before_commit)?;
    let answers = insert_in(&mut transaction, links, rows).await?;
    let end = match answers {
        Some(_) => transaction.commit().await,
        None => transaction.rollback().await,
    };
    end.map_err(stores::Error::at_commit)?;
    Ok(answers)
}

/// Begins a transaction that will write. IMMEDIATE: one that reads first and then wants to write could be refused half-way.
pub(super) async fn begin(writer: &mut SqliteConnection) -> sqlx::Result<sqlx::Transaction<'_, sqlx::Sqlite>> {
    writer.begin_with("BEGIN IMMEDIATE").await
}

/// Gives each link its number, answers those that need no row, and writes the others.
async fn insert_in(
    connection: &mut SqliteConnection,
    links: &[NewLink],
    how: Rows,
) -> Result<Option<Vec<Result<Link, Error>>>, Error> {
    let mut counted = None;
    let mut answers = Vec::with_capacity(links.len());
    let mut rows = Vec::with_capacity(links.len());
    for link in links {
        if let Some(asked) = &link.idempotency {
            match replay(connection, asked).await {
                Ok(Some(link)) => {
                    answers.push(Ok(link));
                    continue;
                }
                Err(error @ Error::KeyReused) => {
                    answers.push(Err(error));
                    continue;
                }
                Ok(None) => {}
                Err(error) => return Err(error),
            }
        }
        let id = match &link.place {
            Place::Next => next_number(connection, &mut counted).await?,
            Place::At(code) => code.number().cast_signed(),
            Place::Named(alias) => match name(connection, alias).await? {
                Some(number) => -number,
                None => {
                    answers.push(Err(Error::AliasTaken));
                    continue;
                }
            },
        };
        // The answer to an idempotency key must be there for the next link of this batch, which may ask for the same.
        if how == Rows::Together && link.idempotency.is_none() {
            rows.push((id, link));
        } else if write(connection, &[(id, link)]).await? == 0 {
            tracing::error!(number = id, "a generated code was in use already");
            answers.push(Err(Error::CodeTaken));
            continue;
        }
        if let Some(asked) = &link.idempotency {
            remember(connection, asked, id, link).await?;
        }
        answers.push(stored(id, link));
    }
    let written = write(connection, &rows).await?;
    Ok((written == rows.len() as u64).then_some(answers))
}

/// The number after the largest. Rows are never removed, so no number comes twice.
async fn next_number(connection: &mut SqliteConnection, counted: &mut Option<i64>) -> Result<i64, Error> {
    let last = match *counted {
        Some(last) => last,
        None => sqlx::query_scalar("SELECT max(coalesce(max(id), 0), 0) FROM links")
            .fetch_one(connection)
            .await
            .map_err(stores::Error::before_commit)?,
    };
    let next = last + 1;
    if next >= CODES.cast_signed() {
        return Err(Error::KeysExhausted);
    }
    *counted = Some(next);
    Ok(next)
}

/// Takes a name; `None` if it is taken.
async fn name(connection: &mut SqliteConnection, alias: &Alias) -> Result<Option<i64>, Error> {
    sqlx::query_scalar("INSERT INTO aliases (alias) VALUES (?1) ON CONFLICT (alias) DO NOTHING RETURNING number")
        .bind(alias.as_str())
        .fetch_optional(connection)
        .await
        .map_err(|error| stores::Error::before_commit(error).into())
}

/// Writes rows, except those whose number is in use; says how many.
async fn write(connection: &mut SqliteConnection, links: &[(i64, &NewLink)]) -> Result<u64, Error> {
    if links.is_empty() {
        return Ok(0);
    }
    let rows: Vec<_> = links
        .iter()
        .map(|(id, link)| (id, link.target.as_str(), link.created_at, link.expires_at))
        .collect();
    let rows = serde_json::to_string(&rows).map_err(stores::Error::unavailable)?;
    let written = sqlx::query(
        "INSERT INTO links (id, url, created_at, expires_at)
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?1) WHERE true
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(rows)
    .execute(connection)
    .await
    .map_err(stores::Error::before_commit)?;
    Ok(written.rows_affected())
}

async fn find(connection: &mut SqliteConnection, slug: &Slug) -> Result<Option<Row>, Error> {
    let query = match slug {
        Slug::Code(code) => {
            sqlx::query_as("SELECT id, url, created_at, expires_at, deleted_at FROM links WHERE id = ?1")
                .bind(code.number().cast_signed())
        }
        Slug::Alias(alias) => sqlx::query_as(
            "SELECT id, url, created_at, expires_at, deleted_at FROM links
             WHERE id = -(SELECT number FROM aliases WHERE alias = ?1)",
        )
        .bind(alias.as_str()),
    };
    query
        .fetch_optional(connection)
        .await
        .map_err(|error| stores::Error::before_commit(error).into())
}

async fn replay(connection: &mut SqliteConnection, asked: &Idempotency) -> Result<Option<Link>, Error> {
    let answer: Option<(Vec<u8>, i64, Option<String>)> =
        sqlx::query_as("SELECT fingerprint, id, alias FROM idempotency WHERE key = ?1")
            .bind(&*asked.key)
            .fetch_optional(&mut *connection)
            .await
            .map_err(stores::Error::before_commit)?;
    let Some((fingerprint, id, alias)) = answer else {
        return Ok(None);
    };
    if fingerprint != asked.fingerprint {
        return Err(Error::KeyReused);
    }
    let slug = slug_of(id, alias.as_deref())?;
    let row = find(connection, &slug).await?;
    row.map(|row| link(row, slug)).transpose()
}

async fn remember(
    connection: &mut SqliteConnection,
    asked: &Idempotency,
    id: i64,
    link: &NewLink,
) -> Result<(), Error> {
    let alias = match &link.place {
        Place::Named(alias) => Some(alias.as_str()),
        Place::Next | Place::At(_) => None,
    };
    sqlx::query("INSERT INTO idempotency (key, fingerprint, id, alias, created_at) VALUES (?1, ?2, ?3, ?4, ?5)")
        .bind(&*asked.key)
        .bind(&asked.fingerprint[..])
        .bind(id)
        .bind(alias)
        .bind(link.created_at.cast_signed())
        .execute(connection)
        .await
        .map_err(stores::Error::before_commit)?;
    Ok(())
}

fn link((_, url, created_at, expires_at, deleted_at): Row, slug: Slug) -> Result<Link, Error> {
    let target = Target::stored(url);
    Ok(Link {
        slug,
        target: target.ok_or_else(|| stores::Error::unavailable("a stored URL is not a web address"))?,
        created_at: created_at.cast_unsigned(),
        expires_at: expires_at.map(i64::cast_unsigned),
        deleted: deleted_at.is_some(),
    })
}

impl Clicks for Sqlite {
    /// One commit for one click: what the naive stage pays for every redirect.
    async fn record(&self, slug: &Slug) -> Result<(), Error> {
        self.add(&[(slug.clone(), 1)]).await
    }

    async fn add(&self, clicks: &[(Slug, u64)]) -> Result<(), Error> {
        let (mut coded, mut named) = (Vec::new(), Vec::new());
        for (slug, n) in clicks {
            match slug {
                Slug::Code(code) => coded.push((code.number(), n)),
                Slug::Alias(alias) => named.push((alias.as_str(), n)),
            }
        }
        let json = |rows| serde_json::to_string(&rows).map_err(stores::Error::unavailable);
        let (coded, named) = (
            json(coded)?,
            serde_json::to_string(&named).map_err(stores::Error::unavailable)?,
        );
        let mut writer = self.db.writer().await?;
        sqlx::query(
            "UPDATE links SET clicks = clicks + more.n
             FROM (SELECT value ->> 0 AS id, value ->> 1 AS n FROM json_each(?1)
                   UNION ALL
                   SELECT -number, value ->> 1 FROM json_each(?2) JOIN aliases ON alias = value ->> 0) AS more
             WHERE links.id = more.id",
        )
        .bind(coded)
        .bind(named)
        .execute(&mut *writer)
        .await
        .map_err(stores::Error::at_commit)?;
        Ok(())
    }

    async fn count(&self, slug: &Slug) -> Result<u64, Error> {
        let query = match slug {
            Slug::Code(code) => {
                sqlx::query_scalar("SELECT clicks FROM links WHERE id = ?1").bind(code.number().cast_signed())
            }
            Slug::Alias(alias) => {
                sqlx::query_scalar("SELECT clicks FROM links WHERE id = -(SELECT number FROM aliases WHERE alias = ?1)")
                    .bind(alias.as_str())
            }
        };
        let mut reader = self.db.reader().await?;
        let clicks: Option<i64> = query
            .fetch_optional(&mut *reader)
            .await
            .map_err(stores::Error::before_commit)?;
        Ok(clicks.map_or(0, i64::cast_unsigned))
    }
}
