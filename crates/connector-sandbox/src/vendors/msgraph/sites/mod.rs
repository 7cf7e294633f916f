//! Sites of the fake tenant and their lists: rows with versions, columns with and without an index, deltas, and who was let in.
//! <https://learn.microsoft.com/graph/api/resources/sharepoint>

mod lists;

use super::compose::json_body;
use super::rows::{self, Listing, Shelf};
use super::wire::{bad_request, error};
use super::{MsGraph, State, unknown_segment};
use crate::auth::known;
use crate::exchange::{Answer, Reply, Req};
use crate::ledger::{EffectKind, Entry};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What listings of SharePoint allow.
pub(super) const PLAIN: Listing = Listing { page: (200, 5000), queries: true };

/// The sites of the tenant.
#[derive(Debug)]
pub(super) struct Sites {
    sites: BTreeMap<String, Site>,
    made: u64,
}

#[derive(Debug, Default)]
struct Site {
    head: Value,
    permissions: Vec<Value>,
    lists: BTreeMap<String, List>,
}

/// A list.
#[derive(Debug, Default)]
struct List {
    head: Value,
    columns: Vec<Value>,
    items: Shelf,
    /// Rows ever made; ids count on.
    rows: u64,
    versions: BTreeMap<String, Vec<Value>>,
}

impl Default for Sites {
    fn default() -> Self {
        let head = |id: &str, name: &str, title: &str, url: &str| {
            json!({ "id": id, "name": name, "displayName": title, "webUrl": url, "createdDateTime": "2026-11-20T08:00:00Z",
                "lastModifiedDateTime": "2026-11-20T08:00:00Z", "siteCollection": { "hostname": "contoso.sharepoint.example" } })
        };
        let mut root = head("contoso.sharepoint.example,r,r", "root", "Contoso", "https://contoso.sharepoint.example");
        root["root"] = json!({});
        let tickets = lists::new(known::GRAPH_LIST, "Tickets", "genericList", &[("Title", true), ("Status", true), ("Owner", false)]);
        let desk = Site {
            head: head(known::GRAPH_SITE, "desk", "Service desk", "https://contoso.sharepoint.example/sites/desk"),
            permissions: Vec::new(),
            lists: [(known::GRAPH_LIST.to_owned(), tickets)].into(),
        };
        let root = Site { head: root, ..Site::default() };
        Self { sites: [("contoso.sharepoint.example,r,r".to_owned(), root), (known::GRAPH_SITE.to_owned(), desk)].into(), made: 0 }
    }
}

/// SharePoint's 404.
pub(super) fn gone() -> Reply {
    error(404, "itemNotFound", "The resource could not be found.")
}

impl Sites {
    fn number(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    fn site(&mut self, id: &str) -> Result<&mut Site, Reply> {
        if id == "root" {
            return self.sites.values_mut().find(|site| site.head["root"].is_object()).ok_or_else(gone);
        }
        self.sites.get_mut(id).ok_or_else(gone)
    }
}

impl MsGraph {
    /// Makes every delta cursor of a list stale.
    pub fn expire_list(&self, site: &str, list: &str) {
        let mut state = crate::ledger::lock(&self.state);
        if let Ok(list) = state.sites.site(site).and_then(|site| site.list(list)) {
            list.items.expire();
        }
    }

    /// `/sites…`.
    pub(super) fn sites(&self, state: &mut State, method: &str, rest: &[&str], req: &Req) -> Answer {
        let manages = method != "GET" && matches!(rest, [_, "lists"] | [_, "lists", _] | [_, "lists", _, "columns"]);
        let needed: &[&str] = match (method, rest) {
            (_, [_, "permissions", ..]) => &["Sites.FullControl.All"],
            ("GET", [_, "drive" | "drives", ..]) => &["Files.Read.All", "Files.ReadWrite.All", "Sites.Read.All"],
            ("GET", _) => &["Sites.Read.All", "Sites.ReadWrite.All", "Sites.Selected"],
            _ if manages => &["Sites.Manage.All", "Sites.FullControl.All"],
            _ => &["Sites.ReadWrite.All", "Sites.Manage.All", "Sites.Selected"],
        };
        self.permitted(req, needed, "accessDenied")?;
        self.unthrottled()?;
        match (method, rest) {
            ("GET", []) => {
                let words =
                    req.q("search").or_else(|| req.q("$search")).ok_or_else(|| bad_request("A search is needed to list sites."))?.to_lowercase();
                let hit = |site: &&Site| words == "*" || site.head["displayName"].as_str().is_some_and(|name| name.to_lowercase().contains(&words));
                rows::list(req, state.sites.sites.values().filter(hit).map(|site| site.head.clone()).collect(), PLAIN)
            }
            ("GET", [host, "sites", name]) if host.ends_with(':') => {
                let url = format!("https://{}/sites/{name}", host.trim_end_matches(':'));
                let site = state.sites.sites.values().find(|site| site.head["webUrl"] == *url);
                rows::one(req, &site.ok_or_else(gone)?.head)
            }
            ("GET", [id]) => rows::one(req, &state.sites.site(id)?.head),
            ("GET", [id, "sites"]) => {
                state.sites.site(id)?;
                rows::whole(req, Vec::new())
            }
            ("GET", [id, "drives"]) => {
                state.sites.site(id)?;
                rows::list(req, state.drives.heads("documentLibrary"), PLAIN)
            }
            ("GET", [id, "drive"]) => {
                state.sites.site(id)?;
                rows::one(req, state.drives.heads("documentLibrary").first().ok_or_else(gone)?)
            }
            (_, [id, "permissions", rest @ ..]) => self.site_permissions(&mut state.sites, id, method, rest, req),
            (_, [id, "lists", rest @ ..]) => self.lists(state, id, method, rest, req),
            _ => Err(unknown_segment()),
        }
    }

    /// Letting apps with Sites.Selected in. <https://learn.microsoft.com/graph/api/site-post-permissions>
    fn site_permissions(&self, sites: &mut Sites, id: &str, method: &str, rest: &[&str], req: &Req) -> Answer {
        let number = sites.number();
        let site = sites.site(id)?;
        match (method, rest) {
            ("GET", []) => rows::whole(req, site.permissions.clone()),
            ("POST", []) => {
                let body = json_body(req)?;
                let who = body["grantedToIdentities"].as_array().filter(|who| !who.is_empty());
                let who = who.ok_or_else(|| bad_request("grantedToIdentities is missing."))?;
                let made = json!({ "id": format!("aTowaS5{number}"), "roles": rows::required(&body, "roles")?, "grantedToIdentitiesV2": who });
                site.permissions.push(made.clone());
                self.shared.record(Entry::new("msgraph", EffectKind::RecordCreated, format!("permission:{number}")).detail(made["roles"].clone()));
                Ok(Reply::json(201, &made))
            }
            ("DELETE", [permission]) => {
                let before = site.permissions.len();
                site.permissions.retain(|one| one["id"] != *permission);
                if site.permissions.len() == before { Err(gone()) } else { Ok(Reply::empty(204)) }
            }
            _ => Err(unknown_segment()),
        }
    }
}
