//! A server that says what a test wrote down, a credential that is fixed or renewed, and an engine over both.
#![allow(dead_code, reason = "each test file uses its part of it")]

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use connector_core::{
    CallCx, Connection, Connector as _, Error, ErrorKind, OpCall, OpReply, Result,
    auth::{AuthProvider, CredentialUse},
    transport::{Head, Request, Response, Transport},
};
use connector_email::{ID, manifest};
use connector_manifest::{ConnectionOptions, Engine, connection};
use http::{HeaderValue, header};
use serde_json::{Map, Value};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

/// Lets every connection go to this machine and nowhere else.
#[derive(Debug)]
pub(crate) struct Local;

#[async_trait]
impl Transport for Local {
    async fn send(&self, _: &CallCx, _: Request) -> Result<Response> {
        Err(Error::internal("no HTTP request is made here"))
    }

    async fn resolve(&self, _: &CallCx, host: &str, port: u16, _: &'static [u16]) -> Result<Vec<SocketAddr>> {
        let host = if host == "localhost" { "127.0.0.1" } else { host };
        let ip = host.parse().map_err(|_| Error::new(ErrorKind::Denied, "only this machine is allowed"))?;
        Ok(vec![SocketAddr::new(ip, port)])
    }
}

/// A password, or a token that gets a new generation when it is refused.
#[derive(Debug)]
pub(crate) enum Secret {
    Password(&'static str, &'static str),
    Tokens { generation: AtomicU64, most: u64, asked: AtomicUsize },
    Token(String),
}

impl Secret {
    pub(crate) fn tokens(most: u64) -> Arc<Self> {
        Arc::new(Self::Tokens { generation: AtomicU64::new(0), most, asked: AtomicUsize::new(0) })
    }

    pub(crate) fn asked(&self) -> usize {
        match self {
            Self::Tokens { asked, .. } => asked.load(Ordering::SeqCst),
            _ => 0,
        }
    }
}

#[async_trait]
impl AuthProvider for Secret {
    async fn authorize(&self, _: &CallCx, head: &mut Head, _: &Bytes) -> Result<CredentialUse> {
        let (value, generation) = match self {
            Self::Password(user, password) => (format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))), 0),
            Self::Token(token) => (format!("Bearer {token}"), 0),
            Self::Tokens { generation, .. } => {
                let generation = generation.load(Ordering::SeqCst);
                (format!("Bearer token-{generation}"), generation)
            }
        };
        head.headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&value).unwrap());
        Ok(CredentialUse { generation })
    }

    async fn rejected(&self, _: &CallCx, used: &CredentialUse) -> Result<bool> {
        let Self::Tokens { generation, most, asked } = self else { return Ok(false) };
        asked.fetch_add(1, Ordering::SeqCst);
        if used.generation >= *most {
            return Ok(false);
        }
        generation.store(used.generation + 1, Ordering::SeqCst);
        Ok(true)
    }
}

/// What a server does next on one connection.
#[derive(Debug, Clone)]
enum Step {
    Say(String),
    /// Reads a command that must contain this, and answers; `$T` is its tag.
    On(String, String),
    /// Reads a message to its last dot, and answers.
    Message(String),
}

/// One connection from its greeting to its end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script(Vec<Step>);

impl Script {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn say(mut self, text: &str) -> Self {
        self.0.push(Step::Say(text.to_owned()));
        self
    }

    pub(crate) fn on(mut self, command: &str, answer: &str) -> Self {
        self.0.push(Step::On(command.to_owned(), answer.to_owned()));
        self
    }

    pub(crate) fn message(mut self, answer: &str) -> Self {
        self.0.push(Step::Message(answer.to_owned()));
        self
    }

    /// A session that is logged in, with these capabilities besides `IMAP4rev1`.
    pub(crate) fn imap(capabilities: &str) -> Self {
        let capabilities = format!("IMAP4rev1 AUTH=PLAIN AUTH=XOAUTH2 SASL-IR LITERAL+ {capabilities}");
        Self::new()
            .say(&format!("* OK [CAPABILITY {capabilities}] ready\r\n"))
            .on("AUTHENTICATE", &format!("$T OK [CAPABILITY {capabilities}] in\r\n"))
    }

    /// Opening a mailbox.
    pub(crate) fn open(self, command: &str, validity: u32) -> Self {
        self.on(command, &format!("* 3 EXISTS\r\n* OK [UIDVALIDITY {validity}] x\r\n* OK [UIDNEXT 10] x\r\n* OK [PERMANENTFLAGS (\\Seen \\*)] x\r\n$T OK [READ-WRITE] open\r\n"))
    }

    /// A list of the usual folders.
    pub(crate) fn folders(self) -> Self {
        self.on(
            "LIST",
            "* LIST (\\HasNoChildren) \"/\" INBOX\r\n* LIST (\\Sent) \"/\" Sent\r\n* LIST (\\Drafts) \"/\" Drafts\r\n* LIST (\\Trash) \"/\" Trash\r\n$T OK done\r\n",
        )
    }

    /// A submission session up to the envelope.
    pub(crate) fn smtp() -> Self {
        Self::new()
            .say("220 mx.example ESMTP\r\n")
            .on("EHLO", "250-mx.example\r\n250-AUTH PLAIN\r\n250-SIZE 100000\r\n250 8BITMIME\r\n")
            .on("AUTH PLAIN", "235 2.7.0 in\r\n")
    }
}

