//! As much HTTP/1.1 as a load generator needs: request bytes, an answer parser, a blocking client.
//!
//! Not here: TLS, HTTP/2, redirects, proxies, decompression. The lab loads servers beside it, and what a client library
//! adds to a request would be measured as if the server had spent it.

pub mod client;
pub mod request;
pub mod response;

pub use client::{Answer, Client};
pub use request::Target;
pub use response::{Response, ResponseReader};
