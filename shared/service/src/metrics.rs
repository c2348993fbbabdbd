//! What the admin listener tells: requests by route and status, their latency, and the ledger, as OpenMetrics text.
//!
//! Everything a request touches is allocated when the service starts: an array of counters by status and one histogram a
//! route. Looking labels up for each request would cost more than the request's own admission.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};
use ledger::{Ledger, Row};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Statuses from 100 to 599.
const STATUSES: usize = 500;

/// What is counted for one route.
pub(crate) struct RouteMetrics {
    labels: [(&'static str, String); 2],
    statuses: Box<[AtomicU64; STATUSES]>,
    latency: Histogram,
}

impl RouteMetrics {
    pub(crate) fn new(method: &Method, path: &str) -> Self {
        Self {
            labels: [("route", path.to_owned()), ("method", method.to_string())],
            statuses: Box::new([const { AtomicU64::new(0) }; STATUSES]),
            // 100 us to 3.3 s, in steps of two.
            latency: Histogram::new(exponential_buckets(1e-4, 2.0, 16)),
        }
    }

    pub(crate) fn count(&self, status: StatusCode, took: Duration) {
        let index = usize::from(status.as_u16()).saturating_sub(100);
        if let Some(count) = self.statuses.get(index) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.latency.observe(took.as_secs_f64());
    }

    /// Requests answered on this route.
    pub(crate) fn answered(&self) -> u64 {
        self.statuses.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    fn by_status(&self) -> impl Iterator<Item = (usize, u64)> {
        let counts = self.statuses.iter().map(|count| count.load(Ordering::Relaxed));
        counts
            .enumerate()
            .filter(|(_, n)| *n > 0)
            .map(|(index, n)| (index + 100, n))
    }
}

impl fmt::Debug for RouteMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteMetrics")
            .field("labels", &self.labels)
            .finish_non_exhaustive()
    }
}

/// Writes all metrics of a service.
pub(crate) struct Metrics {
    registry: Registry,
}

impl Metrics {
    pub(crate) fn new(ledger: &Ledger, routes: &Arc<[RouteMetrics]>) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(LedgerMetrics(ledger.clone())));
        registry.register_collector(Box::new(HttpMetrics(Arc::clone(routes))));
        Self { registry }
    }

    /// OpenMetrics text, which Prometheus reads.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        if prometheus_client::encoding::text::encode(&mut text, &self.registry).is_err() {
            // Writing into a string does not fail; if it did, half a page must not pass for a whole one.
            text.clear();
            let _ = text.write_str("# the metrics could not be written\n");
        }
        text
    }
}

#[derive(Debug)]
struct LedgerMetrics(Ledger);

/// A figure of every resource: name, help, type, and where it stands in a row of the ledger.
type Figure = (&'static str, &'static str, MetricType, fn(&Row) -> f64);

const FIGURES: [Figure; 5] = [
    (
        "resource_capacity",
        "How many can hold the resource at once",
        MetricType::Gauge,
        |row| row.capacity,
    ),
    (
        "resource_backlog",
        "How many wait for the resource now",
        MetricType::Gauge,
        |row| row.backlog as f64,
    ),
    (
        "resource_operations",
        "How often the resource was used",
        MetricType::Counter,
        |row| row.operations as f64,
    ),
    (
        "resource_busy_seconds",
        "How long the resource was held, added up over its holders",
        MetricType::Counter,
        |row| row.busy_seconds,
    ),
    (
        "resource_wait_seconds",
        "How long holders had to wait for the resource, added up",
        MetricType::Counter,
        |row| row.wait_seconds,
    ),
];

impl Collector for LedgerMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let rows = self.0.read();
        for (name, help, kind, value) in FIGURES {
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for row in &rows {
                let labels = [("resource", row.name), ("unit", row.unit)];
                let metric = family.encode_family(&labels)?;
                match kind {
                    MetricType::Counter => ConstCounter::new(value(row)).encode(metric)?,
                    _ => ConstGauge::new(value(row)).encode(metric)?,
                }
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct HttpMetrics(Arc<[RouteMetrics]>);

impl Collector for HttpMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut counter = encoder.encode_descriptor("http_requests", "Requests answered", None, MetricType::Counter)?;
        for route in self.0.iter() {
            for (status, count) in route.by_status() {
                let [path, method] = &route.labels;
                let labels = [path.clone(), method.clone(), ("status", status.to_string())];
                ConstCounter::new(count).encode(counter.encode_family(&labels)?)?;
            }
        }
        let mut histogram = encoder.encode_descriptor(
            "http_request_duration_seconds",
            "From admission to the answer's head, or to a stream's end",
            None,
            MetricType::Histogram,
        )?;
        for route in self.0.iter() {
            route.latency.encode(histogram.encode_family(&route.labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_the_ledger_and_each_route_by_status() {
        let ledger = Ledger::new();
        drop(ledger.resource("writer", "connections", 1.0).enter());
        let routes: Arc<[RouteMetrics]> = Arc::new([RouteMetrics::new(&Method::GET, "/{code}")]);
        routes[0].count(StatusCode::FOUND, Duration::from_micros(50));
        routes[0].count(StatusCode::NOT_FOUND, Duration::from_micros(50));
        let page = Metrics::new(&ledger, &routes).render();
        for line in [
            r#"resource_capacity{resource="writer",unit="connections"} 1.0"#,
            r#"resource_operations_total{resource="writer",unit="connections"} 1.0"#,
            r#"resource_backlog{resource="writer",unit="connections"} 0.0"#,
            r#"http_requests_total{route="/{code}",method="GET",status="302"} 1"#,
            r#"http_requests_total{route="/{code}",method="GET",status="404"} 1"#,
            r#"http_request_duration_seconds_count{route="/{code}",method="GET"} 2"#,
        ] {
            assert!(page.lines().any(|found| found == line), "no {line} in\n{page}");
        }
    }
}
