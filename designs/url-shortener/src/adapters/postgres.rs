//! Links and clicks in Postgres, for any number of servers: the schema is `migrations/postgres/`.
//!
//! A create of generated codes is one statement, which is its own transaction: rows travel as arrays, so a thousand links
//! cost one question and one fsync. Links with an alias or an idempotency key take a transaction of at most six
//! statements, however many they are. Statements that wait for each other's rows take them in one order, so that two
//! servers never wait in a circle.

use std::collections::{HashMap, HashSet};

use sqlx::postgres::PgConnection;
use sqlx::{Acquire, Row as _};
use stores::Postgres as Db;

use super::{slug_of, stored};
use crate::domain::{Error, Idempotency, Link, NewLink, Place, Slug};
use crate::ports::Links;
use crate::target::Target;

/// How often a transaction is tried that another server's got in the way of.
const ATTEMPTS: usize = 3;

/// Links and clicks in Postgres. Clones share the connections.
#[derive(Clone, Debug)]
pub struct Postgres {
    db: Db,
    site: String,
}

/// How a link stands in its table: URL, and when it was created, expires, was deleted.
type Row = (String, i64, Option<i64>, Option<i64>);

/// What was answered under an idempotency key: fingerprint, number, alias.
type Answered = (Vec<u8>, i64, Option<String>);

/// The id of a batch of clicks that is on its way here, and how often one link was followed in it.
pub(super) type Batch = (String, u64);

impl Postgres {
    /// Takes a database whose numbers are permuted by the key with this fingerprint, and claimed `block` at a time.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if its numbers mean something else, or the store's.
    pub async fn new(db: Db, fingerprint: &str, block: u32) -> Result<Self, Error> {
        let meaning = format!("permuted {fingerprint}, {block} at a time");
        let mut connection = db.connection().await?;
        sqlx::query(
            "INSERT INTO numbering (only_row, meaning, site) VALUES (1, $1, left(gen_random_uuid()::text, 8))
             ON CONFLICT DO NOTHING",
        )
        .bind(&meaning)
        .execute(&mut *connection)
        .await
        .map_err(stores::Error::at_commit)?;
        let (found, site): (String, String) = sqlx::query_as("SELECT meaning, site FROM numbering")
            .fetch_one(&mut *connection)
            .await
            .map_err(stores::Error::before_commit)?;
        drop(connection);
        if found != meaning {
            return Err(stores::Error::unavailable(format!(
                "this database numbers its links as `{found}` and this server as `{meaning}`: start it on another \
                 database, or with the code key and key block of the servers that made this one"
            ))
            .into());
        }
        Ok(Self { db, site })
    }

    /// A short text that no other database has: keys of a Redis that several share begin with it.
    #[must_use]
    pub fn site(&self) -> &str {
        &self.site
    }

    /// Forgets answers to idempotency keys, and which batches of clicks were added, from before a time in milliseconds
    /// since 1970.
    ///
    /// # Errors
    /// The store's.
    pub async fn forget_answers(&self, before: u64) -> Result<(), Error> {
        for forget in [
            "DELETE FROM idempotency WHERE key IN (SELECT key FROM idempotency WHERE created_at < $1 LIMIT 5000)",
            "DELETE FROM click_batches WHERE id IN (SELECT id FROM click_batches WHERE added_at < $1 LIMIT 5000)",
        ] {
            // In pieces: all of them at once could take longer than a statement may, and then never come to an end.
            while self.forget_some(forget, before).await? > 0 {}
        }
        Ok(())
    }

    async fn forget_some(&self, forget: &'static str, before: u64) -> Result<u64, stores::Error> {
        Db::answer(async {
            let mut connection = self.db.connection().await?;
            let forgotten = sqlx::query(forget)
                .bind(before.cast_signed())
                .execute(&mut *connection)
                .await;
            Ok(forgotten.map_err(stores::Error::at_commit)?.rows_affected())
        })
        .await
    }
}

impl Links for Postgres {
    async fn insert(&self, links: Vec<NewLink>) -> Vec<Result<Link, Error>> {
        let count = links.len();
        let inserted = Db::answer(async { Ok(self.insert_all(links).await) }).await;
        inserted
            .unwrap_or_else(|error| Err(error.into()))
            .unwrap_or_else(|error| vec![Err(error); count])
    }

