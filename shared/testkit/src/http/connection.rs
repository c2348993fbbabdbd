//! One connection: bytes out, answers in, one at a time.
//!
//! What has been read beyond one answer is kept for the next, so that pipelined answers
//! and an early 100 Continue come out in order.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::Answer;

/// How long a read or write may take before it is an error of kind `WouldBlock`: longer
/// than any server's own deadline, short enough that a test ends.
const PATIENCE: Duration = Duration::from_secs(20);

/// More headers than any of our servers sends.
const MAX_HEADERS: usize = 64;

/// An open connection and what has been read from it but not used yet.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Connection {
    /// Connects. Reads and writes give up after 20 s.
    ///
    /// # Errors
    /// When nobody listens at `addr`.
    pub fn open(addr: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            unread: Vec::new(),
        })
    }

    /// The socket, for time-outs, half-closing and other unkindness.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Writes these bytes.
    ///
    /// # Errors
    /// When the server has closed the connection.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes)
    }

    /// Reads the next answer to anything but a HEAD request.
    ///
    /// # Errors
    /// `UnexpectedEof` when the connection ends first, `InvalidData` when it is not HTTP.
    pub fn read(&mut self) -> Result<Answer> {
        self.read_answer_to("GET")
    }

    /// Reads the next answer, knowing the method: an answer to HEAD announces a length and
    /// has no body. Interim answers (100 Continue) are passed over.
    ///
    /// # Errors
    /// As [`Connection::read`].
    pub fn read_answer_to(&mut self, method: &str) -> Result<Answer> {
        loop {
            let mut answer = self.read_head()?;
            if (100..200).contains(&answer.status) && answer.status != 101 {
                continue;
            }
            if !(method == "HEAD" || matches!(answer.status, 101 | 204 | 304)) {
                answer.body = self.read_body(&answer)?;
            }
            return Ok(answer);
        }
    }

    /// Whether the server closes this connection: waits until it does, or sends something.
    ///
    /// # Errors
    /// When it does neither within 20 s.
    pub fn is_closed(&mut self) -> Result<bool> {
        if !self.unread.is_empty() {
            return Ok(false);
        }
        match self.fill() {
            Ok(()) => Ok(false),
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn read_head(&mut self) -> Result<Answer> {
        loop {
            if let Some((answer, length)) = parse_head(&self.unread)? {
                self.unread.drain(..length);
                return Ok(answer);
            }
            self.fill()?;
        }
    }

    fn read_body(&mut self, head: &Answer) -> Result<Vec<u8>> {
        if head
            .header("transfer-encoding")
            .is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
        {
            return self.read_chunks();
        }
        match head.header("content-length") {
            Some(length) => self.take(
                length
                    .parse()
                    .map_err(|_| invalid("a Content-Length that is not a number"))?,
            ),
            None => self.read_to_end(),
        }
    }

    fn read_chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let size = self.take_line()?;
            let size = size.split(';').next().unwrap_or_default().trim(); // extensions are of no interest
            match usize::from_str_radix(size, 16).map_err(|_| invalid("a chunk size that is not a number"))? {
                0 => break,
                size => body.extend(self.take(size)?),
            }
            self.take_line()?;
        }
        while !self.take_line()?.is_empty() {} // trailers
        Ok(body)
    }

    fn read_to_end(&mut self) -> Result<Vec<u8>> {
        let mut body = std::mem::take(&mut self.unread);
        self.stream.read_to_end(&mut body)?;
        Ok(body)
    }

    fn take_line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.take(end + 2)?;
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            self.fill()?;
        }
    }

    fn take(&mut self, length: usize) -> Result<Vec<u8>> {
        while self.unread.len() < length {
            self.fill()?;
        }
        Ok(self.unread.drain(..length).collect())
    }

    fn fill(&mut self) -> Result<()> {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer)? {
            0 => Err(Error::new(ErrorKind::UnexpectedEof, "the server closed the connection")),
            read => {
                self.unread.extend_from_slice(&buffer[..read]);
                Ok(())
            }
        }
    }
}

/// The head of an answer and its length in bytes, or nothing as long as it is incomplete.
fn parse_head(bytes: &[u8]) -> Result<Option<(Answer, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = response.parse(bytes).map_err(|error| invalid(&error.to_string()))? else {
        return Ok(None);
    };
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let headers = response
        .headers
        .iter()
        .map(|header| (header.name.to_ascii_lowercase(), text(header.value)))
        .collect();
    let status = response.code.expect("a complete head has a status");
    Ok(Some((
        Answer {
            status,
            headers,
            body: Vec::new(),
        },
        length,
    )))
}

fn invalid(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("not an HTTP answer: {what}"))
}
