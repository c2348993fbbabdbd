//! The one service around a design's router: it bounds, admits, times and counts every request.
//!
//! Order matters. Whatever can be refused without work is refused first; the body is read before a place is taken, so that
//! slow senders hold no place; the deadline runs from the moment the handler first waits. A handler dropped at its
//! deadline may have left work behind (a commit under way), so the answer says `unknown`.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use ledger::Ledger;
use tokio::sync::{Semaphore, SemaphorePermit};
use tower::Service;

use crate::ServiceConfig;
use crate::admission::Admission;
use crate::auth::ApiKeys;
use crate::deadline::{self, CutOff};
use crate::lifecycle::Lifecycle;
use crate::metrics::RouteMetrics;
use crate::problem::Problem;
use crate::routes::{Class, Entry};

/// The longest request target, in bytes.
const LONGEST_TARGET: usize = 8 << 10;

/// Bodies up to this size are not counted against the budget: as many as there may be connections fit in memory.
const SMALL_BODY: usize = 64 << 10;

/// Bytes that large bodies may occupy together, in KiB.
const BODY_BUDGET_KIB: usize = 64 << 10;

/// Whether to send requests here.
#[derive(Debug, Default)]
pub(crate) struct Health {
    ready: AtomicBool,
    draining: AtomicBool,
    lifecycle: Lifecycle,
}

impl Health {
    pub(crate) fn new(lifecycle: Lifecycle) -> Self {
        Self {
            lifecycle,
            ..Self::default()
        }
    }

    pub(crate) fn started(&self) {
        self.ready.store(true, Ordering::Release);
    }

    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// What speaks against sending requests here, if anything.
    pub(crate) fn obstacle(&self) -> Option<&'static str> {
        if self.is_draining() {
            Some("draining")
        } else if !self.ready.load(Ordering::Acquire) {
            Some("starting")
        } else if self.lifecycle.is_broken() {
            Some("a background task has ended")
        } else {
            None
        }
    }
}

/// Everything a request passes on its way to the router.
pub(crate) struct Guard {
    app: Router,
    table: matchit::Router<Vec<(Method, usize)>>,
    classes: Vec<Class>,
    metrics: Arc<[RouteMetrics]>,
    keys: ApiKeys,
    admission: Admission,
    body_budget: Semaphore,
    body_timeout: Duration,
    deadline: Duration,
    health: Arc<Health>,
}

impl Guard {
    /// A guard around `app` for the routes in `entries`; requests for anything else go to the router ungated, which
    /// answers them with documents, health or 404.
    pub(crate) fn new(
        app: Router,
        entries: &[Entry],
        metrics: Arc<[RouteMetrics]>,
        config: &ServiceConfig,
        ledger: &Ledger,
        health: Arc<Health>,
    ) -> anyhow::Result<Self> {
        let app = app
            .fallback(async || Problem::not_found())
            .method_not_allowed_fallback(async || Problem::method_not_allowed());
        Ok(Self {
            app,
            table: table(entries)?,
            classes: entries.iter().map(|entry| entry.class).collect(),
            metrics,
            keys: ApiKeys::new(config.api_keys.iter().map(String::as_str)),
            admission: Admission::new(config.max_in_flight.get(), config.max_queued, ledger),
            body_budget: Semaphore::new(BODY_BUDGET_KIB),
            body_timeout: config.header_timeout(),
            deadline: config.deadline(),
            health,
        })
    }

