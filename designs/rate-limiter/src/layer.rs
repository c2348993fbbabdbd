//! The limiter as a layer, for anybody's axum service: see `examples/layer.rs`.
//!
//! Who is limited, is the question on which such layers fail. `X-Forwarded-For` is written by whoever sends the request; a
//! proxy only adds to its end. So of that list only as many entries are believed as there are proxies of one's own, counted
//! from the right, and without any it is not looked at. An IPv6 address is cut to its network: one customer has as many
//! addresses as he likes.
//!
//! An API key is not verified here. Whoever may send any key has a bucket for each that he makes up; so the layer stands
//! behind what verifies keys, or goes by the address.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::future::Future;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::http::{HeaderMap, header};
use axum::extract::{ConnectInfo, Request};
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};
use tower::{Layer, Service};

use crate::http;
use crate::ports::Limiter;
use crate::service::{Asked, RateLimiter};

/// Bits of an IPv6 address that name a network.
const NETWORK_BITS: u32 = 64;

/// Bytes of the hash by which an API key goes on.
const KEY_HASH_BYTES: usize = 16;

/// By what requests are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyBy {
    /// The key that the request carries as `Authorization: Bearer KEY`, as the entry `api_key`; without one, the address.
    /// The key itself goes nowhere: the entry is its hash, which is the same on all servers.
    ApiKey {
        /// As for [`KeyBy::Address`].
        trusted_hops: usize,
    },
    /// The address, as the entry `ip`.
    Address {
        /// How many proxies of one's own a request has passed, each of which added to `X-Forwarded-For`; 0 without any.
        trusted_hops: usize,
    },
}

/// Limits what is behind it by the rules of a [`RateLimiter`].
///
/// The service must know its peers: `into_make_service_with_connect_info::<SocketAddr>()`. A request whose peer is not known
/// counts as one of the address `unknown`.
pub struct RateLimitLayer<L: Limiter> {
    rate_limiter: Arc<RateLimiter<L>>,
    by: KeyBy,
}

impl<L: Limiter> RateLimitLayer<L> {
    /// A layer that asks about the entry `api_key` or `ip` in the first domain of the rules.
    #[must_use]
    pub fn new(rate_limiter: Arc<RateLimiter<L>>, by: KeyBy) -> Self {
        Self { rate_limiter, by }
    }

    fn entry(&self, request: &Request) -> (String, String) {
        let trusted_hops = match self.by {
            KeyBy::Address { trusted_hops } => trusted_hops,
            KeyBy::ApiKey { trusted_hops } => {
                if let Some(key) = api_key(request.headers()) {
                    return (String::from("api_key"), hash(key));
                }
                trusted_hops
            }
        };
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map(|info| info.0.ip());
        let address = client(request.headers(), peer, trusted_hops);
        (
            String::from("ip"),
            address.map_or_else(|| String::from("unknown"), network),
        )
    }
}

/// The key, whose scheme may be written in any case (RFC 9110, 11.1).
fn api_key(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, key) = value.split_at_checked("Bearer ".len())?;
    let key = key.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"Bearer ") && !key.is_empty()).then_some(key)
}

/// Without a secret of the process: servers that share a store have to mean the same bucket. Keys are random, so nobody
/// finds one by trying.
fn hash(key: &[u8]) -> String {
    let mut text = String::with_capacity(2 * KEY_HASH_BYTES);
    for byte in &Sha256::digest(key)[..KEY_HASH_BYTES] {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Whose request it is: with `trusted_hops` proxies, the last of them is the peer, and the entry so many from the right is
/// what the first of them saw. A list that is shorter, or holds something else there, was not written by them: then it is
/// the peer's own request.
///
/// Bytes are counted, not texts: an entry that is none must not make a line vanish, and bring what stands left of it, which
/// the client wrote, into its place.
fn client(headers: &HeaderMap, peer: Option<IpAddr>, trusted_hops: usize) -> Option<IpAddr> {
    let Some(from_the_right) = trusted_hops.checked_sub(1) else {
        return peer;
    };
    let lists = headers.get_all("x-forwarded-for").iter().rev();
    let mut entries = lists.flat_map(|list| list.as_bytes().rsplit(|byte| *byte == b','));
    let entry = entries.nth(from_the_right);
    let entry = entry.and_then(|entry| std::str::from_utf8(entry.trim_ascii()).ok());
    entry.and_then(address).or(peer)
}

/// An address, with or without a port.
fn address(entry: &str) -> Option<IpAddr> {
    let bare = entry.trim_start_matches('[').trim_end_matches(']');
    let with_port = || entry.parse::<SocketAddr>().map(|address| address.ip());
    bare.parse().or_else(|_| with_port()).ok()
}

/// The network of an address: an IPv4 address is one, also where it is written as IPv6.
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let mask = u128::MAX << (128 - NETWORK_BITS);
            format!("{}/{NETWORK_BITS}", Ipv6Addr::from(u128::from(address) & mask))
        }
    }
}

