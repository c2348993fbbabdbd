//! Redis: a command at a time, and a hundred in one packet.
//!
//! One at a time, what is measured is the round trip; the command itself is a small part of it, whichever it is. In a
//! pipeline the round trip is shared by a hundred, and what is left is the command, the client's work for it included.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use redis::io::tcp::TcpSettings;
use redis::{Client, Cmd, Connection, IntoConnectionInfo, Value, cmd, pipe};

use super::{Bench, databases};

/// Commands in one pipeline.
const PIPELINE: usize = 100;
/// Keys that GET and SET draw from.
const KEYS: usize = 10_000;
/// Members of the sorted set.
const MEMBERS: usize = 100_000;
/// The length of a value in bytes.
const VALUE: [u8; 100] = [b'x'; 100];
/// An engine that answers later than this hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// Makes the next command.
type Next = fn(&mut SmallRng) -> Cmd;

pub(super) fn measure(bench: &mut Bench<'_>) -> Result<()> {
    let Some((engines, version)) = bench.engine("redis")? else {
        return Ok(());
    };
    let address = databases::url(&engines)?.into_connection_info()?;
    let address = address.set_tcp_settings(TcpSettings::default().set_nodelay(true));
    let mut connection = Client::open(address)?.get_connection_with_timeout(PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    fill(&mut connection)?;

    let how = format!("{version} on the server's cores, one connection, append-only file, fsync every second");
    let commands: [(&str, &str, &str, &str, String, Next); 4] = [
        (
            "redis_get",
            "Redis GET, one at a time",
            "redis_get_pipelined",
            "Redis GET, 100 pipelined",
            format!("GET of {} bytes, {KEYS} keys", VALUE.len()),
            |rng| cmd("GET").arg(key(rng.random_range(0..KEYS))).take(),
        ),
        (
            "redis_set",
            "Redis SET, one at a time",
            "redis_set_pipelined",
            "Redis SET, 100 pipelined",
            format!("SET of {} bytes, {KEYS} keys", VALUE.len()),
            |rng| set(rng.random_range(0..KEYS)),
        ),
        (
            "redis_zadd",
            "Redis ZADD, one at a time",
            "redis_zadd_pipelined",
            "Redis ZADD, 100 pipelined",
            format!("ZADD of a new score to one of {MEMBERS} members"),
            |rng| add(rng.random_range(0..MEMBERS), rng),
        ),
        (
            "redis_zrevrank",
            "Redis ZREVRANK, one at a time",
            "redis_zrevrank_pipelined",
            "Redis ZREVRANK, 100 pipelined",
            format!("ZREVRANK of one of {MEMBERS} members"),
            |rng| {
                cmd("ZREVRANK")
                    .arg("board")
                    .arg(member(rng.random_range(0..MEMBERS)))
                    .take()
            },
        ),
    ];
    for (key, what, pipelined_key, pipelined, command, next) in commands {
        let mut rng = SmallRng::seed_from_u64(1);
        bench.number(key, what, format!("{how}: {command}"), 1.0, |size| {
            let start = Instant::now();
            for _ in 0..size {
                found(&next(&mut rng).query(&mut connection)?)?;
            }
            Ok(start.elapsed())
        })?;
        bench.number(
            pipelined_key,
            pipelined,
            format!("{how}: {command}, {PIPELINE} in a pipeline; by the command"),
            1.0 / PIPELINE as f64,
            |size| {
                let start = Instant::now();
                for _ in 0..size {
                    let commands = (0..PIPELINE).map(|_| next(&mut rng));
                    send(&mut connection, commands)?.iter().try_for_each(found)?;
                }
                Ok(start.elapsed())
            },
        )?;
    }
    Ok(())
}

/// Whether there was an answer with something in it: a command that finds nothing is a cheaper one.
fn found(answer: &Value) -> Result<()> {
    ensure!(*answer != Value::Nil, "Redis has lost what was written into it");
    Ok(())
}

fn fill(connection: &mut Connection) -> Result<()> {
    let mut rng = SmallRng::seed_from_u64(2);
    let keys: Vec<usize> = (0..KEYS).collect();
    for some in keys.chunks(1000) {
        send(connection, some.iter().map(|&number| set(number)))?;
    }
    let members: Vec<usize> = (0..MEMBERS).collect();
    for some in members.chunks(1000) {
        send(connection, some.iter().map(|&number| add(number, &mut rng)))?;
    }
    Ok(())
}

fn send(connection: &mut Connection, commands: impl Iterator<Item = Cmd>) -> Result<Vec<Value>> {
    let mut pipeline = pipe();
    for command in commands {
        pipeline.add_command(command);
    }
    Ok(pipeline.query(connection)?)
}

fn key(number: usize) -> String {
    format!("key:{number}")
}

fn member(number: usize) -> String {
    format!("member:{number}")
}

fn set(number: usize) -> Cmd {
    cmd("SET").arg(key(number)).arg(&VALUE).take()
}

fn add(number: usize, rng: &mut SmallRng) -> Cmd {
    let score: u32 = rng.random_range(0..1_000_000);
    cmd("ZADD").arg("board").arg(score).arg(member(number)).take()
}
