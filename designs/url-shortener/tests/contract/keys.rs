//! The contract of keys: whatever dies, no place is given twice.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ledger::Ledger;
use service::Lifecycle;
use sqlx::AssertSqlSafe;
use stores::Blocks as _;
use tempfile::TempDir;
use testkit::contract::Fixture;
use url_shortener::adapters::key_table::Stock;
use url_shortener::adapters::{AutoIncrement, KeyTable, Memory, NumberRanges, Pooled};
use url_shortener::domain::{CODES, Code, Error, Place};
use url_shortener::permutation::Permutation;
use url_shortener::ports::{Keys, Links};

use crate::adapters::{at, code, open, open_postgres, permutation};

/// Longer than any refill takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many codes a claim takes here.
pub(crate) const BLOCK: u32 = 7;

/// One store of keys, on which any number of servers may be opened and closed.
pub(crate) trait Shop {
    type Keys: Keys;

    /// Another server on the same store, as another process would open it.
    async fn open(&self) -> Self::Keys;

    /// How many codes were claimed by all servers together.
    async fn claimed(&self) -> u64;

    /// Makes `word` one of the codes of the next block.
    async fn put_next(&self, word: Code);

    /// Takes away what is left to claim, and every way to make more.
    async fn empty(&self);

    /// Undoes that.
    async fn refill(&self);
}

pub(crate) struct Table(TempDir);

impl Shop for Table {
    type Keys = Pooled<KeyTable>;

    async fn open(&self) -> Pooled<KeyTable> {
        let life = Lifecycle::new();
        let stock = Stock {
            size: 40,
            low_water: 20,
            block: BLOCK,
        };
        let table = KeyTable::open(open(&self.0).await, stock, &life).await.unwrap();
        Pooled::new(table, &life, &Ledger::new())
    }

    async fn claimed(&self) -> u64 {
        mark(&self.0, "SELECT next - 1 FROM marks WHERE name = 'position'").await
    }

    async fn put_next(&self, word: Code) {
        let next = "(SELECT next FROM marks WHERE name = 'position')";
        run(
            &self.0,
            format!("UPDATE keys SET key = {} WHERE position = {next}", word.number()),
        )
        .await;
    }

    async fn empty(&self) {
        let trap = "CREATE TRIGGER dry BEFORE INSERT ON keys BEGIN SELECT raise(ABORT, 'dry'); END";
        run(&self.0, trap.to_owned()).await;
        let all = "UPDATE marks SET next = 1 + (SELECT max(position) FROM keys) WHERE name = 'position'";
        run(&self.0, all.to_owned()).await;
    }

    async fn refill(&self) {
        run(&self.0, "DROP TRIGGER dry".to_owned()).await;
    }
}

pub(crate) struct Ranges(pub(crate) TempDir);

impl Shop for Ranges {
    type Keys = Pooled<NumberRanges<stores::Sqlite>>;

    async fn open(&self) -> Pooled<NumberRanges<stores::Sqlite>> {
        let ranges = NumberRanges::new(open(&self.0).await, permutation(), BLOCK);
        Pooled::new(ranges, &Lifecycle::new(), &Ledger::new())
    }

    async fn claimed(&self) -> u64 {
        mark(&self.0, "SELECT next FROM marks WHERE name = 'number'").await
    }

    async fn put_next(&self, word: Code) {
        let number = permutation().number_of(word).number();
        run(
            &self.0,
            format!("UPDATE marks SET next = {number} WHERE name = 'number'"),
        )
        .await;
    }

    async fn empty(&self) {
        let all = CODES - u64::from(BLOCK) + 1;
        run(&self.0, format!("UPDATE marks SET next = {all} WHERE name = 'number'")).await;
    }

    async fn refill(&self) {
        run(&self.0, "UPDATE marks SET next = 1000 WHERE name = 'number'".to_owned()).await;
    }
}

/// Ranges from Postgres.
pub(crate) struct Claims(String);

impl Claims {
    async fn number(&self, query: String) -> i64 {
        let db = open_postgres(&self.0).await;
        let mut connection = db.connection().await.unwrap();
        sqlx::query_scalar(AssertSqlSafe(query))
            .fetch_one(&mut *connection)
            .await
            .unwrap()
    }

