//! A client that takes ids by gRPC streams for some seconds, and says how many it got: what a batch job would see.
//!
//! `cargo run --release -p id-generator --example stream -- http://127.0.0.1:8080 5 1 10000` asks for five seconds, by one
//! stream at a time, in messages of ten thousand. One thread reads; every id is compared with the one before it.

#![expect(clippy::print_stdout, reason = "the rate is its result")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use id_generator::grpc::wire::ids_client::IdsClient;
use id_generator::grpc::wire::{Format, StreamRequest};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "http://127.0.0.1:8080".to_owned());
    let mut number = |otherwise: u32| arguments.next().and_then(|text| text.parse().ok()).unwrap_or(otherwise);
    let (seconds, streams, batch) = (number(5), number(1), number(1_000));
    match measure(&url, Duration::from_secs(seconds.into()), streams, batch).await {
        Ok((ids, took)) => {
            let rate = ids as f64 / took.as_secs_f64();
            println!("{ids} ids by {streams} streams in messages of {batch}: {rate:.0} a second");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(
    url: &str,
    lasts: Duration,
    streams: u32,
    batch: u32,
) -> Result<(u64, Duration), Box<dyn std::error::Error>> {
    let channel = Endpoint::from_shared(url.to_owned())?.connect().await?;
    let start = Instant::now();
    let readers: Vec<_> = (0..streams)
        .map(|_| tokio::spawn(read(IdsClient::new(channel.clone()), batch, start + lasts)))
        .collect();
    let mut ids = 0;
    for reader in readers {
        ids += reader.await??;
    }
    Ok((ids, start.elapsed()))
}

/// Reads until a moment; how many ids came, each greater than the one before.
async fn read(mut client: IdsClient<Channel>, batch: u32, end: Instant) -> Result<u64, Status> {
    let request = StreamRequest {
        total: 100_000_000,
        batch,
        format: Format::Number.into(),
    };
    let mut pieces = client.stream(request).await?.into_inner();
    let (mut ids, mut last) = (0, 0);
    while Instant::now() < end {
        let Some(piece) = pieces.message().await? else {
            break;
        };
        if !piece.numbers.is_sorted_by(|a, b| a < b) || piece.numbers.first().is_some_and(|first| *first <= last) {
            return Err(Status::data_loss("ids came twice, or went back"));
        }
        last = piece.numbers.last().copied().unwrap_or(last);
        ids += piece.numbers.len() as u64;
    }
    Ok(ids)
}
