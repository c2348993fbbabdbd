//! Files of rules: which limit they mean, what is refused and in which line, and what a change leaves as it was.

#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use rate_limiter::adapters::RulesFiles;
use rate_limiter::domain::{Algorithm, FailureMode, Rule, Unfit, Unit};
use rate_limiter::rules::{self, Fault, Found, Rules};

/// Entries, and the name of the rule that is found for them.
type Case = (&'static [(&'static str, &'static str)], Option<&'static str>);
use service::Lifecycle;

const SHOP: &str = "\
domain: shop
descriptors:
  - key: user
    rate_limit: { unit: second, requests_per_unit: 100 }
    descriptors:
      - key: path
        value: /cart
        rate_limit:
          unit: MINUTE
          requests_per_unit: 10
          burst: 3
          algorithm: token_bucket
          failure_mode: closed
          name: cart
      - key: path
        value: /img*
        rate_limit: { unlimited: true }
  - key: user
    value: root
    rate_limit: { unit: day, requests_per_unit: 1 }
  - key: plan
    value: free*
    share_threshold: true
    rate_limit: { unit: hour, requests_per_unit: 7 }
  - key: plan
    value: 404
    shadow_mode: true
    rate_limit: { unit: week, requests_per_unit: 4 }
  - key: group
    descriptors:
      - key: leaf
        rate_limit: { unit: month, requests_per_unit: 2 }
";

fn build(texts: &[&str]) -> Result<Rules<u32>, Fault> {
    let files: Result<Vec<_>, Fault> = texts.iter().map(|text| rules::parse(text)).collect();
    let mut opened = 0;
    Rules::build(files?, None, |_| {
        opened += 1;
        Ok(opened)
    })
}

/// The rule that is found, and the text of the bucket.
fn find(rules: &Rules<u32>, domain: &str, entries: &[(&str, &str)]) -> Option<(Option<Arc<Rule>>, String)> {
    let mut key = String::new();
    let found = rules.find(domain, entries, &mut key)?;
    let rule = match found {
        Found::Unlimited(_) => None,
        Found::Limited(kept) => Some(Arc::clone(&kept.rule)),
    };
    Some((rule, key))
}

fn name(entries: &[(&str, &str)]) -> Option<String> {
    let (rule, _) = find(&build(&[SHOP]).unwrap(), "shop", entries)?;
    Some(rule.map_or_else(|| String::from("unlimited"), |rule| rule.name.clone()))
}

#[test]
fn the_most_specific_rule_is_found_level_by_level() {
    let cases: [Case; 12] = [
        (&[("user", "alice")], Some("shop.user")),
        (&[("user", "root")], Some("shop.user_root")),
        (&[("user", "alice"), ("path", "/cart")], Some("cart")),
        (&[("user", "alice"), ("path", "/img/1")], Some("unlimited")),
        (&[("user", "alice"), ("path", "/other")], None),
        // Root has a rule of its own, and none below it: it does not turn back.
        (&[("user", "root"), ("path", "/cart")], None),
        (&[("plan", "freebie")], Some("shop.plan_free*")),
        (&[("plan", "404")], Some("shop.plan_404")),
        (&[("plan", "other")], None),
        (&[("group", "a")], None),
        (&[("group", "a"), ("leaf", "b")], Some("shop.group.leaf")),
        (&[("leaf", "b")], None),
    ];
    for (entries, expected) in cases {
        assert_eq!(name(entries).as_deref(), expected, "{entries:?}");
    }
    assert!(find(&build(&[SHOP]).unwrap(), "elsewhere", &[("user", "alice")]).is_none());
}

#[test]
fn a_rule_says_what_its_lines_say() {
    let rules = build(&[SHOP]).unwrap();
    let rule = |entries: &[(&str, &str)]| find(&rules, "shop", entries).unwrap().0.unwrap();
    let cart = rule(&[("user", "alice"), ("path", "/cart")]);
    assert_eq!(
        (cart.limit.requests, cart.limit.unit, cart.limit.burst),
        (10, Unit::Minute, 3)
    );
    assert_eq!(
        (cart.algorithm, cart.failure),
        (Some(Algorithm::TokenBucket), FailureMode::Closed)
    );
    let user = rule(&[("user", "alice")]);
    assert_eq!(
        (user.limit.burst, user.algorithm, user.failure),
        (100, None, FailureMode::Local)
    );
    assert!(!user.single && !user.shadow && !cart.single);
    assert!(rule(&[("user", "root")]).single);
    assert!(rule(&[("plan", "freebie")]).single, "all that begin so share a bucket");
    assert!(rule(&[("plan", "404")]).shadow);
}

