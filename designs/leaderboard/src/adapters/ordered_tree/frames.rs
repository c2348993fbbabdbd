//! Files of frames: `mark, length, checksum, payload`, one after the other. What is appended as one frame is read again as a
//! whole or not at all.
//!
//! # What a crash leaves
//!
//! Each frame is on disk before the next one is written. So only the last can be incomplete, in whatever way: too short, or
//! with holes where pages did not reach the disk. Such a rest is cut off; nobody was told that it was written. But if there
//! is a whole frame somewhere behind one that is not, then this one was whole once, somebody was told so, and now it is
//! damaged. Then nothing is cut off, and the server does not start.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// What each file begins with: a name and a version.
const MAGIC: &[u8; 8] = b"lbboard1";

/// What each frame begins with: no text has this in it.
const MARK: [u8; 4] = [0xf5, b'L', b'B', 0xfa];

/// Bytes of a frame before its payload: the mark, the length of the payload, and the CRC-32 of both these.
const HEAD: usize = 12;

/// A frame that is being filled.
pub(super) struct Frame(Vec<u8>);

impl Frame {
    pub(super) fn new() -> Self {
        Self(vec![0; HEAD])
    }

    /// Bytes of payload up to now.
    pub(super) fn len(&self) -> usize {
        self.0.len() - HEAD
    }

    /// The payload, to be added to.
    pub(super) fn payload(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    /// The frame as it is written.
    ///
    /// # Errors
    /// It is longer than 4 GiB.
    pub(super) fn finish(mut self) -> io::Result<Vec<u8>> {
        let length = u32::try_from(self.len()).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let checksum = checksum(length, &self.0[HEAD..]);
        self.0[..4].copy_from_slice(&MARK);
        self.0[4..8].copy_from_slice(&length.to_le_bytes());
        self.0[8..HEAD].copy_from_slice(&checksum.to_le_bytes());
        Ok(self.0)
    }
}

fn checksum(length: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// What the head of a frame says: the length of the payload and the checksum.
fn head(bytes: [u8; HEAD]) -> Option<(u32, u32)> {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
    ([a, b, c, d] == MARK).then(|| (u32::from_le_bytes([e, f, g, h]), u32::from_le_bytes([i, j, k, l])))
}

/// What a file without frames holds.
pub(super) fn empty() -> &'static [u8] {
    MAGIC
}

/// A file, frame by frame.
pub(super) struct Frames {
    file: BufReader<File>,
    /// Bytes up to the end of the last whole frame, and of the file.
    good: u64,
    end: u64,
    payload: Vec<u8>,
}

/// What comes next in a file.
pub(super) enum Next<'a> {
    /// The payload of a frame.
    Frame(&'a [u8]),
    /// Nothing.
    End,
    /// What a crash left: everything up to this length is whole.
    Torn(u64),
}

impl Frames {
    /// # Errors
    /// It cannot be read, or is no such file.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let end = file.metadata()?.len();
        let mut file = BufReader::with_capacity(1 << 20, file);
        let mut good = 0;
        // A crash may leave one to which nothing was written yet: all of it is torn.
        if end >= MAGIC.len() as u64 {
            let mut magic = [0; MAGIC.len()];
            file.read_exact(&mut magic)?;
            if magic != *MAGIC {
                return Err(damaged("it does not begin as a file of this version does"));
            }
            good = MAGIC.len() as u64;
        }
        Ok(Self {
            file,
            good,
            end,
            payload: Vec::new(),
        })
    }

