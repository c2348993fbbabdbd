//! The generator against servers with bad manners: does it measure and count what it says it does?

mod support;

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use lab::generator::{Arrivals, Generator, Load, Outcome, Plan};
use lab::http::{Response, Target, request};
use lab::workload::{Checked, Kind, Operation, Workload};
use lab::workloads::get::Get;
use support::{Act, ok, run, serve, stalling};

fn constant(rate: f64, duration: Duration) -> Plan {
    Plan {
        load: Load::Open {
            rate,
            arrivals: Arrivals::Constant,
        },
        queue: 10_000,
        ..Plan::open(rate, duration, 1)
    }
}

fn get(address: std::net::SocketAddr) -> Get {
    Get::new(&Target::of(address))
}

fn near(what: &str, value: f64, expected: f64, tolerance: f64) {
    assert!(
        (value - expected).abs() <= tolerance,
        "{what}: {value:.1}, expected {expected:.1} +- {tolerance}"
    );
}

/// 1,000 arrivals a second for 4 s; nothing is answered in one of the four. Every arrival of that second waits for what
/// is left of it, so a quarter of all response times is spread evenly over 0..1000 ms: the quantile q lies at
/// 1000 x (q - 0.75) / 0.25.
#[test]
fn a_stall_of_one_second_shows_as_the_arithmetic_says() {
    let address = stalling(Duration::from_millis(1500), Duration::from_secs(1));
    let outcome = run(
        address,
        16,
        &mut get(address),
        &constant(1000.0, Duration::from_secs(4)),
    );
    assert_eq!((outcome.planned, outcome.completed, outcome.dropped), (4000, 4000, 0));
    let response = &outcome.times.response;
    near("p99", response.quantile_ms(0.99), 960.0, 60.0);
    near("p90", response.quantile_ms(0.90), 600.0, 60.0);
    near("p80", response.quantile_ms(0.80), 200.0, 60.0);
    near("max", response.max_ms(), 1000.0, 60.0);
    assert!(response.quantile_ms(0.5) < 20.0, "p50 {}", response.quantile_ms(0.5));
    // What a closed loop would report: only the 16 operations that were under way felt anything.
    assert!(outcome.times.service.quantile_ms(0.99) < 100.0);
    // And the course of the run shows where it was.
    let worst = outcome
        .seconds
        .iter()
        .max_by(|a, b| a.p99_ms.total_cmp(&b.p99_ms))
        .unwrap();
    assert_eq!(worst.second, 2);
}

#[test]
fn arrivals_beyond_connections_and_queue_are_dropped_and_all_are_accounted_for() {
    let (address, seen) = serve(|_| Act::Silence);
    let plan = Plan {
        queue: 10,
        drain: Duration::from_millis(100),
        ..constant(200.0, Duration::from_millis(500))
    };
    let outcome = run(address, 4, &mut get(address), &plan);
    assert_eq!(outcome.planned, 100);
    assert_eq!(outcome.issued, 4, "in flight is bounded by the connections");
    assert_eq!(outcome.dropped, 86);
    assert_eq!(outcome.unfinished, 14, "4 in flight, 10 in the queue");
    assert_eq!((outcome.completed, outcome.failed()), (0, 0));
    assert_eq!(seen.requests.load(Ordering::SeqCst), 4);
    assert!(outcome.times.response.is_empty());
}

#[test]
fn silence_times_out_and_the_connection_is_replaced() {
    let (address, _) = serve(|_| Act::Silence);
    let plan = Plan {
        timeout: Duration::from_millis(100),
        ..constant(20.0, Duration::from_millis(500))
    };
    let outcome = run(address, 8, &mut get(address), &plan);
    assert_eq!((outcome.planned, outcome.issued), (10, 10));
    assert_eq!((outcome.timed_out, outcome.unfinished), (10, 0));
    assert_eq!(outcome.errors["timed out"], 10);
    assert_eq!(outcome.reconnects, 10);
}

/// A workload that takes 40 ms to think of its 50th operation: the generator's own fault.
struct Slow(Get, usize);

impl Workload for Slow {
    fn kinds(&self) -> &[Kind] {
        self.0.kinds()
    }

