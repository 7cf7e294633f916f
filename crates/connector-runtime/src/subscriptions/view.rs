//! A subscription as people see it. No secret is in it, and no cursor: a cursor may name a mailbox's contents.

use connector_core::{Result, TenantId};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    desired::not_found,
    row::{Counts, Granted, Held, Origin, Row, SubscriptionState},
};
use crate::runtime::Runtime;

/// One subscription. Times are Unix milliseconds.
#[derive(Debug, Clone, Serialize)]
pub struct SubscriptionView {
    /// Its id here.
    pub id: String,
    /// Its tenant.
    pub tenant: String,
    /// The workspace its events are for.
    pub workspace: String,
    /// The connector.
    pub connector: String,
    /// The connection.
    pub connection: String,
    /// The kind, as the connector's manifest names it.
    pub kind: String,
    /// What is watched, as the vendor writes it.
    pub resource: String,
    /// What was said about it.
    pub params: Map<String, Value>,
    /// Who wants it.
    pub origin: Origin,
    /// Where it stands.
    pub state: SubscriptionState,
    /// The vendor's id.
    pub vendor_id: Option<String>,
    /// When the vendor ends it, if nobody renews it.
    pub expires_at: Option<u64>,
    /// When it is renewed.
    pub renew_at: Option<u64>,
    /// When something came over it last, to the minute.
    pub last_event_at: Option<u64>,
    /// When the stream of changes was read to its end last.
    pub caught_up_at: Option<u64>,
    /// Why changes may have been missed, until the gap is closed.
    pub gap: Option<String>,
    /// Failures in a row.
    pub failures: u32,
    /// The last failure.
    pub last_error: Option<String>,
    /// When it is tried again.
    pub retry_at: Option<u64>,
    /// The address the vendor is to call.
    pub notification_url: Option<String>,
    /// What a person has to do in the vendor's console.
    pub instructions: Option<String>,
    /// What was done so far.
    pub counts: Counts,
}

impl Runtime {
    /// When a granted subscription is renewed.
    pub(super) fn renew_at(&self, row: &Row, granted: &Granted) -> Option<u64> {
        let kind = self.subscription_kind(&row.connector, &row.kind).ok()?;
        kind.renew.as_ref()?;
        match (kind.renew_at, granted.expires_at) {
            (Some(after), end) => {
                let at = granted.granted_at.saturating_add(u64::try_from(after.0.as_millis()).unwrap_or(u64::MAX));
                Some(end.map_or(at, |end| at.min(end)))
            }
            (None, Some(end)) => Some(granted.granted_at + end.saturating_sub(granted.granted_at) / 2),
            (None, None) => None,
        }
    }

    /// The subscriptions of a tenant, by id.
    ///
    /// # Errors
    /// What the store reports.
    pub async fn subscriptions(&self, tenant: &TenantId) -> Result<Vec<SubscriptionView>> {
        let mut views = Vec::new();
        for held in self.subscription_rows(tenant, "").await? {
            views.push(self.view_subscription(held).await?);
        }
        Ok(views)
    }

    /// One subscription. Another tenant's looks like one that does not exist.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::NotFound`] if there is none; what the store reports.
    pub async fn subscription(&self, tenant: &TenantId, id: &str) -> Result<SubscriptionView> {
        let held = self.subscription_row(tenant, id).await?.ok_or_else(|| not_found(id))?;
        self.view_subscription(held).await
    }

    /// What is wrong with the subscriptions of a connection, for its health.
    pub(crate) async fn subscription_warnings(&self, tenant: &TenantId, connection: &str) -> Vec<String> {
        let rows = match self.subscription_rows(tenant, &format!("{connection}.")).await {
            Ok(rows) => rows,
            Err(error) => return vec![format!("its subscriptions cannot be looked at: {}", error.kind())],
        };
        rows.into_iter()
            .filter_map(|Held { row, .. }| {
                let why = row.last_error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
                match (row.state, &row.gap) {
                    (SubscriptionState::Lost, _) => Some(format!("subscription `{}` is lost and not made anew yet{why}", row.id)),
                    (SubscriptionState::Pending, _) if row.fails > 0 => Some(format!("subscription `{}` cannot be made{why}", row.id)),
                    (_, Some(gap)) => Some(format!("subscription `{}` may have missed changes ({gap}){why}", row.id)),
                    (SubscriptionState::Active, _) if row.fails > 0 => Some(format!("subscription `{}` cannot be renewed{why}", row.id)),
                    (SubscriptionState::Watching, _) if row.last_error.is_some() => Some(format!("subscription `{}`{why}", row.id)),
                    _ => None,
                }
            })
            .collect()
    }

    pub(super) async fn view_subscription(&self, held: Held) -> Result<SubscriptionView> {
        let last_event_at = self.last_heard(&held.tenant, &held.row.id).await?;
        let Held { tenant, row, .. } = held;
        let renew_at = row.vendor.as_ref().and_then(|granted| self.renew_at(&row, granted));
        let instructions = self.subscription_kind(&row.connector, &row.kind).ok().and_then(|kind| kind.instructions);
        let some = |at: u64| (at > 0).then_some(at);
        Ok(SubscriptionView {
            tenant: tenant.as_str().to_owned(),
            vendor_id: row.vendor.as_ref().map(Granted::id_text),
            expires_at: row.vendor.as_ref().and_then(|granted| granted.expires_at),
            renew_at,
            last_event_at,
            caught_up_at: some(row.caught_up_at),
            retry_at: some(row.retry_at),
            notification_url: self.webhook_url(&tenant, &row.connector, &row.workspace),
            instructions,
            id: row.id,
            workspace: row.workspace,
            connector: row.connector,
            connection: row.connection,
            kind: row.kind,
            resource: row.resource,
            params: row.params,
            origin: row.origin,
            state: row.state,
            gap: row.gap,
            failures: row.fails,
            last_error: row.last_error,
            counts: row.counts,
        })
    }
}
