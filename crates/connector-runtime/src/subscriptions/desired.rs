//! What is wanted: entries of hub.yaml and what was added over HTTP, as rows in the store; taking away again.

use std::collections::{BTreeMap, BTreeSet};

use connector_core::{
    Error, ErrorKind, Result, TenantId, WorkspaceId,
    state::{Condition, Namespace},
};

use super::{
    CATCH_UP_EVERY, SubscriptionConfig, SubscriptionView,
    admit::HEARD,
    fill::Fill,
    row::{Held, NAMESPACE, Origin, Row, SubscriptionState},
};
use crate::{canonical, runtime::Runtime};

/// Marks that are forgotten at once.
const PAGE: usize = 200;

impl Runtime {
    /// Tenants that have connections.
    pub(super) fn subscription_tenants(&self) -> BTreeSet<TenantId> {
        self.connections().iter().map(|connection| connection.tenant.clone()).collect()
    }

    /// The row an entry asks for.
    fn wanted_row(&self, tenant: &TenantId, wanted: &SubscriptionConfig, origin: Origin) -> Result<Held> {
        let connection = self.connection(tenant, &wanted.connection)?;
        let kind = self.subscription_kind(&connection.connector, &wanted.kind)?;
        let workspace = WorkspaceId::from(wanted.workspace.as_str());
        if !self.0.shared.catalogue.load().connections.of(tenant, &wanted.connection)?.is_granted(&workspace) {
            let message = format!("connection `{}` is not granted to workspace `{workspace}`, so its events could not be for it", wanted.connection);
            return Err(Error::new(ErrorKind::Denied, message));
        }
        let fill = Fill::of(&kind, &connection, &wanted.params)?;
        let params = fill.params();
        let digest = canonical::hex_digest(&[wanted.workspace.as_bytes(), canonical::canonical(&params).as_bytes()]);
        let minutes = wanted.catch_up_minutes.map_or(CATCH_UP_EVERY.as_secs() / 60, |minutes| minutes);
        let row = Row {
            id: format!("{}.{}.{}", wanted.connection, wanted.kind, digest.chars().take(8).collect::<String>()),
            connection: wanted.connection.clone(),
            connector: connection.connector.to_string(),
            kind: wanted.kind.clone(),
            workspace: wanted.workspace.clone(),
            params,
            origin,
            every: minutes.saturating_mul(60_000),
            state: if kind.by_hand { SubscriptionState::Watching } else { SubscriptionState::Pending },
            created_at: self.wall_ms(),
            resource: fill.get("resource").and_then(|resource| resource.as_str()).unwrap_or_default().to_owned(),
            ..Row::default()
        };
        Ok(Held { tenant: tenant.clone(), row, version: 0 })
    }

    /// Makes the rows agree with hub.yaml. Gives what of it cannot be done, by connection and kind.
    pub(super) async fn plan_subscriptions(&self) -> Result<BTreeMap<String, Error>> {
        let mut wrong = BTreeMap::new();
        let mut wanted: BTreeMap<TenantId, BTreeSet<String>> = BTreeMap::new();
        for entry in &self.0.subscriptions.wanted {
            let tenant =
                self.connections().iter().find(|connection| connection.id.as_str() == entry.connection).map(|connection| connection.tenant.clone());
            let held = match tenant {
                Some(tenant) => self.wanted_row(&tenant, entry, Origin::Config),
                None => Err(Error::config(format!("there is no connection `{}`", entry.connection))),
            };
            match held {
                Ok(held) => {
                    wanted.entry(held.tenant.clone()).or_default().insert(held.row.id.clone());
                    self.want(held).await?;
                }
                Err(error) => {
                    wrong.insert(format!("{} {}", entry.connection, entry.kind), error);
                }
            }
        }
        // An entry that cannot be read says nothing about which row it meant: then nothing is taken down.
        if wrong.is_empty() {
            for tenant in self.subscription_tenants() {
                let keep = wanted.remove(&tenant).unwrap_or_default();
                for mut held in self.subscription_rows(&tenant, "").await? {
                    if held.row.origin == Origin::Config && held.row.state != SubscriptionState::Ending && !keep.contains(&held.row.id) {
                        held.row.state = SubscriptionState::Ending;
                        held.row.retry_at = 0;
                        self.save_subscription(&mut held, None).await?;
                    }
                }
            }
        }
        Ok(wrong)
    }

    /// Writes a wanted row that is not there, and changes what may change of one that is.
    async fn want(&self, mut wanted: Held) -> Result<bool> {
        let Some(mut held) = self.subscription_row(&wanted.tenant, &wanted.row.id).await? else {
            self.save_subscription(&mut wanted, None).await?;
            return Ok(true);
        };
        let again = held.row.state == SubscriptionState::Ending;
        if again || held.row.every != wanted.row.every || (held.row.origin == Origin::Api && wanted.row.origin == Origin::Config) {
            held.row.every = wanted.row.every;
            held.row.origin = wanted.row.origin;
            if again {
                held.row.state = wanted.row.state;
            }
            self.save_subscription(&mut held, None).await?;
        }
        Ok(again)
    }

    /// Wants a subscription besides those of hub.yaml. The hub makes it within moments; wanting the same again changes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for a connection the tenant does not have, [`ErrorKind::Invalid`] for a kind or parameters the connector does not
    /// know, [`ErrorKind::Denied`] if the connection is not granted to the workspace; what the store reports.
    pub async fn add_subscription(&self, tenant: &TenantId, wanted: &SubscriptionConfig) -> Result<SubscriptionView> {
        let held = self.wanted_row(tenant, wanted, Origin::Api)?;
        let id = held.row.id.clone();
        self.want(held).await?;
        self.0.subscriptions.wake.notify_one();
        self.subscription(tenant, &id).await
    }

    /// Takes down a subscription that was added over HTTP: the vendor is told within moments, then it is forgotten.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the tenant has none of this id; [`ErrorKind::Conflict`] if hub.yaml wants it, or it was changed meanwhile.
    pub async fn remove_subscription(&self, tenant: &TenantId, id: &str) -> Result<SubscriptionView> {
        let mut held = self.subscription_row(tenant, id).await?.ok_or_else(|| not_found(id))?;
        if held.row.origin == Origin::Config {
            let message = format!("subscription `{id}` is wanted by hub.yaml; take its entry under `subscriptions` away there");
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        held.row.state = SubscriptionState::Ending;
        held.row.retry_at = 0;
        self.save_subscription(&mut held, None).await?;
        self.0.subscriptions.wake.notify_one();
        self.view_subscription(held).await
    }

    /// Forgets a row and everything kept for it.
    pub(super) async fn forget_subscription(&self, held: &Held) -> Result<()> {
        loop {
            let marks = self.marks(&held.tenant, &held.row.id, None, PAGE).await?;
            for (place, _) in &marks {
                self.forget_mark(&held.tenant, place).await?;
            }
            if marks.len() < PAGE {
                break;
            }
        }
        self.0.store.delete(Namespace::new(&held.tenant, HEARD), &held.row.id, Condition::Any).await?;
        self.0.store.delete(Namespace::new(&held.tenant, NAMESPACE), &held.row.id, Condition::Is(held.version)).await?;
        self.0.subscriptions.forget(&held.tenant, &held.row.connection);
        Ok(())
    }
}

pub(super) fn not_found(id: &str) -> Error {
    let id = connector_core::redact::printable(id, 120);
    Error::new(ErrorKind::NotFound, format!("there is no subscription `{id}`; `subscriptions list` shows what there is"))
}
