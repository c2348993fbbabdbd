//! How long stage `ordered_tree` takes to come back with so many members, and how many bytes of memory each of them takes.
//!
//! `cargo run --release -p leaderboard --example recovery -- 1000000`: fills one board in a folder of its own, then opens it
//! again, once from a log alone and once from a snapshot as far as there is one. Memory is what the system says this process
//! holds, before and after.

#![expect(clippy::print_stdout, reason = "the figures are this run's result")]

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use leaderboard::adapters::{Bounds, OrderedTree};
use leaderboard::domain::{
    BoardName, Change, Edition, Member, Order, Period, Policy, Ranking, Score, Settings, Submission,
};
use leaderboard::ports::Board;
use ledger::Ledger;
use service::Lifecycle;

const BOUNDS: Bounds = Bounds {
    boards: 10,
    members: 100_000_000,
};

#[tokio::main]
async fn main() -> Result<()> {
    let members: u64 = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "1000000".to_owned())
        .parse()?;
    let folder = tempfile::tempdir_in(".")?;
    let edition = Edition {
        board: BoardName::new("b").context("a name")?,
        number: 0,
        forgotten_at: None,
    };
    let lifecycle = Lifecycle::new();
    let before = resident()?;
    let tree = OrderedTree::open(folder.path(), BOUNDS, &lifecycle, &Ledger::new()).await?;
    let settings = Settings {
        policy: Policy::Sum,
        ranking: Ranking::Ordinal,
        order: Order::HighFirst,
        period: Period::AllTime,
    };
    tree.create(&edition.board, settings).await?;
    for first in (0..members).step_by(1_000) {
        let some = first..members.min(first + 1_000);
        let batch: Option<Vec<Submission>> = some.map(submission).collect();
        for score in tree.load(&edition, batch.context("names and scores")?).await {
            score?;
        }
    }
    println!(
        "{members} members: {:.0} bytes of memory each",
        (resident()? - before) / members as f64
    );
    close(tree, lifecycle).await;
    println!("on disk: {:.0} bytes each", on_disk(folder.path())? / members as f64);
    for _ in 0..3 {
        let lifecycle = Lifecycle::new();
        let began = Instant::now();
        let tree = OrderedTree::open(folder.path(), BOUNDS, &lifecycle, &Ledger::new()).await?;
        let took = began.elapsed();
        ensure!(tree.count(&edition).await? == members, "members are lost");
        println!("read back in {:.2} s", took.as_secs_f64());
        close(tree, lifecycle).await;
    }
    Ok(())
}

/// Names as a game has them, scores in no order.
fn submission(nth: u64) -> Option<Submission> {
    let score = i64::try_from(nth.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44).ok()?;
    Some(Submission {
        member: Member::new(&format!("player-{nth}"))?,
        change: Change::Add(Score::new(score)?),
        event: None,
        at_ms: 0,
    })
}

async fn close(tree: OrderedTree, lifecycle: Lifecycle) {
    drop(tree);
    lifecycle.stop(Duration::from_secs(10)).await;
}

/// Bytes that this process holds.
fn resident() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status").context("this needs Linux")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1_024.0)
}

fn on_disk(folder: &Path) -> Result<f64> {
    let mut bytes = 0;
    for file in std::fs::read_dir(folder)? {
        bytes += file?.metadata()?.len();
    }
    Ok(bytes as f64)
}
