//! Which items are known already: lists, counts, changes, histories, identification, and writes that depend on what is found.

use connector_core::{Error, ErrorKind, Result};
use connector_manifest::template::Tree;
use serde_json::{Map, Value, json};

use super::{CiId, System, Vars, texts};
use crate::{
    neutral::Ci,
    profile::{Class, IpLookup, Query},
};

/// Matches of one identification beyond these are not read.
const MOST_MATCHES: usize = 50;
/// Items are counted one by one up to this where the system does not tell how many there are.
const MOST_COUNTED: usize = 5_000;

/// What an item is identified by.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub(crate) class: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) serial: Option<String>,
    pub(crate) ip: Option<String>,
}

/// What identification found.
#[derive(Debug)]
pub(crate) enum Known {
    /// One item, by this.
    One(&'static str, Box<Ci>),
    /// Several, by this. Nobody may guess which is meant.
    Several(&'static str, Vec<Ci>),
    Nothing,
}

/// What became, or would become, of an item.
#[derive(Debug)]
pub(crate) struct Reconciled {
    pub(crate) outcome: &'static str,
    pub(crate) by: Option<&'static str>,
    pub(crate) ci: Option<Ci>,
    /// The attributes that differed.
    pub(crate) changed: Vec<String>,
}

impl System<'_> {
    /// Items of a class from a row on, and whether there are more.
    pub(crate) async fn list_class(&self, class: &str, start: usize, most: usize) -> Result<(Vec<Ci>, bool)> {
        let class = self.profile.class(class)?;
        let rows = self.rows_from(class, &self.profile.all, &self.vars(), start, most).await?;
        let items = rows.rows.iter().map(|row| self.ci(Some(&class.native), row)).collect::<Result<_>>()?;
        Ok((items, rows.more))
    }

    /// How many items a class has, and whether there may be more than could be counted.
    pub(crate) async fn count(&self, class: &str) -> Result<(u64, bool)> {
        let class = self.profile.class(class)?;
        let page = &self.profile.page;
        let told = page.total.is_some() || page.total_header.is_some();
        let rows = self.rows(class, &self.profile.all, &self.vars(), if told { 1 } else { MOST_COUNTED }).await?;
        Ok(match rows.total {
            Some(total) => (total, false),
            None => (rows.rows.len() as u64, rows.more),
        })
    }

    /// Items by id, without their records; those that are gone are left out.
    pub(crate) async fn many(&self, ids: &[CiId]) -> Result<Vec<Ci>> {
        let by_ids = &self.profile.by_ids;
        let mut found = Vec::new();
        for class in self.profile.look_through(None)? {
            let these: Vec<Value> = ids
                .iter()
                .filter(|id| id.native_class.as_ref().is_none_or(|native| *native == class.native))
                .filter(|id| !found.iter().any(|ci: &Ci| ci.id == id.whole))
                .map(|id| id.value(self.profile.ids.format))
                .collect();
            for batch in these.chunks(by_ids.most) {
                let vars = self.vars().with("ids", Value::from(batch));
                for row in self.rows(class, &by_ids.query, &vars, by_ids.most).await?.rows {
                    let ci = self.ci(Some(&class.native), &row)?;
                    // A query the system did not understand may give anything.
                    if ids.iter().any(|id| id.whole == ci.id) && !found.iter().any(|there: &Ci| there.id == ci.id) {
                        found.push(ci);
                    }
                }
            }
        }
        Ok(found)
    }

    /// The items a query finds in one class or all, as far as they pass.
    async fn matching(&self, query: &Query, vars: &Vars, class: Option<&str>, passes: impl Fn(&Ci) -> bool) -> Result<Vec<Ci>> {
        let mut found: Vec<Ci> = Vec::new();
        for class in self.profile.look_through(class)? {
            for row in &self.rows(class, query, vars, MOST_MATCHES).await?.rows {
                let ci = self.ci(Some(&class.native), row)?;
                if passes(&ci) && !found.iter().any(|there| there.id == ci.id) {
                    found.push(ci);
                }
            }
        }
        Ok(found)
    }

    /// The items with this serial number.
    pub(crate) async fn with_serial(&self, serial: &str, class: Option<&str>) -> Result<Vec<Ci>> {
        let query = self.profile.by_serial.as_ref().ok_or_else(|| self.cannot("find items by serial number"))?;
        let vars = self.vars().with("serial", serial);
        self.matching(query, &vars, class, |ci| ci.serial.as_deref().is_some_and(|have| have.eq_ignore_ascii_case(serial))).await
    }

    /// The items with this address.
    pub(crate) async fn with_ip(&self, ip: &str, class: Option<&str>) -> Result<Vec<Ci>> {
        let lookup = self.profile.by_ip.as_ref().ok_or_else(|| self.cannot("find items by address"))?;
        let ip: std::net::IpAddr = ip.parse().map_err(|_| Error::invalid("`ip` is not an IP address"))?;
        let ip = ip.to_string();
        let vars = self.vars().with("ip", ip.as_str());
        let Some(list) = &lookup.list else {
            return self.matching(&lookup.query, &vars, class, |ci| ci.ips.contains(&ip)).await;
        };
        let mut found: Vec<Ci> = Vec::new();
        for row in self.list(list, &self.pairs(&[&lookup.query], &vars), MOST_MATCHES).await?.rows {
            for id in self.address_owners(lookup, &row)? {
                let named =
                    class.is_none_or(|class| self.profile.class(class).is_ok_and(|class| id.native_class.as_deref() == Some(class.native.as_str())));
                if named
                    && !found.iter().any(|there| there.id == id.whole)
                    && let Some(ci) = self.get(&id).await?
                {
                    found.push(Ci { attributes: None, ..ci });
                }
            }
        }
        Ok(found)
    }

    fn address_owners(&self, lookup: &IpLookup, row: &Value) -> Result<Vec<CiId>> {
        let mut ids = Vec::new();
        for end in &lookup.ends {
            let class = end.class.as_deref().map(|class| self.profile.class(class)).transpose()?;
            for id in end.id.as_ref().map(|at| texts(&at.select(row))).unwrap_or_default() {
                ids.push(self.id(&self.whole_id(class.map_or("", |class| class.native.as_str()), &id))?);
            }
        }
        Ok(ids)
    }

    /// The items of an owner.
    pub(crate) async fn owned_by(&self, owner: &str, most: usize) -> Result<(Vec<Ci>, bool)> {
        let query = self.profile.owner.owned_by.as_ref().ok_or_else(|| self.cannot("list the items of an owner"))?;
        let vars = self.vars().with("owner", owner);
        let mut found = Vec::new();
        let mut more = false;
        for class in self.profile.look_through(None)? {
            let rows = self.rows(class, query, &vars, (most - found.len()).max(1)).await?;
            more |= rows.more;
            for row in &rows.rows {
                let ci = self.ci(Some(&class.native), row)?;
                // As everywhere, a query that was not understood may give anything.
                if ci.owner.as_deref().is_some_and(|have| have.eq_ignore_ascii_case(owner)) {
                    found.push(ci);
                }
            }
            if found.len() >= most {
                more |= found.len() > most;
                found.truncate(most);
                break;
            }
        }
        Ok((found, more))
    }

    /// Items of a class that changed since then, oldest first.
    pub(crate) async fn changed(&self, class: &str, since: &str, start: usize, most: usize) -> Result<(Vec<Ci>, bool)> {
        let query = self.profile.changed_since.as_ref().ok_or_else(|| self.cannot("list what changed"))?;
        let class = self.profile.class(class)?;
        let time = self.system_time(since).ok_or_else(|| Error::invalid("`since` is not an RFC 3339 time"))?;
        let rows = self.rows_from(class, query, &self.vars().with("since", time), start, most).await?;
        let items = rows.rows.iter().map(|row| self.ci(Some(&class.native), row)).collect::<Result<Vec<_>>>()?;
        Ok((items, rows.more))
    }

    /// What was done to an item.
    pub(crate) async fn history(&self, id: &CiId, most: usize) -> Result<(Vec<Value>, bool)> {
        let history = self.profile.history.as_ref().ok_or_else(|| self.cannot("tell the history of an item"))?;
        let vars = self.about(id)?;
        let rows = self.list(&self.path(&history.list, &vars)?, &self.pairs(&[&history.query], &vars), most).await?;
        let told = |row: &Value| {
            let text = |at: &Option<crate::profile::At>| at.as_ref().and_then(|at| at.text(row)).filter(|text| self.says(text));
            let value = |at: &Option<crate::profile::At>| at.as_ref().map(|at| at.select(row)).unwrap_or_default();
            json!({
                "id": history.id.text(row), "at": history.at.text(row).map(|time| self.rfc3339(&time)),
                "actor": text(&history.actor), "action": text(&history.action), "before": value(&history.before), "after": value(&history.after),
            })
        };
        Ok((rows.rows.iter().map(told).collect(), rows.more))
    }

    /// Retires an item, or brings it back.
    pub(crate) async fn set_retired(&self, id: &CiId, retired: bool) -> Result<Ci> {
        let life = self.profile.update.retire.as_ref().ok_or_else(|| self.cannot("retire items; change the status your installation uses for it"))?;
        if let Some(class) = id.native_class.as_ref().and_then(|native| self.profile.native_class(native))
            && life.not_for.contains(&class.name)
        {
            return Err(Error::unsupported(format!("items of class `{}` have no state in {}", class.name, self.profile.name)));
        }
        let wanted = if retired { &life.retired } else { &life.active };
        let values = self.body(&Value::Object(wanted.clone()), &self.vars())?;
        let missing: Vec<String> = {
            let mut names = Vec::new();
            Tree::parse(&Value::Object(wanted.clone())).placeholders(&mut names);
            names.into_iter().filter(|name| self.vars_has(name).is_none()).collect()
        };
        if let Some(name) = missing.first() {
            return Err(Error::config(format!(
                "connection `{}` needs the setting `{name}`: the values of this state are {}'s own",
                self.cx.connection.id, self.profile.name
            )));
        }
        let now = self.get(id).await?.ok_or_else(|| self.missing(id))?;
        let values = values.as_object().cloned().unwrap_or_default();
        if self.differing(&now, &values).is_empty() {
            return Ok(Ci { attributes: None, ..now });
        }
        self.update(id, Value::Object(values), None).await.map(|ci| Ci { attributes: None, ..ci })
    }

    fn vars_has(&self, name: &str) -> Option<Value> {
        connector_manifest::template::Args::value(&self.vars(), name).cloned()
    }

    /// Which item is meant: by serial number, then by name, then by address, whatever is known.
    pub(crate) async fn identify(&self, wanted: &Wanted) -> Result<Known> {
        let class = wanted.class.as_deref();
        if let (Some(serial), true) = (&wanted.serial, self.profile.by_serial.is_some()) {
            match known("serial", self.with_serial(serial, class).await?) {
                Known::Nothing => {}
                found => return Ok(found),
            }
        }
        if let Some(name) = &wanted.name {
            let vars = self.vars().with("name", name.as_str()).with("names", json!([name]));
            let found = self.matching(&self.profile.by_name, &vars, class, |ci| ci.name.eq_ignore_ascii_case(name)).await?;
            // Another serial number of its own makes it another item of the same name.
            let same = |ci: &Ci| match (&ci.serial, &wanted.serial) {
                (Some(have), Some(want)) => have.eq_ignore_ascii_case(want),
                _ => true,
            };
            match known("name", found.into_iter().filter(same).collect()) {
                Known::Nothing => {}
                found => return Ok(found),
            }
        }
        if let (Some(ip), true) = (&wanted.ip, self.profile.by_ip.is_some()) {
            return Ok(known("ip", self.with_ip(ip, class).await?));
        }
        Ok(Known::Nothing)
    }

    /// Makes an item what it should be: creates it, changes what differs, or leaves it. With `dry` it only tells.
    pub(crate) async fn reconcile(&self, wanted: &Wanted, attributes: &Map<String, Value>, dry: bool) -> Result<Reconciled> {
        let class: &Class = self.profile.class(wanted.class.as_deref().unwrap_or_default())?;
        match self.identify(wanted).await? {
            Known::Several(by, all) => {
                let ids: Vec<String> = all.into_iter().map(|ci| ci.id).collect();
                Err(Error::new(ErrorKind::Conflict, format!("{} items have this {by}; nobody can tell which is meant", ids.len()))
                    .with_context("ids", ids.join(", ")))
            }
            Known::One(by, ci) => {
                let id = self.id(&ci.id)?;
                let now = self.get(&id).await?.ok_or_else(|| self.missing(&id))?;
                let changed = self.differing(&now, attributes);
                let now = Ci { attributes: None, ..now };
                if changed.is_empty() {
                    return Ok(Reconciled { outcome: "unchanged", by: Some(by), ci: Some(now), changed });
                }
                let values: Map<String, Value> =
                    attributes.iter().filter(|(name, _)| changed.contains(name)).map(|(k, v)| (k.clone(), v.clone())).collect();
                let ci = if dry { now } else { Ci { attributes: None, ..self.update(&id, Value::Object(values), None).await? } };
                Ok(Reconciled { outcome: "updated", by: Some(by), ci: Some(ci), changed })
            }
            Known::Nothing => {
                let name = wanted.name.as_deref().ok_or_else(|| Error::invalid("`name` is needed to create what nobody knows yet"))?;
                if !class.creatable {
                    return Err(Error::invalid(format!("items of class `{}` cannot be created here; see cmdb_list_classes", class.name)));
                }
                let mut values = attributes.clone();
                if let (Some(field), Some(serial)) = (&self.profile.create.serial, &wanted.serial) {
                    values.entry(field.clone()).or_insert_with(|| serial.as_str().into());
                }
                let ci = if dry { None } else { Some(self.make(class, name, values).await?) };
                Ok(Reconciled { outcome: "created", by: None, ci, changed: attributes.keys().cloned().collect() })
            }
        }
    }

    /// The names of attributes whose values the item does not have.
    fn differing(&self, now: &Ci, wanted: &Map<String, Value>) -> Vec<String> {
        let record = now.attributes.as_ref().map(|record| self.profile.fields.attributes.select(record)).unwrap_or_default();
        wanted.iter().filter(|(name, value)| !same(record.get(name.as_str()).unwrap_or(&Value::Null), value)).map(|(name, _)| name.clone()).collect()
    }

    /// That this system has no way to do something.
    pub(crate) fn cannot(&self, what: &str) -> Error {
        Error::unsupported(format!("the profile `{}` has no way to {what}; cmdb_capabilities tells what it can", self.profile.profile))
    }
}

fn known(by: &'static str, mut found: Vec<Ci>) -> Known {
    match found.len() {
        0 => Known::Nothing,
        1 => found.pop().map_or(Known::Nothing, |ci| Known::One(by, Box::new(ci))),
        _ => Known::Several(by, found),
    }
}

/// Whether a value of a record is the wanted one. Systems show choices and references as objects and write numbers as texts.
fn same(have: &Value, want: &Value) -> bool {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null => Some(String::new()),
        _ => None,
    };
    if have == want || (text(have).is_some() && text(have) == text(want)) {
        return true;
    }
    match have {
        Value::Object(map) => {
            ["value", "id", "slug", "name"].iter().any(|key| map.get(*key).is_some_and(|inner| text(inner).is_some() && text(inner) == text(want)))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_references_and_numbers_as_texts_are_the_same_value() {
        assert!(same(&json!({ "value": "active", "label": "Active" }), &json!("active")));
        assert!(same(&json!({ "id": 3, "name": "Shop" }), &json!(3)));
        assert!(same(&json!("6"), &json!(6)) && same(&Value::Null, &json!("")));
        assert!(!same(&json!({ "value": "active" }), &json!("offline")) && !same(&json!("1"), &json!({ "value": "1" })));
    }
}