    fn next(&mut self, request: &mut Vec<u8>) -> Option<Operation> {
        self.1 += 1;
        if self.1 == 50 {
            thread::sleep(Duration::from_millis(40));
        }
        self.0.next(request)
    }

    fn check(&mut self, operation: Operation, answer: &Response<'_>, request: &mut Vec<u8>) -> Checked {
        self.0.check(operation, answer, request)
    }
}

#[test]
fn what_the_generator_sends_late_is_counted_and_still_measured_from_its_time() {
    let (address, _) = serve(|_| ok());
    let mut workload = Slow(get(address), 0);
    let outcome = run(
        address,
        64,
        &mut workload,
        &constant(1000.0, Duration::from_millis(500)),
    );
    assert_eq!((outcome.planned, outcome.completed), (500, 500));
    // Some 40 arrivals fell due while it was thinking; those within the last 5 ms were not late.
    assert!((30..=80).contains(&outcome.late), "late {}", outcome.late);
    assert!(outcome.times.response.quantile_ms(0.99) > 30.0);
    assert!(outcome.generator_limited().unwrap().contains("late"));
}

#[test]
fn a_server_that_closes_after_each_answer_is_followed() {
    let close = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    let (address, _) = serve(|_| Act::AnswerAndClose(close.to_vec()));
    let outcome = run(
        address,
        8,
        &mut get(address),
        &constant(200.0, Duration::from_millis(500)),
    );
    assert_eq!((outcome.completed, outcome.failed()), (100, 0), "{:?}", outcome.errors);
    assert!(outcome.reconnects >= 92, "{}", outcome.reconnects);
}

#[test]
fn a_body_until_close_is_complete_at_the_close() {
    let (address, _) = serve(|_| Act::AnswerAndClose(b"HTTP/1.1 200 OK\r\n\r\nthe end".to_vec()));
    let outcome = run(
        address,
        8,
        &mut get(address),
        &constant(200.0, Duration::from_millis(300)),
    );
    assert_eq!((outcome.completed, outcome.failed()), (60, 0), "{:?}", outcome.errors);
}

#[test]
fn errors_say_what_went_wrong() {
    let errors = |bytes: &'static [u8]| -> Outcome {
        let (address, _) = serve(move |_| Act::AnswerAndClose(bytes.to_vec()));
        run(
            address,
            4,
            &mut get(address),
            &constant(50.0, Duration::from_millis(200)),
        )
    };
    let only = |outcome: &Outcome, part: &str| {
        assert_eq!(outcome.failed(), 10, "{:?}", outcome.errors);
        assert!(
            outcome.errors.keys().all(|key| key.contains(part)),
            "{:?}",
            outcome.errors
        );
    };
    only(&errors(b"what?\r\n\r\n"), "not HTTP/1.1");
    only(&errors(b""), "closed the connection before");
    only(
        &errors(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"),
        "closed the connection before",
    );
    only(
        &errors(b"HTTP/1.1 503 X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"),
        "503 Service Unavailable",
    );
}

/// Each arrival takes the connection that has been idle longest, so that of as many as there are connections each takes
/// another one, whatever the order of the answers. The servers close after each answer: the second run is on new
/// connections, and these go where the old ones went.
#[test]
fn requests_are_spread_evenly_over_the_nodes() {
    let close = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    let nodes = [0, 1].map(|_| serve(|_| Act::AnswerAndClose(close.to_vec())));
    let targets = nodes.each_ref().map(|(address, _)| Target::of(*address));
    let mut generator = Generator::connect(&targets, 40).unwrap();
    let mut watch = lab::generator::Watch {
        stop: &lab::stop::Stop::default(),
        tick: &mut |_| (),
    };
    let plan = constant(400.0, Duration::from_millis(100));
    for run in 1..=2 {
        let outcome = generator.run(&mut get(nodes[0].0), &plan, &mut watch).unwrap();
        assert_eq!((outcome.completed, outcome.failed()), (40, 0), "{:?}", outcome.errors);
        for (_, seen) in &nodes {
            assert_eq!(seen.requests.load(Ordering::SeqCst), 20 * run);
        }
    }
}

