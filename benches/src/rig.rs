//! Whether it was the rig that gave, and not the server.
//!
//! A load test that finds its own limit and reports it as the server's is worse than none. Six guards stand against it:
//!
//! | guard                | says that                                                            | where              |
//! |----------------------|----------------------------------------------------------------------|--------------------|
//! | generator CPU        | the generator had no time left on its core                           | here               |
//! | late arrivals        | 1 % or more of the operations were sent after their time             | here               |
//! | in-flight cap        | all connections were in use, while the server answered in time and had nothing full | here |
//! | connection errors    | connections could not be made                                        | here               |
//! | a shared core        | generator and server took the same cores, and these were full        | here               |
//! | file descriptors     | the system allows fewer than the connections need                    | before any load    |
//!
//! A promise that was kept was kept whatever state the rig was in, so only a rate that failed is asked about. And a server
//! with a full resource is at its end, whatever state the generator is in.

use crate::generator::Outcome;
use crate::slo;
use crate::verdict::{DOOR, Usage};

/// From this utilisation on a server is at its end by itself.
const SERVER_FULL: f64 = 0.9;
/// Below this one it had room: operations that waited, waited for the rig.
const SERVER_IDLE: f64 = 0.7;
/// Connections count as used up when this share of the arrivals found none free.
const CAPPED: f64 = 0.1;
/// Connections that could not be made, as a share of the operations.
const CONNECT_ERRORS: f64 = 0.001;
/// Cores that generator and server share are full from here on.
const SHARED_FULL: f64 = 0.9;
/// Descriptors that the lab needs beside its connections: its servers' pipes, files, the event queue.
const DESCRIPTORS: u64 = 64;

/// Why a look at a rate that failed says more about the rig than about the server, when it does.
///
/// `usages` is the server's ledger meanwhile, `connections` how many the generator has, and `shared_cores` how many cores
/// generator and server run on where they are not apart.
pub fn limited(outcome: &Outcome, usages: &[Usage], connections: usize, shared_cores: Option<f64>) -> Option<String> {
    // A door that lets in more than there are connections is as full as these, and not the server's limit.
    let fullest = usages
        .iter()
        .filter(|usage| usage.resource != DOOR || usage.capacity < connections as f64)
        .map(|usage| usage.utilisation)
        .fold(0.0, f64::max);
    if fullest >= SERVER_FULL {
        return None;
    }
    outcome
        .generator_limited()
        .or_else(|| connect_errors(outcome))
        .or_else(|| shared(outcome, usages, shared_cores?))
        .or_else(|| capped(outcome, fullest))
}

fn connect_errors(outcome: &Outcome) -> Option<String> {
    let errors = outcome.connect_errors;
    (errors as f64 > CONNECT_ERRORS * outcome.planned as f64)
        .then(|| format!("{errors} connections could not be made: the load did not reach the server"))
}

/// The generator's share counts as cores, as the server's does.
fn shared(outcome: &Outcome, usages: &[Usage], cores: f64) -> Option<String> {
    let server = usages.iter().find(|usage| usage.resource == crate::ledger::CPU)?;
    let used = server.utilisation * server.capacity + outcome.generator_cpu;
    (used >= SHARED_FULL * cores).then(|| {
        format!(
            "the generator took {:.0} % of a core from what the server runs on, and these {cores} are full",
            outcome.generator_cpu * 100.0
        )
    })
}

fn capped(outcome: &Outcome, fullest: f64) -> Option<String> {
    let waited = outcome.queued as f64 / outcome.planned.max(1) as f64;
    (waited >= CAPPED && fullest < SERVER_IDLE && slo::kept_once_sent(outcome)).then(|| {
        format!(
            "{:.0} % of the operations found all connections in use, and were answered in time once they had one: more connections (-c) would load the server more",
            waited * 100.0
        )
    })
}

