//! What the service promises to gRPC clients: the bounds, refusals and counts of every route, streams that hold nothing
//! up, and one listener for all. The client is tonic's own, over TCP.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot unwrap has no shorter way to say what must hold"
)]

mod common;

use std::io::Read as _;
use std::time::Duration;

use common::probe::Note;
use common::{assert_problem, gauge, start};
use http::uri::PathAndQuery;
use testkit::http::{Connection, raw};
use testkit::server::Server;
use tonic::client::{Grpc, GrpcService};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

/// The server the other tests start: see `common`.
#[test]
fn server_under_test() {
    common::serve_if_asked();
}

async fn connect(server: &Server) -> Grpc<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", server.addr())).unwrap();
    // A small window, so that a slow reader is soon seen as one.
    let endpoint = endpoint.initial_stream_window_size(64 << 10);
    Grpc::new(endpoint.connect().await.unwrap())
}

fn note(number: u64) -> Request<Note> {
    Request::new(Note {
        number,
        payload: Vec::new(),
    })
}

fn path(method: &str) -> PathAndQuery {
    format!("/test.Probe/{method}").parse().unwrap()
}

async fn unary<C>(client: &mut Grpc<C>, method: &str, request: Request<Note>) -> Result<Note, Status>
where
    C: GrpcService<tonic::body::Body>,
    C::ResponseBody: http_body::Body + Send + 'static,
    <C::ResponseBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    C::Error: std::fmt::Debug,
{
    client.ready().await.unwrap();
    let answer = client.unary(request, path(method), ProstCodec::default()).await;
    answer.map(tonic::Response::into_inner)
}

async fn stream(client: &mut Grpc<Channel>, method: &str, number: u64) -> Result<Streaming<Note>, Status> {
    client.ready().await.unwrap();
    let answer = client
        .server_streaming(note(number), path(method), ProstCodec::default())
        .await;
    answer.map(tonic::Response::into_inner)
}

/// The next message of a stream, which must not take for ever.
async fn next(notes: &mut Streaming<Note>) -> Result<Option<Note>, Status> {
    tokio::time::timeout(Duration::from_secs(20), notes.message())
        .await
        .unwrap()
}

fn assert_refused(status: &Status, code: Code, problem: &str, outcome: &str) {
    assert_eq!(status.code(), code, "{status:?}");
    let metadata = |key| status.metadata().get(key).and_then(|value| value.to_str().ok());
    let said = (metadata("problem-code"), metadata("problem-outcome"));
    assert_eq!(said, (Some(problem), Some(outcome)), "{status:?}");
}

/// How often a method was answered with this status.
fn counted(server: &Server, method: &str, status: u16) -> f64 {
    let labels = format!(r#"route="/test.Probe/{method}",method="POST",status="{status}""#);
    gauge(server, &format!("http_requests_total{{{labels}}}"))
}

/// Asks again and again until the answer is as wished.
async fn until<F: Future<Output = bool>>(mut holds: impl FnMut() -> F) {
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    });
    waited.await.unwrap();
}

#[tokio::test]
async fn a_call_is_answered_beside_http_on_the_same_listener_and_counted() {
    let server = start(&[]);
    let mut client = connect(&server).await;
    for number in 0..5 {
        assert_eq!(unary(&mut client, "Echo", note(number)).await.unwrap().number, number);
    }
    assert_eq!(testkit::http::get(server.addr(), "/fast").unwrap().status, 200);
    assert_eq!(counted(&server, "Echo", 200), 5.0);
    assert_eq!(gauge(&server, "resource_operations_total{resource=\"admission\""), 6.0);
}

#[tokio::test]
async fn a_handlers_problem_is_a_status_and_counted_as_the_problem() {
    let server = start(&[]);
    let refused = unary(&mut connect(&server).await, "Refuse", note(1)).await.unwrap_err();
    assert_refused(&refused, Code::InvalidArgument, "odd", "not_executed");
    assert_eq!(refused.message(), "The number is odd: /number must be even");
    assert_eq!(counted(&server, "Refuse", 422), 1.0);
}

