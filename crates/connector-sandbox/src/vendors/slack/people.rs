//! People and the workspace.

use super::args::Args;
use super::store::{Store, page};
use super::{Caller, Outcome, TEAM};
use serde_json::{Value, json};

pub(super) fn people(store: &Store, family: &str, name: &str, caller: &Caller, args: &Args) -> Outcome {
    match (family, name) {
        ("users", "info") => {
            let mut view = store.user(&args.need("user")?).ok_or("user_not_found")?.view();
            if args.flag("include_locale") == Some(true) {
                view["locale"] = "en-GB".into();
            }
            Ok(json!({"user": view}))
        }
        ("users", "lookupByEmail") => {
            let email = args.need("email")?;
            let user = store.users.values().find(|user| !user.deleted && user.email.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(&email)));
            Ok(json!({"user": user.ok_or("users_not_found")?.view()}))
        }
        ("users", "list") => {
            let all: Vec<Value> = store.users.values().map(super::store::User::view).collect();
            let (members, next) = page(all, args.text("cursor"), args.limit(200, 1000))?;
            Ok(json!({"members": members, "cache_ts": 1_767_225_600, "response_metadata": {"next_cursor": next}}))
        }
        ("users", "profile.get") => {
            let user = args.text("user").unwrap_or_else(|| caller.user.to_owned());
            Ok(json!({"profile": store.user(&user).ok_or("user_not_found")?.profile()}))
        }
        ("team", "info") => {
            if args.text("team").is_some_and(|team| team != TEAM) {
                return Err("team_not_found".into());
            }
            Ok(json!({"team": {"id": TEAM, "name": "Acme", "domain": "acme", "email_domain": "acme.test"}}))
        }
        _ => Err("unknown_method".into()),
    }
}
