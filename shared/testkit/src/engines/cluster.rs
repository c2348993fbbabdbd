//! A Redis Cluster for one test at a time.
//!
//! Three servers that find each other take two seconds to start. So a cluster that a test has done with is emptied and lent to
//! the next one; there are as many as tests that had one at once.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use ::engines::{REDIS_CLUSTER, Setup};

use super::{redis, report};

/// Those that no test has right now.
static IDLE: Mutex<Vec<::engines::Cluster>> = Mutex::new(Vec::new());

/// A real Redis Cluster, empty, and of nobody else until this value is dropped. Its nodes may be killed, frozen and started
/// again; a test that does so puts it right before it ends.
#[derive(Debug)]
pub struct Cluster(Option<::engines::Cluster>);

/// A cluster of three nodes on this machine.
///
/// # Panics
/// When there is no `redis-server` here, or it does not start.
pub fn redis_cluster() -> Cluster {
    let Some(installed) = REDIS_CLUSTER.find() else {
        panic!("this test needs a Redis Cluster of its own, and there is no redis-server here: run `make deps`");
    };
    let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let cluster = idle.map_or_else(
        || {
            let setup = Setup {
                root: &std::env::temp_dir(),
                args: &["--appendonly", "yes", "--appendfsync", "no"],
                group: None,
            };
            ::engines::Cluster::start(&installed, &setup)
        },
        Ok,
    );
    let cluster = cluster.and_then(|cluster| {
        cluster.iter().try_for_each(|node| redis::empty(node.url()))?;
        report(&REDIS_CLUSTER, "local servers", &installed.version()?);
        Ok(cluster)
    });
    Cluster(Some(cluster.unwrap_or_else(|problem| panic!("{problem}"))))
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // What a test that failed leaves behind, nobody knows.
        if let Some(cluster) = self.0.take().filter(|_| !std::thread::panicking()) {
            IDLE.lock().unwrap_or_else(PoisonError::into_inner).push(cluster);
        }
    }
}

impl Deref for Cluster {
    type Target = ::engines::Cluster;

    fn deref(&self) -> &Self::Target {
        self.0.as_ref().expect("it is only taken away in drop")
    }
}

impl DerefMut for Cluster {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.0.as_mut().expect("it is only taken away in drop")
    }
}
