//! `--health`: asks the server that runs with the same settings whether it is ready.
//!
//! An image with nothing in it but the server has no `curl` for its health check; so the server is its own. It needs no
//! flags to find the other: both read the same environment.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// How long the other may take to accept, and to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// More than a health page has.
const LONGEST_ANSWER: u64 = 4 << 10;

/// Whether the server with this admin address is ready; if not, why, in one line.
pub(crate) fn ask(admin: SocketAddr) -> Result<(), String> {
    let address = reachable(admin);
    let answer = get_readyz(address).map_err(|error| format!("no answer from http://{address}/readyz: {error}"))?;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    if status == "200" {
        return Ok(());
    }
    let why = answer.trim_end().lines().last().unwrap_or_default();
    Err(format!("http://{address}/readyz says {status}: {why}"))
}

/// Where a server that listens there is reached from its own machine.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn get_readyz(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.take(LONGEST_ANSWER).read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_all_addresses_is_asked_on_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:8090", "127.0.0.1:8090"),
            ("[::]:8090", "[::1]:8090"),
            ("192.0.2.1:1", "192.0.2.1:1"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
