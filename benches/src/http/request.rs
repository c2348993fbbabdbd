//! Request bytes, written by hand into a buffer that is used again and again.

use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, Result, bail};
use url::Url;

/// Where requests go: an address to connect to, and what the `Host` header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The address that connections are made to.
    pub address: SocketAddr,
    /// The authority as the user wrote it.
    pub host: String,
    /// Path and query of the URL.
    pub path: String,
}

impl Target {
    /// Reads `http://host[:port]/path?query` and looks the host up.
    ///
    /// # Errors
    /// Not a URL, not http, or a host that has no address.
    pub fn parse(text: &str) -> Result<Self> {
        let url = Url::parse(text).with_context(|| format!("`{text}` is not a URL (http://host:port/path)"))?;
        if url.scheme() != "http" {
            bail!("`{text}`: the lab speaks plain http, not {}", url.scheme());
        }
        let name = url.host_str().with_context(|| format!("`{text}` has no host"))?;
        let port = url.port_or_known_default().unwrap_or(80);
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let address = (bare, port)
            .to_socket_addrs()
            .ok()
            .and_then(|mut found| found.next())
            .with_context(|| format!("`{name}` has no address"))?;
        let host = match url.port() {
            Some(port) => format!("{name}:{port}"),
            None => name.to_owned(),
        };
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        Ok(Self { address, host, path })
    }

    /// A target by its address alone.
    pub fn of(address: SocketAddr) -> Self {
        Self {
            address,
            host: address.to_string(),
            path: "/".to_owned(),
        }
    }
}

/// Appends a GET request.
pub fn get(out: &mut Vec<u8>, host: &str, path: &[u8]) {
    out.extend_from_slice(b"GET ");
    out.extend_from_slice(path);
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(host.as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
}

/// Appends a POST request with a JSON body; `key` goes into `Authorization: Bearer`.
pub fn post_json(out: &mut Vec<u8>, host: &str, path: &str, key: Option<&str>, body: &[u8]) {
    head(out, "POST", host, path, key);
    json(out, body);
}

/// Appends a PUT request with a JSON body; `key` as for [`post_json`].
pub fn put_json(out: &mut Vec<u8>, host: &str, path: &str, key: Option<&str>, body: &[u8]) {
    head(out, "PUT", host, path, key);
    json(out, body);
}

/// Appends a POST request without a body; `key` as for [`post_json`].
pub fn post(out: &mut Vec<u8>, host: &str, path: &str, key: Option<&str>) {
    head(out, "POST", host, path, key);
    out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
}

fn json(out: &mut Vec<u8>, body: &[u8]) {
    out.extend_from_slice(b"Content-Type: application/json\r\nContent-Length: ");
    // Writing into a Vec cannot fail.
    let _ = write!(out, "{}", body.len());
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(body);
}

fn head(out: &mut Vec<u8>, method: &str, host: &str, path: &str, key: Option<&str>) {
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(path.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(host.as_bytes());
    if let Some(key) = key {
        out.extend_from_slice(b"\r\nAuthorization: Bearer ");
        out.extend_from_slice(key.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_keeps_host_path_and_query() {
        let target = Target::parse("http://127.0.0.1:8080/a/b?c=d").unwrap();
        assert_eq!(target.address, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(
            (target.host.as_str(), target.path.as_str()),
            ("127.0.0.1:8080", "/a/b?c=d")
        );
        assert_eq!(
            Target::parse("http://[::1]:9/").unwrap().address,
            "[::1]:9".parse().unwrap()
        );
        assert_eq!(Target::parse("http://127.0.0.1").unwrap().address.port(), 80);
    }

    #[test]
    fn a_post_has_a_length_whether_it_has_a_body_or_not() {
        let mut bytes = Vec::new();
        post(&mut bytes, "h", "/a?b=1", Some("k"));
        post_json(&mut bytes, "h", "/c", None, b"{}");
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            "POST /a?b=1 HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer k\r\nContent-Length: 0\r\n\r\n\
             POST /c HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
        );
    }

    #[test]
    fn a_target_that_cannot_be_loaded_says_why() {
        let error = |text| Target::parse(text).unwrap_err().to_string();
        assert!(error("https://localhost/").contains("plain http"));
        assert!(error("localhost").contains("not a URL"));
    }
}
