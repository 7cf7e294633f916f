//! Starting and stopping a sandbox, and the handle a program holds on it. It refuses to answer requests (see `dispatch`) and to know
//! what a vendor does.

use crate::auth::known;
use crate::clock::WallClock;
use crate::dispatch::{Hub, Lanes, answer};
use crate::faults::{FaultProfile, Faults};
use crate::ledger::Ledger;
use crate::notify::{Notification, Notifier, RetrySchedule};
use crate::vendors::glpi::Glpi;
use crate::vendors::hubspot::HubSpot;
use crate::vendors::itop::Itop;
use crate::vendors::msgraph::MsGraph;
use crate::vendors::netbox::NetBox;
use crate::vendors::salesforce::Salesforce;
use crate::vendors::servicenow::ServiceNow;
use crate::vendors::slack::Slack;
use crate::vendors::ticketing::Ticketing;
use crate::vendors::valuemation::Valuemation;
use crate::vendors::{Shared, VENDORS, erp::Erp};
use axum::Router;
use axum::serve::ListenerExt;
use serde::Serialize;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::{TcpListener, ToSocketAddrs};
use tokio::sync::watch;

/// What a sandbox is made of before it starts.
#[derive(Clone, Debug)]
pub struct Builder {
    seed: u64,
    faults: FaultProfile,
    vendors: Vec<String>,
    clock: WallClock,
    token_lifetime_s: i64,
    mailboxes: Vec<String>,
    hide_conversation_every: usize,
    enforce_limits: bool,
    schedule: RetrySchedule,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            seed: 1,
            faults: FaultProfile::none(),
            vendors: Vec::new(),
            clock: WallClock::system(),
            token_lifetime_s: 3599,
            mailboxes: vec![known::GRAPH_MAILBOX.to_owned()],
            hide_conversation_every: 0,
            enforce_limits: false,
            schedule: RetrySchedule::default(),
        }
    }
}

impl Builder {
    /// The seed every fault decision comes from. Default 1.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How often things go wrong. Default: never.
    pub fn faults(mut self, faults: FaultProfile) -> Self {
        self.faults = faults;
        self
    }

    /// Serves only the named vendors (call once for each); without it, all of [`VENDORS`]. `cmdb` stands for all CMDBs.
    pub fn vendor(mut self, vendor: impl Into<String>) -> Self {
        match vendor.into().as_str() {
            "cmdb" => self.vendors.extend(["netbox", "servicenow", "glpi", "itop", "valuemation"].map(str::to_owned)),
            one => self.vendors.push(one.to_owned()),
        }
        self
    }

    /// Wall time for token lifetimes, timestamps and signatures: a [`WallClock`] or an `Arc<dyn Clock>`. Default: the machine's clock.
    pub fn clock(mut self, clock: impl Into<WallClock>) -> Self {
        self.clock = clock.into();
        self
    }

    /// Lifetime of access tokens in seconds. Default 3599, as Entra.
    pub fn token_lifetime_s(mut self, seconds: i64) -> Self {
        self.token_lifetime_s = seconds;
        self
    }

    /// Adds a mailbox beside [`known::GRAPH_MAILBOX`].
    pub fn mailbox(mut self, address: impl Into<String>) -> Self {
        self.mailboxes.push(address.into());
        self
    }

    /// Leaves `conversationId` out of every n-th injected message (0 = never), as Graph is allowed to.
    pub fn hide_conversation_every(mut self, n: usize) -> Self {
        self.hide_conversation_every = n;
        self
    }

    /// Also enforces published limits: HubSpot's 190 requests per 10 s and 5 searches per second, Graph's 4 requests at a time per
    /// mailbox, Slack's tiers and its message a second in a channel. Default off.
    pub fn enforce_limits(mut self, on: bool) -> Self {
        self.enforce_limits = on;
        self
    }

    /// How undelivered notifications are posted again.
    pub fn notification_retries(mut self, schedule: RetrySchedule) -> Self {
        self.schedule = schedule;
        self
    }

