//! Every adapter of links, each on a new store, and small links to put into them.

use ledger::Ledger;
use service::Lifecycle;
use tempfile::TempDir;
use testkit::contract::Fixture;
use testkit::engines;
use url_shortener::adapters::{Cached, Grouped, Memory, Numbering, Permuted, Postgres, RedisCached, Sqlite};
use url_shortener::domain::{Alias, Code, Idempotency, NewLink, Place, Slug};
use url_shortener::permutation::Permutation;
use url_shortener::stages;
use url_shortener::target::{Rules, Target};

/// A URL at which every SQLite store of these tests breaks off: a disk error at will.
pub(crate) const TRAP: &str = "https://trap.example/";

pub(crate) fn permutation() -> Permutation {
    Permutation::new(*b"only for testing")
}

pub(crate) async fn open(folder: &TempDir) -> stores::Sqlite {
    let file = folder.path().join("links.db");
    stores::Sqlite::open(&file, &stages::migrations(), &Ledger::new())
        .await
        .unwrap()
}

/// Links in a new SQLite file whose numbers mean what `numbering` says.
async fn numbered(numbering: Numbering) -> (Sqlite, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&folder).await;
    let mut writer = db.writer().await.unwrap();
    sqlx::query(
        "CREATE TRIGGER trap BEFORE INSERT ON links WHEN new.url = 'https://trap.example/'
         BEGIN SELECT raise(ABORT, 'the trap'); END",
    )
    .execute(&mut *writer)
    .await
    .unwrap();
    drop(writer);
    (Sqlite::new(db, &numbering).await.unwrap(), folder)
}

pub(crate) async fn memory() -> Fixture<Memory> {
    Fixture::new(Memory::default())
}

pub(crate) async fn sqlite_counted() -> Fixture<Sqlite> {
    let (sqlite, folder) = numbered(Numbering::Counted).await;
    Fixture::keeping(sqlite, folder)
}

pub(crate) async fn sqlite_drawn() -> Fixture<Sqlite> {
    let (sqlite, folder) = numbered(Numbering::Drawn).await;
    Fixture::keeping(sqlite, folder)
}

pub(crate) async fn cached() -> Fixture<Cached<Sqlite>> {
    let (sqlite, folder) = numbered(Numbering::Counted).await;
    Fixture::keeping(Cached::new(sqlite, 100), folder)
}

pub(crate) async fn grouped() -> Fixture<Grouped<Sqlite>> {
    let (sqlite, folder) = numbered(Numbering::Drawn).await;
    Fixture::keeping(Grouped::new(sqlite, &Lifecycle::new(), &Ledger::new()), folder)
}

pub(crate) async fn permuted() -> Fixture<Permuted<Sqlite>> {
    let (sqlite, folder) = numbered(Numbering::Permuted("test".to_owned())).await;
    Fixture::keeping(Permuted::new(sqlite, permutation()), folder)
}

/// As stage `permuted` has them.
pub(crate) async fn cached_permuted_grouped() -> Fixture<Cached<Permuted<Grouped<Sqlite>>>> {
    let (sqlite, folder) = numbered(Numbering::Permuted("test".to_owned())).await;
    let grouped = Grouped::new(sqlite, &Lifecycle::new(), &Ledger::new());
    Fixture::keeping(Cached::new(Permuted::new(grouped, permutation()), 100), folder)
}

/// A new Postgres database of the stage `shared`.
pub(crate) async fn open_postgres(url: &str) -> stores::Postgres {
    stores::Postgres::open(url, 4, &stages::shared_migrations(), &Ledger::new())
        .await
        .unwrap()
}

pub(crate) async fn open_redis() -> stores::Redis {
    stores::Redis::open(&engines::redis(), &Ledger::new()).await.unwrap()
}

pub(crate) async fn new_postgres() -> Postgres {
    let db = open_postgres(&engines::postgres()).await;
    let mut connection = db.connection().await.unwrap();
    for statement in [
        "CREATE FUNCTION trap() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''the trap''; END'",
        "CREATE TRIGGER trap BEFORE INSERT ON links FOR EACH ROW WHEN (new.url = 'https://trap.example/')
         EXECUTE FUNCTION trap()",
    ] {
        sqlx::query(statement).execute(&mut *connection).await.unwrap();
    }
    drop(connection);
    Postgres::new(db, "test", 1).await.unwrap()
}

pub(crate) async fn postgres() -> Fixture<Postgres> {
    Fixture::new(new_postgres().await)
}

pub(crate) async fn redis_cached() -> Fixture<RedisCached<Postgres>> {
    let links = new_postgres().await;
    let site = links.site().to_owned();
    Fixture::new(RedisCached::new(links, open_redis().await, &site))
}

/// As stage `shared` has them.
pub(crate) async fn permuted_grouped_redis_cached() -> Fixture<Permuted<Grouped<RedisCached<Postgres>>>> {
    let cached = redis_cached().await.adapter().clone();
    let grouped = Grouped::new(cached, &Lifecycle::new(), &Ledger::new());
    Fixture::new(Permuted::new(grouped, permutation()))
}

pub(crate) fn target(url: &str) -> Target {
    Rules::default().check(url).unwrap()
}

pub(crate) fn code(number: u64) -> Slug {
    Slug::Code(Code::new(number).unwrap())
}

pub(crate) fn alias(name: &str) -> Slug {
    Slug::Alias(Alias::new(name).unwrap())
}

/// A link to be made at a name of either kind. All are made in the same millisecond.
pub(crate) fn at(slug: &Slug, url: &str) -> NewLink {
    let place = match slug {
        Slug::Code(code) => Place::At(*code),
        Slug::Alias(alias) => Place::Named(alias.clone()),
    };
    NewLink {
        place,
        target: target(url),
        created_at: 1_000,
        expires_at: None,
        idempotency: None,
    }
}

/// A link to be made wherever the store counts to.
pub(crate) fn next(url: &str) -> NewLink {
    NewLink {
        place: Place::Next,
        ..at(&code(0), url)
    }
}

pub(crate) fn idempotency(key: &str, fingerprint: u8) -> Idempotency {
    Idempotency {
        key: key.into(),
        fingerprint: [fingerprint; 32],
    }
}

/// The same link, asked for under an idempotency key.
pub(crate) fn under(key: &str, fingerprint: u8, link: NewLink) -> NewLink {
    NewLink {
        idempotency: Some(idempotency(key, fingerprint)),
        ..link
    }
}
