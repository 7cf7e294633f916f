//! Starting and stopping a fake mail server, and the handle a program holds on it.

use super::faults::{IDLING, MailFaults};
use super::known;
use super::listen::{Protocol, serve};
use super::seed;
use super::shared::{Accepted, Keys, Shared, Traits};
use super::store::{Account, Store};
use crate::clock::WallClock;
use crate::ledger::{EffectKind, Ledger, lock};
use crate::server::TableRow;
use serde_json::json;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What a fake mail server is made of before it starts.
#[derive(Debug)]
pub struct MailBuilder {
    imap: SocketAddr,
    smtp: SocketAddr,
    tls: Option<Arc<rustls::ServerConfig>>,
    clock: WallClock,
    seeded: bool,
    accounts: Vec<(String, Keys)>,
    traits: Traits,
    faults: MailFaults,
}

impl Default for MailBuilder {
    fn default() -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let keys = |password: &str, token: &str| Keys { password: password.to_owned(), tokens: vec![token.to_owned()] };
        Self {
            imap: any,
            smtp: any,
            tls: None,
            clock: WallClock::system(),
            seeded: true,
            accounts: vec![
                (known::ALICE.to_owned(), keys(known::ALICE_PASSWORD, known::ALICE_TOKEN)),
                (known::BOB.to_owned(), keys(known::BOB_PASSWORD, known::BOB_TOKEN)),
            ],
            traits: Traits {
                gmail: false,
                keeps_sent: false,
                delimiter: '/',
                hidden: Vec::new(),
                message_limit: 35_882_577,
                recipient_limit: 100,
                quota_kib: 1024 * 1024,
            },
            faults: MailFaults::default(),
        }
    }
}

impl MailBuilder {
    /// The address of the IMAP listener. Default: a free port of 127.0.0.1.
    pub fn imap_at(mut self, addr: SocketAddr) -> Self {
        self.imap = addr;
        self
    }

    /// The address of the SMTP listener. Default: a free port of 127.0.0.1.
    pub fn smtp_at(mut self, addr: SocketAddr) -> Self {
        self.smtp = addr;
        self
    }

