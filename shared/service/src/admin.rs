//! Health, on both listeners, and metrics, on the admin listener only.
//!
//! `/livez` says that the process answers, and looks at nothing else: a database that is down is no reason to restart the
//! server. `/readyz` says whether to send requests here: not while starting, draining, or with a broken background task.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};

use crate::guard::Health;
use crate::metrics::Metrics;

/// OpenMetrics, as Prometheus asks for it.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What [`health`] answers.
pub(crate) const HEALTH_PATHS: [&str; 2] = ["/livez", "/readyz"];

pub(crate) fn health(health: Arc<Health>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(health)
}

pub(crate) fn router(state: Arc<Health>, metrics: Arc<Metrics>) -> Router {
    let page = get(|State(metrics): State<Arc<Metrics>>| async move {
        ([(header::CONTENT_TYPE, OPEN_METRICS)], metrics.render())
    });
    Router::new()
        .route("/metrics", page)
        .with_state(metrics)
        .merge(health(state))
}

async fn ready(State(health): State<Arc<Health>>) -> Response {
    match health.obstacle() {
        None => "ready\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}
