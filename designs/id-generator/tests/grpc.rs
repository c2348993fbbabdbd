//! The gRPC interface, by a client that `proto/ids.proto` was compiled for.

#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

mod common;

use std::collections::HashSet;
use std::net::SocketAddr;

use common::Site;
use id_generator::grpc::wire::ids_client::IdsClient;
use id_generator::grpc::wire::{Format, MakeRequest, StreamRequest};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

common::every_stage! {
    gives_exactly_as_many_as_asked_for,
    streams_as_many_as_asked_for_in_order,
    refuses_what_does_not_fit,
}

async fn client(addr: SocketAddr) -> IdsClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{addr}")).unwrap();
    IdsClient::new(endpoint.connect().await.unwrap())
}

fn make(count: u32, format: Format) -> MakeRequest {
    MakeRequest {
        count,
        format: format.into(),
    }
}

fn stream(total: u64, batch: u32) -> StreamRequest {
    StreamRequest {
        total,
        batch,
        format: Format::Number.into(),
    }
}

fn gives_exactly_as_many_as_asked_for(stage: &str) {
    let site = Site::new();
    let server = site.start(stage, &[]);
    testkit::contract::run(async {
        let mut client = client(server.addr()).await;
        let mut last = 0;
        for (count, expected) in [(0, 1), (1, 1), (3, 3), (10_000, 10_000)] {
            let numbers = client
                .make(make(count, Format::Number))
                .await
                .unwrap()
                .into_inner()
                .numbers;
            assert_eq!(numbers.len(), expected);
            assert!(numbers.is_sorted_by(|a, b| a < b) && numbers[0] > last);
            last = *numbers.last().unwrap();
        }
        for (format, length) in [(Format::UuidV4, 36), (Format::UuidV7, 36), (Format::Ulid, 26)] {
            let answer = client.make(make(20, format)).await.unwrap().into_inner();
            assert!(answer.numbers.is_empty());
            assert!(answer.texts.iter().all(|text| text.len() == length));
            assert_eq!(answer.texts.iter().collect::<HashSet<_>>().len(), 20);
        }
        let answer = client.make(make(1, Format::Base62)).await.unwrap().into_inner();
        let number = base62::decode(&answer.texts[0]).unwrap();
        assert!(number > u128::from(last));
    });
}

fn streams_as_many_as_asked_for_in_order(stage: &str) {
    let site = Site::new();
    let server = site.start(stage, &[]);
    testkit::contract::run(async {
        let mut client = client(server.addr()).await;
        for (total, batch, messages) in [(1, 0, 1), (2_500, 0, 3), (25, 10, 3)] {
            let mut pieces = client.stream(stream(total, batch)).await.unwrap().into_inner();
            let (mut numbers, mut counted) = (Vec::new(), 0);
            while let Some(piece) = pieces.message().await.unwrap() {
                numbers.extend(piece.numbers);
                counted += 1;
            }
            assert_eq!((numbers.len() as u64, counted), (total, messages));
            assert!(numbers.is_sorted_by(|a, b| a < b));
        }
    });
}

fn refuses_what_does_not_fit(stage: &str) {
    let site = Site::new();
    let server = site.start(stage, &["--api-keys", "k3y-0f-the-house"]);
    testkit::contract::run(async {
        let mut client = client(server.addr()).await;
        let with_key = |message: MakeRequest| {
            let mut request = Request::new(message);
            let key = "Bearer k3y-0f-the-house".parse().unwrap();
            request.metadata_mut().insert("authorization", key);
            request
        };
        let refused = client.make(make(1, Format::Number)).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
        assert!(client.make(with_key(make(1, Format::Number))).await.is_ok());
        let too_many = with_key(make(10_001, Format::Number));
        let no_format = with_key(MakeRequest { count: 1, format: 9 });
        for bad in [too_many, no_format] {
            let refused = client.make(bad).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
            assert_eq!(refused.metadata().get("problem-outcome").unwrap(), "not_executed");
            assert_eq!(refused.metadata().get("problem-code").unwrap(), "invalid_request");
        }
    });
}

#[test]
fn a_stream_has_bounds_and_one_that_is_left_ends() {
    let site = Site::new();
    let server = site.start("snowflake", &[]);
    testkit::contract::run(async {
        let mut client = client(server.addr()).await;
        for total in [0, 100_000_001] {
            let refused = client.stream(stream(total, 0)).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        }
        let mut long = client.stream(stream(100_000_000, 0)).await.unwrap().into_inner();
        assert_eq!(long.message().await.unwrap().unwrap().numbers.len(), 1_000);
        drop(long);
        assert!(client.make(make(1, Format::Number)).await.is_ok());
    });
    let mut server = server;
    assert!(server.terminate().success(), "{}", server.stderr());
}
