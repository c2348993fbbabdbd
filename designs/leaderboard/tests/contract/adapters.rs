//! The adapters, each in a place of its own.

use leaderboard::adapters::{Bounds, Cuts, OrderedTree, Sharded, SortedSet, Sqlite};
use ledger::Ledger;
use service::Lifecycle;
use stores::Redis;
use testkit::contract::Fixture;

/// Boards that each of them has room for.
pub(crate) const BOARDS: u32 = 60;

pub(crate) async fn sqlite() -> Fixture<Sqlite> {
    let folder = tempfile::tempdir().unwrap();
    let migrations = stores::migrations(&[("boards", include_str!("../../migrations/sqlite/1_boards.sql"))]);
    let db = stores::Sqlite::open(&folder.path().join("db"), &migrations, &Ledger::new()).await;
    Fixture::keeping(Sqlite::new(db.unwrap(), BOARDS.into()), folder)
}

pub(crate) async fn ordered_tree() -> Fixture<OrderedTree> {
    let folder = tempfile::tempdir().unwrap();
    let lifecycle = Lifecycle::new();
    let bounds = Bounds {
        boards: BOARDS as usize,
        members: 10_000,
    };
    let tree = OrderedTree::open(folder.path(), bounds, &lifecycle, &Ledger::new()).await;
    Fixture::keeping(tree.unwrap(), (folder, lifecycle))
}

pub(crate) async fn sorted_set() -> Fixture<SortedSet> {
    let redis = Redis::open(&testkit::engines::redis(), &Ledger::new()).await.unwrap();
    Fixture::new(SortedSet::new(redis, BOARDS.into()))
}

/// Cut where the scores of the contract are, and once where nobody is.
pub(crate) async fn sharded() -> Fixture<Sharded> {
    let cluster = testkit::engines::redis_cluster();
    let redis = Redis::open_cluster(cluster.url(), &Ledger::new()).await.unwrap();
    let cuts = Cuts::new(&[-2, 1, 2, 1_000]).unwrap();
    Fixture::keeping(Sharded::new(&redis, cuts, BOARDS.into()), cluster)
}
