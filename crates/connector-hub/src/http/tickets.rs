//! One-time tickets: somebody with a key asks for a sign-in, somebody with a browser carries it out, once, within ten minutes.
//!
//! Owns making and using up. Refuses to keep a ticket: its hash is the row's key.

use std::{sync::Arc, time::Duration};

use connector_core::{
    Actor, Error, ErrorKind, Result, TenantId,
    clock::{Clock as _, SystemClock, unix_seconds},
    state::{Condition, Namespace, Store},
};
use connector_runtime::Role;
use serde::{Deserialize, Serialize};

use crate::keys::{hash, random};

/// How long a ticket is good for.
pub(super) const TICKET_TTL: Duration = Duration::from_secs(600);
/// Tickets of all tenants lie together: a browser shows one before anybody knows its tenant.
const SPACE: &str = "connect_tickets";

/// What a ticket stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ticket {
    pub(super) tenant: TenantId,
    pub(super) actor: Actor,
    pub(super) role: Role,
    pub(super) connector: String,
    pub(super) connection: Option<String>,
    pub(super) tools: Vec<String>,
    pub(super) scopes: Vec<String>,
    pub(super) next: Option<String>,
}

/// Makes one. Gives its text, and the Unix seconds of its end.
pub(super) async fn issue(store: &Arc<dyn Store>, ticket: &Ticket) -> Result<(String, u64)> {
    let text = hex::encode(random::<32>()?);
    let row = serde_json::to_vec(ticket).map_err(|error| Error::internal("a ticket cannot be written").with_source(error))?;
    store.put(Namespace::new(&TenantId::default(), SPACE), &hash(&text), row.into(), Condition::Absent, Some(TICKET_TTL)).await?;
    Ok((text, unix_seconds(SystemClock.wall()) + TICKET_TTL.as_secs()))
}

/// Uses one up, if it is for this connector and, where the caller shows a key as well, for the key's tenant. Of two that come at the same
/// moment one goes away empty-handed, and so does whoever holds another tenant's: it stays good for its owner.
pub(super) async fn redeem(store: &Arc<dyn Store>, text: &str, connector: &str, tenant: Option<&TenantId>) -> Result<Ticket> {
    let spent = || Error::new(ErrorKind::NotFound, "this link is not good: it was used, it is older than ten minutes, or it was not copied whole");
    let shared = TenantId::default();
    let (space, key) = (Namespace::new(&shared, SPACE), hash(text));
    let entry = store.get(space, &key).await?.ok_or_else(spent)?;
    let ticket: Ticket = serde_json::from_slice(&entry.value).map_err(|_| Error::internal("a stored ticket cannot be read"))?;
    if ticket.connector != connector || tenant.is_some_and(|tenant| *tenant != ticket.tenant) {
        return Err(spent());
    }
    if store.delete(space, &key, Condition::Is(entry.version)).await? { Ok(ticket) } else { Err(spent()) }
}

#[cfg(test)]
mod tests {
    use connector_state::MemoryState;

    use super::*;

    fn ticket() -> Ticket {
        Ticket {
            tenant: "a".into(),
            actor: Actor::ApiKey("k1".into()),
            role: Role::Operator,
            connector: "hubspot".into(),
            connection: None,
            tools: Vec::new(),
            scopes: Vec::new(),
            next: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_ticket_is_good_once_for_ten_minutes_and_for_its_own() {
        let store: Arc<dyn Store> = Arc::new(MemoryState::default());
        let (text, _) = issue(&store, &ticket()).await.unwrap();
        let (a, b) = (TenantId::from("a"), TenantId::from("b"));
        let foreign = redeem(&store, &text, "hubspot", Some(&b)).await.unwrap_err();
        let made_up = redeem(&store, "x", "hubspot", Some(&b)).await.unwrap_err();
        assert_eq!(foreign.to_string(), made_up.to_string());
        assert!(redeem(&store, &text, "msgraph", None).await.is_err());
        assert_eq!(redeem(&store, &text, "hubspot", Some(&a)).await.unwrap(), ticket(), "the others did not use it up");
        assert!(redeem(&store, &text, "hubspot", None).await.is_err(), "once");
        let (late, _) = issue(&store, &ticket()).await.unwrap();
        tokio::time::advance(TICKET_TTL + Duration::from_secs(1)).await;
        assert!(redeem(&store, &late, "hubspot", None).await.is_err(), "late");
    }

    #[tokio::test]
    async fn of_many_at_once_one_gets_in() {
        let store: Arc<dyn Store> = Arc::new(MemoryState::default());
        let (text, _) = issue(&store, &ticket()).await.unwrap();
        let tries = (0..32).map(|_| redeem(&store, &text, "hubspot", None));
        let won = futures_util::future::join_all(tries).await.into_iter().filter(Result::is_ok).count();
        assert_eq!(won, 1);
    }
}
