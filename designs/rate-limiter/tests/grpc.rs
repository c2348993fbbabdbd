//! Envoy's rate limit service, by a client that the same words were compiled for, on both of its addresses.

#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

mod common;
#[path = "common/undisturbed.rs"]
mod undisturbed;

use std::net::SocketAddr;

use common::Site;
use rate_limiter::grpc::wire::rate_limit_descriptor::{Entry, RateLimitOverride};
use rate_limiter::grpc::wire::rate_limit_response::{Code, DescriptorStatus};
use rate_limiter::grpc::wire::rate_limit_service_client::RateLimitServiceClient;
use rate_limiter::grpc::wire::{RateLimitDescriptor, RateLimitRequest, RateLimitResponse, RateLimitUnit};
use tonic::transport::{Channel, Endpoint};
use undisturbed::undisturbed;

const RULES: &str = "\
domain: shop
descriptors:
  - key: user
    rate_limit: { unit: hour, requests_per_unit: 5, name: five }
  - key: tenant
    rate_limit: { unit: day, requests_per_unit: 3, name: three, replaces: [{ name: five }] }
  - key: blocked
    rate_limit: { unit: second, requests_per_unit: 0 }
  - key: watched
    shadow_mode: true
    rate_limit: { unit: hour, requests_per_unit: 2 }
";

common::every_stage! {
    answers_a_status_for_each_descriptor_in_their_order,
    charges_what_is_asked_for_and_a_zero_not_at_all,
    goes_by_a_limit_that_is_brought_along,
    leaves_out_a_rule_that_another_replaces,
    lets_in_what_a_rule_that_watches_would_refuse,
    tells_of_the_tightest_limit_in_headers_for_envoy_to_add,
    refuses_what_is_no_question,
}

async fn client(addr: SocketAddr) -> RateLimitServiceClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{addr}")).unwrap();
    RateLimitServiceClient::new(endpoint.connect().await.unwrap())
}

fn of(key: &str, value: &str) -> RateLimitDescriptor {
    RateLimitDescriptor {
        entries: vec![Entry {
            key: key.to_owned(),
            value: value.to_owned(),
        }],
        ..RateLimitDescriptor::default()
    }
}

fn ask(descriptors: Vec<RateLimitDescriptor>) -> RateLimitRequest {
    RateLimitRequest {
        domain: String::from("shop"),
        descriptors,
        hits_addend: 0,
    }
}

/// Plays a conversation to a server on each of its addresses: what is charged on one is charged on the other.
fn on_both_addresses(stage: &str, play: impl AsyncFn(RateLimitServiceClient<Channel>, &str)) {
    let start = |site: &Site| site.start(stage, &["--rules", &site.rules(RULES), "--share", "1"]);
    undisturbed(start, |_, server| {
        for (address, who) in [(server.addr(), "first"), (common::grpc(server), "second")] {
            testkit::contract::run(async { play(client(address).await, who).await });
        }
    });
}

async fn told(client: &mut RateLimitServiceClient<Channel>, request: RateLimitRequest) -> RateLimitResponse {
    client.should_rate_limit(request).await.unwrap().into_inner()
}

fn codes(response: &RateLimitResponse) -> Vec<Code> {
    response.statuses.iter().map(DescriptorStatus::code).collect()
}

fn answers_a_status_for_each_descriptor_in_their_order(stage: &str) {
    on_both_addresses(stage, async |mut client, who| {
        let other = format!("{who}-other");
        let all = || {
            ask(vec![
                of("user", who),
                of("nobody", "x"),
                of("user", &other),
                of("blocked", "x"),
            ])
        };
        let first = told(&mut client, all()).await;
        assert_eq!(first.overall_code(), Code::OverLimit);
        assert_eq!(codes(&first), [Code::Ok, Code::Ok, Code::Ok, Code::OverLimit]);
        let status = &first.statuses[0];
        let limit = status.current_limit.as_ref().unwrap();
        assert_eq!((limit.requests_per_unit, limit.name.as_str()), (5, "five"));
        assert_eq!(status.limit_remaining, 4);
        assert!(status.duration_until_reset.unwrap().seconds > 700, "a fifth of an hour");
        assert!(first.statuses[1].current_limit.is_none());
        // Each is charged for itself, whatever the others are told.
        for remaining in (0..4).rev() {
            assert_eq!(told(&mut client, all()).await.statuses[0].limit_remaining, remaining);
        }
        assert_eq!(
            codes(&told(&mut client, all()).await)[..3],
            [Code::OverLimit, Code::Ok, Code::OverLimit]
        );
    });
}

fn charges_what_is_asked_for_and_a_zero_not_at_all(stage: &str) {
    on_both_addresses(stage, async |mut client, who| {
        let charge = |hits: Option<u64>| RateLimitDescriptor {
            hits_addend: hits,
            ..of("user", who)
        };
        // One after the other: at once, stage racy would forget one of them.
        for hits in [None, Some(0), Some(1)] {
            let three = RateLimitRequest {
                hits_addend: 3,
                ..ask(vec![charge(hits)])
            };
            assert_eq!(told(&mut client, three).await.overall_code(), Code::Ok);
        }
        let left = told(&mut client, ask(vec![charge(Some(0))])).await.statuses[0].limit_remaining;
        assert_eq!(left, 1, "three for the request, one for itself");
        let above = told(&mut client, ask(vec![charge(Some(6))])).await;
        assert_eq!(codes(&above), [Code::OverLimit], "more than there ever is");
    });
}