    /// Offers STARTTLS on both listeners, refuses passwords before it, and opens two more listeners with TLS from the first octet
    /// ([`MailServer::imaps`], [`MailServer::submissions`]). Without it everything is in plain text, which is for loopback only.
    pub fn tls(mut self, config: Arc<rustls::ServerConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// Wall time of arrivals: a [`WallClock`] or an `Arc<dyn Clock>`. Default: the machine's clock.
    pub fn clock(mut self, clock: impl Into<WallClock>) -> Self {
        self.clock = clock.into();
        self
    }

    /// Starts with empty mailboxes.
    pub fn empty(mut self) -> Self {
        self.seeded = false;
        self
    }

    /// Adds an account, or replaces one. In another domain than [`known::DOMAIN`] it is delivered to as well.
    pub fn account(mut self, address: &str, password: &str, token: &str) -> Self {
        let address = address.to_ascii_lowercase();
        self.accounts.retain(|(known, _)| *known != address);
        self.accounts.push((address, Keys { password: password.to_owned(), tokens: vec![token.to_owned()] }));
        self
    }

    /// Behaves like Gmail where its IMAP extensions describe it: `X-GM-EXT-1`, labels, no QRESYNC, `[Gmail]/…` mailboxes, sent copies kept by
    /// the server.
    pub fn gmail(mut self) -> Self {
        self.traits.gmail = true;
        self.traits.keeps_sent = true;
        self
    }

    /// Keeps a copy of every submitted message in the Sent mailbox, as Gmail and Outlook do.
    pub fn keeps_sent(mut self) -> Self {
        self.traits.keeps_sent = true;
        self
    }

    /// The character between the levels of a mailbox name. Default `/`.
    pub fn delimiter(mut self, delimiter: char) -> Self {
        self.traits.delimiter = delimiter;
        self
    }

    /// Leaves out an extension, announced and real: an IMAP capability (`MOVE`, `QRESYNC`, `SASL-IR`, `AUTH=PLAIN`, …), an EHLO keyword
    /// (`SMTPUTF8`, …), or `KEYWORDS` for mailboxes that keep no keywords.
    pub fn without(mut self, capability: &str) -> Self {
        self.traits.hidden.push(capability.to_ascii_uppercase());
        self
    }

    /// The largest message in octets, for SMTP and APPEND. Default 35,882,577.
    pub fn message_limit(mut self, octets: usize) -> Self {
        self.traits.message_limit = octets;
        self
    }

    /// The most recipients of one message. Default 100.
    pub fn recipient_limit(mut self, count: usize) -> Self {
        self.traits.recipient_limit = count;
        self
    }

    /// How much an account may hold, in KiB. Default one GiB.
    pub fn quota_kib(mut self, kib: u64) -> Self {
        self.traits.quota_kib = kib;
        self
    }

    /// Sets faults before the first connection.
    pub fn faults(self, set: impl FnOnce(&MailFaults)) -> Self {
        set(&self.faults);
        self
    }

    /// Binds the listeners and serves until [`MailServer::stop`] or drop. Must run inside a tokio runtime.
    ///
    /// # Errors
    /// An address cannot be bound.
    pub async fn start(self) -> io::Result<MailServer> {
        let mut store = Store::default();
        for (address, _) in &self.accounts {
            let mut account = Account::new(self.traits.gmail, self.traits.delimiter);
            if self.seeded {
                seed::fill(&mut account, address);
            }
            store.add(address, account);
        }
        let shared = Arc::new(Shared {
            traits: self.traits,
            faults: self.faults,
            ledger: Ledger::default(),
            clock: self.clock,
            tls: self.tls,
            store: Mutex::new(store),
            keys: Mutex::new(HashMap::from_iter(self.accounts)),
            accepted: Mutex::default(),
            changed: watch::Sender::new(0),
            live: Mutex::default(),
        });
        let stop = watch::Sender::new(false);
        let mut tasks = Vec::new();
        let mut open = async |addr: SocketAddr, protocol, implicit| {
            let listener = TcpListener::bind(addr).await?;
            let addr = listener.local_addr()?;
            tasks.push(tokio::spawn(serve(listener, protocol, implicit, shared.clone(), stop.subscribe())));
            io::Result::Ok(addr)
        };
        let imap = open(self.imap, Protocol::Imap, false).await?;
        let smtp = open(self.smtp, Protocol::Smtp, false).await?;
        let (mut imaps, mut submissions) = (None, None);
        if shared.tls.is_some() {
            imaps = Some(open(SocketAddr::new(self.imap.ip(), 0), Protocol::Imap, true).await?);
            submissions = Some(open(SocketAddr::new(self.smtp.ip(), 0), Protocol::Smtp, true).await?);
        }
        Ok(MailServer { shared, imap, smtp, imaps, submissions, stop, tasks })
    }
}

/// A running fake mail server. Dropping it stops it; [`MailServer::stop`] also waits until every session is gone.
pub struct MailServer {
    shared: Arc<Shared>,
    imap: SocketAddr,
    smtp: SocketAddr,
    imaps: Option<SocketAddr>,
    submissions: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for MailServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MailServer").field("imap", &self.imap).field("smtp", &self.smtp).finish_non_exhaustive()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

impl MailServer {
    /// A server to configure.
    pub fn builder() -> MailBuilder {
        MailBuilder::default()
    }

    /// The IMAP listener: plain text, STARTTLS with a certificate.
    pub fn imap(&self) -> SocketAddr {
        self.imap
    }

    /// The submission listener: plain text, STARTTLS with a certificate.
    pub fn smtp(&self) -> SocketAddr {
        self.smtp
    }

    /// The IMAP listener with TLS from the first octet, if there is a certificate.
    pub fn imaps(&self) -> Option<SocketAddr> {
        self.imaps
    }

    /// The submission listener with TLS from the first octet, if there is a certificate.
    pub fn submissions(&self) -> Option<SocketAddr> {
        self.submissions
    }

