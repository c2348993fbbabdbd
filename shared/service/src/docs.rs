//! The API's own page: `/openapi.json`, and at `/docs` a page that reads it, served from this binary and so also offline.

use axum::Router;
use axum::response::Redirect;
use axum::routing::get;
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::{Config, SwaggerUi};

/// What [`router`] answers.
pub(crate) const PATHS: [&str; 5] = ["/", "/openapi.json", "/docs", "/docs/", "/docs/{*file}"];

/// The document and its page; whoever opens the bare address is led to it.
pub(crate) fn router(document: OpenApi) -> Router {
    // By default the page would send the document's address to a validator on the internet.
    let config = Config::default().validator_url("none");
    let page = SwaggerUi::new("/docs").url("/openapi.json", document).config(config);
    Router::new()
        .merge(page)
        .route("/", get(|| async { Redirect::temporary("/docs/") }))
}
