//! Reading mail: message lists and gets, folders, master categories, id translation. It changes nothing except by `POST` of a folder
//! or category.

use super::filter::{Filter, Search, sort};
use super::model::{Mailbox, Message};
use super::wire::{self, View, bad_request, error, not_found};
use super::{MsGraph, State, mime};
use crate::exchange::{Answer, Reply, Req};
use crate::ledger::{EffectKind, Entry};
use serde_json::{Value, json};

impl MsGraph {
    /// `GET …/messages`, over the mailbox or one folder.
    pub(super) fn list_messages(&self, mailbox: &Mailbox, folder: Option<&str>, req: &Req) -> Answer {
        let view = View::of(req);
        let filter = req.q("$filter").map(Filter::parse).transpose().map_err(|e| bad_request(&e))?;
        let search = req.q("$search").map(Search::parse).transpose().map_err(|e| bad_request(&e))?;
        if search.is_some() && (filter.is_some() || req.q("$orderby").is_some()) {
            return Err(error(400, "SearchWithFilter", "The query parameter '$filter' or '$orderby' is not supported with '$search'."));
        }
        let mut found: Vec<&Message> = mailbox
            .messages
            .values()
            .filter(|m| folder.is_none_or(|f| m.folder == f))
            .filter(|m| filter.as_ref().is_none_or(|f| f.matches(m)))
            .filter(|m| search.as_ref().is_none_or(|s| s.matches(m)))
            .collect();
        let default_order = if search.is_some() { "sentDateTime desc" } else { "receivedDateTime desc" };
        let ordered = sort(&mut found, req.q("$orderby").unwrap_or(default_order)).map_err(|e| bad_request(&e))?;
        if let (Some(filter), Some(_)) = (&filter, req.q("$orderby")) {
            // Every sort property must come first in the filter, in the same order.
            // https://learn.microsoft.com/graph/api/user-list-messages#using-filter-and-orderby-in-the-same-query
            if !filter.fields().iter().zip(&ordered).all(|(a, b)| a == b) || filter.fields().len() < ordered.len() {
                return Err(error(400, "InefficientFilter", "The restriction or sort order is too complex for this operation."));
            }
        }
        found.truncate(if search.is_some() { 1000 } else { usize::MAX });
        let top = req.q_usize("$top", view.page.unwrap_or(10));
        if !(1..=1000).contains(&top) {
            return Err(bad_request("The value for query parameter '$top' must be between 1 and 1000."));
        }
        let skip = req.q_usize("$skip", 0);
        let expand = req.q("$expand").unwrap_or_default();
        let items = found.iter().skip(skip).take(top).map(|m| expanded(mailbox, m, &view, expand)).collect();
        let next = (skip + top < found.len()).then(|| next_link(req, skip + top));
        let count = (req.q("$count") == Some("true")).then_some(found.len());
        let context = format!("{}/v1.0/$metadata#users('{}')/messages", req.base, mailbox.address);
        Ok(Reply::json(200, &wire::page(&context, count, items, next)))
    }

    /// `GET …/messages/{id}`.
    pub(super) fn get_message(&self, mailbox: &Mailbox, id: &str, req: &Req) -> Answer {
        let m = mailbox.find(id).ok_or_else(not_found)?;
        let view = View { single: true, ..View::of(req) };
        let body = expanded(mailbox, m, &view, req.q("$expand").unwrap_or_default());
        Ok(Reply::json(200, &body).with("etag", &m.etag()))
    }

    /// `GET …/messages/{id}/$value`: the MIME content.
    pub(super) fn message_mime(&self, mailbox: &Mailbox, id: &str) -> Answer {
        let m = mailbox.find(id).ok_or_else(not_found)?;
        Ok(Reply::bytes(200, "text/plain", mime::write(m)))
    }