    /// Binds the address (`127.0.0.1:0` for any free port) and serves until the handle is dropped. Must run inside a tokio runtime.
    ///
    /// # Errors
    /// The address cannot be bound, or a vendor name is not one of [`VENDORS`] (`InvalidInput`).
    pub async fn start(self, addr: impl ToSocketAddrs) -> io::Result<Sandbox> {
        for vendor in &self.vendors {
            if !VENDORS.contains(&vendor.as_str()) {
                let known = VENDORS.join(", ");
                let message = format!("unknown sandbox vendor `{vendor}`; use one of {known}");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
        }
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let faults = Arc::new(Faults::new(self.seed, self.faults));
        let shared = Shared {
            clock: self.clock.clone(),
            ledger: Arc::new(Ledger::default()),
            notifier: Notifier::start(self.clock.clone(), faults.clone(), self.schedule, stopped.clone()),
            faults,
        };
        let msgraph = Arc::new(MsGraph::new(shared.clone(), self.token_lifetime_s, self.hide_conversation_every));
        for mailbox in &self.mailboxes {
            msgraph.add_mailbox(mailbox);
        }
        let hub = Hub {
            addr,
            served: if self.vendors.is_empty() { VENDORS.map(str::to_owned).to_vec() } else { self.vendors },
            msgraph,
            hubspot: Arc::new(HubSpot::new(shared.clone(), self.token_lifetime_s.min(1800), self.enforce_limits)),
            slack: Arc::new(Slack::new(shared.clone(), self.token_lifetime_s, self.enforce_limits, format!("http://{addr}/slack"))),
            salesforce: Arc::new(Salesforce::new(shared.clone(), self.token_lifetime_s, self.enforce_limits)),
            netbox: Arc::new(NetBox::new(shared.clone())),
            servicenow: Arc::new(ServiceNow::new(shared.clone(), self.token_lifetime_s.min(1799))),
            glpi: Arc::new(Glpi::new(shared.clone(), self.token_lifetime_s)),
            itop: Arc::new(Itop::new(shared.clone())),
            valuemation: Arc::new(Valuemation::new(shared.clone())),
            ticketing: Arc::new(Ticketing::new(shared.clone())),
            erp: Arc::new(Erp::new(shared.clone())),
            answered: std::sync::atomic::AtomicU64::new(0),
            lanes: self.enforce_limits.then(Lanes::default),
            shared,
        };
        let hub = Arc::new(hub);
        let app = Router::new().fallback(answer).with_state(hub.clone());
        let mut until = stopped;
        let listener = listener.tap_io(|socket| {
            if let Err(error) = socket.set_nodelay(true) {
                tracing::debug!(%error, "could not switch off Nagle's algorithm");
            }
        });
        tokio::spawn(async move {
            let until = async move {
                // An error means the handle is gone, which also ends the service.
                until.wait_for(|stop| *stop).await.ok();
            };
            if let Err(error) = axum::serve(listener, app).with_graceful_shutdown(until).await {
                tracing::warn!(%error, "sandbox server ended");
            }
        });
        Ok(Sandbox { hub, stop })
    }
}

/// A running sandbox. Dropping it stops the server and the notifications.
#[derive(Debug)]
pub struct Sandbox {
    hub: Arc<Hub>,
    stop: watch::Sender<bool>,
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// One named test credential; not a secret, it opens only this fake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Credential {
    /// The vendor that accepts it.
    pub vendor: &'static str,
    /// Its role (`client_id`, `api_key`, …).
    pub name: &'static str,
    /// Its value.
    pub value: &'static str,
}

/// One printed line about a vendor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableRow {
    /// The vendor.
    pub vendor: &'static str,
    /// What a connector is configured with as its base URL.
    pub base_url: String,
    /// The credentials it accepts.
    pub credentials: Vec<Credential>,
}

impl Sandbox {
    /// A sandbox to configure.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The bound address.
    pub fn addr(&self) -> SocketAddr {
        self.hub.addr
    }

    /// The mount point of a vendor, `http://ADDR/<vendor>`, without a slash at the end.
    pub fn mount(&self, vendor: &str) -> String {
        format!("http://{}/{vendor}", self.hub.addr)
    }

    /// The base URL a connector for this vendor is configured with: the Graph root for `msgraph`, the service itself for `valuemation`, `/api` below the mount for `erp` and `slack`,
    /// else the mount point.
    pub fn base_url(&self, vendor: &str) -> String {
        let mount = self.mount(vendor);
        match vendor {
            "msgraph" => format!("{mount}/v1.0"),
            "erp" | "slack" => format!("{mount}/api"),
            "salesforce" => format!("{mount}/services/data/v66.0"),
            "valuemation" => format!("{mount}/vmweb/execwf"),
            _ => mount,
        }
    }

    /// The token endpoint of a vendor that has one.
    pub fn token_url(&self, vendor: &str) -> Option<String> {
        let mount = self.mount(vendor);
        match vendor {
            "msgraph" => Some(format!("{mount}/{}/oauth2/v2.0/token", known::GRAPH_TENANT)),
            "hubspot" => Some(format!("{mount}/oauth/v3/token")),
            "servicenow" => Some(format!("{mount}/oauth_token.do")),
            "slack" => Some(format!("{mount}/api/oauth.v2.access")),
            "salesforce" => Some(format!("{mount}/services/oauth2/token")),
            _ => None,
        }
    }

    /// Where a person consents, for a vendor that asks people. Its page is for a browser; a program posts what the page would.
    pub fn authorize_url(&self, vendor: &str) -> Option<String> {
        let mount = self.mount(vendor);
        match vendor {
            "msgraph" => Some(format!("{mount}/{}/oauth2/v2.0/authorize", known::GRAPH_TENANT)),
            "hubspot" => Some(format!("{mount}/oauth/authorize")),
            "slack" => Some(format!("{mount}/oauth/v2/authorize")),
            "salesforce" => Some(format!("{mount}/services/oauth2/authorize")),
            _ => None,
        }
    }

