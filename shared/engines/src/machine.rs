//! What an engine needs from this machine: a binary, a user, a folder, a port.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::engine::Kind;
use crate::keeper::RunAs;

/// The engine's binary, from `PATH` or the place where a distribution hides it.
pub(crate) fn find_binary(kind: &Kind) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let hidden = kind
        .beside_path
        .map(|(root, below)| versions_under(Path::new(root), below))
        .unwrap_or_default();
    std::env::split_paths(&path)
        .chain(hidden)
        .map(|folder| folder.join(kind.binary))
        .find(|file| file.is_file())
}

/// `root/*/below`, the highest version first.
fn versions_under(root: &Path, below: &str) -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join(below))))
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, folder)| folder).collect()
}

/// Nobody, unless we are root and the engine refuses that.
pub(crate) fn user_for_root(kind: &Kind) -> Result<Option<RunAs>, String> {
    if kind.users_for_root.is_empty() || !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let found = kind.users_for_root.iter().find_map(|user| {
        Some(RunAs {
            uid: id_of(user, "-u")?,
            gid: id_of(user, "-g")?,
        })
    });
    let missing = || {
        format!(
            "{} refuses to run as root, and there is none of the users {:?}",
            kind.name, kind.users_for_root
        )
    };
    found.map(Some).ok_or_else(missing)
}

fn id_of(user: &str, which: &str) -> Option<u32> {
    let output = Command::new("id").args([which, user]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// Whether `user` can get to this folder at all: into a home that is closed to others it cannot.
pub(crate) fn can_enter(user: RunAs, folder: &Path) -> bool {
    let mut command = Command::new("sh");
    command
        .args(["-c", "cd \"$1\"", "sh"])
        .arg(folder)
        .current_dir("/")
        .stderr(Stdio::null());
    user.apply(&mut command);
    command.status().is_ok_and(|status| status.success())
}

/// A new folder below `root`, owned by the user the engine runs as.
pub(crate) fn make_folder(kind: &Kind, root: &Path, run_as: Option<RunAs>) -> Result<PathBuf, String> {
    let problem = |error| format!("cannot make a folder for {} in {}: {error}", kind.name, root.display());
    let folder = tempfile::Builder::new()
        .prefix("loadbearing-")
        .tempdir_in(root)
        .map_err(problem)?;
    if let Some(user) = run_as {
        std::os::unix::fs::chown(folder.path(), Some(user.uid), Some(user.gid)).map_err(problem)?;
    }
    Ok(folder.keep()) // the keeper removes it: a guard here would not run when the owner is killed
}

/// A port that is free now. It may be taken a moment later: the caller tries again.
pub(crate) fn free_port() -> Result<u16, String> {
    free_ports::<1>().map(|[port]| port)
}

/// Several of them, no two the same.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N], String> {
    // All are held until the last is known: one that was given back could come again.
    let mut held = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .and_then(|listener| Ok((listener.local_addr()?.port(), listener)))
            .map_err(|error| format!("there is no free port on this machine: {error}"))?;
        *port = listener.0;
        held.push(listener);
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_comes_first() {
        let root = tempfile::tempdir().unwrap();
        for version in ["9", "16", "15", "common"] {
            std::fs::create_dir(root.path().join(version)).unwrap();
        }
        let order: Vec<_> = versions_under(root.path(), "bin")
            .iter()
            .map(|p| p.strip_prefix(root.path()).unwrap().to_owned())
            .collect();
        assert_eq!(order, [Path::new("16/bin"), Path::new("15/bin"), Path::new("9/bin")]);
    }
}
