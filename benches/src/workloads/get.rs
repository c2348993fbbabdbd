//! The plainest workload: the same GET again and again, for any HTTP server.

use std::borrow::Cow;

use crate::http::{Response, Target, request};
use crate::workload::{Checked, Kind, Operation, Workload};

/// GETs one path. Any status below 400 is right.
#[derive(Debug)]
pub struct Get {
    request: Vec<u8>,
    kinds: [Kind; 1],
}

impl Get {
    /// Asks for the target's path and query.
    pub fn new(target: &Target) -> Self {
        let mut bytes = Vec::new();
        request::get(&mut bytes, &target.host, target.path.as_bytes());
        Self {
            request: bytes,
            kinds: [Kind {
                name: "get",
                slo_p99: None,
            }],
        }
    }
}

impl Workload for Get {
    fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    fn next(&mut self, request: &mut Vec<u8>) -> Option<Operation> {
        request.extend_from_slice(&self.request);
        Some(Operation {
            kind: 0,
            token: 0,
            no_body: false,
        })
    }

    fn check(&mut self, _: Operation, answer: &Response<'_>, _: &mut Vec<u8>) -> Checked {
        match answer.status {
            0..400 => Checked::Done,
            status => Checked::Failed(status_text(status)),
        }
    }
}

/// A status as an error reason.
pub fn status_text(status: u16) -> Cow<'static, str> {
    match status {
        400 => "400 Bad Request".into(),
        401 => "401 Unauthorized (is --api-key right?)".into(),
        403 => "403 Forbidden".into(),
        404 => "404 Not Found".into(),
        429 => "429 Too Many Requests".into(),
        500 => "500 Internal Server Error".into(),
        502 => "502 Bad Gateway".into(),
        503 => "503 Service Unavailable".into(),
        504 => "504 Gateway Timeout".into(),
        other => format!("status {other}").into(),
    }
}
