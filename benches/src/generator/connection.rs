//! One non-blocking connection of the generator: it carries one operation at a time.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::http::ResponseReader;
use crate::workload::Operation;

/// An operation on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct InFlight {
    pub(super) operation: Operation,
    /// When it was due, in nanoseconds from time zero.
    pub(super) scheduled: u64,
    /// When its first request was written.
    pub(super) sent: u64,
}

/// What the connection is doing.
#[derive(Debug, Clone, Copy)]
pub(super) enum State {
    /// There is none; it is tried again at the next sweep.
    Down,
    /// Under way.
    Connecting,
    /// Waits for work.
    Idle,
    /// Carries an operation.
    Busy(InFlight),
}

#[derive(Debug)]
pub(super) struct Connection {
    /// Where it goes, now and whenever it is made anew.
    pub(super) address: SocketAddr,
    pub(super) stream: Option<TcpStream>,
    pub(super) state: State,
    pub(super) reader: ResponseReader,
    /// The request being written; `written` bytes of it are out.
    pub(super) request: Vec<u8>,
    written: usize,
}

impl Connection {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            stream: None,
            state: State::Down,
            reader: ResponseReader::default(),
            request: Vec::with_capacity(512),
            written: 0,
        }
    }

    /// Begins to connect; a writable event says that it is done.
    pub(super) fn connect(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.close();
        let mut stream = TcpStream::connect(self.address)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        self.stream = Some(stream);
        self.state = State::Connecting;
        Ok(())
    }

    /// Whether connecting has succeeded: `Ok(false)` while it is still under way.
    pub(super) fn connected(&mut self) -> io::Result<bool> {
        let Some(stream) = &self.stream else {
            return Ok(false);
        };
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        match stream.peer_addr() {
            Ok(_) => {
                stream.set_nodelay(true)?;
                self.state = State::Idle;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn close(&mut self) {
        self.stream = None;
        self.state = State::Down;
        self.reader.reset();
        self.request.clear();
        self.written = 0;
    }

    /// Drops the request that is out, to make room for the next one.
    pub(super) fn clear_request(&mut self) {
        self.request.clear();
        self.written = 0;
    }

    /// The request buffer holds a new request: none of it is out.
    pub(super) fn rewind(&mut self) {
        self.written = 0;
    }

    /// Writes what the socket takes; the rest goes with the next writable event.
    pub(super) fn write(&mut self) -> io::Result<()> {
        let Some(stream) = &mut self.stream else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        while self.written < self.request.len() {
            match stream.write(&self.request[self.written..]) {
                Ok(n) => self.written += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether a part of the request has not been taken by the socket.
    pub(super) fn half_written(&self) -> bool {
        self.written < self.request.len()
    }

    /// Reads what is there; `None` when nothing is.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let Some(stream) = &mut self.stream else {
            return Ok(None);
        };
        loop {
            match stream.read(buffer) {
                Ok(n) => return Ok(Some(n)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
