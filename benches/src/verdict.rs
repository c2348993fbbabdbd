//! Which part gives first: a pure function of the ledger before and after a probe just past the knee.
//!
//! # The idea
//!
//! The operational laws hold for any system, whatever its arrivals look like, because they only count:
//!
//! ```text
//! utilisation  U = busy / (time x capacity)      how full a resource is
//! demand       D = busy / completed              what one operation takes of it
//! ceiling      X = capacity / D                  no more operations a second than this
//! Little       N = X x R                         operations inside = throughput x time in the system
//! ```
//!
//! A resource whose utilisation nears 1 is *full*: nothing gets faster before it does. Where none is full the operations
//! spend their time somewhere all the same: the resource with the largest share of the service time (busy + waited for,
//! an operation) is named, as *latency-bound*. What no resource accounts for is charged to a CPU that is well used, because
//! the queue for a core cannot be seen from inside; with a CPU that is not, it is *unaccounted*, and named so. The CPU is that
//! of everything under test: engines that the lab started run on the server's cores, and `cpu/postgres` beside `cpu` says
//! what one of them took. Such parts are never named themselves, they explain the whole. Where the generator could not make the load, nothing is named
//! (*rig-limited*): only that the server was not at its end.
//!
//! Little's law is the cross-check: the operations found inside at the arrivals must be the throughput times the mean
//! response time. Where they are not, the run was not steady or a clock is wrong, and a warning says so.
//!
//! # What it does not do
//!
//! It cannot tell cause from company: a thread that waits for a core makes what it holds look busy. Resources that are
//! close to the first are therefore named with it. Only slowing them one by one proves which of them it is.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ledger::{CPU, CPU_PARTS, Row, Rows};

/// From this utilisation on a resource is full.
pub const FULL: f64 = 0.85;
/// A runner-up within this distance is named too.
const CLOSE: f64 = 0.07;
/// The queue at the server's door. A request holds it from beginning to end, so it is as busy as everything behind it
/// together: its busy time says nothing, only the time waited for it does.
pub const DOOR: &str = "admission";
/// The threads that serve requests: busy with whatever a request does, so they are only named when they are used up and
/// nothing that they do is: then something blocks them that no resource accounts for.
pub const WORKERS: &str = "workers";
/// A CPU that is used by so much without any request has a background job, which is said.
const BACKGROUND: f64 = 0.1;
/// Threads in use while everything else is below this are blocked.
const BLOCKED: f64 = 0.7;
/// From this utilisation on the operations have to queue for a core.
const CPU_QUEUES: f64 = 0.5;
/// How far the two sides of Little's law may be apart.
const LITTLE: f64 = 0.25;

/// What is known of one probe.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Evidence {
    /// The ledger when it began.
    pub before: Rows,
    /// The ledger when it was over.
    pub after: Rows,
    /// Seconds between the two.
    pub seconds: f64,
    /// Operations completed.
    pub completed: u64,
    /// Mean service time, from the outside.
    pub service_mean_ms: f64,
    /// Mean response time, from the outside.
    pub response_mean_ms: f64,
    /// Operations completed a second.
    pub achieved_rps: f64,
    /// Mean number of operations waiting or in flight, sampled at the arrivals.
    pub mean_in_system: f64,
    /// Cores that the server was allowed to use, where that is less than it can see.
    #[serde(default)]
    pub cpu_quota_cores: Option<f64>,
    /// Cores in use when no request comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_background_cores: Option<f64>,
    /// Why the generator, not the server, set the pace.
    #[serde(default)]
    pub rig: Option<String>,
}

/// What kind of answer a verdict is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The resource is in use all the time.
    Full,
    /// Nothing is full; the operations spend most of their time with this one.
    LatencyBound,
    /// The generator was at its end before the server.
    RigLimited,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::LatencyBound => "latency-bound",
            Self::RigLimited => "rig-limited",
        })
    }
}

/// One resource over one probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Its name.
    pub resource: String,
    /// What its capacity counts.
    pub unit: String,
    /// How many there are.
    pub capacity: f64,
    /// Busy over time and capacity, from 0 to 1.
    pub utilisation: f64,
    /// Operations it served.
    pub operations: f64,
    /// Busy time for one completed operation of the workload.
    pub demand_ms: f64,
    /// Time waited for it by one completed operation of the workload.
    pub wait_ms: f64,
    /// Operations of the workload a second that it can carry at this demand; null when it was not used.
    pub ceiling_rps: Option<f64>,
}