/// Whether the system allows enough open files for so many connections.
///
/// # Errors
/// It does not; the text says how to raise the limit.
pub fn descriptors(connections: usize, limit: u64) -> Result<(), String> {
    let needed = connections as u64 + DESCRIPTORS;
    if needed <= limit {
        return Ok(());
    }
    Err(format!(
        "{connections} connections need {needed} open files, and the system allows {limit}: raise `ulimit -n` or lower -c"
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::workload::Kind;

    /// 10,000 arrivals, all answered in 2 ms, without any complaint.
    fn outcome() -> Outcome {
        let kind = Kind {
            name: "get",
            slo_p99: Some(Duration::from_millis(20)),
        };
        let mut outcome = Outcome::nothing(&[kind], Some(1_000.0), Duration::from_secs(10), 10_000);
        outcome.completed = 10_000;
        for _ in 0..1_000 {
            outcome.kinds[0].times.service.record(2_000_000);
        }
        outcome
    }

    fn usage(resource: &str, utilisation: f64) -> Usage {
        Usage {
            resource: resource.to_owned(),
            unit: String::new(),
            capacity: 1.0,
            utilisation,
            operations: 0.0,
            demand_ms: 0.0,
            wait_ms: 0.0,
            ceiling_rps: None,
        }
    }

    #[test]
    fn a_rig_with_room_has_nothing_to_say() {
        assert_eq!(limited(&outcome(), &[usage("cpu", 0.5)], 256, Some(2.0)), None);
    }

    #[test]
    fn a_generator_at_its_core_is_told() {
        let mut outcome = outcome();
        outcome.generator_cpu = 0.97;
        assert!(
            limited(&outcome, &[usage("cpu", 0.5)], 256, None)
                .unwrap()
                .contains("97 % of its core")
        );
    }

    #[test]
    fn late_arrivals_are_told() {
        let mut outcome = outcome();
        outcome.late = 100;
        assert!(
            limited(&outcome, &[usage("cpu", 0.5)], 256, None)
                .unwrap()
                .contains("late")
        );
    }

    #[test]
    fn an_in_flight_cap_is_told_only_when_the_server_was_idle_and_in_time() {
        let mut capped = outcome();
        capped.queued = 5_000;
        let door = |capacity| Usage {
            capacity,
            ..usage("admission", 0.97)
        };
        let idle = [usage("cpu", 0.5), door(264.0)];
        assert!(
            limited(&capped, &idle, 256, None)
                .unwrap()
                .contains("all connections in use")
        );
        assert_eq!(
            limited(&capped, &[usage("pool", 0.8)], 256, None),
            None,
            "the server is busy"
        );
        let mut slow = capped.clone();
        for _ in 0..1_000 {
            slow.kinds[0].times.service.record(50_000_000);
        }
        assert_eq!(
            limited(&slow, &idle, 256, None),
            None,
            "the server broke the promise by itself"
        );
        capped.queued = 500;
        assert_eq!(limited(&capped, &idle, 256, None), None, "few of them waited");
    }

    #[test]
    fn connections_that_fail_are_told() {
        let mut outcome = outcome();
        outcome.connect_errors = 11;
        assert!(
            limited(&outcome, &[usage("cpu", 0.5)], 256, None)
                .unwrap()
                .contains("11 connections")
        );
        outcome.connect_errors = 10;
        assert_eq!(limited(&outcome, &[usage("cpu", 0.5)], 256, None), None);
    }

    #[test]
    fn a_core_shared_with_the_generator_is_told_when_it_is_full() {
        let mut outcome = outcome();
        outcome.generator_cpu = 0.3;
        let told = limited(&outcome, &[usage("cpu", 0.65)], 256, Some(1.0)).unwrap();
        assert!(told.contains("30 % of a core"), "{told}");
        assert_eq!(limited(&outcome, &[usage("cpu", 0.65)], 256, Some(2.0)), None);
        assert_eq!(
            limited(&outcome, &[usage("cpu", 0.65)], 256, None),
            None,
            "pinned apart"
        );
    }

    #[test]
    fn a_full_server_is_at_its_end_whatever_the_generator_is_at() {
        let mut outcome = outcome();
        outcome.late = 5_000;
        outcome.generator_cpu = 1.0;
        assert_eq!(limited(&outcome, &[usage("writer", 0.95)], 256, None), None);
    }

    #[test]
    fn too_few_descriptors_are_told_before_any_load() {
        assert_eq!(descriptors(256, 1_024), Ok(()));
        let told = descriptors(4_096, 1_024).unwrap_err();
        assert!(told.contains("4160 open files") && told.contains("ulimit"), "{told}");
    }
}
