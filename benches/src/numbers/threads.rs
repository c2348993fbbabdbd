//! One thread and the kernel; two threads on two cores.
//!
//! Whatever two cores share travels between their caches, and whoever sleeps has to be woken. The four hand-overs here are
//! the same game of ping-pong with more and more machinery: an atomic flag, a mutex around it, a sleep until it changes, a
//! TCP connection instead of it.

use std::hint::{black_box, spin_loop};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Bench, samples};
use crate::layout::Layout;

/// What one side sends to the other over the loopback.
const MESSAGE: usize = 64;

/// What one thread does.
pub(super) fn alone(bench: &mut Bench<'_>) -> Result<()> {
    bench.number(
        "clock_read",
        "Clock, one reading",
        "std::time::Instant::now() again and again",
        1.0,
        |size| {
            let start = Instant::now();
            for _ in 0..size {
                black_box(Instant::now());
            }
            Ok(start.elapsed())
        },
    )?;
    bench.number("syscall", "System call", "getppid() again and again", 1.0, |size| {
        let start = Instant::now();
        for _ in 0..size {
            black_box(rustix::process::getppid());
        }
        Ok(start.elapsed())
    })
}

/// What two threads do together.
pub(super) fn together(bench: &mut Bench<'_>) -> Result<()> {
    let layout = bench.setup.layout;
    let places = match layout.generator_core {
        Some(_) => "two threads on two cores",
        None => "two threads, not pinned",
    };
    if bench.setup.cores < 2 {
        bench.absent("hand-over between cores: not measured. There is one core.".to_owned());
    } else {
        bench.number(
            "atomic_handover",
            "Hand-over by an atomic",
            format!("{places} pass a turn by an atomic flag, each spins until it has it; half a round trip"),
            0.5,
            |rounds| Ok(spinning(layout, rounds, &AtomicTurn::default())),
        )?;
        bench.number(
            "mutex_handover",
            "Hand-over by a mutex",
            format!("{places} pass a turn that a Mutex guards, each locks until it has it; half a round trip"),
            0.5,
            |rounds| Ok(spinning(layout, rounds, &MutexTurn::default())),
        )?;
    }
    bench.number(
        "thread_wakeup",
        "Thread wake-up",
        format!("{places} pass a turn, each unparks the other and parks; half a round trip"),
        0.5,
        |rounds| Ok(sleeping(layout, rounds)),
    )?;
    loopback(bench, places)
}

/// A turn that one of two players has.
trait Turn: Default + Sync {
    /// Gives it to the other, if it is this player's.
    fn pass(&self, mine: bool) -> bool;
}

#[derive(Default)]
struct AtomicTurn(AtomicBool);

impl Turn for AtomicTurn {
    fn pass(&self, mine: bool) -> bool {
        let has = self.0.load(Ordering::Acquire) == mine;
        if has {
            self.0.store(!mine, Ordering::Release);
        }
        has
    }
}

#[derive(Default)]
struct MutexTurn(Mutex<bool>);

impl Turn for MutexTurn {
    fn pass(&self, mine: bool) -> bool {
        let mut turn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let has = *turn == mine;
        if has {
            *turn = !mine;
        }
        has
    }
}

/// So many rounds between this thread and one on the server's cores.
fn spinning(layout: &Layout, rounds: u64, turn: &impl Turn) -> Duration {
    let play = |mine| {
        for _ in 0..rounds {
            while !turn.pass(mine) {
                spin_loop();
            }
        }
    };
    let ready = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            layout.pin_server();
            ready.wait();
            play(true);
        });
        ready.wait();
        let start = Instant::now();
        play(false);
        start.elapsed()
    })
}

/// The same, but whoever waits sleeps.
fn sleeping(layout: &Layout, rounds: u64) -> Duration {
    let turn = AtomicTurn::default();
    let play = |mine, other: &thread::Thread| {
        for _ in 0..rounds {
            while !turn.pass(mine) {
                thread::park();
            }
            other.unpark();
        }
    };
    let ready = Barrier::new(2);
    let this = thread::current();
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            layout.pin_server();
            ready.wait();
            play(true, &this);
        });
        ready.wait();
        let start = Instant::now();
        play(false, other.thread());
        start.elapsed()
    })
}

fn loopback(bench: &mut Bench<'_>, places: &str) -> Result<()> {
    let layout = bench.setup.layout;
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let mut here = TcpStream::connect(listener.local_addr()?)?;
    let (mut there, _) = listener.accept()?;
    here.set_nodelay(true)?;
    there.set_nodelay(true)?;
    let samples = thread::scope(|scope| {
        scope.spawn(move || {
            layout.pin_server();
            let mut message = [0; MESSAGE];
            // Ends when the other side closes.
            while there.read_exact(&mut message).is_ok() && there.write_all(&message).is_ok() {}
        });
        let mut message = [0; MESSAGE];
        let samples = samples::collect(bench.setup.effort, bench.stop, |size| {
            let start = Instant::now();
            for _ in 0..size {
                here.write_all(&message)?;
                here.read_exact(&mut message)?;
            }
            Ok(start.elapsed())
        });
        drop(here);
        samples
    })?;
    bench.add(
        "loopback_round_trip",
        "Loopback, round trip",
        format!("{places}, {MESSAGE} bytes there and back over TCP on 127.0.0.1, blocking reads"),
        &samples,
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_passes_only_from_whoever_has_it() {
        fn check(turn: &impl Turn) {
            assert!(!turn.pass(true));
            assert!(turn.pass(false));
            assert!(!turn.pass(false));
            assert!(turn.pass(true));
        }
        check(&AtomicTurn::default());
        check(&MutexTurn::default());
    }
}