    async fn find(&self, slug: &Slug) -> Result<Option<Link>, Error> {
        let mut connection = self.db.connection().await?;
        find(&mut connection, slug).await
    }

    async fn delete(&self, slug: &Slug, at: u64) -> Result<bool, Error> {
        let deleted = Db::answer(async {
            let mut connection = self.db.connection().await?;
            let query = match slug {
                Slug::Code(code) => {
                    sqlx::query("UPDATE links SET deleted_at = $1 WHERE id = $2 AND deleted_at IS NULL")
                        .bind(at.cast_signed())
                        .bind(code.number().cast_signed())
                }
                Slug::Alias(alias) => sqlx::query(
                    "UPDATE links SET deleted_at = $1
                     WHERE id = (SELECT -number FROM aliases WHERE alias = $2) AND deleted_at IS NULL",
                )
                .bind(at.cast_signed())
                .bind(alias.as_str()),
            };
            query.execute(&mut *connection).await.map_err(stores::Error::at_commit)
        });
        Ok(deleted.await?.rows_affected() > 0)
    }

    async fn replay(&self, idempotency: &Idempotency) -> Result<Option<Link>, Error> {
        let mut connection = self.db.connection().await?;
        let key = &*idempotency.key;
        match answers(&mut connection, &[key]).await?.remove(key) {
            Some(answer) => answered(&mut connection, answer, idempotency).await.map(Some),
            None => Ok(None),
        }
    }
}

impl Postgres {
    async fn insert_all(&self, links: Vec<NewLink>) -> Result<Vec<Result<Link, Error>>, Error> {
        let mut connection = self.db.connection().await?;
        if let Some(plain) = links.iter().map(plain).collect::<Option<Vec<_>>>() {
            let inserted = insert_rows(INSERT_ALL, &plain).execute(&mut *connection).await;
            match inserted {
                Ok(_) => return Ok(plain.into_iter().map(|(id, link)| stored(id, link)).collect()),
                // Some number was in use, and nothing was inserted. The generator of codes is broken; finding out whose
                // it was may be slow.
                Err(error) if is_conflict(&error) => {}
                Err(error) => return Err(stores::Error::at_commit(error).into()),
            }
        }
        for _ in 1..ATTEMPTS {
            match insert_with_care(&mut connection, &links).await {
                // Another server answered the same idempotency key at this moment: now its answer can be read.
                Err(Broken::Conflict(_)) => {}
                done => return done.map_err(Error::from),
            }
        }
        Ok(insert_with_care(&mut connection, &links).await?)
    }
}

/// Why a transaction broke off.
enum Broken {
    /// Another transaction was first; nothing was changed.
    Conflict(sqlx::Error),
    /// Anything else.
    Failed(Error),
}

impl From<Broken> for Error {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Conflict(error) => stores::Error::before_commit(error).into(),
            Broken::Failed(error) => error,
        }
    }
}

impl From<sqlx::Error> for Broken {
    fn from(error: sqlx::Error) -> Self {
        if is_conflict(&error) {
            Self::Conflict(error)
        } else {
            Self::Failed(stores::Error::before_commit(error).into())
        }
    }
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// A unique violation, or a deadlock that Postgres broke up.
fn is_conflict(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("23505" | "40P01"))
}

/// A link that needs nothing but a row.
fn plain(link: &NewLink) -> Option<(i64, &NewLink)> {
    match (&link.place, &link.idempotency) {
        (Place::At(code), None) => Some((code.number().cast_signed(), link)),
        _ => None,
    }
}

