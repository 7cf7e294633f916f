//! Transports that never reach a network: scripted, silent, failing, recording.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    CallCx, Error, ErrorKind, Result,
    transport::{Body, Head, Request, Response, Transport},
};
use serde_json::Value;

/// A request a transport saw.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Method, URL and headers.
    pub head: Head,
    /// The body.
    pub body: Bytes,
}

impl Seen {
    /// `GET /path?query`.
    pub fn line(&self) -> String {
        let query = self.head.url.query().map(|query| format!("?{query}")).unwrap_or_default();
        format!("{} {}{query}", self.head.method, self.head.url.path())
    }

    /// The body as JSON; `null` if it is not.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }
}

/// What a scripted transport does with one request.
pub enum Step {
    /// Answers.
    Answer {
        /// The status.
        status: u16,
        /// Headers.
        headers: Vec<(&'static str, String)>,
        /// The body.
        body: Bytes,
    },
    /// Fails without an answer, as a refused, cut or slow connection does.
    Fail(ErrorKind),
    /// Never answers.
    Hang,
}

impl Step {
    /// A JSON answer.
    pub fn json(status: u16, body: Value) -> Self {
        Self::Answer { status, headers: vec![("content-type", "application/json".into())], body: body.to_string().into() }
    }

    /// An answer without a body.
    pub fn empty(status: u16) -> Self {
        Self::Answer { status, headers: Vec::new(), body: Bytes::new() }
    }

    /// A text answer with its content type.
    pub fn text(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self::Answer { status, headers: vec![("content-type", content_type.to_owned())], body: body.into() }
    }

    /// The answer with one more header.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        if let Self::Answer { headers, .. } = &mut self {
            headers.push((name, value.into()));
        }
        self
    }

    async fn play(self) -> Result<Response> {
        match self {
            Self::Answer { status, headers, body } => {
                let mut response = http::Response::builder().status(status);
                for (name, value) in headers {
                    response = response.header(name, value);
                }
                response.body(Body::from(body)).map_err(|error| Error::internal("a scripted answer cannot be built").with_source(error))
            }
            Self::Fail(kind) => Err(Error::new(kind, "the scripted connection failed")),
            Self::Hang => std::future::pending().await,
        }
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer { status, body, .. } => write!(f, "Answer({status}, {} bytes)", body.len()),
            Self::Fail(kind) => write!(f, "Fail({kind})"),
            Self::Hang => f.write_str("Hang"),
        }
    }
}

/// Plays a script, one step a request, and remembers what it saw. A request beyond the script is an error that names it.
#[derive(Debug, Clone, Default)]
pub struct Replay(Arc<Mutex<Script>>);

#[derive(Debug, Default)]
struct Script {
    steps: VecDeque<Step>,
    seen: Vec<Seen>,
}

impl Replay {
    /// Plays these steps in order.
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self(Arc::new(Mutex::new(Script { steps: steps.into_iter().collect(), seen: Vec::new() })))
    }

    /// Adds a step at the end.
    pub fn push(&self, step: Step) {
        self.script(|script| script.steps.push_back(step));
    }

    /// What was sent so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.script(|script| script.seen.clone())
    }

    /// The lines of what was sent so far, for a short comparison.
    pub fn lines(&self) -> Vec<String> {
        self.seen().iter().map(Seen::line).collect()
    }

    /// How many steps were not played.
    pub fn left(&self) -> usize {
        self.script(|script| script.steps.len())
    }

    fn script<T>(&self, run: impl FnOnce(&mut Script) -> T) -> T {
        run(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Transport for Replay {
    async fn send(&self, _: &CallCx, request: Request) -> Result<Response> {
        let seen = Seen { head: request.head, body: request.body.collect(usize::MAX).await? };
        let line = seen.line();
        let step = self.script(|script| {
            script.seen.push(seen);
            script.steps.pop_front()
        });
        match step {
            Some(step) => step.play().await,
            None => Err(Error::internal(format!("the script has no answer for `{line}`"))),
        }
    }
}

/// Answers by a function of the request: a fake vendor in a few lines.
pub struct Answering<F>(F);

impl<F: Fn(&Seen) -> Step + Send + Sync + 'static> Answering<F> {
    /// Answers as `answer` says.
    pub fn new(answer: F) -> Self {
        Self(answer)
    }
}

impl<F> fmt::Debug for Answering<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answering")
    }
}

#[async_trait]
impl<F: Fn(&Seen) -> Step + Send + Sync + 'static> Transport for Answering<F> {
    async fn send(&self, _: &CallCx, request: Request) -> Result<Response> {
        let seen = Seen { head: request.head, body: request.body.collect(usize::MAX).await? };
        (self.0)(&seen).play().await
    }
}

/// Never answers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Never;

#[async_trait]
impl Transport for Never {
    async fn send(&self, _: &CallCx, _: Request) -> Result<Response> {
        std::future::pending().await
    }
}

/// Fails every request in one way.
#[derive(Debug, Clone, Copy)]
pub struct Failing(pub ErrorKind);

#[async_trait]
impl Transport for Failing {
    async fn send(&self, _: &CallCx, _: Request) -> Result<Response> {
        Step::Fail(self.0).play().await
    }
}

/// Lets requests through to another transport, but every `nth` answer is lost on its way back: the vendor did it, the caller does not know.
#[derive(Debug)]
pub struct LosingAnswers<T> {
    inner: T,
    nth: usize,
    count: Mutex<usize>,
}

impl<T> LosingAnswers<T> {
    /// Loses the answer to every `nth` request, counted from 1.
    pub fn new(inner: T, nth: usize) -> Self {
        Self { inner, nth: nth.max(1), count: Mutex::new(0) }
    }
}

#[async_trait]
impl<T: Transport> Transport for LosingAnswers<T> {
    async fn send(&self, cx: &CallCx, request: Request) -> Result<Response> {
        let number = {
            let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
            *count += 1;
            *count
        };
        let response = self.inner.send(cx, request).await?;
        if number % self.nth == 0 { Step::Fail(ErrorKind::Transient).play().await } else { Ok(response) }
    }
}