/// A server that goes through its scripts, one for each connection.
#[derive(Debug)]
pub(crate) struct Scripted {
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<String>>>,
    wrong: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

impl Scripted {
    pub(crate) async fn start(scripts: impl IntoIterator<Item = Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, wrong) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let connections = Arc::new(AtomicUsize::new(0));
        let scripts: Vec<Script> = scripts.into_iter().collect();
        let (heard, mistakes, count) = (seen.clone(), wrong.clone(), connections.clone());
        tokio::spawn(async move {
            for script in scripts {
                let Ok((stream, _)) = listener.accept().await else { return };
                count.fetch_add(1, Ordering::SeqCst);
                let (heard, mistakes) = (heard.clone(), mistakes.clone());
                tokio::spawn(async move {
                    if let Err(error) = play(stream, script, &heard).await {
                        mistakes.lock().unwrap().push(error);
                    }
                });
            }
        });
        Self { port, seen, wrong, connections }
    }

    /// What was read, one command each, literals and messages in place.
    pub(crate) fn seen(&self) -> Vec<String> {
        let wrong = self.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "the server heard something else than the script says: {wrong:?}\n{:#?}", self.seen.lock().unwrap());
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn play(stream: TcpStream, script: Script, seen: &Mutex<Vec<String>>) -> std::result::Result<(), String> {
    let mut stream = BufReader::new(stream);
    for step in script.0 {
        match step {
            Step::Say(text) => stream.write_all(text.as_bytes()).await.map_err(|error| error.to_string())?,
            Step::On(wanted, answer) => {
                let Some(command) = command(&mut stream).await else { return Err(format!("the client left before `{wanted}`")) };
                seen.lock().unwrap().push(command.clone());
                if !command.contains(&wanted) {
                    return Err(format!("expected `{wanted}`, heard `{command}`"));
                }
                let tag = command.split(' ').next().unwrap_or_default();
                stream.write_all(answer.replace("$T", tag).as_bytes()).await.map_err(|error| error.to_string())?;
            }
            Step::Message(answer) => {
                let mut message = String::new();
                while !message.ends_with("\r\n.\r\n") {
                    if stream.read_line(&mut message).await.map_err(|error| error.to_string())? == 0 {
                        return Err("the client left in the middle of a message".to_owned());
                    }
                }
                seen.lock().unwrap().push(message);
                if answer.is_empty() {
                    return Ok(());
                }
                stream.write_all(answer.as_bytes()).await.map_err(|error| error.to_string())?;
            }
        }
    }
    // What is said after the script's end (a farewell) does not matter, but the socket stays open as a server's would.
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.ok();
    Ok(())
}

/// A command with its literals.
async fn command(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut whole = String::new();
    loop {
        let mut line = Vec::new();
        if stream.read_until(b'\n', &mut line).await.ok()? == 0 {
            return None;
        }
        let line = String::from_utf8_lossy(&line).into_owned();
        whole.push_str(&line);
        let Some(length) = line.trim_end().strip_suffix('}').and_then(|line| line.rsplit_once('{')).map(|(_, length)| length) else { break };
        let at_once = length.ends_with('+');
        let length: usize = length.trim_end_matches('+').parse().ok()?;
        if !at_once {
            stream.write_all(b"+ go on\r\n").await.ok()?;
        }
        let mut literal = vec![0; length];
        stream.read_exact(&mut literal).await.ok()?;
        whole.push_str(&String::from_utf8_lossy(&literal));
    }
    Some(whole.trim_end_matches(['\r', '\n']).to_owned())
}

/// An engine with a connection to scripted servers.
pub(crate) struct World {
    pub(crate) engine: Arc<Engine>,
    pub(crate) cx: CallCx,
    pub(crate) imap: Scripted,
    pub(crate) smtp: Scripted,
}

impl World {
    pub(crate) async fn new(imap: impl IntoIterator<Item = Script>, smtp: impl IntoIterator<Item = Script>) -> Self {
        Self::with(imap, smtp, &[], Arc::new(Secret::Password("ann@example.test", "pass-canary"))).await
    }

    pub(crate) async fn with(
        imap: impl IntoIterator<Item = Script>,
        smtp: impl IntoIterator<Item = Script>,
        settings: &[(&str, &str)],
        auth: Arc<dyn AuthProvider>,
    ) -> Self {
        let (imap, smtp) = (Scripted::start(imap).await, Scripted::start(smtp).await);
        let smtp_port = smtp.port.to_string();
        let mut all =
            vec![("imap_security", "none"), ("smtp_security", "none"), ("allow_plaintext_loopback", "true"), ("smtp_port", smtp_port.as_str())];
        all.extend_from_slice(settings);
        let connection = connection_to(&format!("https://127.0.0.1:{}", imap.port), &all);
        let engine = Arc::new(connector_email::engine(Arc::new(Local), auth).unwrap());
        Self { engine, cx: CallCx::new(Arc::new(connection)), imap, smtp }
    }

    pub(crate) async fn call(&self, tool: &str, args: Value) -> Result<OpReply> {
        call(&self.engine, &self.cx, tool, args).await
    }

    pub(crate) async fn output(&self, tool: &str, args: Value) -> Result<Value> {
        self.call(tool, args).await?.body.to_value()
    }
}

pub(crate) fn connection_to(base_url: &str, settings: &[(&str, &str)]) -> Connection {
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let options = ConnectionOptions { base_url: Some(base_url.to_owned()), settings, ..ConnectionOptions::default() };
    connection(&manifest(), ID, options, &|_| None).unwrap()
}

pub(crate) async fn call(engine: &Engine, cx: &CallCx, tool: &str, args: Value) -> Result<OpReply> {
    let args: Map<String, Value> = args.as_object().cloned().unwrap();
    engine.call(cx, OpCall::new(tool, args)).await
}
