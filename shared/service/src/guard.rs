//! The one function around a design's handlers: it finds the route, and bounds, admits, times and counts every request.
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
use crate::routes::{Class, Route};
use crate::slowing::Drag;

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

/// Everything a request passes on its way to its handler.
pub(crate) struct Guard {
    routes: Vec<Route>,
    /// From a path to its routes, one a method; to none where `others` answers.
    table: matchit::Router<Vec<usize>>,
    /// Answers what is no route of the design's: documents, health, 404.
    others: Router,
    metrics: Arc<[RouteMetrics]>,
    keys: ApiKeys,
    admission: Admission,
    body_budget: Semaphore,
    body_timeout: Duration,
    deadline: Duration,
    health: Arc<Health>,
    drag: Arc<Drag>,
}

impl Guard {
    /// A guard before `routes`, with `metrics` one for each of them. Requests for `other_paths`, and for what is on neither
    /// list, go to `others`, ungated.
    pub(crate) fn new(
        routes: Vec<Route>,
        others: Router,
        other_paths: &[&'static str],
        metrics: Arc<[RouteMetrics]>,
        config: &ServiceConfig,
        ledger: &Ledger,
        health: Arc<Health>,
    ) -> anyhow::Result<Self> {
        let others = others
            .fallback(async || Problem::not_found())
            .method_not_allowed_fallback(async || Problem::method_not_allowed());
        Ok(Self {
            table: table(&routes, other_paths)?,
            routes,
            others,
            metrics,
            keys: ApiKeys::new(config.api_keys.iter().map(String::as_str)),
            admission: Admission::new(config.max_in_flight.get(), config.max_queued, ledger),
            body_budget: Semaphore::new(BODY_BUDGET_KIB),
            body_timeout: config.header_timeout(),
            deadline: config.deadline(),
            health,
            drag: Arc::default(),
        })
    }

    /// The same guard, with requests that do what `drag` asks of them.
    pub(crate) fn dragged(self, drag: Arc<Drag>) -> Self {
        Self { drag, ..self }
    }

    /// Answers one request; never fails, since every failure is an answer.
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Result<Response, Infallible> {
        let mut response = self.route(request).await.unwrap_or_else(IntoResponse::into_response);
        if self.is_draining() {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        Ok(response)
    }

    /// How many requests are being worked on.
    pub(crate) fn under_way(&self) -> usize {
        self.admission.under_way()
    }

    /// Whether the service is about to end.
    pub(crate) fn is_draining(&self) -> bool {
        self.health.is_draining()
    }

    async fn route(&self, request: Request<Incoming>) -> Result<Response, Problem> {
        let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
        if target > LONGEST_TARGET {
            return Err(Problem::target_too_long());
        }
        match self.table.at(request.uri().path()) {
            Ok(known) if !known.value.is_empty() => match self.with_method(known.value, request.method()) {
                Some(route) => self.admit(route, request).await,
                None => Ok(self.method_not_allowed(known.value)),
            },
            _ => {
                // Nobody reads this body.
                let request = request.map(|_| Body::empty());
                let Ok(response) = self.others.clone().call(request).await;
                Ok(response)
            }
        }
    }

    async fn admit(&self, route: usize, request: Request<Incoming>) -> Result<Response, Problem> {
        let (Route { class, call, .. }, metrics) = (&self.routes[route], &self.metrics[route]);
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
            self.read_body(*class, request).await.map_err(refused)?
        };
        let place = self.admission.enter(class.is_write()).await;
        let place = place.map_err(|shed| refused(Problem::overloaded(shed.reason())))?;
        self.drag.pull();
        let limit = self.deadline.saturating_mul(class.patience());
        let response = match deadline::within(limit, call(request)).await {
            Ok(response) => response,
            Err(CutOff::Late) => Problem::deadline().into_response(),
            Err(CutOff::Panicked) => Problem::internal().into_response(),
        };
        metrics.count(response.status(), place.leave());
        Ok(response)
    }

    fn with_method(&self, routes: &[usize], method: &Method) -> Option<usize> {
        // HEAD is GET without the body, which hyper leaves out.
        let method = if method == Method::HEAD { &Method::GET } else { method };
        routes
            .iter()
            .copied()
            .find(|route| self.routes[*route].method == *method)
    }

    fn method_not_allowed(&self, routes: &[usize]) -> Response {
        let mut methods: Vec<&str> = routes.iter().map(|route| self.routes[*route].method.as_str()).collect();
        if methods.contains(&"GET") {
            methods.push("HEAD");
        }
        let mut response = Problem::method_not_allowed().into_response();
        if let Ok(allow) = HeaderValue::from_str(&methods.join(", ")) {
            response.headers_mut().insert(header::ALLOW, allow);
        }
        response
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

fn table(routes: &[Route], other_paths: &[&'static str]) -> anyhow::Result<matchit::Router<Vec<usize>>> {
    // A fixed path wins against `/{code}`, so those of the others have to be known here.
    let mut paths: Vec<(&str, Vec<usize>)> = other_paths.iter().map(|path| (*path, Vec::new())).collect();
    for (index, route) in routes.iter().enumerate() {
        match paths.iter_mut().find(|(path, _)| *path == route.path) {
            Some((_, routes)) => routes.push(index),
            None => paths.push((route.path, vec![index])),
        }
    }
    let mut table = matchit::Router::new();
    for (path, routes) in paths {
        table.insert(path, routes)?;
    }
    Ok(table)
}
