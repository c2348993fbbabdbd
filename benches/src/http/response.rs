//! Reads HTTP/1.1 answers out of whatever slices the socket hands over.
//!
//! The common case is one read that holds one whole answer: it is parsed in place and nothing is copied. Only an answer
//! that arrives in pieces is gathered in a buffer. The same reader serves the generator (non-blocking) and the blocking
//! client. It keeps at most [`MAX_ANSWER`] bytes of one answer, so that a server cannot make the lab grow without bound.

use std::fmt;
use std::mem::MaybeUninit;

use httparse::{Header, ParserConfig, Status};

/// The largest answer that is accepted, head and framing included, in bytes.
pub const MAX_ANSWER: usize = 16 * 1024 * 1024;
const MAX_HEADERS: usize = 64;

/// One answer, borrowed from the buffer that it arrived in.
#[derive(Debug)]
pub struct Response<'a> {
    /// The status code.
    pub status: u16,
    /// The headers in the order they were sent.
    pub headers: &'a [Header<'a>],
    /// The body, without its chunk framing.
    pub body: &'a [u8],
    /// Whether the connection may carry another request.
    pub keep_alive: bool,
}

impl Response<'_> {
    /// The first header of this name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .find(|h| h.name.eq_ignore_ascii_case(name))
            .map(|h| h.value)
    }
}

/// Why bytes are not an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadAnswer {
    /// The head is not HTTP/1.x.
    Head(httparse::Error),
    /// Two lengths that differ, or one that is no number.
    Length,
    /// A chunk header that is no hexadecimal number, or a chunk without its line end.
    Chunk,
    /// More than [`MAX_ANSWER`] bytes.
    TooLarge,
    /// Bytes behind the end of the answer, to a request nobody sent.
    Trailing,
    /// The connection was closed inside the answer, or before it.
    Closed,
}

impl fmt::Display for BadAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head(error) => write!(f, "the answer is not HTTP/1.1 ({error})"),
            Self::Length => write!(f, "the answer's content-length is not one number"),
            Self::Chunk => write!(f, "the answer's chunked framing is broken"),
            Self::TooLarge => write!(f, "the answer is larger than 16 MiB"),
            Self::Trailing => write!(f, "bytes behind the end of the answer"),
            Self::Closed => write!(f, "the server closed the connection before the answer was complete"),
        }
    }
}

impl std::error::Error for BadAnswer {}

/// How the end of a body is found (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(usize),
    /// `at` is the offset of the next chunk header that has not been seen whole.
    Chunked {
        at: usize,
    },
    UntilClose,
}

/// What is known of the answer once its head is complete.
#[derive(Debug, Clone, Copy)]
struct Head {
    /// Where the body begins.
    body: usize,
    framing: Framing,
    keep_alive: bool,
    status: u16,
}

/// The state of one connection's incoming half.
#[derive(Debug, Default)]
pub struct ResponseReader {
    pending: Vec<u8>,
    /// The framing of a pending answer, so that a long body is not searched for its head again on each read.
    head: Option<Head>,
}