#[test]
fn a_node_that_would_get_no_connection_is_an_error() {
    let targets = [0, 1].map(|_| Target::of(serve(|_| ok()).0));
    let error = Generator::connect(&targets, 1).unwrap_err().to_string();
    assert_eq!(error, "1 connection(s) cannot be spread over 2 servers");
    assert!(Generator::connect(&[], 4).is_err());
}

#[test]
fn a_node_that_is_not_there_is_named() {
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let targets = [Target::of(serve(|_| ok()).0), Target::of(free)];
    let error = Generator::connect(&targets, 4).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot connect to {free}: ")), "{error}");
}

#[test]
fn nobody_there_is_an_error_before_the_run() {
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let error = Generator::connect(&[Target::of(free)], 4).unwrap_err().to_string();
    assert!(error.contains("connection refused"), "{error}");
}

#[test]
fn a_closed_loop_keeps_its_number_in_flight_and_not_more() {
    let (address, seen) = serve(|_| {
        thread::sleep(Duration::from_millis(10));
        ok()
    });
    // More connections than operations: the others stay idle.
    let outcome = run(
        address,
        12,
        &mut get(address),
        &Plan::closed(5, Duration::from_millis(500)),
    );
    assert_eq!(seen.most.load(Ordering::SeqCst), 5);
    assert_eq!((outcome.planned, outcome.failed()), (outcome.completed, 0));
    assert!((100..=250).contains(&outcome.completed), "{}", outcome.completed);
    assert!((outcome.times.response.mean_ms() - outcome.times.service.mean_ms()).abs() < 0.01);
}

/// Asks for /1, then for /2 on the same connection; ends after a number of operations.
struct TwoSteps {
    kinds: [Kind; 1],
    left: usize,
}

impl Workload for TwoSteps {
    fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    fn next(&mut self, bytes: &mut Vec<u8>) -> Option<Operation> {
        self.left = self.left.checked_sub(1)?;
        request::get(bytes, "test", b"/1");
        Some(Operation {
            kind: 0,
            token: 1,
            no_body: false,
        })
    }

    fn check(&mut self, operation: Operation, answer: &Response<'_>, bytes: &mut Vec<u8>) -> Checked {
        match (operation.token, answer.body) {
            (1, b"1") => {
                request::get(bytes, "test", b"/2");
                Checked::Next(Operation { token: 2, ..operation })
            }
            (2, b"2") => Checked::Done,
            other => Checked::Violation(format!("{other:?}")),
        }
    }
}

#[test]
fn an_operation_of_two_requests_is_one_operation_and_a_backlog_ends_the_run() {
    let (address, seen) = serve(|line| {
        let digit = line.as_bytes()[5];
        Act::Answer([b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n".as_slice(), &[digit]].concat())
    });
    let mut workload = TwoSteps {
        kinds: [Kind {
            name: "pair",
            slo_p99: None,
        }],
        left: 100,
    };
    let outcome = run(address, 4, &mut workload, &Plan::closed(4, Duration::from_secs(60)));
    assert_eq!(
        (outcome.issued, outcome.completed, outcome.violations),
        (100, 100, 0),
        "{:?}",
        outcome.examples
    );
    assert_eq!(seen.requests.load(Ordering::SeqCst), 200);
    assert!(
        outcome.elapsed < Duration::from_secs(30),
        "it did not wait for the end of its time"
    );
}

#[test]
fn connections_that_the_server_closed_between_runs_are_replaced() {
    let (address, _) = serve(|line| {
        if line.contains("/bye") {
            Act::AnswerAndClose(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec())
        } else {
            ok()
        }
    });
    let mut generator = Generator::connect(&[Target::of(address)], 4).unwrap();
    let mut watch = lab::generator::Watch {
        stop: &lab::stop::Stop::default(),
        tick: &mut |_| (),
    };
    let mut bye = Get::new(&Target {
        path: "/bye".to_owned(),
        ..Target::of(address)
    });
    let four = constant(4.0, Duration::from_secs(1));
    generator.run(&mut bye, &four, &mut watch).unwrap();
    let outcome = generator
        .run(
            &mut get(address),
            &constant(100.0, Duration::from_millis(200)),
            &mut watch,
        )
        .unwrap();
    assert_eq!((outcome.completed, outcome.failed()), (20, 0), "{:?}", outcome.errors);
}
