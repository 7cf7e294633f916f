//! Capability views: one trait for each thing that several vendors can do, and records that mean the same whoever they come from.
//!
//! ```no_run
//! # #[cfg(all(feature = "hubspot", feature = "http"))]
//! # async fn run() -> connectors::Result<()> {
//! use connectors::views::{self, Crm as _};
//!
//! let hubspot = connectors::hubspot::HubSpot::from_env()?;
//! let crm = views::crm(hubspot.client())?;
//! if let Some(ada) = crm.find_contact("ada@example.com", &[]).await? {
//!     println!("{:?} of {:?}, tier {:?}", ada.first_name, ada.company, ada.custom.get("tier"));
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Owns the typed door. What is called in the end, and where the fields are, each connector's manifest says; the hub's tools
//! (`crm_find_contact`) are made of the same.

mod chat;
mod cmdb;
mod crm;
mod mailbox;

use std::sync::Arc;

use connector_core::{
    Client, Cursor, Error, OpCall, Result,
    spec::views::{self, ViewOp},
};
use connector_manifest::views::{Fulfilment, Fulfilments, Source as Origin};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

pub use self::{
    chat::{Channel, Chat, ChatMessage, ChatReceipt},
    cmdb::{Affected, Cmdb, Item, ItemOwner, Relation},
    crm::{Company, Contact, ContactFields, Crm, Deal, DealFields, Note},
    mailbox::{Address, Draft, Folder, MailMessage, MailReceipt, Mailbox},
};

/// Which connector and connection a record came from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The connector's id.
    pub connector: String,
    /// The connection's id.
    pub connection: String,
}

/// What a listing is asked for.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// The most records on a page; the vendor's own if not said.
    pub limit: Option<u32>,
    /// The vendor's own fields to give under `custom`, where the view takes them.
    pub fields: Vec<String>,
    /// Where to go on.
    pub cursor: Option<Cursor>,
}

impl Listing {
    /// At most this many records on a page.
    pub fn limit(limit: u32) -> Self {
        Self { limit: Some(limit), ..Self::default() }
    }

    /// Goes on from this cursor.
    #[must_use]
    pub fn after(mut self, cursor: Option<Cursor>) -> Self {
        self.cursor = cursor;
        self
    }
}

/// A page of records.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The records.
    pub items: Vec<T>,
    /// Whether there are more, by what the vendor says.
    pub more: bool,
    /// Where the listing goes on.
    pub next: Option<Cursor>,
}

/// A view over one connection: what implements [`Crm`], [`Mailbox`], [`Chat`] and [`Cmdb`]. Cheap to clone.
#[derive(Debug, Clone)]
pub struct View {
    client: Client,
    fulfilments: Arc<Fulfilments>,
    team: Option<String>,
}

/// People, companies and deals over this connection.
///
/// # Errors
/// [`connector_core::ErrorKind::Unsupported`] that names who can, if the connector fulfils nothing of the view.
pub fn crm(client: impl Into<Client>) -> Result<View> {
    View::of("crm", client.into())
}

/// E-mail over this connection.
///
/// # Errors
/// As [`crm`].
pub fn mailbox(client: impl Into<Client>) -> Result<View> {
    View::of("mailbox", client.into())
}

/// Channels and messages over this connection.
///
/// # Errors
/// As [`crm`].
pub fn chat(client: impl Into<Client>) -> Result<View> {
    View::of("chat", client.into())
}

/// Configuration items over this connection.
///
/// # Errors
/// As [`crm`].
pub fn cmdb(client: impl Into<Client>) -> Result<View> {
    View::of("cmdb", client.into())
}

impl View {
    fn of(view: &'static str, client: Client) -> Result<Self> {
        let spec = client.connector().spec();
        if !spec.views.contains_key(view) {
            return Err(Error::unsupported(format!("`{}` does not fulfil the view `{view}`; {}", spec.id, who_can(view, None))));
        }
        let fulfilments = Arc::new(Fulfilments::of(spec)?);
        Ok(Self { client, fulfilments, team: None })
    }

    /// The client it calls through.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The same with its channels in this team: what [`Chat`] needs over Microsoft Teams.
    #[must_use]
    pub fn in_team(mut self, team: impl Into<String>) -> Self {
        self.team = Some(team.into());
        self
    }