/// One transaction for links of any kind: known idempotency keys, aliases, rows, new idempotency keys.
async fn insert_with_care(
    connection: &mut PgConnection,
    links: &[NewLink],
) -> Result<Vec<Result<Link, Error>>, Broken> {
    let mut transaction = connection.begin().await?;
    let mut outcomes: Vec<Option<Result<Link, Error>>> = vec![None; links.len()];

    // What was answered before; and within the batch, the first with a new key does the work, and the others get its answer.
    let asked: Vec<(usize, &Idempotency)> = (0..)
        .zip(links)
        .filter_map(|(at, link)| Some((at, link.idempotency.as_ref()?)))
        .collect();
    let keys: Vec<&str> = asked.iter().map(|(_, asked)| &*asked.key).collect();
    let known = answers(&mut transaction, &keys).await?;
    let mut first_with: HashMap<&str, usize> = HashMap::new();
    let mut same_as: HashMap<usize, usize> = HashMap::new();
    for (at, asked) in asked {
        if let Some(answer) = known.get(&*asked.key) {
            outcomes[at] = Some(match answered(&mut transaction, answer.clone(), asked).await {
                Err(error) if !matches!(error, Error::KeyReused) => return Err(error.into()),
                outcome => outcome,
            });
        } else if let Some(&first) = first_with.get(&*asked.key) {
            same_as.insert(at, first);
        } else {
            first_with.insert(&asked.key, at);
        }
    }

    let is_open = |at: &usize| outcomes[*at].is_none() && !same_as.contains_key(at);
    let open: Vec<usize> = (0..links.len()).filter(is_open).collect();
    let mut names = take_names(&mut transaction, open.iter().map(|at| &links[*at])).await?;
    // An alias that is taken may have been taken a moment ago, by the same request on another server, for whose commit the
    // statement above has waited: then its answer is there by now.
    let late: Vec<&str> = open
        .iter()
        .filter_map(|at| match (&links[*at].place, &links[*at].idempotency) {
            (Place::Named(alias), Some(asked)) if !names.contains_key(alias.as_str()) => Some(&*asked.key),
            _ => None,
        })
        .collect();
    let mut late = answers(&mut transaction, &late).await?;
    let mut rows: Vec<(usize, (i64, &NewLink))> = Vec::with_capacity(open.len());
    for at in open {
        let link = &links[at];
        match &link.place {
            Place::At(code) => rows.push((at, (code.number().cast_signed(), link))),
            Place::Named(alias) => match names.remove(alias.as_str()) {
                Some(number) => rows.push((at, (-number, link))),
                None => {
                    let asked = link.idempotency.as_ref();
                    outcomes[at] = Some(match asked.and_then(|asked| Some((late.remove(&*asked.key)?, asked))) {
                        Some((answer, asked)) => answered(&mut transaction, answer, asked).await,
                        None => Err(Error::AliasTaken),
                    });
                }
            },
            Place::Next => outcomes[at] = Some(Err(stores::Error::unavailable("this store does not count").into())),
        }
    }

    let values: Vec<_> = rows.iter().map(|(_, row)| *row).collect();
    let mut written: HashSet<i64> = insert_rows(INSERT_FREE, &values)
        .fetch_all(&mut *transaction)
        .await?
        .iter()
        .map(|row| row.get(0))
        .collect();
    let mut remembered = Vec::new();
    for (at, (id, link)) in rows {
        if written.remove(&id) {
            outcomes[at] = Some(stored(id, link));
            remembered.extend(link.idempotency.as_ref().map(|asked| (asked, id, link)));
        } else {
            tracing::error!(number = id, "a generated code was in use already");
            outcomes[at] = Some(Err(Error::CodeTaken));
        }
    }
    remember(&mut transaction, remembered).await?;
    transaction
        .commit()
        .await
        .map_err(|error| Broken::Failed(stores::Error::at_commit(error).into()))?;

    for (at, first) in same_as {
        let asked = |at: usize| links[at].idempotency.as_ref().map(|asked| asked.fingerprint);
        outcomes[at] = if asked(at) == asked(first) {
            outcomes[first].clone()
        } else {
            Some(Err(Error::KeyReused))
        };
    }
    let unanswered = || Err(stores::Error::unavailable("a link was left without an answer").into());
    Ok(outcomes
        .into_iter()
        .map(|outcome| outcome.unwrap_or_else(unanswered))
        .collect())
}

/// Inserts rows, or, if one of the numbers is in use, nothing.
const INSERT_ALL: &str = "INSERT INTO links (id, url, created_at, expires_at)
     SELECT * FROM UNNEST($1::bigint[], $2::text[], $3::bigint[], $4::bigint[])";

/// Inserts the rows whose numbers are free, and says which.
const INSERT_FREE: &str = "INSERT INTO links (id, url, created_at, expires_at)
     SELECT * FROM UNNEST($1::bigint[], $2::text[], $3::bigint[], $4::bigint[])
     ON CONFLICT (id) DO NOTHING RETURNING id";

type Query = sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments>;