    /// `GET …/mailFolders` and `…/childFolders`.
    pub(super) fn list_folders(&self, mailbox: &Mailbox, parent: &str, req: &Req) -> Answer {
        let hidden = req.q("includeHiddenFolders") == Some("true");
        let (top, skip) = (req.q_usize("$top", 10), req.q_usize("$skip", 0));
        let named = folder_name_filter(req)?;
        let all: Vec<_> = mailbox
            .folders
            .iter()
            .filter(|f| f.parent == parent && f.id != parent && (hidden || !f.hidden))
            .filter(|f| named.as_ref().is_none_or(|n| f.name.eq_ignore_ascii_case(n)))
            .collect();
        let view = View::of(req);
        let items = all.iter().skip(skip).take(top).map(|f| wire::select(wire::folder(mailbox, f), view.select.as_deref())).collect();
        let next = (skip + top < all.len()).then(|| next_link(req, skip + top));
        let context = format!("{}/v1.0/$metadata#users('{}')/mailFolders", req.base, mailbox.address);
        Ok(Reply::json(200, &wire::page(&context, None, items, next)))
    }

    /// `GET …/mailFolders/{id}`.
    pub(super) fn get_folder(&self, mailbox: &Mailbox, id: &str, req: &Req) -> Answer {
        let folder = mailbox.folders.iter().find(|f| f.id == id).ok_or_else(not_found)?;
        Ok(Reply::json(200, &wire::select(wire::folder(mailbox, folder), View::of(req).select.as_deref())))
    }

    /// `POST …/mailFolders` and `…/childFolders`.
    pub(super) fn create_folder(&self, mailbox: &mut Mailbox, parent: &str, body: &Value) -> Answer {
        let name = body["displayName"].as_str().filter(|n| !n.is_empty());
        let name = name.ok_or_else(|| bad_request("The displayName property is required."))?;
        if mailbox.folders.iter().any(|f| f.parent == parent && f.name.eq_ignore_ascii_case(name)) {
            return Err(error(409, "ErrorFolderExists", "A folder with the specified name already exists."));
        }
        let id = mailbox.add_folder(name, parent, None);
        if let Some(folder) = mailbox.folders.iter_mut().find(|f| f.id == id) {
            folder.hidden = body["isHidden"].as_bool().unwrap_or(false);
        }
        let folder = mailbox.folders.iter().find(|f| f.id == id).ok_or_else(not_found)?;
        Ok(Reply::json(201, &wire::folder(mailbox, folder)))
    }

    /// `PATCH …/mailFolders/{id}`: a new name.
    pub(super) fn rename_folder(&self, mailbox: &mut Mailbox, id: &str, body: &Value) -> Answer {
        let folder = mailbox.folders.iter_mut().find(|f| f.id == id).ok_or_else(not_found)?;
        let name = body["displayName"].as_str().filter(|n| !n.is_empty());
        name.ok_or_else(|| bad_request("The displayName property is required."))?.clone_into(&mut folder.name);
        let folder = folder.clone();
        mailbox.folder_changed(id, false);
        Ok(Reply::json(200, &wire::folder(mailbox, &folder)))
    }

    /// `DELETE …/mailFolders/{id}`: the folder and everything in it, for good (whether the service keeps a copy is unverified). A folder
    /// every mailbox has cannot go.
    pub(super) fn delete_folder(&self, state: &mut State, user: &str, id: &str) -> Answer {
        let mailbox = state.mailbox(user);
        let folder = mailbox.folders.iter().find(|f| f.id == id).ok_or_else(not_found)?;
        if folder.well_known.is_some() {
            return Err(error(403, "ErrorDeleteDistinguishedFolder", "A folder with a well-known name cannot be deleted."));
        }
        let mut doomed = vec![id.to_owned()];
        let mut at = 0;
        while at < doomed.len() {
            let parent = doomed[at].clone();
            doomed.extend(mailbox.folders.iter().filter(|f| f.parent == parent).map(|f| f.id.clone()));
            at += 1;
        }
        let keys: Vec<u64> = mailbox.messages.values().filter(|m| doomed.contains(&m.folder)).map(|m| m.key).collect();
        let mut events = Vec::new();
        for key in keys {
            let m = &mailbox.messages[&key];
            events.push(mailbox.snapshot(m, "deleted"));
            self.shared.record(Entry::new("msgraph", EffectKind::MailDeleted, &m.message_id));
            mailbox.remove(key);
        }
        mailbox.folders.retain(|f| !doomed.contains(&f.id));
        for folder in doomed {
            mailbox.folder_changed(&folder, true);
        }
        self.notify(state, user, &events);
        Ok(Reply::empty(204))
    }