/// What gave, and how that is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The resource's name; `generator` when the rig was limited.
    pub resource: String,
    /// Its utilisation, from 0 to 1.
    pub utilisation: f64,
    /// What kind of answer this is.
    pub reason: Reason,
    /// One sentence with the numbers.
    pub evidence: String,
    /// What does not add up.
    pub warnings: Vec<String>,
}

/// Every resource that was used, the fullest first.
pub fn usages(evidence: &Evidence) -> Vec<Usage> {
    let mut usages: Vec<Usage> = evidence
        .after
        .iter()
        .filter_map(|(name, after)| {
            let before = evidence.before.get(name).cloned().unwrap_or_default();
            usage(name, &before, after, evidence)
        })
        .collect();
    usages.sort_by(|a, b| b.utilisation.total_cmp(&a.utilisation));
    usages
}

fn usage(name: &str, before: &Row, after: &Row, evidence: &Evidence) -> Option<Usage> {
    let of_cpu = name == CPU || is_part(name);
    let capacity = match evidence.cpu_quota_cores {
        Some(quota) if of_cpu && quota < after.capacity => quota,
        _ => after.capacity,
    };
    if capacity <= 0.0 || evidence.seconds <= 0.0 {
        return None;
    }
    let busy = (after.busy_s - before.busy_s).max(0.0);
    let completed = evidence.completed.max(1) as f64;
    let demand = busy / completed;
    Some(Usage {
        resource: name.to_owned(),
        unit: after.unit.clone(),
        capacity,
        utilisation: busy / (evidence.seconds * capacity),
        operations: (after.operations - before.operations).max(0.0),
        demand_ms: demand * 1e3,
        wait_ms: (after.wait_s - before.wait_s).max(0.0) / completed * 1e3,
        ceiling_rps: (demand > 0.0).then(|| capacity / demand),
    })
}

/// Whether every request takes this from beginning to end, whatever it does: it is as busy as all behind it together.
pub fn is_everybodys(resource: &str) -> bool {
    resource == DOOR || resource == WORKERS
}

/// Whether this is what one process takes of the CPU.
pub fn is_part(resource: &str) -> bool {
    resource.starts_with(CPU_PARTS)
}

/// Who takes how much of the CPU, the largest share first: name and utilisation. Empty where the server has it alone.
///
/// A core cannot be more than full. Where clocks disagree by a little, or a quota lets a little more through, the parts
/// are of what counts as full.
pub fn cpu_parts(usages: &[Usage]) -> impl Iterator<Item = (&str, f64)> {
    let whole = usages.iter().find(|usage| usage.resource == CPU);
    let over = whole.map_or(1.0, |cpu| cpu.utilisation.max(1.0));
    usages
        .iter()
        .filter_map(move |usage| Some((usage.resource.strip_prefix(CPU_PARTS)?, usage.utilisation / over)))
}

/// `, of which postgres 61 %, server 24 %`.
fn of_which(usages: &[Usage]) -> String {
    let parts: Vec<String> = cpu_parts(usages)
        .map(|(name, utilisation)| format!("{name} {:.0} %", utilisation * 100.0))
        .collect();
    if parts.is_empty() {
        String::new()
    } else {
        format!(", of which {}", parts.join(", "))
    }
}

/// `, 49 % of it also when no request comes`.
fn in_background(usages: &[Usage], evidence: &Evidence) -> String {
    let capacity = usages
        .iter()
        .find(|usage| usage.resource == CPU)
        .map(|cpu| cpu.capacity);
    let share = evidence.cpu_background_cores.unwrap_or(0.0) / capacity.unwrap_or(f64::INFINITY);
    if share < BACKGROUND {
        return String::new();
    }
    format!(", {:.0} % of it also when no request comes", share * 100.0)
}

