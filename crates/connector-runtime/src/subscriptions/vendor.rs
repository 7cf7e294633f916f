//! The calls a subscription needs, made the governed way by the actor `system`, and reading what the vendor answers.

use std::sync::Arc;

use connector_core::{Actor, Connection, Cursor, Error, ErrorKind, OpReply, Result, spec::SubscriptionSpec};
use serde_json::{Map, Value};

use super::{
    fill::{self, Fill},
    row::{Granted, Held, text},
};
use crate::{
    request::{CallOutcome, CallRequest, Role},
    runtime::Runtime,
};

/// Pages of a listing that are read.
const PAGES: usize = 100;

/// Everything that is known about one subscription besides its row.
pub(super) struct About {
    pub(super) kind: SubscriptionSpec,
    pub(super) connection: Arc<Connection>,
    pub(super) fill: Fill,
}

impl About {
    /// The end to ask for, counted from `now`.
    pub(super) fn wanted_end(&self, now: u64) -> Option<u64> {
        let life = self.kind.lifetime.or(self.kind.max_lifetime)?;
        Some(now.saturating_add(u64::try_from(life.0.as_millis()).unwrap_or(u64::MAX)))
    }

    /// With what the vendor granted filled in.
    pub(super) fn with(&self, granted: &Granted) -> Fill {
        let mut fill = self.fill.clone();
        fill.set("id", granted.id.clone());
        fill.set("ids", Value::Array(vec![granted.id.clone()]));
        for (name, value) in &granted.kept {
            fill.set(name, value.clone());
        }
        fill
    }
}

/// One subscription as a listing shows it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) id: Value,
    pub(super) expires_at: Option<u64>,
    pub(super) fits: bool,
}

impl Found {
    pub(super) fn id_text(&self) -> String {
        text(&self.id)
    }
}

impl Runtime {
    /// What is known about a row's subscription.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the connection is gone, [`ErrorKind::Config`] if nobody knows how the outside reaches this hub,
    /// [`ErrorKind::Invalid`] for parameters that do not fit the kind.
    pub(super) fn about_subscription(&self, held: &Held) -> Result<About> {
        let row = &held.row;
        let connection = self.connection(&held.tenant, &row.connection)?;
        let kind = self.subscription_kind(&connection.connector, &row.kind)?;
        let mut fill = Fill::of(&kind, &connection, &row.params)?;
        if !kind.by_hand {
            let url = self
                .webhook_url(&held.tenant, &connection.connector, &row.workspace)
                .ok_or_else(|| Error::config("a vendor must be told where this hub is: set `public_url` in hub.yaml to its public https address"))?;
            fill.set("notification_url", url.clone());
            fill.set("lifecycle_url", url);
        }
        Ok(About { kind, connection, fill })
    }

    async fn subscription_call(&self, held: &Held, tool: &str, args: Map<String, Value>, cursor: Option<Cursor>) -> Result<OpReply> {
        let request = CallRequest {
            connection: Some(held.row.connection.clone()),
            cursor,
            // Whoever looks after subscriptions comes again; a call in a queue would be made when it is no longer wanted.
            queue: Some(false),
            ..CallRequest::new(tool, args).tenant(held.tenant.clone()).workspace(held.row.workspace.as_str()).by(Actor::System, Role::Operator)
        };
        match self.call_settled_by_caller(request).await? {
            CallOutcome::Done(reply) => Ok(reply),
            CallOutcome::PendingApproval { approval_id, .. } => {
                let message = format!("policy asks for an approval of `{tool}`: decide about approval {approval_id}");
                Err(Error::new(ErrorKind::ApprovalRequired, message))
            }
            CallOutcome::Queued { .. } | CallOutcome::DryRun(_) => {
                Err(Error::internal("a call for a subscription was put off although it must not be"))
            }
        }
    }

    /// Makes one. `asked` is the end to ask for.
    pub(super) async fn create_subscription(&self, held: &Held, about: &About, mut fill: Fill, asked: Option<u64>) -> Result<Granted> {
        let Some(create) = &about.kind.create else { return Err(Error::unsupported("this kind of subscription is made by a person")) };
        if let Some(end) = asked {
            fill.set("expires", fill::write_end(about.kind.expires_as, end)?);
        }
        fill.set("new_id", uuid::Uuid::new_v4().to_string());
        let body = self.subscription_call(held, &create.tool, fill.fill_args(&create.args)?, None).await?.body.to_value()?;
        let id = fill::select(&create.id, &body)?;
        if text(&id).is_empty() {
            return Err(Error::protocol(format!(
                "the answer to `{}` has no id at `{}`, so the subscription cannot be looked after",
                create.tool, create.id
            )));
        }
        let expires_at = self.granted_end(about, create.expires.as_deref(), &body, asked)?;
        let mut kept = std::collections::BTreeMap::new();
        for (name, path) in &create.keep {
            kept.insert(name.clone(), fill::select(path, &body)?);
        }
        Ok(Granted { id, granted_at: self.wall_ms(), expires_at, kept })
    }