fn insert_rows(statement: &'static str, rows: &[(i64, &NewLink)]) -> Query {
    let (mut ids, mut urls) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
    let (mut created, mut expires) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
    for (id, link) in rows {
        ids.push(*id);
        urls.push(link.target.as_str().to_owned());
        created.push(link.created_at.cast_signed());
        expires.push(link.expires_at.map(u64::cast_signed));
    }
    sqlx::query(statement).bind(ids).bind(urls).bind(created).bind(expires)
}

/// Takes the aliases of these links that are free, in alphabetical order, and gives each its number.
async fn take_names<'a>(
    connection: &mut PgConnection,
    links: impl Iterator<Item = &'a NewLink>,
) -> sqlx::Result<HashMap<String, i64>> {
    let mut names: Vec<&str> = links
        .filter_map(|link| match &link.place {
            Place::Named(alias) => Some(alias.as_str()),
            Place::Next | Place::At(_) => None,
        })
        .collect();
    if names.is_empty() {
        return Ok(HashMap::new());
    }
    names.sort_unstable();
    names.dedup();
    let taken: Vec<(String, i64)> = sqlx::query_as(
        "INSERT INTO aliases (alias) SELECT name FROM UNNEST($1::text[]) AS name
         ON CONFLICT (alias) DO NOTHING RETURNING alias, number",
    )
    .bind(names)
    .fetch_all(connection)
    .await?;
    Ok(taken.into_iter().collect())
}

/// What was answered before under these keys.
async fn answers(connection: &mut PgConnection, keys: &[&str]) -> Result<HashMap<String, Answered>, Error> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let found: Vec<(String, Vec<u8>, i64, Option<String>)> =
        sqlx::query_as("SELECT key, fingerprint, id, alias FROM idempotency WHERE key = ANY($1)")
            .bind(keys)
            .fetch_all(connection)
            .await
            .map_err(stores::Error::before_commit)?;
    let found = found.into_iter();
    Ok(found
        .map(|(key, fingerprint, id, alias)| (key, (fingerprint, id, alias)))
        .collect())
}

/// The link of an answer, if the same was asked for.
async fn answered(
    connection: &mut PgConnection,
    (fingerprint, id, alias): Answered,
    asked: &Idempotency,
) -> Result<Link, Error> {
    if fingerprint != asked.fingerprint {
        return Err(Error::KeyReused);
    }
    let slug = slug_of(id, alias.as_deref())?;
    let link = find(connection, &slug).await?;
    link.ok_or_else(|| stores::Error::unavailable("a stored answer has no link").into())
}

/// Remembers what is answered under new keys, in the order of the keys.
async fn remember(connection: &mut PgConnection, mut answers: Vec<(&Idempotency, i64, &NewLink)>) -> sqlx::Result<()> {
    if answers.is_empty() {
        return Ok(());
    }
    answers.sort_by(|(a, ..), (b, ..)| a.key.cmp(&b.key));
    let alias = |link: &NewLink| match &link.place {
        Place::Named(alias) => Some(alias.as_str().to_owned()),
        Place::Next | Place::At(_) => None,
    };
    sqlx::query(
        "INSERT INTO idempotency (key, fingerprint, id, alias, created_at)
         SELECT * FROM UNNEST($1::text[], $2::bytea[], $3::bigint[], $4::text[], $5::bigint[])",
    )
    .bind(
        answers
            .iter()
            .map(|(asked, ..)| asked.key.to_string())
            .collect::<Vec<_>>(),
    )
    .bind(
        answers
            .iter()
            .map(|(asked, ..)| asked.fingerprint.to_vec())
            .collect::<Vec<_>>(),
    )
    .bind(answers.iter().map(|(_, id, _)| *id).collect::<Vec<_>>())
    .bind(answers.iter().map(|(.., link)| alias(link)).collect::<Vec<_>>())
    .bind(
        answers
            .iter()
            .map(|(.., link)| link.created_at.cast_signed())
            .collect::<Vec<_>>(),
    )
    .execute(connection)
    .await
    .map(drop)
}

