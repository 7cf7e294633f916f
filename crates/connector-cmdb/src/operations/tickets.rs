//! Operations about tickets: what they are linked to, and what is affected with it.

use std::collections::{BTreeMap, BTreeSet};

use connector_core::{Error, Result};
use serde_json::{Value, json};

use super::{Arguments, System, written};
use crate::{
    neutral::{Direction, TicketLink},
    system::CiId,
    walk::walk,
};

pub(super) async fn get(system: System<'_>, args: &Arguments<'_>) -> Result<Value> {
    let ticket = args.text("ticket")?;
    let (id, row) = system.ticket_row(ticket).await?;
    let text = |at: &Option<crate::profile::At>| at.as_ref().and_then(|at| at.text(&row)).filter(|text| system.says(text));
    let lookup = system.profile.links.ticket.as_ref();
    let (title, state) = lookup.map(|lookup| (text(&lookup.title), text(&lookup.state))).unwrap_or_default();
    let number = lookup.and_then(|lookup| lookup.is.text(&row));
    Ok(json!({ "id": id, "number": number, "title": title, "state": state }))
}

/// Everything that follows from a ticket: its items, what they affect, by class, and who is responsible for its items.
pub(super) async fn impact(system: System<'_>, args: &Arguments<'_>) -> Result<Value> {
    let ticket = args.text("ticket")?;
    let links = system.links_of_ticket(ticket).await?;
    let mut seen = BTreeSet::new();
    let ids: Vec<&str> = links.iter().map(|link| link.ci_id.as_str()).filter(|id| seen.insert(*id)).collect();
    let roots = ids.iter().map(|id| system.id(id)).collect::<Result<Vec<_>>>()?;
    if roots.is_empty() {
        return Ok(json!({ "ticket": ticket, "linked": [], "affected": [], "by_class": {}, "owners": [], "truncated": false, "cyclic": false }));
    }
    let reached = walk(system, roots, Direction::Dependents, &args.reach()?).await?;
    let mut by_class: BTreeMap<String, usize> = BTreeMap::new();
    for node in &reached.nodes {
        *by_class.entry(node.class.clone().unwrap_or_else(|| "unknown".into())).or_default() += 1;
    }
    let mut owners: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for ci in &reached.starts {
        if let Some(owner) = &ci.owner {
            owners.entry(owner.clone()).or_default().push(&ci.id);
        }
    }
    let owners: Vec<Value> = owners.into_iter().map(|(name, cis)| json!({ "name": name, "ci_ids": cis })).collect();
    written(&json!({
        "ticket": ticket, "linked": reached.starts.iter().map(|ci| json!({ "id": ci.id, "name": ci.name, "class": ci.class })).collect::<Vec<_>>(),
        "affected": reached.nodes, "by_class": by_class, "owners": owners, "truncated": reached.truncated, "cyclic": reached.cyclic,
    }))
}

/// Ids as the system writes them. All are checked before the first link is made.
fn ids(system: System<'_>, args: &Arguments<'_>) -> Result<Vec<CiId>> {
    args.texts("ci_ids").iter().map(|id| system.id(id)).collect()
}

/// Links that were made, and those that were there.
async fn made(system: System<'_>, ticket: &str, ids: &[CiId]) -> Result<(Vec<TicketLink>, Vec<TicketLink>)> {
    let vars = system.ticket(ticket).await?;
    let (mut linked, mut already): (Vec<TicketLink>, Vec<TicketLink>) = (Vec::new(), Vec::new());
    for id in ids {
        if linked.iter().chain(&already).any(|link| link.ci_id == id.whole) {
            continue;
        }
        let (made, link) = system.link(ticket, &vars, id).await?;
        if made { linked.push(link) } else { already.push(link) }
    }
    Ok((linked, already))
}

pub(super) async fn link(system: System<'_>, args: &Arguments<'_>) -> Result<Value> {
    let ticket = args.text("ticket")?;
    let (linked, already) = made(system, ticket, &ids(system, args)?).await?;
    written(&json!({ "ticket": ticket, "linked": linked, "already_linked": already }))
}

pub(super) async fn unlink(system: System<'_>, args: &Arguments<'_>) -> Result<Value> {
    let ticket = args.text("ticket")?;
    let ids = ids(system, args)?;
    let mut removed = Vec::new();
    for link in system.links_of_ticket(ticket).await? {
        if ids.is_empty() || ids.iter().any(|id| id.whole == link.ci_id) {
            system.unlink(&link).await?;
            removed.push(link);
        }
    }
    written(&json!({ "ticket": ticket, "removed": removed }))
}

/// Makes a ticket's links exactly these: new ones first, so that a failure in between leaves too many and never too few.
pub(super) async fn set(system: System<'_>, args: &Arguments<'_>) -> Result<Value> {
    let ticket = args.text("ticket")?;
    let ids = ids(system, args)?;
    if ids.is_empty() {
        return Err(Error::invalid("`ci_ids` names nothing; cmdb_unlink_ticket removes all links of a ticket"));
    }
    let (linked, kept) = made(system, ticket, &ids).await?;
    let mut removed = Vec::new();
    for link in system.links_of_ticket(ticket).await? {
        if !ids.iter().any(|id| id.whole == link.ci_id) {
            system.unlink(&link).await?;
            removed.push(link);
        }
    }
    written(&json!({ "ticket": ticket, "linked": linked, "kept": kept, "removed": removed }))
}
