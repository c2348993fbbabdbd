//! A real browser without a window: what it makes of a page, and what it complains about.
//!
//! It is Chromium, by the name that this system gives it; `scripts/deps` installs it or says how.

use std::env;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a browser may take for one page, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a browser made of a page.
#[derive(Debug)]
pub struct Seen {
    /// The document when it was left.
    pub dom: String,
    /// What was said on the console.
    pub console: Vec<String>,
}

/// When a page is left.
#[derive(Clone, Copy, Debug)]
pub enum Leave {
    /// When it has nothing more to do, or after so much of its own time, which passes as fast as the page lets it.
    WhenIdle(Duration),
    /// When it is loaded, in the time that passes.
    WhenLoaded,
}

/// Opens a page, with a profile that is thrown away.
///
/// # Panics
/// There is no browser, or it fails.
pub fn browse(url: &str, leave: Leave) -> Seen {
    let profile = tempfile::tempdir().expect("a folder for the profile");
    let leave = match leave {
        Leave::WhenIdle(budget) => Some(format!("--virtual-time-budget={}", budget.as_millis())),
        Leave::WhenLoaded => None,
    };
    let child = Command::new(find())
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--enable-logging=stderr",
            "--v=0",
            "--dump-dom",
        ])
        .args(leave)
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the browser starts");
    let output = within(child, PATIENCE);
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "the browser failed: {log}");
    Seen {
        dom: String::from_utf8(output.stdout).expect("a document is text"),
        console: log
            .lines()
            .filter(|line| line.contains(":CONSOLE"))
            .map(str::to_owned)
            .collect(),
    }
}

fn find() -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    ["chromium", "chromium-browser", "google-chrome"]
        .iter()
        .flat_map(|name| env::split_paths(&path).map(move |folder| folder.join(name)))
        .find(|file| file.exists())
        .expect("no Chromium: `make deps` (scripts/deps) installs it or says how")
}

/// Waits for a child and takes what it says; kills it when it takes too long.
fn within(mut child: Child, patience: Duration) -> Output {
    fn all(mut from: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            from.read_to_end(&mut bytes).expect("a pipe can be read");
            bytes
        })
    }
    let stdout = all(child.stdout.take().expect("it was asked for as a pipe"));
    let stderr = all(child.stderr.take().expect("it was asked for as a pipe"));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("it is our child") {
            break status;
        }
        if start.elapsed() > patience {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the browser was not done after {patience:?}");
        }
        thread::sleep(Duration::from_millis(20));
    };
    Output {
        status,
        stdout: stdout.join().expect("a reader does not panic"),
        stderr: stderr.join().expect("a reader does not panic"),
    }
}
