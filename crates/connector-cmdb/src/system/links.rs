//! Links between tickets and items: rows of the system's own, or marked notes where it has no tickets.

use connector_core::{Error, ErrorKind, Result};
use connector_manifest::template::Part;
use serde_json::Value;

use super::{CiId, System, Vars, texts};
use crate::{
    neutral::TicketLink,
    profile::{IdFormat, Links, Query},
};

/// Links of one ticket or item beyond these are not read.
const MOST_LINKS: usize = 1_000;

impl System<'_> {
    fn links(&self) -> &Links {
        &self.profile.links
    }

    /// The values that requests about a ticket are filled with.
    pub(crate) async fn ticket(&self, ticket: &str) -> Result<Vars> {
        let vars = self.vars().with("ticket", ticket);
        if let Some(marker) = &self.links().marker {
            let text = marker.fill(|_| Some(ticket.into())).unwrap_or_default();
            return Ok(vars.with("marker", text));
        }
        self.ticket_form(ticket)?;
        let own_id = self.profile.ids.format == IdFormat::Hex32 && ticket.len() == 32 && ticket.bytes().all(|byte| byte.is_ascii_hexdigit());
        let (Some(_), false) = (&self.links().ticket, own_id) else {
            let number = ticket.parse::<u64>().ok().filter(|_| self.links().ticket_is_integer);
            return Ok(vars.with("ticket_id", number.map_or_else(|| ticket.into(), Value::from)));
        };
        let (id, _) = self.ticket_row(ticket).await?;
        let id = self.link_value(&id);
        Ok(vars.with("ticket_id", id))
    }

    /// Refuses what cannot be the number of a ticket.
    fn ticket_form(&self, ticket: &str) -> Result<()> {
        if self.links().ticket_is_integer && (ticket.is_empty() || ticket.len() > 18 || !ticket.bytes().all(|byte| byte.is_ascii_digit())) {
            let ticket = connector_core::redact::printable(ticket, 60);
            return Err(Error::invalid(format!("`{ticket}` is no ticket of {}; its tickets are numbers", self.profile.name)));
        }
        Ok(())
    }

    /// A ticket of the system and its id.
    pub(crate) async fn ticket_row(&self, ticket: &str) -> Result<(String, Value)> {
        let Some(lookup) = &self.links().ticket else {
            return Err(Error::unsupported(format!("{} has no tickets of its own; ask the ticket system", self.profile.name)));
        };
        self.ticket_form(ticket)?;
        let vars = self.vars().with("ticket", ticket);
        let path = self.path(&lookup.path, &vars)?;
        let found = self.read(&path, &self.pairs(&[&lookup.query], &vars)).await?.unwrap_or_default();
        let rows = match lookup.items.select(&found) {
            Value::Array(rows) => rows,
            Value::Null => Vec::new(),
            one => vec![one],
        };
        let row = rows.iter().find(|row| lookup.is.text(row).is_some_and(|number| number.eq_ignore_ascii_case(ticket)));
        row.and_then(|row| Some((lookup.id.text(row)?, row.clone()))).ok_or_else(|| {
            let ticket = connector_core::redact::printable(ticket, 60);
            Error::new(ErrorKind::NotFound, format!("{} has no ticket `{ticket}`, or the credential may not see it", self.profile.name))
        })
    }

    /// The links of a ticket.
    pub(crate) async fn links_of_ticket(&self, ticket: &str) -> Result<Vec<TicketLink>> {
        let vars = self.ticket(ticket).await?;
        self.linked(&self.links().by_ticket, &vars, Some(ticket)).await
    }

    /// The links of an item.
    pub(crate) async fn links_of_item(&self, id: &CiId) -> Result<Vec<TicketLink>> {
        let vars = self.about(id)?;
        let links = self.linked(&self.links().by_ci, &vars, None).await?;
        Ok(links.into_iter().filter(|link| link.ci_id == id.whole).collect())
    }

    /// Links a ticket to an item, unless it is; `false`: it was.
    pub(crate) async fn link(&self, ticket: &str, vars: &Vars, id: &CiId) -> Result<(bool, TicketLink)> {
        let (marker, ticket_id) = (vars_value(vars, "marker"), vars_value(vars, "ticket_id"));
        let vars = self.about(id)?.with("ticket", ticket).with("marker", marker).with("ticket_id", ticket_id);
        let there = self.linked(&self.links().by_both, &vars, Some(ticket)).await?;
        if let Some(there) = there.into_iter().find(|link| link.ci_id == id.whole) {
            return Ok((false, there));
        }
        let create = &self.links().create;
        let body = self.body(&create.body, &vars)?;
        let pairs = self.pairs(&[&create.query], &vars);
        let reply = self.write(create.method, &self.path(&create.path, &vars)?, &pairs, Some(&body), Vec::new()).await?;
        let made = reply.map(|reply| self.links().created.select(&reply)).unwrap_or_default();
        let link = self.links().id.text(&made).ok_or_else(|| Error::protocol("the CMDB's answer to a link has no id"))?;
        Ok((true, TicketLink { id: link, ticket: ticket.to_owned(), ci_id: id.whole.clone(), ci_name: None, ci_class: None }))
    }

    /// Removes a link. One that is gone is not missed.
    pub(crate) async fn unlink(&self, link: &TicketLink) -> Result<()> {
        let remove = &self.links().remove;
        let native = self.id(&link.ci_id)?;
        let vars = self.about(&native)?.with("link", self.link_value(&link.id)).with("ticket", link.ticket.as_str());
        let body = self.body(&remove.body, &vars)?;
        let pairs = self.pairs(&[&remove.query], &vars);
        self.write(remove.method, &self.path(&remove.path, &vars)?, &pairs, (!body.is_null()).then_some(&body), Vec::new()).await.map(|_| ())
    }

    /// A link's id as it goes into a body.
    fn link_value(&self, id: &str) -> Value {
        match self.profile.ids.format {
            IdFormat::Integer => id.parse::<u64>().map_or_else(|_| id.into(), Value::from),
            _ => id.into(),
        }
    }

    /// The links a query finds. Of marked notes only those count whose whole text is the marker.
    async fn linked(&self, query: &Query, vars: &Vars, ticket: Option<&str>) -> Result<Vec<TicketLink>> {
        let pairs = self.pairs(&[&self.links().query, query], vars);
        let rows = self.list(&self.links().list, &pairs, MOST_LINKS).await?;
        let mut links = Vec::new();
        for row in &rows.rows {
            let Some(id) = self.links().id.text(row) else { continue };
            // A filter by likeness also gives ticket 150 for 15.
            if let (Some(at), Some(_)) = (&self.links().exactly, ticket)
                && at.text(row) != connector_manifest::template::Args::text(vars, "ticket_id").map(std::borrow::Cow::into_owned)
            {
                continue;
            }
            let told = match (&self.links().marked, &self.links().ticket_at) {
                (Some(marked), _) => match marked.text(row).and_then(|text| self.marked_ticket(&text)) {
                    Some(told) if ticket.is_none_or(|ticket| ticket == told) => told,
                    _ => continue,
                },
                (None, Some(at)) => ticket.map(str::to_owned).or_else(|| at.text(row)).unwrap_or_default(),
                (None, None) => continue,
            };
            let Some((ci_id, ci_name, ci_class)) = self.linked_item(row) else { continue };
            links.push(TicketLink { id, ticket: told, ci_id, ci_name, ci_class });
        }
        Ok(links)
    }

    /// The ticket a note's text names.
    fn marked_ticket(&self, text: &str) -> Option<String> {
        match self.links().marker.as_ref()?.parts() {
            [Part::Literal(prefix), Part::Param(_)] => text.trim_end().strip_prefix(&**prefix).filter(|ticket| !ticket.is_empty()).map(str::to_owned),
            _ => None,
        }
    }

    fn linked_item(&self, row: &Value) -> Option<(String, Option<String>, Option<String>)> {
        let ci = &self.links().ci;
        let native = ci.native_class.as_ref().and_then(|at| at.text(row)).filter(|text| !text.is_empty());
        let id = texts(&ci.id.as_ref()?.select(row)).into_iter().find(|id| self.says(id))?;
        let name = ci.name.as_ref().and_then(|at| at.text(row)).filter(|text| !text.is_empty());
        let whole = self.whole_id(native.as_deref().unwrap_or_default(), &id);
        Some((whole, name, native.map(|native| self.profile.class_name(&native))))
    }
}

fn vars_value(vars: &Vars, name: &str) -> Value {
    connector_manifest::template::Args::value(vars, name).cloned().unwrap_or_default()
}
