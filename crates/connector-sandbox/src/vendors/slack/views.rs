//! Forms and home tabs. A form needs a trigger, which is good for three seconds and once.

use super::args::Args;
use super::store::Store;
use super::{BOT, Outcome, TEAM};
use jiff::Timestamp;
use serde_json::{Value, json};

pub(super) fn views(store: &mut Store, name: &str, args: &Args, now: Timestamp) -> Outcome {
    let view = args.tree("view").filter(Value::is_object).ok_or("invalid_arguments")?;
    let wanted = if name == "publish" { "home" } else { "modal" };
    if view["type"] != wanted || !view["blocks"].is_array() {
        return Err("invalid_arguments".into());
    }
    let number = store.next();
    let hash = format!("{}.{number:08x}", now.as_second());
    let known = |store: &Store, key: &str, value: &str| store.views.iter().find(|(_, view)| view[key] == *value).map(|(id, _)| id.clone());
    let id = match name {
        "open" | "push" => {
            let trigger = args.text("trigger_id").ok_or("invalid_trigger_id")?;
            let until = store.triggers.remove(&trigger).ok_or("exchanged_trigger_id")?;
            if until < now {
                return Err("expired_trigger_id".into());
            }
            format!("V0HUB{number}")
        }
        "update" => {
            let id = match (args.text("view_id"), args.text("external_id")) {
                (Some(id), _) => id,
                (None, Some(external)) => known(store, "external_id", &external).ok_or("not_found")?,
                (None, None) => return Err("invalid_arguments".into()),
            };
            let old = store.views.get(&id).ok_or("not_found")?;
            if args.text("hash").is_some_and(|hash| old["hash"] != hash) {
                return Err("hash_conflict".into());
            }
            id
        }
        "publish" => {
            let user = args.need("user_id")?;
            store.user(&user).ok_or("user_not_found")?;
            let home = known(store, "shown_to", &user);
            let stale = home.as_ref().and_then(|id| store.views.get(id)).is_some_and(|old| args.text("hash").is_some_and(|hash| old["hash"] != hash));
            if stale {
                return Err("hash_conflict".into());
            }
            home.unwrap_or_else(|| format!("V0HUB{number}"))
        }
        _ => return Err("unknown_method".into()),
    };
    let mut shown = view;
    for (key, value) in [("id", json!(id)), ("team_id", json!(TEAM)), ("hash", json!(hash)), ("bot_id", json!(BOT)), ("state", json!({"values": {}}))]
    {
        shown[key] = value;
    }
    if let Some(user) = args.text("user_id") {
        shown["shown_to"] = user.into();
    }
    if shown["callback_id"].is_null() {
        shown["callback_id"] = "".into();
    }
    store.views.insert(id, shown.clone());
    Ok(json!({"view": shown}))
}
