//! Exactly one subscription per folder and address: `msgraph_ensure_subscription`.
//!
//! Graph allows duplicates, and each of them notifies (<https://learn.microsoft.com/graph/api/subscription-post-subscriptions>). Owns the
//! adopting, the renewing at half of the life and the removal of extras. Refuses to touch subscriptions of other addresses.

use std::time::Duration;

use async_trait::async_trait;
use connector_core::{CallCx, Cursor, Error, OpCall, OpReply, Result};
use connector_manifest::{Engine, NativeOperation};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::args::{arguments, items, mailbox, may_have_happened, pause, segment, text};

/// The longest life of a basic mail subscription, minutes. <https://learn.microsoft.com/graph/api/resources/subscription#subscription-lifetime>
const LONGEST: i64 = 10_080;
/// Pages of subscriptions that are read at most.
const PAGES: u32 = 100;

/// The native operation.
#[derive(Debug)]
pub(crate) struct EnsureSubscription;

#[derive(Deserialize)]
struct Args {
    user: Option<String>,
    #[serde(default = "inbox")]
    folder: String,
    #[serde(default = "created_and_updated")]
    change_type: String,
    notification_url: String,
    lifecycle_url: Option<String>,
    client_state: String,
    #[serde(default = "longest")]
    minutes: i64,
    #[serde(default)]
    recreate: bool,
}

fn inbox() -> String {
    "inbox".into()
}

fn created_and_updated() -> String {
    "created,updated".into()
}

fn longest() -> i64 {
    LONGEST
}

/// What is wanted.
struct Wanted<'a> {
    resource: String,
    lifecycle_url: &'a str,
    args: &'a Args,
}

impl Wanted<'_> {
    /// Whether a subscription is for the same resource and address.
    fn same_target(&self, subscription: &Value) -> bool {
        text(subscription, "resource").is_some_and(|resource| canonical(resource) == canonical(&self.resource))
            && text(subscription, "notificationUrl") == Some(&self.args.notification_url)
    }

    /// Whether it can be kept: what cannot be changed later must fit.
    fn fits(&self, subscription: &Value) -> bool {
        text(subscription, "lifecycleNotificationUrl") == Some(self.lifecycle_url)
            && text(subscription, "changeType").is_some_and(|kinds| set(kinds) == set(&self.args.change_type))
    }

    async fn create(&self, engine: &Engine, cx: &CallCx, now: Timestamp) -> Result<Value> {
        let args = json!({
            "resource": self.resource, "change_type": self.args.change_type, "notification_url": self.args.notification_url,
            "lifecycle_url": self.lifecycle_url, "client_state": self.args.client_state, "expires": self.end(now)?.to_string(),
        });
        for again in [true, false] {
            match engine.call_value(cx, "msgraph_create_subscription", args.clone()).await {
                Err(error) if may_have_happened(&error) => {
                    // It may exist: adopt it rather than make a second one. What does not show up after a while was not made.
                    pause(cx, Duration::from_secs(2)).await?;
                    let all = list(engine, cx).await?;
                    let mine = all.into_iter().filter(|one| self.same_target(one) && self.fits(one)).max_by_key(ends);
                    match mine.filter(|one| ends(one) > now.as_second()) {
                        Some(mine) => return Ok(mine),
                        None if again => {}
                        None => return Err(error),
                    }
                }
                other => return other,
            }
        }
        Err(Error::internal("making a subscription ended without an outcome"))
    }

    fn end(&self, now: Timestamp) -> Result<Timestamp> {
        let end = now.checked_add(SignedDuration::from_mins(self.args.minutes.clamp(1, LONGEST)));
        let end = end.map_err(|error| Error::internal("the end of a subscription is out of range").with_source(error))?;
        end.round(jiff::Unit::Second).map_err(|error| Error::internal("the end of a subscription cannot be rounded").with_source(error))
    }
}