    /// The end in an answer; what was asked for where the answer does not say.
    fn granted_end(&self, about: &About, path: Option<&str>, body: &Value, asked: Option<u64>) -> Result<Option<u64>> {
        let Some(path) = path else { return Ok(asked) };
        match fill::select(path, body)? {
            Value::Null => Ok(asked),
            value => fill::read_end(about.kind.expires_as, &value).map(Some),
        }
    }

    /// Renews these, which are of the same kind and connection, in one call. Gives the new end.
    pub(super) async fn renew_subscription(&self, held: &Held, about: &About, ids: Vec<Value>) -> Result<Option<u64>> {
        let (Some(renew), Some(granted)) = (&about.kind.renew, &held.row.vendor) else { return Ok(None) };
        let Some(tool) = &renew.tool else { return Ok(None) };
        let asked = about.wanted_end(self.wall_ms());
        let mut fill = about.with(granted);
        fill.set("ids", Value::Array(ids));
        if let Some(end) = asked {
            fill.set("expires", fill::write_end(about.kind.expires_as, end)?);
        }
        let body = self.subscription_call(held, tool, fill.fill_args(&renew.args)?, None).await?.body.to_value()?;
        self.granted_end(about, renew.expires.as_deref(), &body, asked)
    }

    /// Those at the vendor that are ours by resource and address.
    pub(super) async fn list_subscriptions(&self, held: &Held, about: &About) -> Result<Vec<Found>> {
        let Some(list) = &about.kind.list else { return Ok(Vec::new()) };
        let same = |fields: &std::collections::BTreeMap<String, String>, one: &Value| -> Result<bool> {
            for (path, wanted) in fields {
                let there = fill::select_text(path, one)?.unwrap_or_default();
                if !fill::alike(&there, &about.fill.fill_text(wanted)?) {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        let (mut found, mut cursor) = (Vec::new(), None);
        for _ in 0..PAGES {
            let reply = self.subscription_call(held, &list.tool, about.fill.fill_args(&list.args)?, cursor.take()).await?;
            cursor.clone_from(&reply.next);
            let body = reply.body.to_value()?;
            if let Value::Array(items) = fill::select(&list.items, &body)? {
                for one in items {
                    if !same(&list.ours, &one)? {
                        continue;
                    }
                    let end = list.expires.as_deref().map(|path| fill::select(path, &one)).transpose()?.filter(|end| !end.is_null());
                    let expires_at = end.map(|end| fill::read_end(about.kind.expires_as, &end)).transpose()?;
                    found.push(Found { id: fill::select(&list.id, &one)?, expires_at, fits: same(&list.fits, &one)? });
                }
            }
            if cursor.is_none() {
                return Ok(found);
            }
        }
        Err(Error::protocol(format!("the listing of `{}` does not end within {PAGES} pages", list.tool)))
    }

    /// Ends one at the vendor. One that is gone already is fine.
    pub(super) async fn delete_subscription(&self, held: &Held, about: &About, granted: &Granted) -> Result<()> {
        let Some(delete) = &about.kind.delete else { return Ok(()) };
        match self.subscription_call(held, &delete.tool, about.with(granted).fill_args(&delete.args)?, None).await {
            Err(error) if error.is_not_found() => Ok(()),
            other => other.map(drop),
        }
    }

    /// Confirms access. `false`: the vendor has no such call.
    pub(super) async fn reauthorize_subscription(&self, held: &Held, about: &About) -> Result<bool> {
        let (Some(call), Some(granted)) = (&about.kind.reauthorize, &held.row.vendor) else { return Ok(false) };
        self.subscription_call(held, &call.tool, about.with(granted).fill_args(&call.args)?, None).await?;
        Ok(true)
    }
}

/// Whether an answer says that the subscription is over rather than that it could not be reached.
pub(super) fn is_over(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Forbidden | ErrorKind::CursorExpired) || matches!(error.status(), Some(403 | 404 | 410))
}
