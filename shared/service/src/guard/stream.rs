//! The body of an answer that goes on: it keeps the request's place, and ends when its time or the service does.
//!
//! hyper asks it for the next piece only when the client has room for one, so a slow reader holds up its handler and fills
//! no memory; and drops it when the client goes away, which gives the place back. A client that reads nothing at all is
//! not asked for anything either: it keeps its place until it reads, leaves, or the service ends.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use http_body::Frame;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::Guard;
use crate::admission::{Lasting, Place};
use crate::grpc;
use crate::problem::Problem;

pub(super) struct Stream {
    body: Body,
    guard: Arc<Guard>,
    route: usize,
    /// There until it is dropped.
    place: Option<Lasting>,
    /// As what it is counted when it ends, or when its client has had enough.
    status: StatusCode,
    ended: bool,
    draining: Pin<Box<WaitForCancellationFutureOwned>>,
    /// When its client gives up.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stream {
    /// `response` with a body that keeps `place`, and ends at the latest `until` then.
    pub(super) fn after(
        response: Response,
        guard: &Arc<Guard>,
        route: usize,
        place: Place<'_>,
        until: Option<Instant>,
    ) -> Response {
        let place = guard.admission.keep(place);
        let status = response.status();
        response.map(|body| {
            Body::new(Self {
                body,
                guard: Arc::clone(guard),
                route,
                place: Some(place),
                status,
                ended: false,
                draining: Box::pin(guard.health.drain_began.clone().cancelled_owned()),
                timer: until.map(|until| Box::pin(sleep_until(until))),
            })
        })
    }

    /// Why it has to end although its handler would go on, if it has to; the task is woken when it has.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Problem> {
        if self.draining.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Problem::draining().outcome_unknown());
        }
        match &mut self.timer {
            Some(timer) => timer.as_mut().poll(cx).map(|()| Problem::deadline()),
            None => Poll::Pending,
        }
    }

    /// The last the client hears: trailers over gRPC, else an error, which breaks the answer off.
    fn end(&mut self, problem: Problem) -> Result<Frame<Bytes>, axum::Error> {
        self.ended = true;
        self.status = problem.status();
        if self.guard.routes[self.route].grpc {
            Ok(Frame::trailers(grpc::trailers(problem)))
        } else {
            Err(axum::Error::new(problem.title()))
        }
    }

    /// Takes note of how the handler ended it, if this is how.
    fn passes(&mut self, frame: &mut Option<Result<Frame<Bytes>, axum::Error>>) {
        match frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    self.ended = true;
                    self.status = grpc::http_status(trailers).unwrap_or(self.status);
                    grpc::complete(trailers);
                }
            }
            Some(Err(_)) => {
                self.ended = true;
                self.status = StatusCode::INTERNAL_SERVER_ERROR;
            }
            None => self.ended = true,
        }
    }
}

impl HttpBody for Stream {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let stream = self.get_mut();
        if stream.ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(problem) = stream.poll_end(cx) {
            return Poll::Ready(Some(stream.end(problem)));
        }
        // After a panic the body is never polled again, so nobody sees it half changed.
        match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut stream.body).poll_frame(cx))) {
            Ok(Poll::Ready(mut frame)) => {
                stream.passes(&mut frame);
                Poll::Ready(frame)
            }
            Ok(Poll::Pending) => Poll::Pending,
            Err(_) => Poll::Ready(Some(stream.end(Problem::internal()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            let took = self.guard.admission.leave(place);
            self.guard.metrics[self.route].count(self.status, took);
        }
    }
}