    /// The addresses and credentials, for printing.
    pub fn table(&self) -> TableRow {
        TableRow { vendor: "email", base_url: format!("imap://{} smtp://{}", self.imap, self.smtp), credentials: known::credentials() }
    }

    /// What really happened: `MailSent` and `MailReplied` for each submitted message (`detail.recipients`), `MailReceived` for each delivery,
    /// `MailDrafted`, `MailMoved`, `MailDeleted`, and `MailCategorised` for keywords and labels.
    pub fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    /// The submitted messages in order, with their octets.
    pub fn accepted(&self) -> Vec<Accepted> {
        lock(&self.shared.accepted).clone()
    }

    /// What goes wrong from now on.
    pub fn faults(&self) -> &MailFaults {
        &self.shared.faults
    }

    /// Lets a message arrive in a mailbox from outside; its UID, or `None` without that account and mailbox. A bare LF becomes CRLF, as on its
    /// way through SMTP; nothing else is changed.
    pub fn deliver(&self, account: &str, mailbox: &str, mime: &[u8]) -> Option<u32> {
        let now = self.shared.clock.now();
        let octets = with_crlf(mime);
        let uid = self.shared.change(|store| {
            let account = store.account_mut(account)?;
            let id = account.named(mailbox)?.id;
            account.append(id, &octets, BTreeSet::new(), now)
        })?;
        let message_id = super::mime::field(super::mime::split(&octets).0, "message-id").unwrap_or_default();
        self.shared.record(EffectKind::MailReceived, &message_id, None, json!({ "account": account }));
        Some(uid)
    }

    /// How many messages a mailbox holds; `None` without that account and mailbox.
    pub fn count(&self, account: &str, mailbox: &str) -> Option<usize> {
        self.shared.look(|store| Some(store.account(account)?.named(mailbox)?.messages.len()))
    }

    /// The flags of a message found by its `Message-ID`, sorted; `None` without it.
    pub fn flags(&self, account: &str, mailbox: &str, message_id: &str) -> Option<Vec<String>> {
        self.shared.look(|store| {
            let mut messages = store.account(account)?.named(mailbox)?.messages.iter();
            let message = messages.find(|message| message.message_id == message_id)?;
            Some(message.flags.iter().cloned().collect())
        })
    }

    /// Gives a mailbox a new UIDVALIDITY and new UIDs, as after a restore from a backup; false without that account and mailbox. Sessions that
    /// have it selected get a `BYE`.
    pub fn reset_uidvalidity(&self, account: &str, mailbox: &str) -> bool {
        self.shared.change(|store| store.account_mut(account).is_some_and(|account| account.reset_uidvalidity(mailbox)))
    }

    /// Ends one session that waits in IDLE, now or when the next one does: `BYE text` with a word, `CUT` without.
    pub fn end_idle(&self, reply: &str) {
        self.shared.faults.imap(IDLING, reply);
        self.shared.changed.send_modify(|count| *count += 1);
    }

    /// Lets an account be opened with one more access token; false without that account.
    pub fn add_token(&self, account: &str, token: &str) -> bool {
        let mut keys = lock(&self.shared.keys);
        keys.get_mut(account).map(|keys| keys.tokens.push(token.to_owned())).is_some()
    }

    /// Ends an access token, as its time or a person would. Sessions it opened stay open.
    pub fn revoke_token(&self, token: &str) {
        for keys in lock(&self.shared.keys).values_mut() {
            keys.tokens.retain(|known| known != token);
        }
    }

    /// How many IMAP sessions an account has open.
    pub fn imap_sessions(&self, account: &str) -> usize {
        lock(&self.shared.live).get(&format!("imap {account}")).copied().unwrap_or_default()
    }

    /// Closes every connection and waits until all of them are gone.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        for task in std::mem::take(&mut self.tasks) {
            if let Err(error) = task.await {
                tracing::warn!(%error, "a listener of the fake mail server did not end well");
            }
        }
    }
}

fn with_crlf(octets: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(octets.len());
    for byte in octets {
        if *byte == b'\n' && wire.last() != Some(&b'\r') {
            wire.push(b'\r');
        }
        wire.push(*byte);
    }
    wire
}
