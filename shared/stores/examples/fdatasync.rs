//! How often a disk says "I have it": appends 4 KiB and calls fdatasync, over and over, for a second.
//!
//! `cargo run --release -p stores --example fdatasync -- DIRECTORY`. A durable store that commits each write on its own
//! cannot write more often than this; one that commits in groups is measured in multiples of it. Measure right before and
//! right after: a shared disk drifts.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::{Duration, Instant};

fn main() -> std::io::Result<()> {
    let directory = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let path = std::path::Path::new(&directory).join("fdatasync.probe");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
    let (start, mut synced) = (Instant::now(), 0_u32);
    while start.elapsed() < Duration::from_secs(1) {
        file.write_all(&[0x5a; 4_096])?;
        file.sync_data()?;
        synced += 1;
    }
    let rate = f64::from(synced) / start.elapsed().as_secs_f64();
    std::fs::remove_file(&path)?;
    #[expect(clippy::print_stdout, reason = "the rate is this program's result")]
    {
        println!("{rate:.0}");
    }
    Ok(())
}
