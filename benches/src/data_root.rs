//! Where servers, engines and measurements keep their data while the lab runs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The directory that was asked for, or [`beside_executable`].
///
/// # Errors
/// It is not a directory, or nobody says where the executable is.
pub fn of(given: Option<&Path>) -> Result<PathBuf> {
    let Some(root) = given else {
        return beside_executable();
    };
    ensure!(root.is_dir(), "--data-root: {} is not a directory", root.display());
    Ok(root.to_owned())
}

/// Beside the executable, because that is a disk wherever the build is; the system's temporary directory is often memory,
/// where an fsync costs nothing.
///
/// # Errors
/// The system does not say where the executable is.
pub fn beside_executable() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find the lab's own executable")?;
    let root = own.with_file_name("lab-data");
    Ok(match std::fs::create_dir_all(&root) {
        Ok(()) => root,
        Err(_) => std::env::temp_dir(),
    })
}
