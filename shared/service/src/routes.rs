//! How a design states its routes: each handler with the class that bounds it.
//!
//! ```text
//! Routes::new(Document::openapi())
//!     .add(Class::Read, Method::GET, "/{code}", redirect)
//!     .add(Class::Write, Method::POST, "/api/links", create)
//! ```
//!
//! A route that the OpenAPI document does not describe is refused when the service starts, so the two cannot drift apart.
//! Methods of gRPC services ([`Routes::grpc`]) are described by their .proto.

use std::borrow::Cow;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use axum::extract::Request;
use axum::handler::Handler;
use axum::response::Response;
use http::Method;
use tonic::server::NamedService;
use tower::Service;
use utoipa::openapi::OpenApi;
use utoipa::openapi::path::PathItem;

use crate::grpc;

/// What a route may ask for, and what it is promised.
///
/// | class    | body     | deadline            | gate                                     | API key |
/// |----------|----------|---------------------|------------------------------------------|---------|
/// | `Read`   | 64 KiB   | `deadline_ms`       | admitted up to the cap                   | no      |
/// | `Write`  | 64 KiB   | `deadline_ms`       | admitted up to 3/4 of the cap            | yes     |
/// | `Bulk`   | 4 MiB    | 5 x that            | as `Write`                               | yes     |
/// | `Stream` | 64 KiB   | `deadline_ms` to    | as `Write`, up to 1/4 of the cap; never  | yes     |
/// |          |          | its head, then none | waits; holds its place until it ends     |         |
///
/// A client of a gRPC method may set a shorter deadline (`grpc-timeout`), which bounds a stream to its end. A stream that
/// has begun ends with the service: when a drain begins, over gRPC by the status `UNAVAILABLE`, over HTTP by breaking
/// off, so that nobody takes it for whole. It is counted when it ends, with the status that it ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Answers from what is there; shed last.
    Read,
    /// Changes something; shed first.
    Write,
    /// Changes many things at once.
    Bulk,
    /// Answers for as long as the client listens. It wants a key since its place is taken for that long.
    Stream,
}

impl Class {
    /// The most bytes a body may have.
    pub(crate) const fn body_limit(self) -> usize {
        match self {
            Self::Read | Self::Write | Self::Stream => 64 << 10,
            Self::Bulk => 4 << 20,
        }
    }

    /// How many times the configured deadline this class may take.
    pub(crate) const fn patience(self) -> u32 {
        match self {
            Self::Read | Self::Write | Self::Stream => 1,
            Self::Bulk => 5,
        }
    }

    pub(crate) const fn needs_key(self) -> bool {
        !matches!(self, Self::Read)
    }
}

/// The routes of a service and their classes.
pub struct Routes<S = ()> {
    document: OpenApi,
    entries: Vec<Entry<S>>,
    also_on: Option<Also>,
}

/// A second address for the same routes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Also {
    /// What is said when it is there: `grpc on http://ADDR`.
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
}

struct Entry<S> {
    method: Method,
    path: Cow<'static, str>,
    class: Class,
    grpc: bool,
    handler: Box<dyn FnOnce(S) -> Call>,
}

/// One route, as the guard knows it.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: Cow<'static, str>,
    pub(crate) class: Class,
    /// Whether it speaks gRPC, refusals included.
    pub(crate) grpc: bool,
    pub(crate) call: Call,
}

/// A handler with its state. The guard has found the route already, so it calls the handler itself: a second router, with
/// its own match, its own copy of the service and its own boxes, would do the same work again.
pub(crate) type Call = Box<dyn Fn(Request) -> Answer + Send + Sync>;