/// Names the resource that gives first; `None` for a server without a ledger.
pub fn judge(evidence: &Evidence) -> Option<Verdict> {
    let mut usages = usages(evidence);
    let parts = of_which(&usages) + &in_background(&usages, evidence);
    usages.retain(|usage| !is_part(&usage.resource));
    let mut verdict = match &evidence.rig {
        Some(reason) => rig_limited(reason, &usages),
        None => full(&usages, &parts).or_else(|| latency_bound(&usages, &parts, evidence))?,
    };
    verdict.warnings = warnings(evidence, &usages);
    Some(verdict)
}

fn rig_limited(reason: &str, usages: &[Usage]) -> Verdict {
    let fullest = usages.first().map_or_else(String::new, |first| {
        format!(
            "; the server's fullest resource, {}, was at {:.2}",
            first.resource, first.utilisation
        )
    });
    Verdict {
        resource: "generator".to_owned(),
        utilisation: usages.first().map_or(0.0, |first| first.utilisation),
        reason: Reason::RigLimited,
        evidence: format!("{reason}{fullest}"),
        warnings: Vec::new(),
    }
}

/// The fullest of the full ones. The door is only named when nothing behind it is full: then it is too narrow.
fn full(usages: &[Usage], parts: &str) -> Option<Verdict> {
    let mut full = usages.iter().filter(|usage| usage.utilisation >= FULL);
    let first = full
        .clone()
        .find(|usage| !is_everybodys(&usage.resource))
        .or_else(|| full.clone().find(|usage| usage.resource == WORKERS && blocked(usages)))
        .or_else(|| full.find(|usage| usage.resource == DOOR))?;
    let ceiling = first.ceiling_rps.unwrap_or_default();
    let parts = if first.resource == CPU { parts } else { "" };
    let mut evidence = format!(
        "{} is busy {:.0} % of the time ({}){parts}; one operation takes {} of it, which allows {ceiling:.0} operations/s",
        first.resource,
        first.utilisation.min(1.0) * 100.0,
        capacity(first),
        time(first.demand_ms),
    );
    let near = usages.iter().find(|other| {
        other.resource != first.resource
            && !is_everybodys(&other.resource)
            && first.utilisation - other.utilisation < CLOSE
    });
    if let Some(near) = near {
        evidence += &format!(
            "; {} is close at {:.0} %",
            near.resource,
            near.utilisation.min(1.0) * 100.0
        );
    }
    Some(Verdict {
        resource: first.resource.clone(),
        utilisation: first.utilisation,
        reason: Reason::Full,
        evidence,
        warnings: Vec::new(),
    })
}

/// Whether threads that are all in use do something that no resource accounts for.
fn blocked(usages: &[Usage]) -> bool {
    let others = usages.iter().filter(|usage| !is_everybodys(&usage.resource));
    others.map(|usage| usage.utilisation).fold(0.0, f64::max) < BLOCKED
}

/// The resource that holds the largest share of the service time, or the time that none holds.
fn latency_bound(usages: &[Usage], parts: &str, evidence: &Evidence) -> Option<Verdict> {
    let held = |usage: &Usage| match usage.resource.as_str() {
        DOOR | WORKERS => usage.wait_ms,
        _ => usage.demand_ms + usage.wait_ms,
    };
    let rest = (evidence.service_mean_ms - usages.iter().map(held).sum::<f64>()).max(0.0);
    let queues = |usage: &Usage| usage.resource == CPU && usage.utilisation >= CPU_QUEUES;
    let share = |usage: &Usage| held(usage) + if queues(usage) { rest } else { 0.0 };
    let first = usages.iter().max_by(|a, b| share(a).total_cmp(&share(b)))?;
    let service = time(evidence.service_mean_ms);
    let busy = first.utilisation * 100.0;
    let evidence = if queues(first) {
        format!(
            "nothing is full; of {service} mean service time an operation spends {} with cpu, {} of it in a queue that no resource accounts for; cpu is busy {busy:.0} % of the time{parts}",
            time(share(first)),
            time(rest),
        )
    } else if rest > share(first) && !usages.iter().any(queues) {
        return Some(Verdict {
            resource: "unaccounted".to_owned(),
            utilisation: first.utilisation,
            reason: Reason::LatencyBound,
            evidence: format!(
                "nothing is full; of {service} mean service time an operation spends {} where no resource of the ledger accounts for it; the fullest, {}, is busy {:.0} % of the time",
                time(rest),
                usages[0].resource,
                usages[0].utilisation * 100.0
            ),
            warnings: Vec::new(),
        });
    } else {
        format!(
            "nothing is full; of {service} mean service time an operation spends {} with {} ({} waiting), which is busy {busy:.0} % of the time",
            time(share(first)),
            first.resource,
            time(first.wait_ms),
        )
    };
    Some(Verdict {
        resource: first.resource.clone(),
        utilisation: first.utilisation,
        reason: Reason::LatencyBound,
        evidence,
        warnings: Vec::new(),
    })
}