    /// Makes `claim` the next one.
    async fn set(&self, claim: u64) {
        self.number(format!(
            "SELECT setval(pg_get_serial_sequence('claims', 'id'), {claim}, false)"
        ))
        .await;
    }
}

impl Shop for Claims {
    type Keys = Pooled<NumberRanges<stores::Postgres>>;

    async fn open(&self) -> Self::Keys {
        let ranges = NumberRanges::new(open_postgres(&self.0).await, permutation(), BLOCK);
        Pooled::new(ranges, &Lifecycle::new(), &Ledger::new())
    }

    async fn claimed(&self) -> u64 {
        let claims = self.number("SELECT count(*) FROM claims".to_owned()).await;
        claims.cast_unsigned() * u64::from(BLOCK)
    }

    async fn put_next(&self, word: Code) {
        self.set(permutation().number_of(word).number() / u64::from(BLOCK))
            .await;
    }

    async fn empty(&self) {
        self.set(CODES / u64::from(BLOCK)).await;
    }

    async fn refill(&self) {
        self.set(1_000).await;
    }
}

async fn run(folder: &TempDir, statement: String) {
    let db = open(folder).await;
    let mut writer = db.writer().await.unwrap();
    sqlx::query(AssertSqlSafe(statement))
        .execute(&mut *writer)
        .await
        .unwrap();
}

async fn mark(folder: &TempDir, query: &'static str) -> u64 {
    let db = open(folder).await;
    let mut reader = db.reader().await.unwrap();
    let mark: i64 = sqlx::query_scalar(query).fetch_one(&mut *reader).await.unwrap();
    mark.cast_unsigned()
}

async fn key_table() -> Fixture<Table> {
    let folder = tempfile::tempdir().unwrap();
    open(&folder).await;
    Fixture::new(Table(folder))
}

async fn number_ranges() -> Fixture<Ranges> {
    let folder = tempfile::tempdir().unwrap();
    open(&folder).await;
    Fixture::new(Ranges(folder))
}

async fn claims() -> Fixture<Claims> {
    Fixture::new(Claims(testkit::engines::postgres()))
}