    /// # Errors
    /// It cannot be read, or is damaged.
    pub(super) fn next(&mut self) -> io::Result<Next<'_>> {
        if self.good == self.end && self.good > 0 {
            return Ok(Next::End);
        }
        if self.good > 0 && self.read_frame()? {
            self.good += (HEAD + self.payload.len()) as u64;
            return Ok(Next::Frame(&self.payload));
        }
        if self.a_frame_follows()? {
            let at = self.good;
            return Err(damaged(&format!(
                "the frame at byte {at} is wrong, and a whole one follows"
            )));
        }
        Ok(Next::Torn(self.good))
    }

    /// Reads the next frame, if it is whole.
    fn read_frame(&mut self) -> io::Result<bool> {
        let left = self.end - self.good;
        let mut bytes = [0; HEAD];
        if left < HEAD as u64 {
            return Ok(false);
        }
        self.file.read_exact(&mut bytes)?;
        let Some((length, sum)) = head(bytes) else {
            return Ok(false);
        };
        if u64::from(length) > left - HEAD as u64 {
            return Ok(false);
        }
        self.payload.clear();
        (&mut self.file).take(length.into()).read_to_end(&mut self.payload)?;
        Ok(checksum(length, &self.payload) == sum)
    }

    /// Whether a whole frame begins anywhere behind the last one that was read.
    fn a_frame_follows(&mut self) -> io::Result<bool> {
        let mut rest = Vec::new();
        self.file.seek(SeekFrom::Start(self.good))?;
        self.file.read_to_end(&mut rest)?;
        let begins = |at: usize| {
            let (bytes, payload) = rest[at..].split_first_chunk::<HEAD>()?;
            let (length, sum) = head(*bytes)?;
            let payload = payload.get(..length as usize)?;
            Some(checksum(length, payload) == sum)
        };
        Ok((1..rest.len()).any(|at| begins(at) == Some(true)))
    }
}

/// A file is not what was written.
pub(super) fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut frame = Frame::new();
        frame.payload().extend(payload);
        frame.finish().unwrap()
    }

    fn file(parts: &[&[u8]]) -> Vec<u8> {
        [empty(), &parts.concat()].concat()
    }

    /// What can be read of a file: its payloads, and the length up to which it is whole if the rest is torn.
    fn read(bytes: &[u8]) -> io::Result<(Vec<Vec<u8>>, Option<u64>)> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), bytes)?;
        let mut frames = Frames::open(file.path())?;
        let mut found = Vec::new();
        loop {
            match frames.next()? {
                Next::Frame(payload) => found.push(payload.to_vec()),
                Next::End => return Ok((found, None)),
                Next::Torn(good) => return Ok((found, Some(good))),
            }
        }
    }

    #[test]
    fn a_file_that_ends_anywhere_is_whole_up_to_its_last_whole_frame() {
        let (first, second) = (frame(b"first"), frame(b"the second"));
        let whole = file(&[&first, &second]);
        let ends = [empty().len(), empty().len() + first.len(), whole.len()];
        for length in 0..=whole.len() {
            let (found, torn) = read(&whole[..length]).unwrap();
            let good = ends.iter().rfind(|end| **end <= length).copied();
            let frames = ends.iter().filter(|end| **end <= length).count().saturating_sub(1);
            assert_eq!(found, [b"first".to_vec(), b"the second".to_vec()][..frames]);
            let expected = (good != Some(length)).then_some(good.unwrap_or_default() as u64);
            assert_eq!(torn, expected, "{length} of {} bytes", whole.len());
        }
    }

    #[test]
    fn holes_in_the_last_frame_are_what_a_crash_left() {
        let first = file(&[&frame(b"first")]);
        let long = frame(&[7; 10_000]);
        for hole in [0..100, 0..4_096, 4_096..8_192, 9_000..10_012] {
            let mut torn = long.clone();
            torn[hole.clone()].fill(0);
            let (found, good) = read(&[first.clone(), torn].concat()).unwrap();
            assert_eq!((found.len(), good), (1, Some(first.len() as u64)), "{hole:?}");
        }
    }

    #[test]
    fn a_last_frame_that_is_wrong_is_cut_off_and_one_before_others_is_damage() {
        let (first, second) = (frame(b"first"), frame(b"the second"));
        let whole = file(&[&first, &second]);
        for byte in empty().len()..whole.len() {
            let mut wrong = whole.clone();
            wrong[byte] ^= 1;
            match read(&wrong) {
                Ok(read) => {
                    assert!(
                        byte >= empty().len() + first.len(),
                        "byte {byte} was cut off with what followed"
                    );
                    assert_eq!(read.1, Some((empty().len() + first.len()) as u64));
                }
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
                    assert!(byte < empty().len() + first.len(), "byte {byte} was in the last frame");
                }
            }
        }
    }

    #[test]
    fn a_file_of_something_else_is_refused() {
        assert_eq!(
            read(b"SQLite format 3\0").unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }
}
