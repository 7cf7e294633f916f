//! Permissions and links of files and folders. One kind of link exists once. <https://learn.microsoft.com/graph/api/resources/permission>

use super::super::compose::json_body;
use super::super::rows;
use super::super::wire::bad_request;
use super::super::{MsGraph, State, unknown_segment};
use super::{gone, items::seen};
use crate::exchange::{Answer, Reply, Req};
use crate::ledger::{EffectKind, Entry};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

impl MsGraph {
    pub(super) fn sharing(&self, state: &mut State, drive: &str, id: &str, method: &str, rest: &[&str], req: &Req) -> Answer {
        let number = state.drives.number();
        let all = state.drives.drive(drive)?.permissions.entry(id.to_owned()).or_default();
        let changed = |what: &str| self.shared.record(Entry::new("msgraph", EffectKind::FileChanged, id).detail(json!({ "shared": what })));
        match (method, rest) {
            ("POST", ["createLink"]) => {
                let body = json_body(req)?;
                let kind = rows::required(&body, "type")?.clone();
                let scope = body["scope"].as_str().unwrap_or("organization");
                if !matches!(kind.as_str(), Some("view" | "edit" | "embed")) || !matches!(scope, "anonymous" | "organization" | "users") {
                    return Err(bad_request("The link's type or scope is not known."));
                }
                if let Some(known) = all.iter().find(|one| one["link"]["type"] == kind && one["link"]["scope"] == scope) {
                    return Ok(Reply::json(200, known));
                }
                let role = if kind == "edit" { "write" } else { "read" };
                let url = format!("https://contoso.sharepoint.example/:t:/s/desk/E{number}");
                let share = format!("u!{}", URL_SAFE_NO_PAD.encode(&url));
                let made = json!({ "id": format!("link-{number}"), "roles": [role], "shareId": share, "hasPassword": false,
                    "expirationDateTime": body["expirationDateTime"], "link": { "type": kind, "scope": scope, "webUrl": url } });
                all.push(made.clone());
                changed("link");
                Ok(Reply::json(201, &made))
            }
            ("POST", ["invite"]) => {
                let body = json_body(req)?;
                let recipients = body["recipients"].as_array().filter(|all| !all.is_empty());
                let recipients = recipients.ok_or_else(|| bad_request("The recipients are missing."))?;
                let roles = rows::required(&body, "roles")?;
                let made: Vec<Value> = recipients
                    .iter()
                    .enumerate()
                    .map(|(at, who)| json!({ "id": format!("p-{number}-{at}"), "roles": roles, "grantedToV2": { "user": who } }))
                    .collect();
                all.extend(made.iter().cloned());
                changed("invited");
                rows::whole(req, made)
            }
            ("GET", ["permissions"]) => rows::whole(req, all.clone()),
            (_, ["permissions", permission]) => {
                let at = all.iter().position(|one| one["id"] == *permission).ok_or_else(gone)?;
                match method {
                    "GET" => rows::one(req, &all[at]),
                    "PATCH" => {
                        rows::merge(&mut all[at], &json_body(req)?, &["roles"]);
                        changed("roles");
                        rows::one(req, &all[at])
                    }
                    "DELETE" => {
                        all.remove(at);
                        changed("removed");
                        Ok(Reply::empty(204))
                    }
                    _ => Err(unknown_segment()),
                }
            }
            _ => Err(unknown_segment()),
        }
    }

    /// `/shares/{id}/driveItem`: `u!` and the address of a link.
    pub(super) fn shared_item(&self, state: &mut State, share: &str, req: &Req) -> Answer {
        for drive in state.drives.drives.values() {
            let shared = |all: &Vec<Value>| all.iter().any(|one| one["shareId"] == share);
            if let Some((id, _)) = drive.permissions.iter().find(|(_, all)| shared(all)) {
                return rows::one(req, &seen(drive, drive.item(id)?));
            }
        }
        Err(gone())
    }
}