async fn find(connection: &mut PgConnection, slug: &Slug) -> Result<Option<Link>, Error> {
    let query = match slug {
        Slug::Code(code) => sqlx::query_as("SELECT url, created_at, expires_at, deleted_at FROM links WHERE id = $1")
            .bind(code.number().cast_signed()),
        Slug::Alias(alias) => sqlx::query_as(
            "SELECT url, created_at, expires_at, deleted_at FROM links
             WHERE id = (SELECT -number FROM aliases WHERE alias = $1)",
        )
        .bind(alias.as_str()),
    };
    let row: Option<Row> = query
        .fetch_optional(connection)
        .await
        .map_err(stores::Error::before_commit)?;
    row.map(|(url, created_at, expires_at, deleted_at)| {
        let target = Target::stored(url);
        Ok(Link {
            slug: slug.clone(),
            target: target.ok_or_else(|| stores::Error::unavailable("a stored URL is not a web address"))?,
            created_at: created_at.cast_unsigned(),
            expires_at: expires_at.map(i64::cast_unsigned),
            deleted: deleted_at.is_some(),
        })
    })
    .transpose()
}

impl Postgres {
    /// Adds a batch of clicks, unless it was added before.
    ///
    /// # Errors
    /// The store's; the batch may be sent again after any of them.
    pub(super) async fn add_batch(&self, batch: &str, at: u64, clicks: &[(Slug, u64)]) -> Result<(), Error> {
        let added = Db::answer(async {
            let mut connection = self.db.connection().await?;
            let mut transaction = connection.begin().await.map_err(stores::Error::before_commit)?;
            let new = sqlx::query("INSERT INTO click_batches (id, added_at) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                .bind(batch)
                .bind(at.cast_signed())
                .execute(&mut *transaction)
                .await
                .map_err(stores::Error::before_commit)?;
            if new.rows_affected() == 0 {
                return Ok(());
            }
            add(&mut transaction, clicks)
                .await
                .map_err(stores::Error::before_commit)?;
            transaction.commit().await.map_err(stores::Error::at_commit)
        });
        Ok(added.await?)
    }

    /// How often a link was followed: what was added, and what of these batches was not added yet. One statement sees a
    /// batch either in the sum or not, never both.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn count_with(&self, slug: &Slug, on_their_way: &[Batch]) -> Result<u64, Error> {
        let (batches, more): (Vec<_>, Vec<_>) = on_their_way
            .iter()
            .map(|(batch, clicks)| (batch.as_str(), clicks.cast_signed()))
            .unzip();
        let (id, alias) = match slug {
            Slug::Code(code) => (Some(code.number().cast_signed()), None),
            Slug::Alias(alias) => (None, Some(alias.as_str())),
        };
        let mut connection = self.db.connection().await?;
        let count: i64 = sqlx::query_scalar(
            "SELECT coalesce((SELECT clicks FROM clicks
                              WHERE id = coalesce($1, (SELECT -number FROM aliases WHERE alias = $2))), 0)
                  + coalesce((SELECT sum(n)::bigint FROM UNNEST($3::text[], $4::bigint[]) AS more (batch, n)
                              WHERE NOT EXISTS (SELECT FROM click_batches WHERE click_batches.id = more.batch)), 0)",
        )
        .bind(id)
        .bind(alias)
        .bind(batches)
        .bind(more)
        .fetch_one(&mut *connection)
        .await
        .map_err(stores::Error::before_commit)?;
        Ok(count.cast_unsigned())
    }
}

/// Adds clicks in the order of their links.
async fn add(connection: &mut PgConnection, clicks: &[(Slug, u64)]) -> sqlx::Result<()> {
    let (mut codes, mut coded, mut aliases, mut named) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (slug, n) in clicks {
        match slug {
            Slug::Code(code) => {
                codes.push(code.number().cast_signed());
                coded.push(n.cast_signed());
            }
            Slug::Alias(alias) => {
                aliases.push(alias.as_str());
                named.push(n.cast_signed());
            }
        }
    }
    sqlx::query(
        "INSERT INTO clicks (id, clicks)
         SELECT id, sum(n) FROM (
             SELECT * FROM UNNEST($1::bigint[], $2::bigint[])
             UNION ALL
             SELECT -number, n FROM UNNEST($3::text[], $4::bigint[]) AS named (name, n) JOIN aliases ON alias = name
         ) AS more (id, n)
         GROUP BY id ORDER BY id
         ON CONFLICT (id) DO UPDATE SET clicks = clicks.clicks + excluded.clicks",
    )
    .bind(codes)
    .bind(coded)
    .bind(aliases)
    .bind(named)
    .execute(connection)
    .await
    .map(drop)
}
