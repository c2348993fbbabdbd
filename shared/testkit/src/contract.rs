//! One contract, many adapters: the same async functions run against each of them; and one behaviour, many stages.
//!
//! A port's contract is worth what its tests are, and those are written once. Each case
//! is an async function over *any* adapter; [`contract!`](crate::contract!) makes a test
//! of every pair, so that a failure reads `sqlite::an_alias_is_taken_once`.
//!
//! ```
//! # trait Links: Send + Sync { fn put(&self, code: u64) -> impl Future<Output = bool> + Send; }
//! # #[derive(Default)] struct Memory(std::sync::Mutex<std::collections::HashSet<u64>>);
//! # impl Links for Memory { async fn put(&self, code: u64) -> bool { self.0.lock().unwrap().insert(code) } }
//! use testkit::contract::Fixture;
//!
//! async fn a_code_is_stored_once<L: Links>(links: &L) {
//!     assert!(links.put(7).await);
//!     assert!(!links.put(7).await);
//! }
//!
//! async fn codes_do_not_meet<L: Links>(links: &L) {
//!     assert!(links.put(1).await && links.put(2).await);
//! }
//!
//! async fn memory() -> Fixture<Memory> {
//!     Fixture::new(Memory::default())
//! }
//!
//! testkit::contract! {
//!     cases: [a_code_is_stored_once, codes_do_not_meet],
//!     memory,
//!     // sqlite, whose function ends in: Fixture::keeping(adapter, temporary_folder)
//! }
//! ```
//!
//! Each test has a new adapter. A case that is written and not listed is dead code, and
//! the compiler says so.

use std::any::Any;

/// An adapter, and what must outlive it: a temporary folder, an engine.
pub struct Fixture<A> {
    adapter: A,
    _kept: Box<dyn Any>,
}

impl<A> Fixture<A> {
    /// An adapter that needs nothing.
    pub fn new(adapter: A) -> Self {
        Self::keeping(adapter, ())
    }

    /// An adapter that works as long as `kept` lives.
    pub fn keeping(adapter: A, kept: impl Any) -> Self {
        Self {
            adapter,
            _kept: Box::new(kept),
        }
    }

    /// The adapter.
    pub fn adapter(&self) -> &A {
        &self.adapter
    }
}

/// Runs one case to its end on a runtime of two threads, so that what it spawns runs in parallel.
///
/// # Panics
/// When the case does.
pub fn run(case: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime
        .expect("a machine that runs tests can start two threads")
        .block_on(case);
}

/// Makes a test of each case for each adapter, `adapter::case`. The module shows how.
///
/// An adapter is named by the async function that makes its [`Fixture`].
#[macro_export]
macro_rules! contract {
    (cases: $cases:tt, $($adapter:ident),+ $(,)?) => {
        $($crate::contract_of_one_adapter!($adapter, $cases);)+
    };
}

/// The inner half of [`contract!`](crate::contract!): one module, one test a case.
#[doc(hidden)]
#[macro_export]
macro_rules! contract_of_one_adapter {
    ($adapter:ident, [$($case:ident),+ $(,)?]) => {
        mod $adapter {
            $(
                #[test]
                fn $case() {
                    $crate::contract::run(async {
                        let fixture = super::$adapter().await;
                        super::$case(fixture.adapter()).await;
                    });
                }
            )+
        }
    };
}

/// Makes a test of each behaviour in each stage, `stage::behaviour`. A behaviour is a function that takes a stage's name;
/// one that is written and not listed is dead code.
///
/// ```
/// fn answers(stage: &str) {
///     assert!(["naive", "scaled"].contains(&stage));
/// }
///
/// testkit::stages! {
///     stages: [naive, scaled],
///     behaviours: [answers],
/// }
/// ```
#[macro_export]
macro_rules! stages {
    (stages: [$($stage:ident),+ $(,)?], behaviours: $behaviours:tt $(,)?) => {
        $($crate::behaviours_of_one_stage!($stage, $behaviours);)+
    };
}

/// The inner half of [`stages!`](crate::stages!): one module, one test a behaviour.
#[doc(hidden)]
#[macro_export]
macro_rules! behaviours_of_one_stage {
    ($stage:ident, [$($behaviour:ident),+ $(,)?]) => {
        mod $stage {
            $(
                #[test]
                fn $behaviour() {
                    super::$behaviour(stringify!($stage));
                }
            )+
        }
    };
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    trait Counter: Sync {
        fn next(&self) -> impl Future<Output = u64> + Send;
    }

    struct Atomic(AtomicU64);

    impl Counter for Atomic {
        async fn next(&self) -> u64 {
            self.0.fetch_add(1, Ordering::SeqCst)
        }
    }

    /// The same, by another way that keeps its state in a file.
    struct File(std::path::PathBuf);

    impl Counter for File {
        async fn next(&self) -> u64 {
            let held = std::fs::read(&self.0).unwrap_or_default().len() as u64;
            let one_longer = vec![b'|'; usize::try_from(held).unwrap() + 1];
            std::fs::write(&self.0, one_longer).unwrap();
            held
        }
    }

    async fn atomic() -> Fixture<Atomic> {
        Fixture::new(Atomic(AtomicU64::new(0)))
    }

    async fn file() -> Fixture<File> {
        let folder = tempfile::tempdir().unwrap();
        Fixture::keeping(File(folder.path().join("count")), folder)
    }

    async fn starts_at_zero<C: Counter>(counter: &C) {
        assert_eq!(counter.next().await, 0);
    }

    async fn never_repeats<C: Counter>(counter: &C) {
        assert!(counter.next().await < counter.next().await);
    }

    crate::contract! {
        cases: [starts_at_zero, never_repeats],
        atomic,
        file,
    }

    /// The case is the judge: an adapter that breaks the contract fails it.
    #[test]
    #[should_panic(expected = "assertion failed")]
    fn a_broken_adapter_fails() {
        struct Stuck;
        impl Counter for Stuck {
            async fn next(&self) -> u64 {
                0
            }
        }
        run(async { never_repeats(Fixture::new(Stuck).adapter()).await });
    }
}