fn goes_by_a_limit_that_is_brought_along(stage: &str) {
    on_both_addresses(stage, async |mut client, who| {
        let own = || RateLimitDescriptor {
            limit: Some(RateLimitOverride {
                requests_per_unit: 2,
                unit: RateLimitUnit::Year.into(),
            }),
            ..of("user", &format!("{who}-override"))
        };
        let answer = told(&mut client, ask(vec![own(), own(), own()])).await;
        let admitted = codes(&answer).into_iter().filter(|code| *code == Code::Ok).count();
        assert_eq!(
            (admitted, answer.statuses.len()),
            if stage == "racy" { (admitted, 3) } else { (2, 3) }
        );
    });
}

fn leaves_out_a_rule_that_another_replaces(stage: &str) {
    on_both_addresses(stage, async |mut client, who| {
        for _ in 0..2 {
            let answer = told(&mut client, ask(vec![of("user", who), of("tenant", who)])).await;
            assert!(answer.statuses[0].current_limit.is_none(), "replaced by the tenant's");
            assert_eq!(answer.statuses[1].current_limit.as_ref().unwrap().name, "three");
        }
        let alone = told(&mut client, ask(vec![of("user", who)])).await;
        assert_eq!(alone.statuses[0].limit_remaining, 4, "nothing was charged to it");
    });
}

fn lets_in_what_a_rule_that_watches_would_refuse(stage: &str) {
    on_both_addresses(stage, async |mut client, who| {
        // The last one is more than there ever is.
        for hits in [2, 2, 3] {
            let charge = RateLimitDescriptor {
                hits_addend: Some(hits),
                ..of("watched", who)
            };
            let answer = told(&mut client, ask(vec![charge])).await;
            assert_eq!(
                (answer.overall_code(), &codes(&answer)[..]),
                (Code::Ok, &[Code::Ok][..]),
                "{hits}"
            );
            assert_eq!(answer.statuses[0].current_limit.as_ref().unwrap().requests_per_unit, 2);
        }
    });
}

fn tells_of_the_tightest_limit_in_headers_for_envoy_to_add(stage: &str) {
    let header = |answer: &RateLimitResponse, name: &str| {
        let mut headers = answer.response_headers_to_add.iter();
        headers
            .find(|header| header.key == name)
            .map(|header| header.value.clone())
    };
    on_both_addresses(stage, async |mut client, who| {
        let name = |suffix: &str| format!("{who}-told{suffix}");
        let free = told(&mut client, ask(vec![of("nobody", "x")])).await;
        assert!(free.response_headers_to_add.is_empty(), "nothing limits it");
        // One user has four left, the other three.
        told(&mut client, ask(vec![of("user", &name("-2"))])).await;
        let both = || {
            ask(vec![
                of("user", &name("-1")),
                of("nobody", "x"),
                of("user", &name("-2")),
            ])
        };
        let answer = told(&mut client, both()).await;
        assert_eq!(header(&answer, "ratelimit").unwrap(), "\"five\";r=3");
        let policy = header(&answer, "ratelimit-policy").unwrap();
        assert!(policy.starts_with("\"five\";q=5;w=3600"), "{policy}");
        assert_eq!(header(&answer, "retry-after"), None);
        while told(&mut client, both()).await.overall_code() == Code::Ok {}
        let refused = told(&mut client, both()).await;
        let seconds = header(&refused, "retry-after").unwrap();
        assert_eq!(
            header(&refused, "ratelimit").unwrap(),
            format!("\"five\";r=0;t={seconds}")
        );
        // One that never passes is told of first, and of when to come again there is nothing to be told.
        let never = told(&mut client, ask(vec![of("user", &name("-2")), of("blocked", "x")])).await;
        assert_eq!(header(&never, "ratelimit").unwrap(), "\"shop.blocked\";r=0");
        assert_eq!(header(&never, "retry-after"), None);
    });
}

fn refuses_what_is_no_question(stage: &str) {
    on_both_addresses(stage, async |mut client, _| {
        let no_domain = RateLimitRequest {
            domain: String::new(),
            ..ask(vec![of("user", "x")])
        };
        let gives_back = RateLimitDescriptor {
            is_negative_hits: true,
            ..of("user", "x")
        };
        let no_unit = RateLimitDescriptor {
            limit: Some(RateLimitOverride::default()),
            ..of("user", "x")
        };
        let cases = [
            no_domain,
            ask(Vec::new()),
            ask(vec![RateLimitDescriptor::default()]),
            ask(vec![of("", "x")]),
            ask(vec![of("user", &"x".repeat(1_025))]),
            ask((0..33).map(|_| of("user", "x")).collect()),
            ask(vec![gives_back]),
            ask(vec![no_unit]),
        ];
        for request in cases {
            let refused = client.should_rate_limit(request.clone()).await.unwrap_err();
            assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{request:?}");
        }
    });
}

#[test]
fn an_error_after_others_were_charged_does_not_say_that_nothing_was_done() {
    let site = Site::new();
    let flags = ["--rules", &site.rules(RULES), "--max-keys", "1"];
    let server = site.start("sliding_log", &flags);
    testkit::contract::run(async {
        let mut client = client(server.addr()).await;
        let users: Vec<_> = (0..32).map(|nth| of("user", &format!("one-of-many-{nth}"))).collect();
        let mut outcome = async |descriptors| {
            let failed = client.should_rate_limit(ask(descriptors)).await.unwrap_err();
            assert_eq!(
                failed.metadata().get("problem-code").unwrap(),
                "too_many_keys",
                "{failed:?}"
            );
            failed
                .metadata()
                .get("problem-outcome")
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(outcome(users).await, "unknown");
        // Whoever is new now finds no room, and nobody is beside him.
        assert_eq!(outcome(vec![of("user", "one-too-many")]).await, "not_executed");
    });
}