#[async_trait]
impl NativeOperation for EnsureSubscription {
    async fn call(&self, engine: &Engine, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let args: Args = arguments(&call)?;
        let user = mailbox(cx, args.user.as_deref())?;
        let resource = match args.folder.as_str() {
            "" => format!("/users/{}/messages", segment(&user)),
            folder => format!("/users/{}/mailFolders('{}')/messages", segment(&user), folder.replace('\'', "''")),
        };
        let wanted = Wanted { resource, lifecycle_url: args.lifecycle_url.as_deref().unwrap_or(&args.notification_url), args: &args };
        let now = Timestamp::try_from(engine.clock().wall()).map_err(|error| Error::internal("the clock is out of range").with_source(error))?;

        let (mut mine, mut extras): (Vec<Value>, Vec<Value>) = list(engine, cx)
            .await?
            .into_iter()
            .filter(|one| wanted.same_target(one))
            .partition(|one| !args.recreate && wanted.fits(one) && ends(one) > now.as_second());
        mine.sort_by_key(|one| std::cmp::Reverse(ends(one)));
        let kept = if mine.is_empty() { None } else { Some(mine.remove(0)) };
        extras.append(&mut mine);

        let (subscription, action) = match kept {
            Some(kept) => keep(engine, cx, &wanted, kept, now).await?,
            // The new one first, so that nothing is missed between the two.
            None => (wanted.create(engine, cx, now).await?, "created"),
        };
        let mut removed = Vec::new();
        for extra in extras.iter().filter_map(|one| text(one, "id")) {
            if Some(extra) != text(&subscription, "id") {
                engine.call_value(cx, "msgraph_delete_subscription", json!({ "subscription_id": extra })).await?;
                removed.push(extra.to_owned());
            }
        }
        let renew_at = renew_at(now, ends(&subscription), args.minutes, action == "kept")?;
        let mut shown = subscription;
        if let Some(map) = shown.as_object_mut() {
            map.remove("clientState");
        }
        let value = json!({ "subscription": shown, "action": action, "removed": removed, "renew_at": renew_at.to_string() });
        OpReply::from_value(value, call.decode)
    }
}

/// When half of the life is over. What was granted just now starts now; what was kept started when it was asked for, so its life is the
/// one that is asked for (Graph does not tell when a subscription was made).
fn renew_at(now: Timestamp, end: i64, minutes: i64, kept: bool) -> Result<Timestamp> {
    let left = (end - now.as_second()).max(0);
    let wait = if kept { (left - minutes * 60 / 2).max(0) } else { left / 2 };
    Timestamp::from_second(now.as_second() + wait).map_err(|error| Error::protocol("the end of the subscription is out of range").with_source(error))
}

/// Renews what is past half of its life; what vanished meanwhile is made again.
async fn keep(engine: &Engine, cx: &CallCx, wanted: &Wanted<'_>, kept: Value, now: Timestamp) -> Result<(Value, &'static str)> {
    if ends(&kept) - now.as_second() > wanted.args.minutes * 60 / 2 {
        return Ok((kept, "kept"));
    }
    let args = json!({ "subscription_id": kept["id"], "expires": wanted.end(now)?.to_string() });
    match engine.call_value(cx, "msgraph_renew_subscription", args).await {
        Ok(renewed) => Ok((renewed, "renewed")),
        Err(error) if error.is_not_found() => Ok((wanted.create(engine, cx, now).await?, "created")),
        Err(error) => Err(error),
    }
}

/// All subscriptions of the app.
async fn list(engine: &Engine, cx: &CallCx) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    let mut cursor: Option<Cursor> = None;
    for _ in 0..PAGES {
        let page = engine.call_inner(cx, "msgraph_list_subscriptions", json!({}), cursor).await?;
        all.extend(items(&page.body.to_value()?).iter().cloned());
        cursor = page.next;
        if cursor.is_none() {
            return Ok(all);
        }
    }
    Err(Error::protocol("the list of subscriptions does not end"))
}

/// When it ends, Unix seconds; 0 if it does not say.
fn ends(subscription: &Value) -> i64 {
    text(subscription, "expirationDateTime").and_then(|end| end.parse::<Timestamp>().ok()).map_or(0, Timestamp::as_second)
}

/// A resource as it can be compared: Graph writes `Users/..` and `mailFolders/inbox` for what was asked as `/users/..` and `mailFolders('inbox')`.
fn canonical(resource: &str) -> String {
    let decoded = percent_encoding::percent_decode_str(resource).decode_utf8_lossy();
    // Names of collections have no case; ids do, but two ids that differ in case alone do not occur in one mailbox's folders of one app.
    decoded.trim_matches('/').replace("('", "/").replace("')", "").to_lowercase()
}

fn set(kinds: &str) -> std::collections::BTreeSet<String> {
    kinds.split(',').map(|kind| kind.trim().to_lowercase()).filter(|kind| !kind.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_compared_as_graph_writes_them() {
        for same in ["/users/Support@contoso.com/mailFolders('inbox')/messages", "Users/support%40contoso.com/MailFolders/Inbox/messages/"] {
            assert_eq!(canonical(same), "users/support@contoso.com/mailfolders/inbox/messages");
        }
    }

    #[test]
    fn change_types_are_a_set() {
        assert_eq!(set("created, Updated"), set("updated,created"));
        assert_ne!(set("created"), set("created,updated"));
    }
}