    /// `GET|POST …/outlook/masterCategories`.
    pub(super) fn master_categories(&self, mailbox: &mut Mailbox, req: &Req, body: &Value) -> Answer {
        if req.method == http::Method::GET {
            let context = format!("{}/v1.0/$metadata#users('{}')/outlook/masterCategories", req.base, mailbox.address);
            return Ok(Reply::json(200, &wire::page(&context, None, mailbox.categories.clone(), None)));
        }
        let name = body["displayName"].as_str().ok_or_else(|| bad_request("The displayName property is required."))?;
        if mailbox.categories.iter().any(|c| c["displayName"] == name) {
            return Err(error(409, "ErrorIrresolvableConflict", "A category with that name exists."));
        }
        let id = format!("5a2b0c1e-0000-4000-8000-{:012x}", mailbox.categories.len() + 1);
        let category = json!({"id": id, "displayName": name, "color": body["color"].as_str().unwrap_or("none")});
        mailbox.categories.push(category.clone());
        Ok(Reply::json(201, &category))
    }

    /// `POST …/translateExchangeIds`, between the default and the immutable form.
    pub(super) fn translate_ids(&self, mailbox: &Mailbox, body: &Value) -> Answer {
        let inputs = body["inputIds"].as_array().ok_or_else(|| bad_request("inputIds is required."))?;
        if inputs.len() > 1000 {
            return Err(bad_request("At most 1000 ids can be translated in one call."));
        }
        let immutable = body["targetIdType"] == "restImmutableEntryId";
        let value: Vec<Value> = inputs
            .iter()
            .filter_map(Value::as_str)
            .map(|id| match mailbox.find(id) {
                Some(m) => json!({"sourceId": id, "targetId": mailbox.id_of(m, immutable)}),
                None => json!({"sourceId": id, "errorDetails": {"code": "ErrorInvalidIdMalformed", "message": "Id is malformed."}}),
            })
            .collect();
        Ok(Reply::json(200, &json!({"value": value})))
    }

    /// `GET /users/{u}`: the least a profile needs.
    pub(super) fn get_user(&self, state: &State, user: &str) -> Answer {
        let mailbox = &state.mailboxes[user];
        Ok(Reply::json(
            200,
            &json!({"id": mailbox.user_id, "displayName": mailbox.address, "mail": mailbox.address, "userPrincipalName": mailbox.address}),
        ))
    }
}

/// `$filter=displayName eq 'x'`, the one form used on folders.
fn folder_name_filter(req: &Req) -> Result<Option<String>, Reply> {
    let Some(text) = req.q("$filter") else { return Ok(None) };
    let name = text.trim().strip_prefix("displayName eq '").and_then(|t| t.strip_suffix('\''));
    name.map(|n| Some(n.replace("''", "'"))).ok_or_else(|| bad_request("Only displayName eq '…' can be filtered on folders here."))
}

/// A message with `$expand=attachments` or `singleValueExtendedProperties(...)` applied.
fn expanded(mailbox: &Mailbox, m: &Message, view: &View, expand: &str) -> Value {
    let mut out = wire::message(mailbox, m, view);
    if expand.split(',').any(|e| e.trim().starts_with("attachments")) {
        out["attachments"] = m.attachments.iter().map(|a| wire::attachment(a, true)).collect();
    }
    if expand.contains("singleValueExtendedProperties") {
        let mut all = m.extended.clone();
        all.push(("String 0x1035".into(), m.message_id.clone()));
        if let Some(parent) = &m.in_reply_to {
            all.push(("String 0x1042".into(), parent.clone()));
        }
        if !m.references.is_empty() {
            all.push(("String 0x1039".into(), m.references.join(" ")));
        }
        let named: Vec<Value> =
            all.into_iter().filter(|(id, _)| expand.contains(id.as_str())).map(|(id, value)| json!({"id": id, "value": value})).collect();
        out["singleValueExtendedProperties"] = Value::Array(named);
    }
    out
}

/// The same request with another `$skip`, absolute.
pub(super) fn next_link(req: &Req, skip: usize) -> String {
    let path = req.path_and_query.split('?').next().unwrap_or_default();
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (key, value) in req.query.iter().filter(|(k, _)| k != "$skip") {
        query.append_pair(key, value);
    }
    query.append_pair("$skip", &skip.to_string());
    format!("{}{path}?{}", req.base, query.finish())
}