#[test]
fn those_that_share_a_threshold_share_a_bucket_and_no_others_do() {
    let rules = build(&[SHOP]).unwrap();
    let key = |entries: &[(&str, &str)]| find(&rules, "shop", entries).unwrap().1;
    assert_eq!(key(&[("plan", "free-1")]), key(&[("plan", "free-2")]));
    assert_ne!(key(&[("plan", "free-1")]), key(&[("plan", "free%*")]).replace("%*", ""));
    assert_ne!(key(&[("user", "a")]), key(&[("user", "b")]));
    assert_eq!(key(&[("user", "a=b/c%")]), "shop/user=a%3Db%2Fc%25");
}

#[test]
fn every_refusal_names_its_line() {
    let cases = [
        ("domain: [", 1, ""),
        ("descriptors: []", 1, "domain"),
        ("domain: ''", 1, "1 to 256 bytes"),
        ("domain: a\nsurprise: 1", 2, "surprise"),
        ("domain: a\ndescriptors:\n  - key: b\n    surprise: 1", 4, "surprise"),
        ("domain: a\ndescriptors:\n  - value: b", 3, "key"),
        ("domain: a\ndescriptors:\n  - key: ''", 3, "at least one byte"),
        (
            "domain: a\ndescriptors:\n  - key: b\n    rate_limit:\n      unit: second",
            5,
            "needs unit and requests_per_unit",
        ),
        (
            "domain: a\ndescriptors:\n  - key: b\n    rate_limit: {unit: fortnight, requests_per_unit: 1}",
            4,
            "fortnight",
        ),
        (
            "domain: a\ndescriptors:\n  - key: b\n    rate_limit: {unit: second, requests_per_unit: -1}",
            4,
            "",
        ),
        (
            "domain: a\ndescriptors:\n  - key: b\n    rate_limit: {unit: second, requests_per_unit: 4294967296}",
            4,
            "",
        ),
        (
            "domain: a\ndescriptors:\n  - key: b\n    rate_limit: {unit: second, requests_per_unit: 1, unlimited: true}",
            4,
            "beside a limit",
        ),
        (
            "domain: a\ndescriptors:\n  - key: b\n    rate_limit: {unit: second, requests_per_unit: 1, algorithm: magic}",
            4,
            "magic",
        ),
        (
            "domain: a\ndescriptors:\n  - key: b\n    rate_limit: {unit: second, requests_per_unit: 1, name: \"\u{e9}\"}",
            4,
            "printable ASCII",
        ),
        (
            "domain: a\ndescriptors:\n  - key: b\n    rate_limit: {unit: second, requests_per_unit: 1, name: x, replaces: [{name: x}]}",
            4,
            "replaces itself",
        ),
        ("domain: a\ndescriptors:\n  - key: b\n  - key: b", 4, "twice"),
        (
            "domain: a\ndescriptors:\n  - key: b\n    value: c\n  - key: b\n    value: c",
            5,
            "twice",
        ),
        (
            "domain: a\ndescriptors:\n  - key: b\n    value: c\n    share_threshold: true",
            3,
            "ends with `*`",
        ),
        (
            "domain: a\ndescriptors:\n  - key: b\n    quota_mode: true",
            3,
            "quota_mode",
        ),
    ];
    for (text, line, says) in cases {
        let fault = build(&[text]).err().unwrap_or_else(|| panic!("taken: {text}"));
        assert_eq!(fault.line, Some(line), "{text}\n{fault}");
        assert!(fault.to_string().contains(says), "{text}\n{fault}");
    }
}

#[test]
fn a_rule_that_the_limiter_cannot_keep_is_refused_in_its_line() {
    let files = vec![rules::parse(SHOP).unwrap()];
    let open = |rule: &Rule| {
        if rule.name == "cart" {
            Err(Unfit(String::from("too much")))
        } else {
            Ok(())
        }
    };
    let fault = Rules::build(files, None, open).err().unwrap();
    assert_eq!(fault.to_string(), "line 6: too much");
}

#[test]
fn files_that_would_take_all_memory_are_refused() {
    assert!(rules::parse(&" ".repeat(2 << 20)).is_err());
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n\
                d: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\ndomain: *e\n";
    assert!(rules::parse(bomb).is_err());
    let mut deep = String::from("domain: a\ndescriptors:\n");
    for level in 0..20 {
        let indent = "  ".repeat(2 * level + 1);
        deep += &format!("{indent}- key: k\n{indent}  descriptors:\n");
    }
    let fault = rules::parse(&format!("{deep}{}- key: k\n", "  ".repeat(41))).unwrap_err();
    assert!(fault.to_string().contains("deeper than 16"), "{fault}");
}

#[test]
fn two_files_of_one_domain_contradict_each_other() {
    let fault = build(&[SHOP, "domain: shop"]).err().unwrap();
    assert!(fault.to_string().contains("has a file already"), "{fault}");
    assert!(build(&[SHOP, "domain: other"]).is_ok());
}

