//! A blocking HTTP/1.1 client for everything that is not load: preparing data, reading `/metrics`, verifying.
//!
//! One connection, kept while the server keeps it. A request on a kept connection that turns out closed is sent once more
//! on a new one if it is a GET; a POST is not, because it may have been executed.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use super::{Response, ResponseReader, Target, request};

/// An answer with its own memory.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body as it was sent.
    pub body: Vec<u8>,
    headers: Vec<(String, String)>,
    keep_alive: bool,
}

impl Answer {
    /// The first header of this name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body as text, for an error message: the first 200 characters.
    pub fn excerpt(&self) -> String {
        String::from_utf8_lossy(&self.body).chars().take(200).collect()
    }
}

/// One connection to one server.
#[derive(Debug)]
pub struct Client {
    target: Target,
    key: Option<String>,
    timeout: Duration,
    stream: Option<TcpStream>,
    reader: ResponseReader,
    buffer: Vec<u8>,
}

impl Client {
    /// A client of `target` that sends `key`, if any, with each write. Connects with the first request.
    pub fn new(target: Target, key: Option<String>) -> Self {
        Self {
            target,
            key,
            timeout: Duration::from_secs(30),
            stream: None,
            reader: ResponseReader::default(),
            buffer: vec![0; 64 * 1024],
        }
    }

    /// Sets how long connecting, and each read, may take.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Where the requests go.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The key that goes with each write.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Asks for a path.
    ///
    /// # Errors
    /// No connection, no answer in time, or an answer that is not HTTP.
    pub fn get(&mut self, path: &str) -> Result<Answer> {
        let mut bytes = Vec::with_capacity(256);
        request::get(&mut bytes, &self.target.host, path.as_bytes());
        let kept = self.stream.is_some();
        match self.send(&bytes) {
            Err(_) if kept => self.send(&bytes),
            result => result,
        }
        .with_context(|| format!("GET http://{}{path}", self.target.host))
    }

    /// Sends a JSON body to a path. An answer that did not come leaves open whether the request was executed.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub fn post_json(&mut self, path: &str, body: &[u8]) -> Result<Answer> {
        let mut bytes = Vec::with_capacity(body.len() + 256);
        request::post_json(&mut bytes, &self.target.host, path, self.key.as_deref(), body);
        self.send(&bytes)
            .with_context(|| format!("POST http://{}{path}", self.target.host))
    }

    /// Puts a JSON body to a path. As for [`Client::post_json`], no answer leaves open whether it was executed.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub fn put_json(&mut self, path: &str, body: &[u8]) -> Result<Answer> {
        let mut bytes = Vec::with_capacity(body.len() + 256);
        request::put_json(&mut bytes, &self.target.host, path, self.key.as_deref(), body);
        self.send(&bytes)
            .with_context(|| format!("PUT http://{}{path}", self.target.host))
    }

    /// Sends a POST without a body to a path. As for [`Client::post_json`], no answer leaves open whether it was executed.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub fn post(&mut self, path: &str) -> Result<Answer> {
        let mut bytes = Vec::with_capacity(256);
        request::post(&mut bytes, &self.target.host, path, self.key.as_deref());
        self.send(&bytes)
            .with_context(|| format!("POST http://{}{path}", self.target.host))
    }

    fn send(&mut self, bytes: &[u8]) -> Result<Answer> {
        let result = self.exchange(bytes);
        if !matches!(&result, Ok(answer) if answer.keep_alive) {
            self.stream = None;
            self.reader.reset();
        }
        result
    }

    fn exchange(&mut self, bytes: &[u8]) -> Result<Answer> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => self.stream.insert(connect(&self.target, self.timeout)?),
        };
        stream.write_all(bytes).map_err(|e| anyhow!(explain(&e)))?;
        loop {
            let n = stream.read(&mut self.buffer).map_err(|e| anyhow!(explain(&e)))?;
            if n == 0 {
                return Ok(self.reader.end(false, own)?);
            }
            if let Some(answer) = self.reader.push(&self.buffer[..n], false, own)? {
                return Ok(answer);
            }
        }
    }
}

fn own(response: &Response<'_>) -> Answer {
    Answer {
        status: response.status,
        body: response.body.to_vec(),
        headers: response
            .headers
            .iter()
            .map(|header| {
                (
                    header.name.to_owned(),
                    String::from_utf8_lossy(header.value).into_owned(),
                )
            })
            .collect(),
        keep_alive: response.keep_alive,
    }
}

fn connect(target: &Target, timeout: Duration) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&target.address, timeout)
        .map_err(|e| anyhow!("cannot connect to {}: {}", target.address, explain(&e)))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    Ok(stream)
}

/// An I/O error in words that say what to look at.
pub fn explain(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused (is the server running there?)".to_owned(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => "the server reset the connection".to_owned(),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => "no answer in time".to_owned(),
        ErrorKind::AddrNotAvailable => "no local port is free (too many connections in TIME_WAIT)".to_owned(),
        _ if error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) => {
            "too many open files (raise `ulimit -n` or lower -c)".to_owned()
        }
        _ => error.to_string(),
    }
}