#[tokio::test]
async fn what_is_not_there_is_unimplemented() {
    let server = start(&[]);
    let mut client = connect(&server).await;
    // One that is in the service and was not mounted, too.
    let refused = unary(&mut client, "Hidden", note(1)).await.unwrap_err();
    assert_refused(&refused, Code::Unimplemented, "unknown_method", "not_executed");
    client.ready().await.unwrap();
    let elsewhere = PathAndQuery::from_static("/other.Service/Echo");
    let refused = client
        .unary(note(1), elsewhere, ProstCodec::<Note, Note>::default())
        .await;
    assert_refused(
        &refused.unwrap_err(),
        Code::Unimplemented,
        "unknown_method",
        "not_executed",
    );
    let elsewhere = PathAndQuery::from_static("/slow/5");
    client.ready().await.unwrap();
    let refused = client
        .unary(note(1), elsewhere, ProstCodec::<Note, Note>::default())
        .await;
    assert_refused(
        &refused.unwrap_err(),
        Code::Unimplemented,
        "unknown_method",
        "not_executed",
    );
}

#[tokio::test]
async fn writes_and_streams_need_a_key_once_there_are_keys() {
    let server = start(&["--api-keys", "first-secret-key"]);
    let mut client = connect(&server).await;
    let refused = unary(&mut client, "Echo", note(1)).await.unwrap_err();
    assert_refused(&refused, Code::Unauthenticated, "unauthorized", "not_executed");
    let refused = stream(&mut client, "Endless", 0).await.unwrap_err();
    assert_refused(&refused, Code::Unauthenticated, "unauthorized", "not_executed");
    let mut keyed = note(7);
    let metadata = keyed.metadata_mut();
    metadata.insert("authorization", "Bearer first-secret-key".parse().unwrap());
    assert_eq!(unary(&mut client, "Echo", keyed).await.unwrap().number, 7);
    assert_eq!(unary(&mut client, "Slow", note(0)).await.unwrap().number, 0);
    assert_eq!(counted(&server, "Echo", 401), 1.0);
}

#[tokio::test]
async fn an_overloaded_server_says_unavailable_and_when_to_try_again() {
    let server = start(&["--max-in-flight", "1", "--max-queued", "0", "--deadline-ms", "60000"]);
    let (mut busy, client) = (connect(&server).await, connect(&server).await);
    let slow = tokio::spawn(async move { unary(&mut busy, "Slow", note(60_000)).await });
    let mut refused = Ok(Note::default());
    while refused.is_ok() {
        refused = unary(&mut client.clone(), "Echo", note(1)).await;
    }
    let refused = refused.unwrap_err();
    assert_refused(&refused, Code::Unavailable, "overloaded", "not_executed");
    assert!(refused.metadata().contains_key("grpc-retry-pushback-ms"));
    assert_eq!(counted(&server, "Echo", 503), 1.0);
    slow.abort();
}

#[tokio::test]
async fn a_call_that_is_not_answered_in_time_may_have_been_carried_out() {
    let server = start(&["--deadline-ms", "50"]);
    let late = unary(&mut connect(&server).await, "Slow", note(60_000))
        .await
        .unwrap_err();
    assert_refused(&late, Code::DeadlineExceeded, "deadline_exceeded", "unknown");
    assert_eq!(counted(&server, "Slow", 504), 1.0);
}