impl ResponseReader {
    /// Takes the next bytes from the socket. When they complete the answer, `done` sees it and its value is returned.
    ///
    /// `no_body` says that the request was a HEAD: its answer has a length but no body.
    ///
    /// # Errors
    /// [`BadAnswer`]; the connection is of no further use then.
    pub fn push<R>(
        &mut self,
        bytes: &[u8],
        no_body: bool,
        done: impl FnOnce(&Response<'_>) -> R,
    ) -> Result<Option<R>, BadAnswer> {
        if self.pending.is_empty() {
            let result = advance(bytes, &mut self.head, no_body, false, done);
            if matches!(result, Ok(None)) {
                self.pending.extend_from_slice(bytes);
            } else {
                self.head = None;
            }
            return result;
        }
        if self.pending.len() + bytes.len() > MAX_ANSWER {
            return Err(BadAnswer::TooLarge);
        }
        self.pending.extend_from_slice(bytes);
        self.advance_pending(no_body, false, done)
    }

    /// The peer closed: an answer that lasts until then is complete now, any other is cut off.
    ///
    /// # Errors
    /// [`BadAnswer::Closed`] when no whole answer is there.
    pub fn end<R>(&mut self, no_body: bool, done: impl FnOnce(&Response<'_>) -> R) -> Result<R, BadAnswer> {
        self.advance_pending(no_body, true, done)?.ok_or(BadAnswer::Closed)
    }

    /// Forgets a half-read answer (the connection is replaced).
    pub fn reset(&mut self) {
        self.pending.clear();
        self.head = None;
    }

    fn advance_pending<R>(
        &mut self,
        no_body: bool,
        closed: bool,
        done: impl FnOnce(&Response<'_>) -> R,
    ) -> Result<Option<R>, BadAnswer> {
        let result = advance(&self.pending, &mut self.head, no_body, closed, done);
        if !matches!(result, Ok(None)) {
            self.reset();
        }
        result
    }
}

/// Looks whether `bytes` hold one whole answer. `known` remembers the head between calls on a growing buffer.
fn advance<R>(
    bytes: &[u8],
    known: &mut Option<Head>,
    no_body: bool,
    closed: bool,
    done: impl FnOnce(&Response<'_>) -> R,
) -> Result<Option<R>, BadAnswer> {
    if let Some(head) = known
        && end_of(bytes, head, closed)?.is_none()
    {
        return Ok(None);
    }
    let mut start = 0;
    loop {
        let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let mut answer = httparse::Response::new(&mut []);
        let parsed = ParserConfig::default()
            .parse_response_with_uninit_headers(&mut answer, &bytes[start..], &mut headers)
            .map_err(BadAnswer::Head)?;
        let Status::Complete(length) = parsed else {
            return Ok(None);
        };
        let status = answer.code.unwrap_or(0);
        if (100..200).contains(&status) && status != 101 {
            start += length; // 100 Continue, 103 Early Hints: the real answer follows
            continue;
        }
        let mut head = match known {
            Some(head) => *head,
            None => read_head(&answer, start + length, no_body)?,
        };
        let Some((end, decoded)) = finish(bytes, &mut head, closed)? else {
            *known = Some(head);
            return Ok(None);
        };
        if end < bytes.len() {
            return Err(BadAnswer::Trailing);
        }
        return Ok(Some(done(&Response {
            status: head.status,
            headers: answer.headers,
            body: decoded.as_deref().unwrap_or(&bytes[head.body..end]),
            keep_alive: head.keep_alive,
        })));
    }
}

/// Where an answer ends, and its body where that had to be put together from chunks.
type Finished = (usize, Option<Vec<u8>>);

/// `None` while bytes are missing.
fn finish(bytes: &[u8], head: &mut Head, closed: bool) -> Result<Option<Finished>, BadAnswer> {
    let Some(end) = end_of(bytes, head, closed)? else {
        return Ok(None);
    };
    let decoded = match head.framing {
        Framing::Chunked { .. } => Some(join_chunks(bytes, head.body)?),
        _ => None,
    };
    Ok(Some((end, decoded)))
}

fn end_of(bytes: &[u8], head: &mut Head, closed: bool) -> Result<Option<usize>, BadAnswer> {
    match &mut head.framing {
        Framing::Length(length) => {
            let end = head.body.checked_add(*length).ok_or(BadAnswer::TooLarge)?;
            if end > MAX_ANSWER {
                return Err(BadAnswer::TooLarge);
            }
            Ok((bytes.len() >= end).then_some(end))
        }
        Framing::UntilClose => Ok(closed.then_some(bytes.len())),
        Framing::Chunked { at } => loop {
            match chunk(bytes, *at)? {
                None => return Ok(None),
                Some(Chunk::Data { next, .. }) => *at = next,
                Some(Chunk::End(end)) => return Ok(Some(end)),
            }
        },
    }
}

enum Chunk {
    Data { from: usize, to: usize, next: usize },
    End(usize),
}

/// The chunk whose header begins at `at`, when all of it is there.
fn chunk(bytes: &[u8], at: usize) -> Result<Option<Chunk>, BadAnswer> {
    let rest = bytes.get(at..).unwrap_or_default();
    let Status::Complete((header, size)) = httparse::parse_chunk_size(rest).map_err(|_| BadAnswer::Chunk)? else {
        return Ok(None);
    };
    let size = usize::try_from(size).map_err(|_| BadAnswer::TooLarge)?;
    if size > MAX_ANSWER {
        return Err(BadAnswer::TooLarge);
    }
    let from = at + header;
    if size == 0 {
        let mut trailers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let trailer = httparse::parse_headers(&bytes[from..], &mut trailers).map_err(|_| BadAnswer::Chunk)?;
        return Ok(match trailer {
            Status::Complete((length, _)) => Some(Chunk::End(from + length)),
            Status::Partial => None,
        });
    }
    let to = from + size;
    match bytes.get(to..to + 2) {
        None => Ok(None),
        Some(b"\r\n") => Ok(Some(Chunk::Data { from, to, next: to + 2 })),
        Some(_) => Err(BadAnswer::Chunk),
    }
}

fn join_chunks(bytes: &[u8], mut at: usize) -> Result<Vec<u8>, BadAnswer> {
    let mut body = Vec::new();
    while let Some(Chunk::Data { from, to, next }) = chunk(bytes, at)? {
        body.extend_from_slice(&bytes[from..to]);
        at = next;
    }
    Ok(body)
}

fn read_head(answer: &httparse::Response<'_, '_>, body: usize, no_body: bool) -> Result<Head, BadAnswer> {
    let status = answer.code.unwrap_or(0);
    let mut keep_alive = answer.version == Some(1);
    let mut length = None;
    let mut chunked = false;
    for header in answer.headers.iter() {
        let name = header.name;
        if name.eq_ignore_ascii_case("content-length") {
            let value = parse_length(header.value).ok_or(BadAnswer::Length)?;
            if length.is_some_and(|other| other != value) {
                return Err(BadAnswer::Length);
            }
            length = Some(value);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = has_token(header.value, "chunked");
        } else if name.eq_ignore_ascii_case("connection") {
            if has_token(header.value, "close") {
                keep_alive = false;
            } else if has_token(header.value, "keep-alive") {
                keep_alive = true;
            }
        }
    }
    let framing = if no_body || status == 204 || status == 304 {
        Framing::Length(0)
    } else if chunked {
        Framing::Chunked { at: body }
    } else {
        length.map_or(Framing::UntilClose, Framing::Length)
    };
    if framing == Framing::UntilClose {
        keep_alive = false;
    }
    Ok(Head {
        body,
        framing,
        keep_alive,
        status,
    })
}

fn parse_length(value: &[u8]) -> Option<usize> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Whether a comma-separated header value holds this word.
fn has_token(value: &[u8], token: &str) -> bool {
    value
        .split(|&b| b == b',')
        .any(|part| part.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Status, body, keep-alive of each answer; the bytes arrive in slices of the given sizes.
    fn read(bytes: &[u8], sizes: &[usize], no_body: bool) -> Result<Option<(u16, Vec<u8>, bool)>, BadAnswer> {
        let mut reader = ResponseReader::default();
        let mut rest = bytes;
        let mut sizes = sizes.iter().cycle();
        while !rest.is_empty() {
            let n = (*sizes.next().unwrap()).clamp(1, rest.len());
            let seen = reader.push(&rest[..n], no_body, |r| (r.status, r.body.to_vec(), r.keep_alive))?;
            rest = &rest[n..];
            if seen.is_some() {
                assert!(rest.is_empty(), "finished early with {} bytes left", rest.len());
                return Ok(seen);
            }
        }
        Ok(None)
    }

    const LENGTH: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    const CHUNKED: &[u8] =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nTrailer: t\r\n\r\n";

    #[test]
    fn a_whole_answer_is_read_at_once() {
        assert_eq!(
            read(LENGTH, &[4096], false).unwrap(),
            Some((200, b"hello".to_vec(), true))
        );
        assert_eq!(
            read(CHUNKED, &[4096], false).unwrap(),
            Some((200, b"hello world".to_vec(), true))
        );
    }

    proptest! {
        #[test]
        fn slices_do_not_change_the_answer(sizes in prop::collection::vec(1usize..20, 1..12)) {
            prop_assert_eq!(read(LENGTH, &sizes, false).unwrap(), Some((200, b"hello".to_vec(), true)));
            prop_assert_eq!(read(CHUNKED, &sizes, false).unwrap(), Some((200, b"hello world".to_vec(), true)));
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), sizes in prop::collection::vec(1usize..40, 1..6)) {
            let _ = read(&bytes, &sizes, false);
        }

        #[test]
        fn a_damaged_answer_never_panics(at in 0usize..CHUNKED.len(), byte in any::<u8>(), sizes in prop::collection::vec(1usize..40, 1..6)) {
            let mut bytes = CHUNKED.to_vec();
            bytes[at] = byte;
            let mut reader = ResponseReader::default();
            let mut rest = &bytes[..];
            for n in sizes.iter().cycle() {
                let n = (*n).min(rest.len());
                if n == 0 || !matches!(reader.push(&rest[..n], false, |_| ()), Ok(None)) {
                    break;
                }
                rest = &rest[n..];
            }
        }
    }

    #[test]
    fn answers_without_a_body() {
        let no_content = b"HTTP/1.1 204 No Content\r\n\r\n";
        let not_modified = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n";
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(read(no_content, &[9], false).unwrap(), Some((204, vec![], true)));
        assert_eq!(read(not_modified, &[9], false).unwrap(), Some((304, vec![], true)));
        assert_eq!(read(head, &[9], true).unwrap(), Some((200, vec![], true)));
        assert_eq!(read(head, &[9], false).unwrap(), None);
    }

    #[test]
    fn interim_answers_are_skipped() {
        let bytes = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n";
        for size in [1, 7, 500] {
            assert_eq!(read(bytes, &[size], false).unwrap(), Some((302, vec![], true)));
        }
    }

    #[test]
    fn who_closes_says_so() {
        let close = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx";
        let old = b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx";
        let old_kept = b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\nx";
        assert!(!read(close, &[99], false).unwrap().unwrap().2);
        assert!(!read(old, &[99], false).unwrap().unwrap().2);
        assert!(read(old_kept, &[99], false).unwrap().unwrap().2);
    }

    #[test]
    fn a_body_until_close_ends_there() {
        let mut reader = ResponseReader::default();
        assert!(matches!(
            reader.push(b"HTTP/1.1 200 OK\r\n\r\nabc", false, |_| ()),
            Ok(None)
        ));
        assert!(matches!(reader.push(b"def", false, |_| ()), Ok(None)));
        let body = reader.end(false, |r| (r.body.to_vec(), r.keep_alive)).unwrap();
        assert_eq!(body, (b"abcdef".to_vec(), false));
    }

    #[test]
    fn a_cut_answer_is_an_error() {
        let mut reader = ResponseReader::default();
        assert!(matches!(
            reader.push(&LENGTH[..LENGTH.len() - 1], false, |_| ()),
            Ok(None)
        ));
        assert_eq!(reader.end(false, |_| ()), Err(BadAnswer::Closed));
        assert_eq!(ResponseReader::default().end(false, |_| ()), Err(BadAnswer::Closed));
    }

    #[test]
    fn broken_framing_is_an_error() {
        let bad = |bytes: &[u8]| read(bytes, &[4096], false).unwrap_err();
        assert!(matches!(bad(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), BadAnswer::Head(_)));
        assert_eq!(bad(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), BadAnswer::Length);
        assert_eq!(
            bad(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"),
            BadAnswer::Length
        );
        assert_eq!(
            bad(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
            BadAnswer::Chunk
        );
        assert_eq!(
            bad(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc0\r\n\r\n"),
            BadAnswer::Chunk
        );
        assert_eq!(
            bad(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"),
            BadAnswer::TooLarge
        );
        assert_eq!(
            bad(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxyz"),
            BadAnswer::Trailing
        );
    }
}