    /// Whether the connector does this operation: `can("crm", "log_note")`.
    pub fn can(&self, view: &str, operation: &str) -> bool {
        self.fulfilments.get(view, operation).is_some()
    }

    /// The operations of a view that the connector does, in the vocabulary's order.
    pub fn operations(&self, view: &str) -> Vec<&'static ViewOp> {
        views::view(view).map_or_else(Vec::new, |known| known.operations.iter().filter(|op| self.can(view, op.name)).collect())
    }

    fn fulfilment(&self, view: &'static str, operation: &'static str) -> Result<&Fulfilment> {
        self.fulfilments.get(view, operation).ok_or_else(|| {
            let id = &self.client.connector().spec().id;
            Error::unsupported(format!("`{id}` does not do `{operation}` of the view `{view}`; {}", who_can(view, Some(operation))))
        })
    }

    /// Calls an operation and gives its result with the next cursor.
    async fn value(
        &self,
        view: &'static str,
        operation: &'static str,
        args: Map<String, Value>,
        cursor: Option<Cursor>,
    ) -> Result<(Value, Option<Cursor>)> {
        let fulfilment = self.fulfilment(view, operation)?;
        let spec = self.client.connector().spec();
        let op = spec.require(fulfilment.tool())?;
        let mut args = args;
        if let Some(team) = self.team.as_ref().filter(|_| fulfilment.op().params.iter().any(|param| param.name == "team")) {
            args.insert("team".into(), team.as_str().into());
        }
        let request = fulfilment.request(&spec.id, &args, &op.input_schema)?;
        let cx = self.client.cx().clone().with_operation(op.name.clone());
        let reply = self.client.connector().call(&cx, OpCall::new(op.name.clone(), request).with_cursor(cursor)).await?;
        if let Some(error) = reply.partial_error() {
            return Err(error.at(&spec.id, &op.name));
        }
        let source = Origin { connector: &spec.id, connection: cx.connection.id.as_str() };
        let value = fulfilment.reply(&args, reply.body.to_value()?, reply.next.is_some(), source);
        Ok((value.map_err(|error| error.at(&spec.id, &op.name))?, reply.next))
    }

    async fn one<T: DeserializeOwned>(&self, view: &'static str, operation: &'static str, args: impl Serialize + Send) -> Result<T> {
        let (value, _) = self.value(view, operation, object(args)?, None).await?;
        read(value)
    }

    async fn page<T: DeserializeOwned>(
        &self,
        view: &'static str,
        operation: &'static str,
        args: impl Serialize + Send,
        listing: &Listing,
    ) -> Result<Page<T>> {
        #[derive(Deserialize)]
        struct Many<T> {
            items: Vec<T>,
            more: bool,
        }
        let mut args = object(args)?;
        if let Some(limit) = listing.limit {
            args.insert("limit".into(), limit.into());
        }
        if !listing.fields.is_empty() {
            args.insert("fields".into(), listing.fields.clone().into());
        }
        let (value, next) = self.value(view, operation, args, listing.cursor.clone()).await?;
        let Many { items, more } = read(value)?;
        Ok(Page { items, more, next })
    }
}

/// The connectors of this build that fulfil a view, or one operation of it, in words.
fn who_can(view: &str, operation: Option<&str>) -> String {
    let does = |built: &&crate::Builtin| {
        (built.manifest)().views.get(view).is_some_and(|fulfils| operation.is_none_or(|operation| fulfils.operations.contains_key(operation)))
    };
    let can: Vec<&str> = crate::builtins().iter().filter(does).map(|built| built.id).collect();
    if can.is_empty() { "no connector of this build does".to_owned() } else { format!("these do: `{}`", can.join("`, `")) }
}

fn object(args: impl Serialize) -> Result<Map<String, Value>> {
    match serde_json::to_value(args) {
        Ok(Value::Object(args)) => Ok(args),
        Ok(_) => Err(Error::internal("the arguments of a view's operation are no object")),
        Err(error) => Err(Error::invalid("the arguments of a view's operation cannot be written as JSON").with_source(error)),
    }
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|error| connector_core::connector::json_error(&error))
}
