//! A small disk of a test's own, to be filled.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A file system with room for the database and for a log of the usual four megabytes, unmounted at the end.
#[derive(Debug)]
pub struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// None where this user may not mount one.
    ///
    /// # Panics
    /// Where there is no folder for temporary files.
    #[must_use]
    pub fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a machine that runs tests has room for a folder");
        let mut command = Command::new("mount");
        command
            .args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"])
            .arg(folder.path());
        let mounted = command.output().is_ok_and(|output| output.status.success());
        mounted.then_some(Self { folder })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    fn filler(&self) -> PathBuf {
        self.folder.path().join("filler")
    }

    /// Takes all the space there is.
    ///
    /// # Panics
    /// When it is full already.
    pub fn fill(&self) {
        let mut file = std::fs::File::create(self.filler()).expect("a name fits in");
        while file.write_all(&[0; 4096]).is_ok() {}
        while file.write_all(&[0]).is_ok() {}
    }

    /// Gives back what [`SmallDisk::fill`] took.
    ///
    /// # Panics
    /// When it took nothing.
    pub fn free(&self) {
        std::fs::remove_file(self.filler()).expect("it was filled");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).output();
    }
}