    /// Answers one request; never fails, since every failure is an answer.
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Result<Response, Infallible> {
        let mut response = self.route(request).await.unwrap_or_else(IntoResponse::into_response);
        if self.health.is_draining() {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        Ok(response)
    }

    /// How many requests are being worked on.
    pub(crate) fn under_way(&self) -> usize {
        self.admission.under_way()
    }

    async fn route(&self, request: Request<Incoming>) -> Result<Response, Problem> {
        if request
            .uri()
            .path_and_query()
            .is_some_and(|target| target.as_str().len() > LONGEST_TARGET)
        {
            return Err(Problem::target_too_long());
        }
        let Some(route) = self.find(request.method(), request.uri().path()) else {
            // Nobody reads this body.
            let request = request.map(|_| Body::empty());
            return Ok(self.handle(Class::Open, request).await);
        };
        let class = self.classes[route];
        if !class.is_gated() {
            return Ok(self.handle(class, request.map(|_| Body::empty())).await);
        }
        let metrics = &self.metrics[route];
        let refused = |problem: Problem| {
            metrics.count(problem.status(), Duration::ZERO);
            problem
        };
        if class.is_write() && !self.keys.admit(request.headers()) {
            return Err(refused(Problem::unauthorized()));
        }
        let (request, _budget) = if request.body().is_end_stream() {
            (request.map(|_| Body::empty()), None)
        } else {
            self.read_body(class, request).await.map_err(refused)?
        };
        let place = self.admission.enter(class.is_write()).await;
        let place = place.map_err(|shed| refused(Problem::overloaded(shed.reason())))?;
        let response = self.handle(class, request).await;
        metrics.count(response.status(), place.leave());
        Ok(response)
    }

    fn find(&self, method: &Method, path: &str) -> Option<usize> {
        // HEAD is GET without the body.
        let method = if method == Method::HEAD { &Method::GET } else { method };
        let methods = self.table.at(path).ok()?.value;
        methods
            .iter()
            .find(|(known, _)| known == method)
            .map(|(_, route)| *route)
    }

    async fn handle(&self, class: Class, request: Request<Body>) -> Response {
        let limit = self.deadline.saturating_mul(class.patience());
        match deadline::within(limit, self.app.clone().call(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(CutOff::Late) => Problem::deadline().into_response(),
            Err(CutOff::Panicked) => Problem::internal().into_response(),
        }
    }

    /// Reads the whole body, within the class's bound and in time.
    async fn read_body(
        &self,
        class: Class,
        request: Request<Incoming>,
    ) -> Result<(Request<Body>, Option<SemaphorePermit<'_>>), Problem> {
        let limit = class.body_limit();
        let (head, body) = request.into_parts();
        let announced = body.size_hint().exact().unwrap_or(u64::MAX);
        if announced != u64::MAX && announced > limit as u64 {
            return Err(Problem::body_too_large(limit));
        }
        let expected = usize::try_from(announced).unwrap_or(limit).min(limit);
        let budget = self.body_space(expected)?;
        let collected = tokio::time::timeout(self.body_timeout, Limited::new(body, limit).collect()).await;
        let body: Bytes = match collected {
            Err(_) => return Err(Problem::body_timeout()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(Problem::body_too_large(limit)),
            Ok(Err(_)) => return Err(Problem::body_broken()),
            Ok(Ok(collected)) => collected.to_bytes(),
        };
        Ok((Request::from_parts(head, Body::from(body)), budget))
    }

    fn body_space(&self, bytes: usize) -> Result<Option<SemaphorePermit<'_>>, Problem> {
        if bytes <= SMALL_BODY {
            return Ok(None);
        }
        let kib = u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX);
        let space = self.body_budget.try_acquire_many(kib);
        space
            .map(Some)
            .map_err(|_| Problem::overloaded("too many large bodies at once"))
    }
}

fn table(entries: &[Entry]) -> anyhow::Result<matchit::Router<Vec<(Method, usize)>>> {
    let mut paths: Vec<(&str, Vec<(Method, usize)>)> = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let method = (entry.method.clone(), index);
        match paths.iter_mut().find(|(path, _)| *path == entry.path) {
            Some((_, methods)) => methods.push(method),
            None => paths.push((entry.path, vec![method])),
        }
    }
    let mut table = matchit::Router::new();
    for (path, methods) in paths {
        table.insert(path, methods)?;
    }
    Ok(table)
}
