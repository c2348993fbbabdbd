//! What a server says on standard error: kept for messages, searched for its addresses.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::ChildStderr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// Standard error, read by a thread, so that the server never waits for its reader.
#[derive(Debug, Default)]
pub(super) struct Stderr {
    seen: Mutex<Seen>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Seen {
    text: String,
    addr: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    ended: bool,
}

impl Stderr {
    pub(super) fn follow(pipe: ChildStderr) -> Arc<Self> {
        let stderr = Arc::new(Self::default());
        let reader = Arc::clone(&stderr);
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                reader.lock().take_line(&String::from_utf8_lossy(&line));
                reader.news.notify_all();
            }
            reader.lock().ended = true;
            reader.news.notify_all();
        });
        stderr
    }

    /// Both addresses, or nothing when the server ends or is not ready in time.
    pub(super) fn wait_for_addresses(&self, patience: Duration) -> Option<(SocketAddr, SocketAddr)> {
        let undecided = |seen: &mut Seen| !seen.ended && (seen.addr.is_none() || seen.admin.is_none());
        let (seen, _) = self
            .news
            .wait_timeout_while(self.lock(), patience, undecided)
            .expect("no holder panics");
        seen.addr.zip(seen.admin)
    }

    /// Waits until all is read that a dead server has written. Not for ever: a child of the
    /// server may have inherited its standard error and live on.
    pub(super) fn wait_for_end(&self) {
        let patience = Duration::from_secs(1);
        drop(self.news.wait_timeout_while(self.lock(), patience, |seen| !seen.ended));
    }

    pub(super) fn text(&self) -> String {
        self.lock().text.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no holder panics")
    }
}

impl Seen {
    fn take_line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
        let address = |prefix| {
            line.strip_prefix(prefix)
                .and_then(|addr: &str| addr.trim_end().parse().ok())
        };
        self.addr = self.addr.or_else(|| address("listening on http://"));
        self.admin = self.admin.or_else(|| address("admin on http://"));
    }
}
