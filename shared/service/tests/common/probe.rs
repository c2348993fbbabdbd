//! The gRPC service under test: what a generator would make of a small .proto, written by hand, so that nothing has to be
//! generated whenever the crate is built.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use http::StatusCode;
use service::{Class, Problem};
use tokio_stream::{Stream, StreamExt as _};
use tonic::server::{Grpc, NamedService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::service_fn;

/// All that is sent, both ways.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Note {
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) payload: Vec<u8>,
}

/// What is mounted. `Hidden` exists in the service and is not mounted.
pub(crate) const METHODS: [(Class, &str); 8] = [
    (Class::Write, "Echo"),
    (Class::Bulk, "Bulk"),
    (Class::Read, "Slow"),
    (Class::Read, "Panic"),
    (Class::Read, "Refuse"),
    (Class::Read, "Produced"),
    (Class::Stream, "Count"),
    (Class::Stream, "Endless"),
];

/// How many messages of `Count` were made.
static PRODUCED: AtomicU64 = AtomicU64::new(0);

#[derive(Clone)]
pub(crate) struct Probe;

impl NamedService for Probe {
    const NAME: &'static str = "test.Probe";
}

impl tower::Service<http::Request<Body>> for Probe {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let method = request.uri().path().rsplit('/').next().unwrap().to_owned();
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::<Note, Note>::default());
            Ok(match method.as_str() {
                "Count" | "Endless" => {
                    let service = service_fn(move |asked| stream(method.clone(), asked));
                    grpc.server_streaming(service, request).await
                }
                _ => {
                    let service = service_fn(move |asked| unary(method.clone(), asked));
                    grpc.unary(service, request).await
                }
            })
        })
    }
}

async fn unary(method: String, asked: Request<Note>) -> Result<Response<Note>, Status> {
    let mut note = asked.into_inner();
    match method.as_str() {
        "Slow" => tokio::time::sleep(Duration::from_millis(note.number)).await,
        "Panic" => panic!("on purpose"),
        "Refuse" => {
            let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "odd", "The number is odd");
            return Err(problem.invalid("/number", "must be even").into());
        }
        "Produced" => note.number = PRODUCED.load(Ordering::Relaxed),
        _ => {}
    }
    Ok(Response::new(note))
}

type Notes = Pin<Box<dyn Stream<Item = Result<Note, Status>> + Send>>;

/// `Count` makes so many notes of 1 KiB and then fails if they were odd; `Endless` makes one and then panics or waits.
async fn stream(method: String, asked: Request<Note>) -> Result<Response<Notes>, Status> {
    let number = asked.into_inner().number;
    let notes = (0..number).map(|number| {
        PRODUCED.fetch_add(1, Ordering::Relaxed);
        Ok(Note {
            number,
            payload: vec![b'x'; 1 << 10],
        })
    });
    let notes = tokio_stream::iter(notes);
    Ok(Response::new(match (method.as_str(), number % 2) {
        ("Count", 0) => Box::pin(notes),
        ("Count", _) => Box::pin(notes.chain(tokio_stream::once(Err(Status::data_loss("odd"))))),
        (_, 0) => {
            let first = tokio_stream::once(Ok(Note::default()));
            Box::pin(first.chain(tokio_stream::pending()))
        }
        _ => Box::pin(notes.map(|_| panic!("on purpose"))),
    }))
}