fn warnings(evidence: &Evidence, usages: &[Usage]) -> Vec<String> {
    let mut warnings = Vec::new();
    let predicted = evidence.achieved_rps * evidence.response_mean_ms / 1e3;
    let seen = evidence.mean_in_system;
    // A handful of operations inside is noise on both sides.
    if predicted.max(seen) > 8.0 && (predicted - seen).abs() > LITTLE * predicted.max(seen) {
        warnings.push(format!(
            "Little's law does not hold: {seen:.0} operations were seen inside, throughput x response time says {predicted:.0}; the load was not steady"
        ));
    }
    for usage in usages.iter().filter(|usage| usage.utilisation > 1.1) {
        warnings.push(format!(
            "{} is busy {:.0} % of its capacity, which cannot be: its capacity or its clock is wrong",
            usage.resource,
            usage.utilisation * 100.0
        ));
    }
    warnings
}

fn capacity(usage: &Usage) -> String {
    let unit = usage.unit.as_str();
    let unit = match usage.capacity == 1.0 {
        true if unit.ends_with("shes") => unit.trim_end_matches("es"),
        true => unit.trim_end_matches('s'),
        false => unit,
    };
    format!("{} {unit}", usage.capacity).trim_end().to_owned()
}

/// A time in the unit in which it is readable.
fn time(ms: f64) -> String {
    if ms < 1.0 {
        format!("{:.1} us", ms * 1e3)
    } else {
        format!("{ms:.2} ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A probe of ten seconds and 10,000 operations; name, capacity, busy and waited seconds of each resource.
    fn evidence(resources: &[(&str, f64, f64, f64)]) -> Evidence {
        let row = |capacity, busy_s, wait_s, operations| Row {
            capacity,
            unit: "connections".to_owned(),
            operations,
            busy_s,
            wait_s,
            backlog: 0.0,
        };
        Evidence {
            // Counters do not begin at zero: only their growth may count.
            before: resources
                .iter()
                .map(|r| (r.0.to_owned(), row(r.1, 100.0, 50.0, 7.0)))
                .collect(),
            after: resources
                .iter()
                .map(|r| (r.0.to_owned(), row(r.1, 100.0 + r.2, 50.0 + r.3, 10_007.0)))
                .collect(),
            seconds: 10.0,
            completed: 10_000,
            service_mean_ms: 2.0,
            response_mean_ms: 2.0,
            achieved_rps: 1000.0,
            mean_in_system: 2.0,
            cpu_quota_cores: None,
            cpu_background_cores: None,
            rig: None,
        }
    }

    #[test]
    fn the_fullest_resource_is_named_by_time_and_capacity() {
        // The readers are busier in seconds, but there are four of them.
        let found = evidence(&[
            ("cpu", 1.0, 5.0, 0.0),
            ("writer", 1.0, 9.5, 30.0),
            ("readers", 4.0, 20.0, 0.0),
        ]);
        let verdict = judge(&found).unwrap();
        assert_eq!((verdict.resource.as_str(), verdict.reason), ("writer", Reason::Full));
        assert!((verdict.utilisation - 0.95).abs() < 1e-9);
        assert_eq!(
            verdict.evidence,
            "writer is busy 95 % of the time (1 connection); one operation takes 950.0 us of it, which allows 1053 operations/s"
        );
        let usages = usages(&found);
        let order: Vec<&str> = usages.iter().map(|usage| usage.resource.as_str()).collect();
        assert_eq!(order, ["writer", "cpu", "readers"]);
        assert_eq!((usages[0].operations, usages[0].wait_ms), (10_000.0, 3.0));
    }

    #[test]
    fn the_door_is_only_named_when_nothing_behind_it_is_full() {
        let behind = evidence(&[("admission", 64.0, 640.0, 99.0), ("writer", 1.0, 9.0, 0.0)]);
        assert_eq!(judge(&behind).unwrap().resource, "writer");
        let alone = evidence(&[("admission", 64.0, 640.0, 99.0), ("writer", 1.0, 2.0, 0.0)]);
        assert_eq!(judge(&alone).unwrap().resource, "admission");
    }

    #[test]
    fn a_close_second_is_named_too() {
        let evidence = evidence(&[("cpu", 1.0, 9.8, 0.0), ("writer", 1.0, 9.4, 0.0)]);
        let verdict = judge(&evidence).unwrap();
        assert!(
            verdict.evidence.ends_with("; writer is close at 94 %"),
            "{}",
            verdict.evidence
        );
    }

    #[test]
    fn where_nothing_is_full_the_largest_share_of_the_time_is_named() {
        // A pool of eight that everybody waits for now and then, and a door that is held all the while.
        let evidence = evidence(&[
            ("cpu", 1.0, 3.0, 0.0),
            ("pool", 8.0, 12.0, 5.0),
            ("admission", 64.0, 20.0, 0.0),
        ]);
        let verdict = judge(&evidence).unwrap();
        assert_eq!(
            (verdict.resource.as_str(), verdict.reason),
            ("pool", Reason::LatencyBound)
        );
        assert!(
            verdict.evidence.contains("spends 1.70 ms with pool (500.0 us waiting)"),
            "{}",
            verdict.evidence
        );
    }

    #[test]
    fn a_queue_that_nobody_sees_is_the_cpus_when_the_cpu_is_busy() {
        let busy = judge(&evidence(&[("cpu", 1.0, 8.0, 0.0), ("pool", 8.0, 4.0, 0.0)])).unwrap();
        assert_eq!((busy.resource.as_str(), busy.reason), ("cpu", Reason::LatencyBound));
        assert!(
            busy.evidence
                .contains("spends 1.60 ms with cpu, 800.0 us of it in a queue"),
            "{}",
            busy.evidence
        );
        let idle = judge(&evidence(&[("cpu", 1.0, 1.0, 0.0), ("pool", 8.0, 4.0, 0.0)])).unwrap();
        assert_eq!(
            (idle.resource.as_str(), idle.reason),
            ("unaccounted", Reason::LatencyBound)
        );
        assert!(
            idle.evidence.contains("spends 1.50 ms where no resource"),
            "{}",
            idle.evidence
        );
    }

    #[test]
    fn a_quota_is_the_capacity() {
        let mut evidence = evidence(&[("cpu", 2.0, 4.9, 0.0)]);
        assert_eq!(judge(&evidence).unwrap().reason, Reason::LatencyBound);
        evidence.cpu_quota_cores = Some(0.5);
        let verdict = judge(&evidence).unwrap();
        assert_eq!(verdict.reason, Reason::Full);
        assert!((verdict.utilisation - 0.98).abs() < 1e-9);
    }

    /// What `ledger::share_cpu` makes of a server and two engines.
    #[test]
    fn a_core_that_an_engine_fills_is_full_and_the_engine_is_said() {
        let parts = [
            ("cpu", 1.0, 9.0, 0.0),
            ("cpu/server", 1.0, 2.4, 0.0),
            ("cpu/postgres", 1.0, 6.1, 0.0),
            ("cpu/redis", 1.0, 0.5, 0.0),
            ("pool", 8.0, 60.0, 5.0),
        ];
        let verdict = judge(&evidence(&parts)).unwrap();
        assert_eq!((verdict.resource.as_str(), verdict.reason), ("cpu", Reason::Full));
        assert_eq!(
            verdict.evidence,
            "cpu is busy 90 % of the time (1 connection), of which postgres 61 %, server 24 %, redis 5 %; one operation takes 900.0 us of it, which allows 1111 operations/s"
        );
        let alone = judge(&evidence(&[("cpu", 1.0, 2.4, 0.0), parts[4]])).unwrap();
        assert_eq!(alone.reason, Reason::LatencyBound, "the server alone is not full");
        // The parts are shares of what the quota allows, and never more than all of it.
        let mut evidence = evidence(&[("cpu", 1.0, 5.2, 0.0), ("cpu/server", 1.0, 5.2, 0.0)]);
        evidence.cpu_quota_cores = Some(0.5);
        let verdict = judge(&evidence).unwrap();
        assert!(
            verdict
                .evidence
                .contains("100 % of the time (0.5 connections), of which server 100 %"),
            "{}",
            verdict.evidence
        );
    }

    #[test]
    fn what_the_cpu_does_in_the_background_is_said() {
        let mut evidence = evidence(&[("cpu", 1.0, 9.6, 0.0)]);
        evidence.cpu_background_cores = Some(0.48);
        let said = judge(&evidence).unwrap().evidence;
        assert!(
            said.contains("(1 connection), 48 % of it also when no request comes; one"),
            "{said}"
        );
        evidence.cpu_background_cores = Some(0.02);
        assert!(!judge(&evidence).unwrap().evidence.contains("no request"));
    }

    #[test]
    fn threads_are_named_only_when_nothing_that_they_do_is_busy() {
        let blocked = judge(&evidence(&[("workers", 1.0, 9.9, 0.0), ("cpu", 1.0, 0.8, 0.0)])).unwrap();
        assert_eq!((blocked.resource.as_str(), blocked.reason), ("workers", Reason::Full));
        let working = judge(&evidence(&[("workers", 1.0, 9.9, 0.0), ("cpu", 1.0, 9.2, 0.0)])).unwrap();
        assert_eq!(working.resource, "cpu");
        let nearly = judge(&evidence(&[("workers", 1.0, 9.9, 0.0), ("cpu", 1.0, 8.2, 0.0)])).unwrap();
        assert_eq!((nearly.resource.as_str(), nearly.reason), ("cpu", Reason::LatencyBound));
    }

    #[test]
    fn a_part_of_the_cpu_is_never_named_itself() {
        // As large as the whole, and close to it: no second resource.
        let full = judge(&evidence(&[("cpu", 1.0, 9.9, 0.0), ("cpu/server", 1.0, 9.8, 0.0)])).unwrap();
        assert!(!full.evidence.contains("is close"), "{}", full.evidence);
        // Its time is not counted twice: 1.0 of 2.0 ms are nobody's, and those of an idle CPU are unaccounted.
        let found = [
            ("cpu", 1.0, 2.0, 0.0),
            ("cpu/postgres", 1.0, 1.9, 0.0),
            ("pool", 8.0, 8.0, 0.0),
        ];
        let idle = judge(&evidence(&found)).unwrap();
        assert!(idle.evidence.contains("1.00 ms where no resource"), "{}", idle.evidence);
    }

    #[test]
    fn one_of_a_kind_is_said_in_the_singular() {
        let mut usage = usages(&evidence(&[("buffer", 1.0, 5.0, 0.0)])).remove(0);
        for (unit, one) in [("flushes", "1 flush"), ("cores", "1 core"), ("moves", "1 move")] {
            usage.unit = unit.to_owned();
            assert_eq!(capacity(&usage), one);
        }
        usage.capacity = 2.0;
        assert_eq!(capacity(&usage), "2 moves");
    }

    #[test]
    fn a_limited_rig_names_nothing_of_the_server() {
        let mut evidence = evidence(&[("cpu", 1.0, 9.9, 0.0)]);
        evidence.rig = Some("the generator was late".to_owned());
        let verdict = judge(&evidence).unwrap();
        assert_eq!(
            (verdict.resource.as_str(), verdict.reason),
            ("generator", Reason::RigLimited)
        );
        assert!(verdict.evidence.contains("cpu, was at 0.99"));
    }

    #[test]
    fn what_does_not_add_up_is_said() {
        let mut evidence = evidence(&[("cpu", 1.0, 12.0, 0.0)]);
        evidence.response_mean_ms = 100.0;
        evidence.mean_in_system = 40.0;
        let warnings = judge(&evidence).unwrap().warnings;
        assert_eq!(warnings.len(), 2);
        assert!(warnings[0].contains("40 operations were seen inside, throughput x response time says 100"));
        assert!(warnings[1].contains("cpu is busy 120 %"));
        evidence.mean_in_system = 95.0;
        assert_eq!(judge(&evidence).unwrap().warnings.len(), 1);
    }

    #[test]
    fn a_server_without_a_ledger_has_no_verdict() {
        assert!(judge(&evidence(&[])).is_none());
    }
}
