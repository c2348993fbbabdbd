//! A temporary Redis or Postgres by hand: the one that tests get.
//!
//! ```text
//! $ cargo run -p testkit --bin test-engine -- postgres
//! postgres://postgres@127.0.0.1:41943/loadbearing_test_4711_0
//! ```
//!
//! It lives until standard input ends (ctrl-D, ctrl-C) or this process is killed, and
//! leaves nothing behind. `tests/engines.rs` kills it with -9 to see that this is so.

use std::io::Write;

fn main() -> anyhow::Result<()> {
    let url = match std::env::args().nth(1).as_deref() {
        Some("redis") => testkit::engines::redis(),
        Some("postgres") => testkit::engines::postgres(),
        _ => {
            eprintln!("usage: test-engine redis|postgres");
            std::process::exit(2);
        }
    };
    writeln!(std::io::stdout(), "{url}")?;
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}
