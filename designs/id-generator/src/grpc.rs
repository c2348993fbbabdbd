//! The gRPC interface: `proto/ids.proto`, on the port of the HTTP interface.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::{Stream, try_unfold};
use service::Problem;
use tonic::{Request, Response, Status};

use crate::domain::{Count, Error, Format, Ids};
use crate::http::no_such;
use crate::ports;
use crate::service::Generator;
use wire::{MakeRequest, MakeResponse, StreamRequest};

/// What the compiler of `.proto` files makes of ours: messages, a server, a client.
#[expect(
    missing_docs,
    unused_qualifications,
    reason = "nobody wrote it; the words are in the .proto file"
)]
pub mod wire {
    tonic::include_proto!("loadbearing.ids.v1");
}

/// The most ids of one stream.
const MOST_OF_A_STREAM: u64 = 100_000_000;

/// How many ids a message of a stream has, unless the caller says.
const BATCH: u32 = 1_000;

/// The service, on the use cases of a stage.
pub(crate) struct Grpc<I>(pub(crate) Arc<Generator<I>>);

#[tonic::async_trait]
impl<I: ports::Ids> wire::ids_server::Ids for Grpc<I> {
    async fn make(&self, request: Request<MakeRequest>) -> Result<Response<MakeResponse>, Status> {
        let asked = request.into_inner();
        let count = count(asked.count, 1, "count")?;
        let format = form(asked.format)?;
        let ids = self.0.make(count, format).await.map_err(status)?;
        Ok(Response::new(message(ids)))
    }

    type StreamStream = Pin<Box<dyn Stream<Item = Result<MakeResponse, Status>> + Send>>;

    async fn stream(&self, request: Request<StreamRequest>) -> Result<Response<Self::StreamStream>, Status> {
        let asked = request.into_inner();
        let batch = count(asked.batch, BATCH, "batch")?;
        let format = form(asked.format)?;
        if !(1..=MOST_OF_A_STREAM).contains(&asked.total) {
            return Err(no_such("total", "must be 1 to 100000000").into());
        }
        // One message is made when the one before it was taken: a slow reader makes no heap here.
        let generator = Arc::clone(&self.0);
        let pieces = try_unfold((generator, asked.total), move |(generator, left)| async move {
            let Some(count) = u32::try_from(left.min(u64::from(batch.get())))
                .ok()
                .and_then(Count::new)
            else {
                return Ok(None);
            };
            let ids = loop {
                match generator.make(count, format).await {
                    // It goes at the pace of the layout: whoever shares that pace with it may have been first.
                    Err(Error::SequenceExhausted(wait)) => tokio::time::sleep(wait).await,
                    made => break made.map_err(status)?,
                }
            };
            Ok(Some((message(ids), (generator, left - u64::from(count.get())))))
        });
        Ok(Response::new(Box::pin(pieces)))
    }
}

fn count(asked: u32, unless_said: u32, field: &str) -> Result<Count, Status> {
    let asked = if asked == 0 { unless_said } else { asked };
    Count::new(asked).ok_or_else(|| no_such(field, "must be 1 to 10000").into())
}

fn form(asked: i32) -> Result<Format, Status> {
    Ok(match wire::Format::try_from(asked) {
        Ok(wire::Format::Number) => Format::Snowflake,
        Ok(wire::Format::Base62) => Format::Base62,
        Ok(wire::Format::UuidV4) => Format::UuidV4,
        Ok(wire::Format::UuidV7) => Format::UuidV7,
        Ok(wire::Format::Ulid) => Format::Ulid,
        Err(_) => return Err(no_such("format", "is not one that is known here").into()),
    })
}

fn message(ids: Ids) -> MakeResponse {
    let texts = |texts: Vec<String>| MakeResponse {
        texts,
        ..MakeResponse::default()
    };
    match ids {
        Ids::Decimal(numbers) => MakeResponse {
            numbers,
            ..MakeResponse::default()
        },
        Ids::Base62(numbers) => texts(numbers.into_iter().map(base62::encode).collect()),
        Ids::Uuids(uuids) => texts(uuids.iter().map(ToString::to_string).collect()),
        Ids::Ulids(ulids) => texts(ulids.iter().map(ToString::to_string).collect()),
    }
}

fn status(error: Error) -> Status {
    Problem::from(error).into()
}
