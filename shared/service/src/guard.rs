//! The one function around a design's handlers: it finds the route, and bounds, admits, times and counts every request.
//!
//! Order matters. Whatever can be refused without work is refused first; the body is read before a place is taken, so that
//! slow senders hold no place; the deadline runs from the moment the handler first waits. A handler dropped at its
//! deadline may have left work behind (a commit under way), so the answer says `unknown`. A stream takes its place along
//! when its head is answered.

mod stream;

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
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::ServiceConfig;
use crate::admission::Admission;
use crate::auth::ApiKeys;
use crate::deadline::{self, CutOff};
use crate::grpc;
use crate::lifecycle::Lifecycle;
use crate::metrics::RouteMetrics;
use crate::problem::Problem;
use crate::routes::{Class, Route};
use crate::slowing::Drag;

use self::stream::Stream;

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
    /// The same, for those who wait for it.
    drain_began: CancellationToken,
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
        self.drain_began.cancel();
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
    pub(crate) async fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Result<Response, Infallible> {
        let mut response = self.route(request).await.unwrap_or_else(IntoResponse::into_response);
        if self.is_draining() {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        Ok(response)
    }

    /// How many requests are being worked on. Streams that have begun do not count: they were told to end when the drain
    /// began, and only a client that reads nothing keeps one from it.
    pub(crate) fn under_way(&self) -> usize {
        self.admission.under_way()
    }

    /// Whether the service is about to end.
    pub(crate) fn is_draining(&self) -> bool {
        self.health.is_draining()
    }

    async fn route(self: &Arc<Self>, request: Request<Incoming>) -> Result<Response, Problem> {
        let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
        if target > LONGEST_TARGET {
            let problem = Problem::target_too_long();
            return if grpc::is_call(&request) {
                Ok(grpc::refusal(problem))
            } else {
                Err(problem)
            };
        }
        let found = self.table.at(request.uri().path()).ok().map(|found| found.value);
        let known = found.filter(|routes| !routes.is_empty());
        let route = known.and_then(|routes| self.with_method(routes, request.method()));
        match (route, known) {
            // In a box, so that the future of every other request does not grow by this one.
            (Some(route), _) if self.routes[route].grpc => Box::pin(self.call(route, request)).await,
            (Some(route), _) => self.admit(route, request, None).await,
            (None, _) if grpc::is_call(&request) => Ok(grpc::refusal(Problem::unknown_method())),
            (None, Some(routes)) => Ok(self.method_not_allowed(routes)),
            (None, None) => {
                // Nobody reads this body.
                let request = request.map(|_| Body::empty());
                let Ok(response) = self.others.clone().call(request).await;
                Ok(response)
            }
        }
    }

    /// One call of a gRPC method: admitted as any request is, refused as gRPC has it.
    async fn call(self: &Arc<Self>, route: usize, request: Request<Incoming>) -> Result<Response, Problem> {
        if !grpc::is_call(&request) {
            return Err(self.refused(route, Problem::not_grpc()));
        }
        let answered = match grpc::until(request.headers()) {
            Ok(until) => self.admit(route, request, until).await,
            Err(problem) => Err(self.refused(route, problem)),
        };
        answered.or_else(|problem| Ok(grpc::refusal(problem)))
    }

    /// Checks, admits and handles one request; `until` is when its client gives up, if it said so.
    async fn admit(
        self: &Arc<Self>,
        route: usize,
        request: Request<Incoming>,
        until: Option<Instant>,
    ) -> Result<Response, Problem> {
        let Route { class, call, grpc, .. } = &self.routes[route];
        let refused = |problem| self.refused(route, problem);
        if class.needs_key() && !self.keys.admit(request.headers()) {
            return Err(refused(Problem::unauthorized()));
        }
        if *class == Class::Stream && self.is_draining() {
            return Err(refused(Problem::draining()));
        }
        let (request, _budget) = if request.body().is_end_stream() {
            (request.map(|_| Body::empty()), None)
        } else {
            self.read_body(*class, request).await.map_err(refused)?
        };
        let place = self.admission.enter(*class).await;
        let place = place.map_err(|shed| refused(Problem::overloaded(shed.reason())))?;
        self.drag.pull();
        let answered = match deadline::within(self.limit(*class, until), call(request)).await {
            Ok(response) if *class == Class::Stream && !response.body().is_end_stream() => {
                return Ok(Stream::after(response, self, route, place, until));
            }
            Ok(response) => Ok(response),
            Err(CutOff::Late) => Err(Problem::deadline()),
            Err(CutOff::Panicked) => Err(Problem::internal()),
        };
        let status = match &answered {
            Ok(response) if *grpc => grpc::http_status(response.headers()).unwrap_or(response.status()),
            Ok(response) => response.status(),
            Err(problem) => problem.status(),
        };
        self.metrics[route].count(status, place.leave());
        answered
    }

    /// Counts a request that is refused before it was admitted.
    fn refused(&self, route: usize, problem: Problem) -> Problem {
        self.metrics[route].count(problem.status(), Duration::ZERO);
        problem
    }

    /// How long a handler may take.
    fn limit(&self, class: Class, until: Option<Instant>) -> Duration {
        let limit = self.deadline.saturating_mul(class.patience());
        until.map_or(limit, |until| {
            limit.min(until.saturating_duration_since(Instant::now()))
        })
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
            None => paths.push((&route.path, vec![index])),
        }
    }
    let mut table = matchit::Router::new();
    for (path, routes) in paths {
        table.insert(path, routes)?;
    }
    Ok(table)
}