#[test]
fn a_rule_that_stays_as_it_was_keeps_its_buckets() {
    let mut opened = 0;
    let mut open = |_: &Rule| {
        opened += 1;
        Ok(opened)
    };
    let before = Rules::build(vec![rules::parse(SHOP).unwrap()], None, &mut open).unwrap();
    let changed = SHOP
        .replace("requests_per_unit: 100 }", "requests_per_unit: 101 }")
        .replace("name: cart", "name: basket");
    let after = Rules::build(vec![rules::parse(&changed).unwrap()], Some(&before), &mut open).unwrap();
    let buckets = |rules: &Rules<u32>, entries: &[(&str, &str)]| {
        let Some(Found::Limited(kept)) = rules.find("shop", entries, &mut String::new()) else {
            panic!("no rule")
        };
        *kept.buckets
    };
    let cart: &[(&str, &str)] = &[("user", "a"), ("path", "/cart")];
    let user: &[(&str, &str)] = &[("user", "a")];
    assert_eq!(
        buckets(&before, cart),
        buckets(&after, cart),
        "only its name is another"
    );
    assert_ne!(buckets(&before, user), buckets(&after, user));
}

/// `*` stands for whatever a user may send.
fn text() -> impl Strategy<Value = String> {
    "[a/=%*2F5D]{0,6}"
}

proptest! {
    /// No two requests that are told apart share a bucket.
    #[test]
    fn the_text_of_a_bucket_is_that_of_one_request_only(
        one in prop::collection::vec((text(), text()), 1..4),
        other in prop::collection::vec((text(), text()), 1..4),
        domains in (text(), text()),
    ) {
        let bucket = |domain: &str, entries: &[(String, String)]| {
            let mut key = String::new();
            rules::bucket(domain, entries, &mut key);
            key
        };
        let same = domains.0 == domains.1 && one == other;
        prop_assert_eq!(bucket(&domains.0, &one) == bucket(&domains.1, &other), same);
    }
}

/// Watches a file, and keeps what was installed last: the requests of `user`.
struct Watched {
    installed: Arc<Mutex<Vec<u32>>>,
    lifecycle: Lifecycle,
}

impl Watched {
    async fn new(path: &Path) -> Self {
        let files = RulesFiles::new(vec![path.to_owned()]);
        let loaded = files.load().await.unwrap();
        let installed = Arc::new(Mutex::new(Vec::new()));
        let lifecycle = Lifecycle::new();
        let seen = Arc::clone(&installed);
        files.watch(loaded, &lifecycle, move |files| {
            let rules = Rules::build(files, None, |rule| Ok(rule.limit.requests))?;
            seen.lock().unwrap().push(*rules.rules().next().unwrap().buckets);
            Ok(())
        });
        Self { installed, lifecycle }
    }

    async fn until(&self, expected: &[u32]) {
        let waited = async {
            while *self.installed.lock().unwrap() != expected {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(20), waited).await;
        assert!(
            in_time.is_ok(),
            "{:?} instead of {expected:?}",
            self.installed.lock().unwrap()
        );
    }
}

fn of(requests: u32) -> String {
    format!(
        "domain: d\ndescriptors:\n  - key: user\n    rate_limit: {{ unit: second, requests_per_unit: {requests} }}\n"
    )
}

#[tokio::test]
async fn a_changed_file_is_installed_and_a_bad_one_never_replaces_a_good_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rules.yaml");
    fs::write(&path, of(1)).unwrap();
    let watched = Watched::new(&path).await;
    fs::write(&path, of(22)).unwrap();
    watched.until(&[22]).await;
    fs::write(&path, "domain: d\ndescriptors: nonsense\n").unwrap();
    // Gone and there again: an editor that renames.
    fs::remove_file(&path).unwrap();
    fs::write(folder.path().join("new"), of(333)).unwrap();
    fs::rename(folder.path().join("new"), &path).unwrap();
    watched.until(&[22, 333]).await;
    assert!(watched.lifecycle.stop(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn a_link_that_leads_elsewhere_is_a_change() {
    let folder = tempfile::tempdir().unwrap();
    for (name, requests) in [("v1", 1), ("v2", 2)] {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("rules.yaml"), of(requests)).unwrap();
    }
    // As configuration is mounted into containers: a link to a folder is swapped for another.
    let link = folder.path().join("data");
    symlink("v1", &link).unwrap();
    let watched = Watched::new(&link.join("rules.yaml")).await;
    symlink("v2", folder.path().join("next")).unwrap();
    fs::rename(folder.path().join("next"), &link).unwrap();
    watched.until(&[2]).await;
}

#[tokio::test]
async fn a_file_that_is_not_there_or_no_file_of_rules_says_which_and_where() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rules.yaml");
    let files = RulesFiles::new(vec![path.clone()]);
    let load = || files.load();
    let fault = load().await.unwrap_err().to_string();
    assert!(fault.contains("rules.yaml: cannot be read"), "{fault}");
    fs::write(&path, "domain: d\nnonsense: 1\n").unwrap();
    let fault = load().await.unwrap_err().to_string();
    assert!(fault.contains("rules.yaml:2: "), "{fault}");
    assert!(
        RulesFiles::new(Vec::new()).load().await.is_ok(),
        "the rules that are built in"
    );
}
