//! What the tests of this crate share: contexts, raw TCP servers that misbehave, resolvers that lie.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use connector_core::{
    context::{CallCx, Connection},
    error::{Error, ErrorKind, Result},
    transport::{Body, Request, Response, Transport},
};
use http::Method;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::{EgressPolicy, HttpTransport, HttpTransportBuilder, egress::Lookup};

/// A context for calls to this base URL.
pub(crate) fn cx(base_url: &str) -> CallCx {
    CallCx::new(Arc::new(Connection::new("test", base_url).unwrap()))
}

/// A GET request.
pub(crate) fn get(url: &str) -> Request {
    Request::new(Method::GET, url.parse().unwrap())
}

/// A builder whose policy allows this machine.
pub(crate) fn local() -> HttpTransportBuilder {
    HttpTransport::builder().egress(EgressPolicy::new().allow_loopback())
}

/// A TCP server; ends with its value.
pub(crate) struct RawServer {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl RawServer {
    /// Hands each connection, with its number from 0, to `serve`.
    pub(crate) async fn start<F>(serve: impl Fn(usize, TcpStream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = connections.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = counter.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(number, stream));
            }
        });
        Self { address, connections, task }
    }

    /// Answers every request on every connection with these bytes.
    pub(crate) async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer: Arc<[u8]> = answer.into().into();
        Self::start(move |_, mut stream| {
            let answer = answer.clone();
            async move {
                while read_head(&mut stream).await?.is_some() {
                    stream.write_all(&answer).await?;
                }
                Ok(())
            }
        })
        .await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads up to the empty line after the headers; `None` at the end of the connection.
pub(crate) async fn read_head(stream: &mut TcpStream) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).await? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    Ok(Some(String::from_utf8_lossy(&head).into_owned()))
}

/// Gives the answers it was told, one after the other, the last one for ever.
#[derive(Debug)]
pub(crate) struct FakeLookup(Mutex<Vec<Vec<IpAddr>>>);

impl FakeLookup {
    pub(crate) fn new(answers: &[&[&str]]) -> Arc<Self> {
        let answers = answers.iter().rev().map(|answer| answer.iter().map(|ip| ip.parse().unwrap()).collect());
        Arc::new(Self(Mutex::new(answers.collect())))
    }
}

#[async_trait]
impl Lookup for FakeLookup {
    async fn lookup(&self, _name: &str) -> io::Result<Vec<IpAddr>> {
        let mut answers = self.0.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop() } else { answers.last().cloned() };
        answer.filter(|answer| !answer.is_empty()).ok_or_else(|| io::Error::other("no such host"))
    }
}

/// One request as the fake endpoint saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) url: String,
    pub(crate) authorization: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) body: String,
    pub(crate) form: Vec<(String, String)>,
}

/// A token endpoint without a network: answers from a table after 50 ms (of paused time), the last answer for ever.
#[derive(Debug)]
pub(crate) struct FakeEndpoint {
    answers: Mutex<Vec<(u16, String)>>,
    seen: Mutex<Vec<Seen>>,
}

impl FakeEndpoint {
    pub(crate) fn new(answers: &[(u16, &str)]) -> Arc<Self> {
        let answers = answers.iter().rev().map(|(status, body)| (*status, (*body).to_owned())).collect();
        Arc::new(Self { answers: Mutex::new(answers), seen: Mutex::default() })
    }

    /// Issues `t1`, `t2`, … that live this many seconds.
    pub(crate) fn issuing(expires_in: u32) -> Arc<Self> {
        Self::new(&[(200, &format!(r#"{{"access_token":"t#","token_type":"Bearer","expires_in":{expires_in}}}"#))])
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn requests(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

#[async_trait]
impl Transport for FakeEndpoint {
    async fn send(&self, _cx: &CallCx, request: Request) -> Result<Response> {
        let header = |name| request.head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let (authorization, content_type) = (header("authorization"), header("content-type"));
        let body = request.body.collect(1 << 16).await?;
        let form = url::form_urlencoded::parse(&body).into_owned().collect();
        let number = {
            let mut seen = self.seen.lock().unwrap();
            let body = String::from_utf8_lossy(&body).into_owned();
            seen.push(Seen { url: request.head.url.into(), authorization, content_type, body, form });
            seen.len()
        };
        tokio::time::sleep(Duration::from_millis(50)).await;
        let (status, body) = {
            let mut answers = self.answers.lock().unwrap();
            if answers.len() > 1 { answers.pop().unwrap() } else { answers[0].clone() }
        };
        if status == 0 {
            return Err(Error::new(ErrorKind::Timeout, "the vendor did not answer in time"));
        }
        let mut response = http::Response::new(Body::Bytes(body.replace("t#", &format!("t{number}")).into()));
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
        response.headers_mut().insert("retry-after", http::HeaderValue::from_static("7"));
        Ok(response)
    }
}
