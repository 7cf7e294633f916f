//! Bodies on their way in and out: a request's has a time, a response's keeps its connection busy until it is sent.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Sleep;

use super::io::Busy;

/// The caller took too long for its body.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct TooSlow;

impl fmt::Display for TooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body took too long to arrive")
    }
}

impl std::error::Error for TooSlow {}

/// A request's body that has to be there in time, counted from when it is first waited for.
pub(in crate::http) struct Timed {
    inner: Incoming,
    within: Duration,
    late: Option<Pin<Box<Sleep>>>,
}

impl Timed {
    pub(super) fn new(inner: Incoming, within: Duration) -> Self {
        Self { inner, within, late: None }
    }
}

impl Body for Timed {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let within = self.within;
        let late = self.late.get_or_insert_with(|| Box::pin(tokio::time::sleep(within)));
        late.as_mut().poll(cx).map(|()| Some(Err(TooSlow.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A response's body. While there is some of it to send the connection is not idle.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) inner: axum::body::Body,
    pub(super) _busy: Busy,
}

impl Body for Sent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