#[tokio::test]
async fn a_client_may_ask_for_less_time_and_never_for_more() {
    let server = start(&["--deadline-ms", "60000"]);
    // tonic's channel would give up by itself; this client leaves it to the server.
    let socket = tokio::net::TcpStream::connect(server.addr()).await.unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let io = hyper_util::rt::TokioIo::new(socket);
    let (send, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(connection);
    let origin = format!("http://{}", server.addr()).parse().unwrap();
    let patient = tower::service_fn(move |request| {
        let mut send = send.clone();
        async move { send.send_request(request).await }
    });
    let mut client = Grpc::with_origin(patient, origin);
    let with = |timeout: &'static str| {
        let mut request = note(60_000);
        request.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
        request
    };
    let late = unary(&mut client, "Slow", with("50m")).await.unwrap_err();
    assert_refused(&late, Code::DeadlineExceeded, "deadline_exceeded", "unknown");
    let refused = unary(&mut client, "Slow", with("soon")).await.unwrap_err();
    assert_refused(&refused, Code::InvalidArgument, "malformed_timeout", "not_executed");
    // A stream is bounded by it to its end.
    let endless = client.server_streaming(with("200m"), path("Endless"), ProstCodec::<Note, Note>::default());
    let mut endless = endless.await.unwrap().into_inner();
    assert!(next(&mut endless).await.unwrap().is_some());
    let late = next(&mut endless).await.unwrap_err();
    assert_refused(&late, Code::DeadlineExceeded, "deadline_exceeded", "unknown");

    let hasty = start(&["--deadline-ms", "50"]);
    let mut request = note(60_000);
    request.set_timeout(Duration::from_secs(3_600));
    let late = unary(&mut connect(&hasty).await, "Slow", request).await.unwrap_err();
    assert_refused(&late, Code::DeadlineExceeded, "deadline_exceeded", "unknown");
}

#[tokio::test]
async fn a_message_may_be_as_long_as_its_class_allows_and_not_longer() {
    let server = start(&[]);
    let mut client = connect(&server).await;
    let of = |bytes| {
        let payload = vec![b'x'; bytes];
        Request::new(Note { number: 0, payload })
    };
    // Five bytes of gRPC's own before the message, and four of the message's before its payload.
    assert!(unary(&mut client, "Echo", of((64 << 10) - 9)).await.is_ok());
    let refused = unary(&mut client, "Echo", of((64 << 10) - 8)).await.unwrap_err();
    assert_refused(&refused, Code::ResourceExhausted, "body_too_large", "not_executed");
    assert!(unary(&mut client, "Bulk", of(1 << 20)).await.is_ok());
    let refused = unary(&mut client, "Bulk", of(5 << 20)).await.unwrap_err();
    assert_refused(&refused, Code::ResourceExhausted, "body_too_large", "not_executed");
    assert!(unary(&mut client, "Echo", of(1)).await.is_ok());
    assert_eq!(
        (counted(&server, "Echo", 413), counted(&server, "Bulk", 413)),
        (1.0, 1.0)
    );
}

#[tokio::test]
async fn a_panic_costs_its_own_call_only() {
    let server = start(&[]);
    let mut client = connect(&server).await;
    let failed = unary(&mut client, "Panic", note(1)).await.unwrap_err();
    assert_refused(&failed, Code::Internal, "internal", "unknown");
    // And one in the middle of a stream that of the stream.
    let mut doomed = stream(&mut client, "Endless", 1).await.unwrap();
    let failed = next(&mut doomed).await.unwrap_err();
    assert_refused(&failed, Code::Internal, "internal", "unknown");
    assert!(unary(&mut client, "Echo", note(1)).await.is_ok());
    assert_eq!(
        (counted(&server, "Panic", 500), counted(&server, "Endless", 500)),
        (1.0, 1.0)
    );
}

#[tokio::test]
async fn a_long_stream_arrives_whole_and_its_reader_sets_the_pace() {
    const NOTES: u64 = 32 << 10;
    let server = start(&[]);
    let (mut client, mut other) = (connect(&server).await, connect(&server).await);
    let mut notes = stream(&mut client, "Count", NOTES).await.unwrap();
    assert_eq!(next(&mut notes).await.unwrap().unwrap().number, 0);
    for _ in 0..200 {
        let produced = unary(&mut other, "Produced", note(0)).await.unwrap().number;
        assert!(produced < 4 << 10, "{produced} notes of 1 KiB that nobody reads");
    }
    let mut read = 1;
    while let Some(note) = next(&mut notes).await.unwrap() {
        assert_eq!((note.number, note.payload.len()), (read, 1 << 10));
        read += 1;
    }
    assert_eq!(read, NOTES);
    until(|| async { counted(&server, "Count", 200) == 1.0 }).await;
}

