//! The contract of links.

use std::collections::HashSet;

use url_shortener::adapters::{Numbering, Sqlite};
use url_shortener::domain::{Error, Link, NewLink, Slug};
use url_shortener::ports::Links;

use crate::adapters::{
    TRAP, alias, at, cached, cached_permuted_grouped, code, grouped, idempotency, memory, next, open, permuted,
    permuted_grouped_redis_cached, postgres, redis_cached, sqlite_counted, sqlite_drawn, target, under,
};

/// Inserts one link by itself.
pub(crate) async fn insert(links: &impl Links, link: NewLink) -> Result<Link, Error> {
    let mut answers = links.insert(vec![link]).await;
    assert_eq!(answers.len(), 1);
    answers.pop().unwrap()
}

/// Where a name leads, deleted or not.
async fn url_of(links: &impl Links, slug: &Slug) -> Option<String> {
    let found = links.find(slug).await.unwrap()?;
    assert_eq!(found.slug, *slug);
    Some(found.target.as_str().to_owned())
}

pub(crate) async fn an_inserted_link_is_found_as_it_was_inserted<L: Links>(links: &L) {
    let urls = [
        "https://example.com/",
        "https://example.com/a%20b?q=%C3%A4&q=%2e%2E#f'\"$",
        &format!("https://example.com/{}", "x".repeat(2_000)),
    ];
    for (number, url) in (1..).zip(urls) {
        for slug in [code(number), alias(&format!("link-{number}"))] {
            let expires_at = (number == 2).then_some(u64::from(u32::MAX) * 1_000);
            let made = insert(
                links,
                NewLink {
                    expires_at,
                    ..at(&slug, url)
                },
            )
            .await
            .unwrap();
            let expected = Link {
                slug: slug.clone(),
                target: target(url),
                created_at: 1_000,
                expires_at,
                deleted: false,
            };
            assert_eq!(made, expected);
            assert_eq!(links.find(&slug).await.unwrap(), Some(expected));
        }
    }
}

async fn what_was_never_made_is_not_found_and_then_is_once_made<L: Links>(links: &L) {
    for slug in [code(0), code(7), alias("seven")] {
        assert_eq!(links.find(&slug).await.unwrap(), None);
        assert!(!links.delete(&slug, 1).await.unwrap());
        insert(links, at(&slug, "https://example.com/7")).await.unwrap();
        assert_eq!(url_of(links, &slug).await.as_deref(), Some("https://example.com/7"));
    }
}

pub(crate) async fn names_are_compared_byte_by_byte<L: Links>(links: &L) {
    let names = [
        "0000aaa", "0000aaA", "0000AAA", "my-link", "My-link", "MY-LINK", "my_link",
    ];
    let slugs = names.map(|name| Slug::parse(name).unwrap());
    for (name, slug) in names.iter().zip(&slugs) {
        let url = format!("https://example.com/{name}");
        insert(links, at(slug, &url)).await.unwrap();
    }
    for (name, slug) in names.iter().zip(&slugs) {
        assert_eq!(url_of(links, slug).await, Some(format!("https://example.com/{name}")));
    }
}

async fn a_link_is_deleted_once_and_stays_found<L: Links>(links: &L) {
    for slug in [code(3), alias("three")] {
        insert(links, at(&slug, "https://example.com/3")).await.unwrap();
        assert!(!links.find(&slug).await.unwrap().unwrap().deleted);
        assert!(links.delete(&slug, 2_000).await.unwrap());
        assert!(!links.delete(&slug, 3_000).await.unwrap());
        let found = links.find(&slug).await.unwrap().unwrap();
        assert!(found.deleted && !found.is_live(1_500));
        assert_eq!(found.target, target("https://example.com/3"));
    }
}

async fn an_expired_link_stays_found<L: Links>(links: &L) {
    let link = NewLink {
        expires_at: Some(1_001),
        ..at(&code(4), "https://example.com/4")
    };
    insert(links, link).await.unwrap();
    let found = links.find(&code(4)).await.unwrap().unwrap();
    assert!(found.is_live(1_000) && !found.is_live(1_001));
}

