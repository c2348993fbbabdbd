//! The disk: how often it says "I have it".
//!
//! Of a page behind the end of a file, and of one in the midst of it. The first makes the file longer, so the file system has
//! to make its own change durable, too, in its own journal; a log that is written over again does without.

use std::io::{Seek, Write};
use std::os::unix::fs::FileExt;
use std::time::Instant;

use anyhow::{Context, Result};

use super::Bench;
use crate::platform;

/// What is written before each fdatasync.
const PAGE: [u8; 4096] = [0x5a; 4096];
/// The pages of the file that is written over: a log of 4 MiB, like SQLite's.
const PAGES: u64 = 1024;

pub(super) fn measure(bench: &mut Bench<'_>) -> Result<()> {
    let root = bench.setup.data_root;
    // It has no name, and is gone with this process whatever happens.
    let mut file = tempfile::tempfile_in(root).with_context(|| format!("cannot write in {}", root.display()))?;
    let filesystem = platform::filesystem(root);
    bench.number(
        "fdatasync",
        "Disk, fdatasync of an append",
        format!("append 4 KiB to a file and call fdatasync, on {filesystem}"),
        1.0,
        |size| {
            // From the start in each batch: where it costs nothing, so many pages would fill the disk.
            file.set_len(0)?;
            file.rewind()?;
            file.sync_all()?;
            let start = Instant::now();
            for _ in 0..size {
                file.write_all(&PAGE)?;
                file.sync_data()?;
            }
            Ok(start.elapsed())
        },
    )?;
    for page in 0..PAGES {
        file.write_all_at(&PAGE, page * PAGE.len() as u64)?;
    }
    file.sync_all()?;
    let mut pages = (0..PAGES).cycle();
    bench.number(
        "fdatasync_overwrite",
        "Disk, fdatasync of an overwrite",
        format!("write 4 KiB over a page of a file and call fdatasync, one page after the other, on {filesystem}"),
        1.0,
        |size| {
            let start = Instant::now();
            for page in pages.by_ref().take(usize::try_from(size)?) {
                file.write_all_at(&PAGE, page * PAGE.len() as u64)?;
                file.sync_data()?;
            }
            Ok(start.elapsed())
        },
    )
}
