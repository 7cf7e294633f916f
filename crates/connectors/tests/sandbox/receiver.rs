//! A notification endpoint on loopback that believes only what the connector's verifier believes.

use std::{
    io,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use bytes::Bytes;
use connectors::{
    Connector,
    core::webhook::{IncomingEvent, Ingress, RawWebhook},
};
use secrecy::SecretString;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What came in.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub(crate) events: Vec<IncomingEvent>,
    pub(crate) handshakes: usize,
    pub(crate) refused: Vec<String>,
}

/// Listens until dropped.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) url: String,
    inbox: Arc<Mutex<Inbox>>,
    task: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    pub(crate) async fn start(connector: Arc<dyn Connector>, secret: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let inbox: Arc<Mutex<Inbox>> = Arc::default();
        let (secret, kept, own) = (SecretString::from(secret), inbox.clone(), url.clone());
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                // A caller that goes away is no concern of the next one.
                serve(socket, &own, &*connector, &secret, &kept).await.unwrap_or_default();
            }
        });
        Self { url, inbox, task }
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&Inbox) -> T) -> T {
        read(&self.inbox.lock().unwrap())
    }
}

async fn serve(mut socket: TcpStream, url: &str, connector: &dyn Connector, secret: &SecretString, inbox: &Mutex<Inbox>) -> io::Result<()> {
    let mut read = Vec::new();
    let (head, body) = loop {
        if socket.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
        let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&read[..end]).into_owned();
        let length = |line: &str| line.to_ascii_lowercase().strip_prefix("content-length:").and_then(|length| length.trim().parse::<usize>().ok());
        let length = head.lines().find_map(length).unwrap_or(0);
        if read.len() >= end + 4 + length {
            break (head, Bytes::copy_from_slice(&read[end + 4..end + 4 + length]));
        }
    };
    let mut lines = head.lines();
    let target = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or("/").to_owned();
    let mut headers = http::HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if let (Ok(name), Ok(value)) = (http::HeaderName::try_from(name), http::HeaderValue::try_from(value.trim())) {
            headers.append(name, value);
        }
    }
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let request = RawWebhook { method: &http::Method::POST, url, query, headers: &headers, body: &body };
    let verified = connector.webhook().unwrap().verify(&request, std::slice::from_ref(secret), SystemTime::UNIX_EPOCH);
    let (status, kind, text) = {
        let mut inbox = inbox.lock().unwrap();
        match verified {
            Ok(Ingress::Handshake(reply)) => {
                inbox.handshakes += 1;
                (reply.status, reply.content_type, reply.body)
            }
            Ok(Ingress::Events(events)) => {
                inbox.events.extend(events);
                (202, "text/plain", Bytes::new())
            }
            Err(error) => {
                inbox.refused.push(error.to_string());
                (401, "text/plain", Bytes::new())
            }
        }
    };
    let head = format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", text.len());
    socket.write_all(head.as_bytes()).await?;
    socket.write_all(&text).await?;
    socket.shutdown().await
}