pub(crate) async fn a_name_is_given_once_and_never_again_after_a_delete<L: Links>(links: &L) {
    for (number, slug) in [(1, code(5)), (2, alias("five"))] {
        let first = "https://example.com/5";
        insert(links, at(&slug, first)).await.unwrap();
        // The very same link again, the same under an idempotency key, another link; then all again after a delete.
        for deleted in [false, true] {
            for again in [
                at(&slug, first),
                under(&format!("again {number}"), 1, at(&slug, first)),
                at(&slug, "https://evil.example/"),
                under(&format!("evil {number}"), 1, at(&slug, "https://evil.example/")),
            ] {
                let refused = insert(links, again).await;
                assert!(
                    matches!(
                        (&slug, &refused),
                        (Slug::Code(_), Err(Error::CodeTaken)) | (Slug::Alias(_), Err(Error::AliasTaken))
                    ),
                    "{slug}: {refused:?}"
                );
                assert_eq!(url_of(links, &slug).await.as_deref(), Some(first));
            }
            for key in ["again", "evil"] {
                let answer = links.replay(&idempotency(&format!("{key} {number}"), 1)).await;
                assert!(matches!(answer, Ok(None)), "a refusal was remembered: {answer:?}");
            }
            assert_ne!(links.delete(&slug, 2_000).await.unwrap(), deleted);
        }
    }
}

async fn one_refused_link_stops_no_other<L: Links>(links: &L) {
    insert(links, under("used", 1, at(&code(1), "https://example.com/1")))
        .await
        .unwrap();
    insert(links, at(&alias("taken"), "https://example.com/taken"))
        .await
        .unwrap();
    let answers = links
        .insert(vec![
            at(&code(2), "https://example.com/2"),
            at(&alias("taken"), "https://example.com/x"),
            at(&code(1), "https://example.com/x"),
            under("used", 2, at(&code(3), "https://example.com/x")),
            under("used", 1, at(&code(3), "https://example.com/1")),
            at(&alias("free"), "https://example.com/free"),
            at(&alias("free"), "https://example.com/x"),
            under("new", 1, at(&code(4), "https://example.com/4")),
            under("new", 1, at(&code(5), "https://example.com/4")),
            under("new", 2, at(&code(5), "https://example.com/x")),
            at(&code(6), "https://example.com/6"),
            at(&code(6), "https://example.com/6"),
            at(&code(7), "https://example.com/7"),
        ])
        .await;
    let said: Vec<String> = answers
        .iter()
        .map(|answer| match answer {
            Ok(link) => link.slug.to_string(),
            Err(error) => error.to_string(),
        })
        .collect();
    let (alias_taken, code_taken, key_reused) = (
        Error::AliasTaken.to_string(),
        Error::CodeTaken.to_string(),
        Error::KeyReused.to_string(),
    );
    let expected = [
        "0000002",
        &alias_taken,
        &code_taken,
        &key_reused,
        "0000001", // what was answered under this key before
        "free",
        &alias_taken,
        "0000004",
        "0000004", // the key came in this very batch
        &key_reused,
        "0000006",
        &code_taken,
        "0000007",
    ];
    assert_eq!(said, expected);
    assert_eq!(url_of(links, &code(1)).await.as_deref(), Some("https://example.com/1"));
    assert_eq!(url_of(links, &code(7)).await.as_deref(), Some("https://example.com/7"));
    for unused in [code(3), code(5)] {
        assert_eq!(links.find(&unused).await.unwrap(), None, "{unused} was not to be made");
    }
}

pub(crate) async fn a_known_key_gets_the_link_made_then_and_makes_none<L: Links>(links: &L) {
    for (number, slug) in [(1, code(10)), (2, alias("ten"))] {
        let key = format!("key {number}");
        assert_eq!(links.replay(&idempotency(&key, 1)).await.unwrap(), None);
        let made = insert(links, under(&key, 1, at(&slug, "https://example.com/10")))
            .await
            .unwrap();
        let spare = code(100 + number);
        let again = insert(links, under(&key, 1, at(&spare, "https://example.com/10"))).await;
        assert_eq!(again.unwrap(), made);
        assert_eq!(links.replay(&idempotency(&key, 1)).await.unwrap(), Some(made));
        assert_eq!(links.find(&spare).await.unwrap(), None);
        // Also once it is gone: the answer says what was made, not what is left of it.
        links.delete(&slug, 2_000).await.unwrap();
        assert_eq!(links.replay(&idempotency(&key, 1)).await.unwrap().unwrap().slug, slug);
    }
}