/// A handler at work: what axum makes of every `async fn` handler.
pub(crate) type Answer = Pin<Box<dyn Future<Output = Response> + Send>>;

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// No routes yet; `document` describes those that will be added.
    #[must_use]
    pub fn new(document: OpenApi) -> Self {
        Self {
            document,
            entries: Vec::new(),
            also_on: None,
        }
    }

    /// Adds one handler. GET answers HEAD too. Paths are written as in axum: `/api/links/{code}`.
    #[must_use]
    pub fn add<H, T>(mut self, class: Class, method: Method, path: &'static str, handler: H) -> Self
    where
        H: Handler<T, S, Future = Answer> + Sync,
        T: 'static,
    {
        self.entries.push(Entry {
            method,
            path: Cow::Borrowed(path),
            class,
            grpc: false,
            handler: Box::new(move |state| Box::new(move |request| handler.clone().call(request, state.clone()))),
        });
        self
    }

    /// Adds a gRPC service, which a generator made of a .proto, at `/{NAME}/{method}`: those of its methods that are named
    /// here, each with its class. A method that is not named does not exist.
    ///
    /// ```text
    /// .grpc(IdsServer::new(ids), &[(Class::Write, "Next"), (Class::Stream, "Follow")])
    /// ```
    #[must_use]
    pub fn grpc<G>(mut self, service: G, methods: &[(Class, &str)]) -> Self
    where
        G: NamedService + Service<Request, Response = http::Response<tonic::body::Body>, Error = Infallible>,
        G: Clone + Send + Sync + 'static,
        G::Future: Send,
    {
        self.entries.extend(methods.iter().map(|(class, method)| {
            let service = service.clone();
            Entry {
                method: Method::POST,
                path: Cow::Owned(format!("/{}/{method}", G::NAME)),
                class: *class,
                grpc: true,
                handler: Box::new(|_| grpc::handler(service)) as Box<dyn FnOnce(S) -> Call>,
            }
        }));
        self
    }

    /// Serves all of them on a second address as well, where clients expect one of them: behind the same guard, within the
    /// same bounds. `name` is what the line says that tells where it is.
    #[must_use]
    pub fn also_on(mut self, name: &'static str, address: SocketAddr) -> Self {
        self.also_on = Some(Also { name, address });
        self
    }

    /// Gives the handlers their state.
    #[must_use]
    pub fn with_state(self, state: S) -> Routes {
        let entries = self.entries.into_iter().map(|entry| {
            let call = (entry.handler)(state.clone());
            Entry {
                method: entry.method,
                path: entry.path,
                class: entry.class,
                grpc: entry.grpc,
                handler: Box::new(|()| call) as Box<dyn FnOnce(()) -> Call>,
            }
        });
        Routes {
            entries: entries.collect(),
            document: self.document,
            also_on: self.also_on,
        }
    }
}

impl Routes {
    /// Where else they are to be served.
    pub(crate) fn other_address(&self) -> Option<Also> {
        self.also_on
    }

    pub(crate) fn into_parts(self) -> anyhow::Result<(Vec<Route>, OpenApi)> {
        for Entry { method, path, .. } in self.entries.iter().filter(|entry| !entry.grpc) {
            let described = self
                .document
                .paths
                .paths
                .get(path.as_ref())
                .is_some_and(|item| describes(item, method));
            anyhow::ensure!(described, "the OpenAPI document does not describe {method} {path}");
        }
        let routes = self.entries.into_iter().map(|entry| Route {
            method: entry.method,
            path: entry.path,
            class: entry.class,
            grpc: entry.grpc,
            call: (entry.handler)(()),
        });
        Ok((routes.collect(), self.document))
    }
}

fn describes(item: &PathItem, method: &Method) -> bool {
    let operations = [
        (&item.get, Method::GET),
        (&item.put, Method::PUT),
        (&item.post, Method::POST),
        (&item.delete, Method::DELETE),
        (&item.patch, Method::PATCH),
    ];
    operations
        .iter()
        .any(|(operation, known)| known == method && operation.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_that_is_not_documented_is_refused() {
        let routes = Routes::<()>::new(OpenApi::default()).add(Class::Read, Method::GET, "/{code}", async || "here");
        let refused = routes.with_state(()).into_parts().err().unwrap();
        assert!(refused.to_string().contains("GET /{code}"), "{refused}");
    }
}
