//! Reading answers: piece by piece, never faster than the consumer asks, never forever.
//!
//! Owns the stall guard. The size cap is the consumer's (`Body::collect`) and counts decompressed bytes, because what streams out
//! of here is decompressed already: a gzip bomb is cut after `cap` bytes. Refuses unbounded reads.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use connector_core::{
    error::{Error, ErrorKind, Result},
    transport::Body,
};
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use tokio::time::{Instant, Sleep};

use crate::fault;

/// How slowly an answer may arrive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StallGuard {
    /// The time spent waiting after which the bytes are counted.
    pub(crate) window: Duration,
    /// The bytes that must have arrived by then.
    pub(crate) bytes: u64,
}

impl StallGuard {
    /// Less than 1 KiB/s for 20 s.
    pub(crate) const STANDARD: Self = Self::slower_than(1024, Duration::from_secs(20));

    /// Fewer than `bytes_per_second` over `window`.
    pub(crate) const fn slower_than(bytes_per_second: u64, window: Duration) -> Self {
        Self { window, bytes: bytes_per_second * window.as_secs() }
    }
}

/// The body of an answer.
pub(crate) fn read(response: reqwest::Response, guard: StallGuard) -> Body {
    let length = response.content_length();
    if length == Some(0) {
        return Body::Empty;
    }
    // An HTTP/1 body ends with its last announced byte. An HTTP/2 stream ends with a flag that may come later, and dropping it earlier
    // resets the stream, which servers count against the client.
    let ends_by_length = response.version() <= http::Version::HTTP_11;
    let mut chunks = response.bytes_stream();
    // A small answer usually arrives together with its head; then there is nothing to wait for and nothing to box.
    let first = match chunks.next().now_or_never() {
        Some(Some(Ok(chunk))) if ends_by_length && length == Some(chunk.len() as u64) => return Body::Bytes(chunk),
        Some(Some(Ok(chunk))) => Some(chunk),
        Some(None) => return Body::Empty,
        Some(Some(Err(error))) => {
            let error = fault::reading(error);
            return Body::Stream { chunks: futures_util::stream::iter([Err(error)]).boxed(), length };
        }
        None => None,
    };
    Body::Stream {
        chunks: Reader { chunks, first, guard, waited: Duration::ZERO, since: None, arrived: 0, alarm: None, done: false }.boxed(),
        length,
    }
}

struct Reader<S> {
    chunks: S,
    first: Option<Bytes>,
    guard: StallGuard,
    /// Time spent waiting for the vendor in this window. Time the consumer takes between two reads does not count.
    waited: Duration,
    /// Since when it has been waiting now.
    since: Option<Instant>,
    /// Bytes arrived in this window.
    arrived: u64,
    alarm: Option<Pin<Box<Sleep>>>,
    done: bool,
}

impl<S: Stream<Item = reqwest::Result<Bytes>> + Unpin> Stream for Reader<S> {
    type Item = Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Some(first) = this.first.take() {
            this.arrived = first.len() as u64;
            return Poll::Ready(Some(Ok(first)));
        }
        if this.done {
            return Poll::Ready(None);
        }
        match this.chunks.poll_next_unpin(cx) {
            Poll::Ready(item) => {
                if let Some(since) = this.since.take() {
                    this.waited += since.elapsed();
                }
                Poll::Ready(match item {
                    Some(Ok(chunk)) => {
                        this.arrived += chunk.len() as u64;
                        if this.arrived >= this.guard.bytes {
                            (this.arrived, this.waited) = (0, Duration::ZERO);
                        }
                        Some(Ok(chunk))
                    }
                    Some(Err(error)) => {
                        this.done = true;
                        Some(Err(fault::reading(error)))
                    }
                    None => {
                        this.done = true;
                        None
                    }
                })
            }
            Poll::Pending => this.poll_alarm(cx),
        }
    }
}

impl<S> Reader<S> {
    /// Waits for the vendor, but not longer than what is left of the window.
    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        if self.since.is_none() {
            let now = Instant::now();
            self.since = Some(now);
            let end = now + self.guard.window.saturating_sub(self.waited);
            match &mut self.alarm {
                Some(alarm) => alarm.as_mut().reset(end),
                None => self.alarm = Some(Box::pin(tokio::time::sleep_until(end))),
            }
        }
        let rang = self.alarm.as_mut().is_some_and(|alarm| alarm.as_mut().poll(cx).is_ready());
        if !rang {
            return Poll::Pending;
        }
        self.done = true;
        let message = format!("the vendor's answer came too slowly: {} bytes in {:?}", self.arrived, self.guard.window);
        Poll::Ready(Some(Err(Error::new(ErrorKind::Timeout, message))))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    /// Reads a body whose pieces of `size` bytes arrive every `pause`, while the consumer takes `busy` for each.
    async fn drain(pieces: usize, size: usize, pause: Duration, busy: Duration) -> Result<usize> {
        let chunks = Box::pin(stream::iter(0..pieces).then(move |_| async move {
            tokio::time::sleep(pause).await;
            Ok(Bytes::from(vec![b'x'; size]))
        }));
        let guard = StallGuard::STANDARD;
        let mut reader = Reader { chunks, first: None, guard, waited: Duration::ZERO, since: None, arrived: 0, alarm: None, done: false };
        let mut total = 0;
        while let Some(chunk) = reader.next().await {
            total += chunk?.len();
            tokio::time::sleep(busy).await;
        }
        Ok(total)
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_below_a_kibibyte_a_second_is_a_timeout_after_twenty_seconds() {
        let started = Instant::now();
        let error = drain(1000, 100, Duration::from_secs(1), Duration::ZERO).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert_eq!(started.elapsed().as_secs(), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_a_timeout() {
        assert_eq!(drain(1, 1, Duration::from_secs(3600), Duration::ZERO).await.unwrap_err().kind(), ErrorKind::Timeout);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_but_steady_is_fine_for_as_long_as_it_takes() {
        assert_eq!(drain(600, 1200, Duration::from_secs(1), Duration::ZERO).await.unwrap(), 600 * 1200);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_consumer_is_not_the_vendors_fault() {
        assert_eq!(drain(10, 10, Duration::from_millis(1), Duration::from_secs(60)).await.unwrap(), 100);
    }
}