async fn a_key_used_for_something_else_is_refused<L: Links>(links: &L) {
    insert(links, under("key", 1, at(&code(1), "https://example.com/1")))
        .await
        .unwrap();
    let other = insert(links, under("key", 2, at(&code(2), "https://example.com/2"))).await;
    assert!(matches!(other, Err(Error::KeyReused)), "{other:?}");
    let replayed = links.replay(&idempotency("key", 2)).await;
    assert!(matches!(replayed, Err(Error::KeyReused)), "{replayed:?}");
    assert_eq!(links.find(&code(2)).await.unwrap(), None);
}

async fn counted_places_are_all_different<L: Links>(links: &L) {
    let mut made = Vec::new();
    for round in 0..3 {
        let batch = (0..5)
            .map(|n| next(&format!("https://example.com/{round}/{n}")))
            .collect();
        made.extend(links.insert(batch).await);
        made.push(insert(links, next("https://example.com/single")).await);
        made.push(insert(links, under(&format!("{round}"), 1, next("https://example.com/key"))).await);
    }
    let slugs: HashSet<Slug> = made.into_iter().map(|link| link.unwrap().slug).collect();
    assert_eq!(slugs.len(), 3 * 7);
}

async fn of_many_who_want_one_name_one_gets_it<L: Links>(links: &L) {
    for slug in [code(9), alias("nine")] {
        let rivals: Vec<_> = (0..32)
            .map(|n| {
                let (links, slug) = (links.clone(), slug.clone());
                tokio::spawn(async move { insert(&links, at(&slug, &format!("https://example.com/{n}"))).await })
            })
            .collect();
        let mut winners = Vec::new();
        for rival in rivals {
            match rival.await.unwrap() {
                Ok(link) => winners.push(link),
                Err(error) => assert!(matches!(error, Error::AliasTaken | Error::CodeTaken), "{error}"),
            }
        }
        assert_eq!(winners.len(), 1);
        assert_eq!(links.find(&slug).await.unwrap().unwrap(), winners[0]);
    }
}

async fn a_thousand_links_are_answered_in_order<L: Links>(links: &L) {
    assert!(links.insert(Vec::new()).await.is_empty());
    let batch = (1..=1_000).map(|n| at(&code(n), &format!("https://example.com/{n}")));
    let answers = links.insert(batch.collect()).await;
    for (n, answer) in (1..=1_000).zip(answers) {
        assert_eq!(answer.unwrap().slug, code(n));
    }
    assert_eq!(
        url_of(links, &code(1_000)).await.as_deref(),
        Some("https://example.com/1000")
    );
}

testkit::contract! {
    cases: [
        an_inserted_link_is_found_as_it_was_inserted,
        what_was_never_made_is_not_found_and_then_is_once_made,
        names_are_compared_byte_by_byte,
        a_link_is_deleted_once_and_stays_found,
        an_expired_link_stays_found,
        a_name_is_given_once_and_never_again_after_a_delete,
        one_refused_link_stops_no_other,
        a_known_key_gets_the_link_made_then_and_makes_none,
        a_key_used_for_something_else_is_refused,
        counted_places_are_all_different,
        of_many_who_want_one_name_one_gets_it,
        a_thousand_links_are_answered_in_order,
    ],
    memory,
    sqlite_counted,
    sqlite_drawn,
    cached,
    grouped,
    permuted,
    cached_permuted_grouped,
}

/// Stores that do not count: places are given by others.
mod uncounted {
    use super::*;