#[tokio::test]
async fn a_stream_that_fails_is_counted_as_failed() {
    let server = start(&[]);
    let mut notes = stream(&mut connect(&server).await, "Count", 3).await.unwrap();
    let failed = loop {
        match next(&mut notes).await {
            Ok(note) => assert!(note.is_some(), "it ended well"),
            Err(failed) => break failed,
        }
    };
    assert_eq!(failed.code(), Code::DataLoss);
    // This one the handler made itself, without a word on what was done.
    assert_eq!(failed.metadata().get("problem-outcome").unwrap(), "unknown");
    until(|| async { counted(&server, "Count", 500) == 1.0 }).await;
}

#[tokio::test]
async fn streams_leave_places_to_others_and_give_theirs_back_when_the_client_goes() {
    let server = start(&["--max-in-flight", "8", "--max-queued", "0"]);
    let mut client = connect(&server).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        open.push(stream(&mut client, "Endless", 0).await.unwrap());
    }
    let refused = stream(&mut client, "Endless", 0).await.unwrap_err();
    assert_refused(&refused, Code::Unavailable, "overloaded", "not_executed");
    assert!(unary(&mut client, "Echo", note(1)).await.is_ok());
    // One is reset by its client, then the other's connection is gone.
    open.pop();
    let begins = |client: &Grpc<Channel>| {
        let mut client = client.clone();
        async move { stream(&mut client, "Endless", 0).await.is_ok() }
    };
    until(|| begins(&client)).await;
    let fresh = connect(&server).await;
    drop((open, client));
    until(|| begins(&fresh)).await;
    // A stream that its client has had enough of is no failure.
    until(|| async { counted(&server, "Endless", 200) >= 3.0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_endless_streams_and_says_so() {
    let mut server = start(&[]);
    let mut client = connect(&server).await;
    let mut endless = stream(&mut client, "Endless", 0).await.unwrap();
    assert!(next(&mut endless).await.unwrap().is_some());
    let mut http = Connection::open(server.addr()).unwrap();
    http.send(b"GET /ticks HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    let mut begun = Vec::new();
    while !begun.ends_with(b"tick\n\r\n") {
        let mut byte = [0];
        http.stream().read_exact(&mut byte).unwrap();
        begun.extend(byte);
    }
    server.begin_termination();
    let ended = next(&mut endless).await.unwrap_err();
    assert_refused(&ended, Code::Unavailable, "draining", "unknown");
    // Over HTTP nobody may take it for whole: there is no last chunk.
    let mut rest = Vec::new();
    let _ = http.stream().read_to_end(&mut rest);
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    assert!(server.wait().success(), "{}", server.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_its_stream_does_not_hold_up_the_end() {
    let mut server = start(&["--drain-ms", "60000"]);
    let mut client = connect(&server).await;
    let mut notes = stream(&mut client, "Count", 32 << 10).await.unwrap();
    assert!(next(&mut notes).await.unwrap().is_some());
    server.begin_termination();
    // Long before the drain's deadline, which the test would not wait for.
    assert!(server.wait().success(), "{}", server.stderr());
    drop(notes);
}

#[tokio::test]
async fn what_is_no_call_is_refused_in_http() {
    let server = start(&[]);
    let ask = |content_type| {
        let head = format!("POST /test.Probe/Echo HTTP/1.1\r\nHost: t\r\nContent-Type: {content_type}\r\n");
        raw(
            server.addr(),
            format!("{head}Content-Length: 5\r\n\r\n\0\0\0\0\0").as_bytes(),
        )
        .unwrap()
    };
    for content_type in ["application/json", "application/grpc", "application/grpc-web"] {
        assert_problem(&ask(content_type), 415, "not_executed");
    }
    assert_problem(
        &testkit::http::get(server.addr(), "/test.Probe/Echo").unwrap(),
        405,
        "not_executed",
    );
    assert_eq!(counted(&server, "Echo", 415), 3.0);
}
