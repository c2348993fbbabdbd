//! Memory: how long until a byte is here, and how many come in a second.
//!
//! *Latency* is a walk through all lines of a memory larger than any cache, in an order that no prefetcher guesses: each
//! line says where the next one is, so that no two loads overlap. Misses of the address translation are in it, as they are
//! in a program that jumps about. *Bandwidth* is a copy, where all loads overlap.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Result, ensure};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::Bench;

/// A cache line. Its first word says which line comes next.
type Line = [usize; 8];

pub(super) fn measure(bench: &mut Bench<'_>) -> Result<()> {
    let bytes = bench.setup.effort.memory_bytes;
    let size = format!("{} MiB", bytes >> 20);
    bench.stop.check()?;
    let lines = circle(bytes / size_of::<Line>());
    let mut at = 0;
    bench.number(
        "memory_latency",
        "Memory, one random load",
        format!("follow a random circle through all lines of {size}, each load after the one before"),
        1.0,
        |size| {
            let start = Instant::now();
            for _ in 0..size {
                at = lines[at][0];
            }
            black_box(at);
            Ok(start.elapsed())
        },
    )?;
    drop(lines);

    let source = vec![1_u8; bytes / 2];
    let mut target = vec![0_u8; bytes / 2];
    ensure!(source.len() >= 1024, "too little memory to copy");
    let kib = source.len() as f64 / 1024.0;
    bench.number(
        "memory_copy_kb",
        "Memory, copy of 1 KiB",
        format!("copy half of {size} to the other half, by the KiB; what is read is counted, not what is written"),
        1.0 / kib,
        |size| {
            let start = Instant::now();
            for _ in 0..size {
                black_box(&mut target).copy_from_slice(black_box(&source));
            }
            Ok(start.elapsed())
        },
    )
}

/// Lines each of which leads to another, in one circle through all (Sattolo's shuffle).
fn circle(count: usize) -> Vec<Line> {
    let mut lines: Vec<Line> = (0..count).map(|line| [line; 8]).collect();
    let mut rng = SmallRng::seed_from_u64(1);
    for last in (1..count).rev() {
        let other = rng.random_range(0..last);
        lines.swap(last, other);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_walk_visits_every_line_before_it_is_back() {
        let lines = circle(1000);
        let (mut at, mut steps) = (0, 0);
        loop {
            at = lines[at][0];
            steps += 1;
            if at == 0 {
                break;
            }
        }
        assert_eq!(steps, 1000);
    }
}