    testkit::contract! {
        cases: [
            an_inserted_link_is_found_as_it_was_inserted,
            what_was_never_made_is_not_found_and_then_is_once_made,
            names_are_compared_byte_by_byte,
            a_link_is_deleted_once_and_stays_found,
            an_expired_link_stays_found,
            a_name_is_given_once_and_never_again_after_a_delete,
            one_refused_link_stops_no_other,
            a_known_key_gets_the_link_made_then_and_makes_none,
            a_key_used_for_something_else_is_refused,
            of_many_who_want_one_name_one_gets_it,
            a_thousand_links_are_answered_in_order,
        ],
        postgres,
        redis_cached,
        permuted_grouped_redis_cached,
    }
}

/// What only a store that can fail can show.
mod failing {
    use super::*;

    async fn a_store_that_fails_in_the_middle_changes_nothing<L: Links>(links: &L) {
        let names = [code(1), alias("one"), code(2)];
        let answers = links
            .insert(vec![
                at(&names[0], "https://example.com/1"),
                under("key", 1, at(&names[1], "https://example.com/2")),
                under("other", 1, at(&names[2], TRAP)),
                next("https://example.com/3"),
            ])
            .await;
        assert_eq!(answers.len(), 4);
        for answer in answers {
            assert!(matches!(answer, Err(Error::Unavailable(_))), "{answer:?}");
        }
        for name in &names {
            assert_eq!(links.find(name).await.unwrap(), None);
        }
        assert_eq!(links.replay(&idempotency("key", 1)).await.unwrap(), None);
        // Nothing is in the way of another try.
        insert(links, under("key", 1, at(&names[1], "https://example.com/2")))
            .await
            .unwrap();
        insert(links, at(&names[0], "https://example.com/1")).await.unwrap();
    }

    testkit::contract! {
        cases: [a_store_that_fails_in_the_middle_changes_nothing],
        sqlite_counted,
        sqlite_drawn,
        cached,
        grouped,
        permuted,
        cached_permuted_grouped,
        postgres,
        redis_cached,
        permuted_grouped_redis_cached,
    }
}

#[test]
fn what_sqlite_acknowledged_is_there_when_it_is_opened_again() {
    testkit::contract::run(async {
        let folder = tempfile::tempdir().unwrap();
        let first = Sqlite::new(open(&folder).await, &Numbering::Drawn).await.unwrap();
        let made = insert(&first, under("key", 1, at(&alias("kept"), "https://example.com/kept")))
            .await
            .unwrap();
        first.delete(&alias("kept"), 2_000).await.unwrap();
        // As after a crash: nobody closes anything.
        std::mem::forget(first);
        let second = Sqlite::new(open(&folder).await, &Numbering::Drawn).await.unwrap();
        let found = second.find(&alias("kept")).await.unwrap().unwrap();
        assert_eq!(found, Link { deleted: true, ..made });
        assert_eq!(
            second.replay(&idempotency("key", 1)).await.unwrap().unwrap().slug,
            alias("kept")
        );
    });
}

#[test]
fn a_database_is_not_opened_under_another_numbering() {
    let meanings = [
        Numbering::Counted,
        Numbering::Drawn,
        Numbering::Permuted("one".to_owned()),
        Numbering::Permuted("two".to_owned()),
    ];
    testkit::contract::run(async move {
        for first in &meanings {
            let folder = tempfile::tempdir().unwrap();
            Sqlite::new(open(&folder).await, first).await.unwrap();
            for second in &meanings {
                let opened = Sqlite::new(open(&folder).await, second).await;
                assert_eq!(opened.is_ok(), first == second, "{first:?} opened as {second:?}");
            }
        }
    });
}

#[test]
fn answers_older_than_a_day_are_forgotten_and_their_links_are_not() {
    testkit::contract::run(async {
        let fixture = sqlite_drawn().await;
        let links = fixture.adapter();
        insert(links, under("key", 1, at(&code(1), "https://example.com/")))
            .await
            .unwrap();
        links.forget_answers(1_000).await.unwrap();
        assert!(links.replay(&idempotency("key", 1)).await.unwrap().is_some());
        links.forget_answers(1_001).await.unwrap();
        assert!(links.replay(&idempotency("key", 1)).await.unwrap().is_none());
        assert!(links.find(&code(1)).await.unwrap().is_some());
    });
}
