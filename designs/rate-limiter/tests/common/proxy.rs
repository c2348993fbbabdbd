//! A way to a server that can be cut, dammed up, or made to swallow answers.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// Everything goes through.
pub(crate) const OPEN: u8 = 0;
/// Everything is taken and nothing is passed on.
pub(crate) const BLACKHOLE: u8 = 1;
/// Questions are passed on, answers are not.
pub(crate) const NO_ANSWERS: u8 = 2;

/// The way. It ends with the process.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    mode: Arc<AtomicU8>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    /// To a server.
    pub(crate) fn to(server: SocketAddr) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self {
            address: socket.local_addr().unwrap(),
            mode: Arc::default(),
            connections: Arc::default(),
        };
        let (mode, connections) = (Arc::clone(&proxy.mode), Arc::clone(&proxy.connections));
        thread::spawn(move || {
            for client in socket.incoming().flatten() {
                let Ok(server) = TcpStream::connect(server) else {
                    continue;
                };
                let mut all = connections.lock().unwrap();
                all.extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                pass(
                    client.try_clone().unwrap(),
                    server.try_clone().unwrap(),
                    Arc::clone(&mode),
                    false,
                );
                pass(server, client, Arc::clone(&mode), true);
            }
        });
        proxy
    }

    /// Lets through what the mode says. Opened again, it breaks the connections that were there: what is on them is lost.
    pub(crate) fn set(&self, mode: u8) {
        self.mode.store(mode, Ordering::SeqCst);
        if mode == OPEN {
            for connection in self.connections.lock().unwrap().drain(..) {
                let _ = connection.shutdown(std::net::Shutdown::Both);
            }
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, mode: Arc<AtomicU8>, answers: bool) {
    thread::spawn(move || {
        let mut buffer = [0; 16 << 10];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            let lets_through = match mode.load(Ordering::SeqCst) {
                OPEN => true,
                NO_ANSWERS => !answers,
                _ => false,
            };
            if lets_through && to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
}