    /// Every test credential.
    pub fn credentials(&self) -> Vec<Credential> {
        let c = |vendor, name, value| Credential { vendor, name, value };
        vec![
            c("msgraph", "tenant_id", known::GRAPH_TENANT),
            c("msgraph", "client_id", known::GRAPH_CLIENT_ID),
            c("msgraph", "client_secret", known::GRAPH_CLIENT_SECRET),
            c("msgraph", "mailbox", known::GRAPH_MAILBOX),
            c("hubspot", "token", known::HUBSPOT_TOKEN),
            c("hubspot", "client_id", known::HUBSPOT_CLIENT_ID),
            c("hubspot", "client_secret", known::HUBSPOT_CLIENT_SECRET),
            c("hubspot", "refresh_token", known::HUBSPOT_REFRESH_TOKEN),
            c("slack", "token", known::SLACK_BOT_TOKEN),
            c("slack", "user_token", known::SLACK_USER_TOKEN),
            c("slack", "app_token", known::SLACK_APP_TOKEN),
            c("slack", "client_id", known::SLACK_CLIENT_ID),
            c("slack", "client_secret", known::SLACK_CLIENT_SECRET),
            c("slack", "refresh_token", known::SLACK_REFRESH_TOKEN),
            c("slack", "signing_secret", known::SLACK_SIGNING_SECRET),
            c("salesforce", "token", known::SALESFORCE_TOKEN),
            c("salesforce", "client_id", known::SALESFORCE_CLIENT_ID),
            c("salesforce", "client_secret", known::SALESFORCE_CLIENT_SECRET),
            c("salesforce", "refresh_token", known::SALESFORCE_REFRESH_TOKEN),
            c("salesforce", "webhook_secret", known::SALESFORCE_WEBHOOK_SECRET),
            c("netbox", "token", known::NETBOX_TOKEN),
            c("servicenow", "user", known::SERVICENOW_USER),
            c("servicenow", "password", known::SERVICENOW_PASSWORD),
            c("servicenow", "client_id", known::SERVICENOW_CLIENT_ID),
            c("servicenow", "client_secret", known::SERVICENOW_CLIENT_SECRET),
            c("glpi", "token", known::GLPI_USER_TOKEN),
            c("glpi", "key", known::GLPI_APP_TOKEN),
            c("itop", "username", known::ITOP_USER),
            c("itop", "password", known::ITOP_PASSWORD),
            c("valuemation", "username", known::VALUEMATION_USER),
            c("valuemation", "password", known::VALUEMATION_PASSWORD),
            c("valuemation", "key", known::VALUEMATION_TOKEN),
            c("ticketing", "api_key", known::TICKETING_API_KEY),
            c("erp", "token", known::ERP_TOKEN),
        ]
    }

    /// The served vendors with base URL and credentials, for printing.
    pub fn table(&self) -> Vec<TableRow> {
        let all = self.credentials();
        VENDORS
            .into_iter()
            .filter(|vendor| self.hub.served.iter().any(|s| s == vendor))
            .map(|vendor| TableRow {
                vendor,
                base_url: self.base_url(vendor),
                credentials: all.iter().filter(|c| c.vendor == vendor).cloned().collect(),
            })
            .collect()
    }

    /// The fake Microsoft Graph.
    pub fn msgraph(&self) -> &MsGraph {
        &self.hub.msgraph
    }

    /// The fake HubSpot.
    pub fn hubspot(&self) -> &HubSpot {
        &self.hub.hubspot
    }

    /// The fake Slack.
    pub fn slack(&self) -> &Slack {
        &self.hub.slack
    }

    /// The fake Salesforce.
    pub fn salesforce(&self) -> &Salesforce {
        &self.hub.salesforce
    }

    /// The fake NetBox.
    pub fn netbox(&self) -> &NetBox {
        &self.hub.netbox
    }

    /// The fake ServiceNow.
    pub fn servicenow(&self) -> &ServiceNow {
        &self.hub.servicenow
    }

    /// The fake GLPI.
    pub fn glpi(&self) -> &Glpi {
        &self.hub.glpi
    }

    /// The fake iTop.
    pub fn itop(&self) -> &Itop {
        &self.hub.itop
    }

    /// The fake Valuemation.
    pub fn valuemation(&self) -> &Valuemation {
        &self.hub.valuemation
    }

    /// The fake ticketing system.
    pub fn ticketing(&self) -> &Ticketing {
        &self.hub.ticketing
    }

    /// Names of the configuration items all CMDBs hold, for writing mail that mentions one.
    pub fn ci_names(&self) -> Vec<&'static str> {
        crate::vendors::topology::names()
    }

    /// What really happened.
    pub fn ledger(&self) -> &Ledger {
        &self.hub.shared.ledger
    }

    /// What goes wrong, and how often it did.
    pub fn faults(&self) -> &Faults {
        &self.hub.shared.faults
    }

    /// What became of each notification.
    pub fn notifications(&self) -> Vec<Notification> {
        self.hub.shared.notifier.log()
    }

    /// Waits until every notification queued so far was delivered or given up.
    pub async fn settled(&self) {
        self.hub.shared.notifier.settled().await;
    }

    /// Requests answered so far, control requests not counted.
    pub fn requests(&self) -> u64 {
        self.hub.requests()
    }
}
