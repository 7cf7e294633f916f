#![doc = include_str!("../README.md")]

mod auth;
pub mod client;
mod clock;
mod control;
mod dispatch;
mod exchange;
pub mod faults;
mod grants;
pub mod ledger;
pub mod mail;
mod notify;
mod server;
mod vendors;

pub use auth::known;
pub use clock::WallClock;
pub use faults::{FaultKind, FaultProfile, Faults};
pub use grants::Renewal;
pub use ledger::{Effect, EffectKind, Ledger};
pub use notify::{Notification, RetrySchedule};
pub use server::{Builder, Credential, Sandbox, TableRow};
pub use vendors::VENDORS;
pub use vendors::glpi::Glpi;
pub use vendors::hubspot::HubSpot;
pub use vendors::itop::Itop;
pub use vendors::msgraph::{LifecycleEvent, MsGraph, NotedChange};
pub use vendors::netbox::NetBox;
pub use vendors::salesforce::Salesforce;
pub use vendors::servicenow::ServiceNow;
pub use vendors::slack::{Acked, Slack};
pub use vendors::ticketing::Ticketing;
pub use vendors::valuemation::Valuemation;