impl<L: Limiter> Clone for RateLimitLayer<L> {
    fn clone(&self) -> Self {
        Self {
            rate_limiter: Arc::clone(&self.rate_limiter),
            by: self.by,
        }
    }
}

impl<L: Limiter, S> Layer<S> for RateLimitLayer<L> {
    type Service = RateLimited<L, S>;

    fn layer(&self, inner: S) -> Self::Service {
        RateLimited {
            layer: self.clone(),
            inner,
        }
    }
}

/// A service behind a [`RateLimitLayer`].
pub struct RateLimited<L: Limiter, S> {
    layer: RateLimitLayer<L>,
    inner: S,
}

impl<L: Limiter, S: Clone> Clone for RateLimited<L, S> {
    fn clone(&self) -> Self {
        Self {
            layer: self.layer.clone(),
            inner: self.inner.clone(),
        }
    }
}

impl<L, S> Service<Request> for RateLimited<L, S>
where
    L: Limiter,
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // The one that was found ready; its clone is asked the next time.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let layer = self.layer.clone();
        Box::pin(async move {
            let entries = [layer.entry(&request)];
            let asked = Asked {
                domain: &layer.rate_limiter.domain(),
                entries: &entries,
                cost: 1,
                limit: None,
                within: http::PATIENCE,
            };
            let verdict = match layer.rate_limiter.check(asked).await {
                Ok(verdict) => verdict,
                Err(error) => return Ok(service::Problem::from(error).into_response()),
            };
            if !verdict.allowed {
                return Ok(http::answer(&verdict));
            }
            let mut response = inner.call(request).await?;
            http::tell(&verdict, response.headers_mut());
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests {
    use ::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn forwarded(lists: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for list in lists {
            headers.append("x-forwarded-for", list.parse().unwrap());
        }
        headers
    }

    fn client_of(lists: &[&str], hops: usize) -> String {
        let peer = IpAddr::from([10, 0, 0, 9]);
        client(&forwarded(lists), Some(peer), hops).unwrap().to_string()
    }

    #[test]
    fn without_proxies_of_ones_own_the_list_is_not_looked_at() {
        assert_eq!(client_of(&["203.0.113.7"], 0), "10.0.0.9");
    }

    #[test]
    fn what_the_client_wrote_into_the_list_changes_nothing() {
        for made_up in ["", "1.2.3.4, ", "1.2.3.4, 5.6.7.8, ", "nonsense, "] {
            let list = format!("{made_up}203.0.113.7");
            assert_eq!(client_of(&[&list], 1), "203.0.113.7", "{list}");
            let list = format!("{made_up}203.0.113.7, 192.0.2.1");
            assert_eq!(client_of(&[&list], 2), "203.0.113.7", "{list}");
        }
        assert_eq!(client_of(&["1.2.3.4", "203.0.113.7"], 1), "203.0.113.7");
    }

    #[test]
    fn a_list_that_the_proxies_did_not_write_makes_it_the_peers_own() {
        assert_eq!(client_of(&[], 1), "10.0.0.9");
        assert_eq!(client_of(&["203.0.113.7"], 2), "10.0.0.9");
        assert_eq!(client_of(&["203.0.113.7, nonsense"], 1), "10.0.0.9");
    }

    #[test]
    fn addresses_of_one_network_are_one() {
        let network_of = |text: &str| network(address(text).unwrap());
        assert_eq!(network_of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
        assert_eq!(network_of("[2001:db8:1:2::ff]:443"), "2001:db8:1:2::/64");
        assert_ne!(network_of("2001:db8:1:3::1"), network_of("2001:db8:1:2::1"));
        assert_eq!(network_of("::ffff:203.0.113.7"), "203.0.113.7");
        assert_eq!(network_of("203.0.113.7:80"), "203.0.113.7");
    }

    #[test]
    fn a_line_that_is_no_text_does_not_bring_the_clients_own_words_into_its_place() {
        let mut headers = forwarded(&["1.2.3.4"]);
        let appended = HeaderValue::from_bytes(b"\xff, 203.0.113.7").unwrap();
        headers.append("x-forwarded-for", appended);
        let found = client(&headers, Some(IpAddr::from([10, 0, 0, 9])), 1).unwrap();
        assert_eq!(found.to_string(), "203.0.113.7");
    }

    #[test]
    fn an_api_key_is_the_same_however_its_scheme_is_written_and_on_every_server() {
        let entry = |value: &'static str| {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))]);
            api_key(&headers).map(hash)
        };
        let key = entry("Bearer secret-key-1").unwrap();
        assert_eq!(key, "a6c1eaef9d5f23f4e13d9b574cbbe07a");
        assert_eq!(entry("bearer  secret-key-1 ").as_ref(), Some(&key));
        assert_ne!(entry("Bearer secret-key-2").unwrap(), key);
        for none in ["", "Bearer", "Bearer ", "Basic c2VjcmV0", "Bearersecret-key-1"] {
            assert_eq!(entry(none), None, "{none}");
        }
    }

    /// What a client may send in the header: several lines of any bytes that a header may hold.
    fn made_up() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let byte = prop_oneof![
            Just(b','),
            Just(b' '),
            Just(b'1'),
            Just(b'.'),
            Just(b':'),
            0x80..=0xff_u8,
            0x20..=0x7e_u8
        ];
        prop::collection::vec(prop::collection::vec(byte, 0..24), 0..4)
    }

    proptest! {
        /// Bug 26 of the field: a client that writes the header itself must not choose its bucket, whatever it writes and
        /// however many proxies add to it, each to the end of the last line or as a line of its own.
        #[test]
        fn nothing_that_a_client_writes_changes_who_it_is(
            written in made_up(),
            its_address: [u8; 4],
            own_lines in prop::collection::vec(any::<bool>(), 1..4),
        ) {
            let mut lines = written;
            let mut seen = IpAddr::from(its_address);
            for (place, own_line) in own_lines.iter().enumerate() {
                let entry = seen.to_string().into_bytes();
                match lines.last_mut() {
                    Some(line) if !own_line => {
                        line.extend_from_slice(b", ");
                        line.extend_from_slice(&entry);
                    }
                    _ => lines.push(entry),
                }
                seen = IpAddr::from([10, 0, 0, u8::try_from(place).unwrap()]);
            }
            let mut headers = HeaderMap::new();
            for line in &lines {
                headers.append("x-forwarded-for", HeaderValue::from_bytes(line).unwrap());
            }
            prop_assert_eq!(client(&headers, Some(seen), own_lines.len()), Some(IpAddr::from(its_address)));
        }

        /// However long or broken the list is, somebody is found: never a panic, never nobody where there is a peer.
        #[test]
        fn any_list_finds_somebody(written in made_up(), hops in 0..6_usize) {
            let mut headers = HeaderMap::new();
            for line in &written {
                headers.append("x-forwarded-for", HeaderValue::from_bytes(line).unwrap());
            }
            prop_assert!(client(&headers, Some(IpAddr::from([10, 0, 0, 9])), hops).is_some());
        }

        #[test]
        fn an_ipv6_address_is_its_first_64_bits(high: u64, one: u64, other: u64) {
            // What stands for an IPv4 address is one.
            prop_assume!(high != 0);
            let address = |low: u64| IpAddr::from(Ipv6Addr::from((u128::from(high) << 64) | u128::from(low)));
            prop_assert_eq!(network(address(one)), network(address(other)));
            let neighbour = IpAddr::from(Ipv6Addr::from((u128::from(high ^ 1) << 64) | u128::from(one)));
            prop_assert_ne!(network(address(one)), network(neighbour));
        }
    }
}
