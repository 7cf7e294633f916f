//! What the tests of this crate share: contexts, raw TCP servers that misbehave, resolvers that lie.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use connector_core::{
    context::{CallCx, Connection},
    transport::Request,
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