/// The next code; waits for a refill if need be, which takers as greedy as these can outrun.
async fn code_from(keys: &impl Keys) -> Code {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let next = tokio::time::timeout(PATIENCE, keys.next());
        match next.await.expect("whoever asks is answered") {
            Ok(Place::At(code)) => return code,
            other => assert!(matches!(other, Err(Error::KeysExhausted)), "{other:?} is no code"),
        }
        assert!(Instant::now() < deadline, "no keys came within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Takes `most` places and fails if one of them, or one of `given`, comes twice.
pub(crate) async fn take_new(keys: &impl Keys, most: usize, given: &mut HashSet<Code>) {
    for _ in 0..most {
        let code = code_from(keys).await;
        assert!(given.insert(code), "{code} was given twice");
    }
}

pub(crate) async fn no_place_is_given_twice_by_one_server<S: Shop>(shop: &S) {
    take_new(&shop.open().await, 150, &mut HashSet::new()).await;
}

pub(crate) async fn two_servers_never_give_the_same_place<S: Shop>(shop: &S) {
    let (here, there) = (shop.open().await, shop.open().await);
    let mut given = HashSet::new();
    for _ in 0..30 {
        take_new(&here, 3, &mut given).await;
        take_new(&there, 2, &mut given).await;
    }
}

pub(crate) async fn a_server_that_starts_again_gives_new_places<S: Shop>(shop: &S) {
    let mut given = HashSet::new();
    for taken in [1, BLOCK as usize, 10, 1] {
        let keys = shop.open().await;
        take_new(&keys, taken, &mut given).await;
        drop(keys); // with what is left of its block
    }
}

async fn many_at_once_get_a_place_each_and_claim_no_more_than_they_need<S: Shop>(shop: &S) {
    let keys = Arc::new(shop.open().await);
    let takers: Vec<_> = (0..20)
        .map(|_| {
            let keys = Arc::clone(&keys);
            tokio::spawn(async move {
                let mut codes = Vec::new();
                for _ in 0..10 {
                    codes.push(code_from(&*keys).await);
                }
                codes
            })
        })
        .collect();
    let mut given = HashSet::new();
    for taker in takers {
        for code in taker.await.unwrap() {
            assert!(given.insert(code), "{code} was given twice");
        }
    }
    assert_eq!(given.len(), 200);
    // A crash now would lose what is left of one block.
    let lost = shop.claimed().await - 200;
    assert!(lost < u64::from(BLOCK), "{lost} codes are claimed and not given");
}

async fn a_reserved_word_is_passed_over<S: Shop>(shop: &S) {
    // The stock is made at the first opening.
    drop(shop.open().await);
    let word = Code::parse("metrics").unwrap();
    assert!(word.is_reserved());
    shop.put_next(word).await;
    let keys = shop.open().await;
    for _ in 0..BLOCK {
        assert!(!code_from(&keys).await.is_reserved());
    }
}

async fn an_empty_store_of_keys_says_so_and_recovers<S: Shop>(shop: &S) {
    let keys = shop.open().await;
    let mut given = HashSet::new();
    take_new(&keys, 1, &mut given).await;
    shop.empty().await;
    take_new(&keys, BLOCK as usize - 1, &mut given).await;
    for _ in 0..3 {
        let refused = keys.next().await;
        assert!(matches!(refused, Err(Error::KeysExhausted)), "{refused:?}");
    }
    shop.refill().await;
    let code = code_from(&keys).await;
    assert!(given.insert(code), "{code} was given twice");
}

testkit::contract! {
    cases: [
        no_place_is_given_twice_by_one_server,
        two_servers_never_give_the_same_place,
        a_server_that_starts_again_gives_new_places,
        many_at_once_get_a_place_each_and_claim_no_more_than_they_need,
        a_reserved_word_is_passed_over,
        an_empty_store_of_keys_says_so_and_recovers,
    ],
    key_table,
    number_ranges,
    claims,
}

#[test]
fn auto_increment_leaves_the_place_to_the_store() {
    testkit::contract::run(async {
        assert_eq!(AutoIncrement.next().await.unwrap(), Place::Next);
    });
}

#[test]
fn a_stock_of_one_key_is_made_again_and_again() {
    testkit::contract::run(async {
        let folder = tempfile::tempdir().unwrap();
        let life = Lifecycle::new();
        let stock = Stock {
            size: 1,
            low_water: 0,
            block: 1,
        };
        let table = KeyTable::open(open(&folder).await, stock, &life).await.unwrap();
        let keys = Pooled::new(table, &life, &Ledger::new());
        take_new(&keys, 5, &mut HashSet::new()).await;
    });
}

#[test]
fn ten_thousand_drawn_keys_are_all_different_and_not_in_order() {
    testkit::contract::run(async {
        let folder = tempfile::tempdir().unwrap();
        let stock = Stock {
            size: 10_000,
            low_water: 0,
            block: 10_000,
        };
        let table = KeyTable::open(open(&folder).await, stock, &Lifecycle::new())
            .await
            .unwrap();
        let keys: Vec<u64> = table.claim().await.unwrap().map(Code::number).collect();
        assert_eq!(keys.iter().collect::<HashSet<_>>().len(), 10_000);
        let near = keys
            .windows(2)
            .filter(|pair| pair[0].abs_diff(pair[1]) < CODES / 1_000_000);
        assert!(near.count() < 5, "neighbours give each other away");
        let rising = keys.windows(2).filter(|pair| pair[0] < pair[1]).count();
        assert!((4_700..5_300).contains(&rising), "{rising}");
    });
}

#[test]
fn a_server_with_another_code_key_gives_other_codes_for_the_same_numbers() {
    testkit::contract::run(async {
        let folder = tempfile::tempdir().unwrap();
        let links = Memory::default();
        let ranges = NumberRanges::new(open(&folder).await, Permutation::new([9; 16]), 3);
        for (number, code_given) in (0..).zip(ranges.claim().await.unwrap()) {
            assert_ne!(permutation().code_of(Code::new(number).unwrap()), code_given);
            let made = links
                .insert(vec![at(&code(code_given.number()), "https://example.com/")])
                .await;
            assert!(made[0].is_ok());
        }
    });
}
