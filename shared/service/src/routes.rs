//! How a design states its routes: each handler with the class that bounds it.
//!
//! ```text
//! Routes::new(Document::openapi())
//!     .add(Class::Read, Method::GET, "/{code}", redirect)
//!     .add(Class::Write, Method::POST, "/api/links", create)
//! ```
//!
//! A route that the OpenAPI document does not describe is refused when the service starts, so the two cannot drift apart.

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, on};
use http::Method;
use utoipa::openapi::OpenApi;
use utoipa::openapi::path::PathItem;

/// What a route may ask for, and what it is promised.
///
/// | class   | body     | deadline       | gate                          | API key |
/// |---------|----------|----------------|-------------------------------|---------|
/// | `Read`  | 64 KiB   | `deadline_ms`  | admitted up to the cap        | no      |
/// | `Write` | 64 KiB   | `deadline_ms`  | admitted up to 3/4 of the cap | yes     |
/// | `Bulk`  | 4 MiB    | 5 x that       | as `Write`                    | yes     |
/// | `Open`  | 64 KiB   | `deadline_ms`  | never gated                   | no      |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Answers from what is there; shed last.
    Read,
    /// Changes something; shed first.
    Write,
    /// Changes many things at once.
    Bulk,
    /// Health and documents: answered also under overload.
    Open,
}

impl Class {
    /// The most bytes a body may have.
    pub(crate) const fn body_limit(self) -> usize {
        match self {
            Self::Read | Self::Write | Self::Open => 64 << 10,
            Self::Bulk => 4 << 20,
        }
    }

    /// How many times the configured deadline this class may take.
    pub(crate) const fn patience(self) -> u32 {
        match self {
            Self::Read | Self::Write | Self::Open => 1,
            Self::Bulk => 5,
        }
    }

    pub(crate) const fn is_write(self) -> bool {
        matches!(self, Self::Write | Self::Bulk)
    }

    pub(crate) const fn is_gated(self) -> bool {
        !matches!(self, Self::Open)
    }
}

/// The routes of a service and their classes.
pub struct Routes<S = ()> {
    router: Router<S>,
    document: OpenApi,
    entries: Vec<Entry>,
}

/// One route, as the guard knows it.
pub(crate) struct Entry {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) class: Class,
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// No routes yet; `document` describes those that will be added.
    #[must_use]
    pub fn new(document: OpenApi) -> Self {
        Self {
            router: Router::new(),
            document,
            entries: Vec::new(),
        }
    }

    /// Adds one handler. GET answers HEAD too.
    ///
    /// # Panics
    /// On a method that HTTP does not define, and on a path that is already taken: a mistake in the design's code, found
    /// by the first test that starts it.
    #[must_use]
    pub fn add<H, T>(mut self, class: Class, method: Method, path: &'static str, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        let filter = MethodFilter::try_from(method.clone()).expect("a design uses standard methods");
        self.router = self.router.route(path, on(filter, handler));
        self.entries.push(Entry { method, path, class });
        self
    }

    /// Gives the handlers their state.
    #[must_use]
    pub fn with_state(self, state: S) -> Routes {
        Routes {
            router: self.router.with_state(state),
            document: self.document,
            entries: self.entries,
        }
    }
}

impl Routes {
    pub(crate) fn into_parts(self) -> anyhow::Result<(Router, OpenApi, Vec<Entry>)> {
        for Entry { method, path, .. } in &self.entries {
            let described = self
                .document
                .paths
                .paths
                .get(*path)
                .is_some_and(|item| describes(item, method));
            anyhow::ensure!(described, "the OpenAPI document does not describe {method} {path}");
        }
        Ok((self.router, self.document, self.entries))
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
