//! Items: find, read, create, change, and who is responsible for them.

use connector_core::{Error, ErrorKind, Result};
use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use super::{CiId, System, Vars, request::Rows};
use crate::{
    neutral::Ci,
    profile::{Class, Query},
};

/// Items of the same name beyond these are not looked at.
const MOST_NAMESAKES: usize = 200;

impl System<'_> {
    /// The rows of a class that a query finds.
    pub(crate) async fn rows(&self, class: &Class, query: &Query, vars: &Vars, most: usize) -> Result<Rows> {
        self.rows_from(class, query, vars, 0, most).await
    }

    /// The rows of a class that a query finds, from one on.
    pub(crate) async fn rows_from(&self, class: &Class, query: &Query, vars: &Vars, start: usize, most: usize) -> Result<Rows> {
        let vars = vars.clone().with("native_class", class.native.as_str());
        let mut pairs = self.pairs(&[&self.profile.query, query], &vars);
        pairs.extend(class.query.clone());
        self.list_from(&class.list, &pairs, start, most).await
    }

    /// Searches the classes one after the other until there are enough.
    pub(crate) async fn search(&self, text: &str, class: Option<&str>, most: usize) -> Result<(Vec<Ci>, bool)> {
        let vars = self.vars().with("text", text);
        let mut found = Vec::new();
        let mut more = false;
        for class in self.profile.look_through(class)? {
            let room = most - found.len();
            if room == 0 {
                // What is in the classes that were not asked is not known.
                return Ok((found, true));
            }
            let rows = self.rows(class, &self.profile.search, &vars, room).await?;
            more |= rows.more;
            for row in &rows.rows {
                let ci = self.ci(Some(&class.native), row)?;
                if !self.profile.search_is_in_name || ci.name.to_lowercase().contains(&text.to_lowercase()) {
                    found.push(ci);
                }
            }
        }
        Ok((found, more))
    }

    /// The item of exactly this name; the first class that has one wins.
    pub(crate) async fn find(&self, name: &str, class: Option<&str>) -> Result<Option<Ci>> {
        let vars = self.vars().with("name", name).with("names", json!([name]));
        for class in self.profile.look_through(class)? {
            let rows = self.rows(class, &self.profile.by_name, &vars, MOST_NAMESAKES).await?;
            let mut namesakes = Vec::new();
            for row in &rows.rows {
                let ci = self.ci(Some(&class.native), row)?;
                // A query the system did not understand may give anything.
                if ci.name.eq_ignore_ascii_case(name) {
                    namesakes.push(ci);
                }
            }
            match namesakes.len() {
                0 => {}
                1 => return Ok(namesakes.pop()),
                many => {
                    let ids: Vec<String> = namesakes.into_iter().map(|ci| ci.id).collect();
                    return Err(Error::new(ErrorKind::Conflict, format!("{many} items of class `{}` have this name; use an id", class.name))
                        .with_context("ids", ids.join(", ")));
                }
            }
        }
        Ok(None)
    }

    /// The path of one item.
    pub(crate) fn one(&self, id: &CiId) -> Result<String> {
        let class = match &id.native_class {
            Some(native) => self.profile.native_class(native),
            None => self.profile.look_through(None)?.first().copied(),
        };
        let class = class.ok_or_else(|| Error::internal("an id without a class passed the check"))?;
        let vars = self.vars().with("list", class.list.as_str()).with("native_class", class.native.as_str()).with("id", id.native.as_str());
        self.path(&self.profile.one, &vars)
    }

    /// The values requests about one item are filled with.
    pub(crate) fn about(&self, id: &CiId) -> Result<Vars> {
        Ok(self
            .vars()
            .with("id", id.value(self.profile.ids.format))
            .with("one", self.one(id)?)
            .with("native_class", id.native_class.clone().map_or(Value::Null, Value::from)))
    }

    /// One item with the system's own record; `None` if there is none or it may not be seen.
    pub(crate) async fn get(&self, id: &CiId) -> Result<Option<Ci>> {
        // Attributes are the point of reading one, so the short list of fields that lists use does not apply.
        let pairs = self.pairs(&[&self.profile.one_query], &self.about(id)?);
        let record = if self.profile.reads_one_by_query() {
            let Some(value) = self.read("", &pairs).await? else { return Ok(None) };
            // There is no address of one record: it comes alone or as a list with one row.
            let rows = match self.profile.record.select(&value) {
                Value::Array(rows) => rows,
                Value::Null => Vec::new(),
                one => vec![one],
            };
            let Some(record) = rows.into_iter().find(|row| self.profile.fields.id.text(row).is_some_and(|found| found == id.native)) else {
                return Ok(None);
            };
            record
        } else {
            let Some(value) = self.read(&self.one(id)?, &pairs).await? else { return Ok(None) };
            self.profile.record.select(&value)
        };
        let mut ci = self.ci(id.native_class.as_deref(), &record)?;
        ci.attributes = Some(record);
        Ok(Some(ci))
    }

    /// Who is responsible.
    pub(crate) async fn owners(&self, id: &CiId) -> Result<Vec<Value>> {
        let vars = self.about(id)?;
        let mut owners: Vec<Value> = Vec::new();
        let mut known = false;
        for request in &self.profile.owner.requests {
            let path = self.path(&request.path, &vars)?;
            let Some(value) = self.read(&path, &self.pairs(&[&request.query], &vars)).await? else { continue };
            known = true;
            let rows = match request.items.select(&value) {
                Value::Array(rows) => rows,
                Value::Null => Vec::new(),
                one => vec![one],
            };
            for row in rows {
                let text = |at: &crate::profile::At| at.text(&row).filter(|text| self.says(text));
                let Some(name) = text(&request.name) else { continue };
                let role = request.role.as_ref().and_then(text).or_else(|| request.role_is.clone());
                owners.push(
                    json!({ "id": request.id.as_ref().and_then(text), "name": name, "role": role, "email": request.email.as_ref().and_then(text) }),
                );
            }
        }
        if known { Ok(owners) } else { Err(self.missing(id)) }
    }

    /// Changes attributes, refusing to overwrite what somebody else wrote since `version`.
    pub(crate) async fn update(&self, id: &CiId, values: Value, version: Option<&str>) -> Result<Ci> {
        let update = &self.profile.update;
        let vars = self.about(id)?.with("values", values);
        let mut headers = Vec::new();
        match (&update.if_unchanged, version) {
            (Some(condition), Some(version)) => {
                // The version goes between quotes of a header.
                let version: String = version.chars().filter(|c| c.is_ascii_graphic() && *c != '"').collect();
                let value = condition.value.fill(|_| Some(version.as_str().into())).unwrap_or_default();
                let name = HeaderName::try_from(&condition.header).map_err(|_| Error::internal("the profile's header passed the check"))?;
                headers.push((name, HeaderValue::from_str(&value).map_err(|_| Error::invalid("`unless_changed_since` cannot be sent as a header"))?));
            }
            (None, Some(version)) => {
                let now = self.get(id).await?.ok_or_else(|| self.missing(id))?;
                if now.updated_at.is_none() {
                    return Err(self.cannot("tell whether somebody changed an item; leave `unless_changed_since` out"));
                }
                if now.updated_at.as_deref() != Some(self.rfc3339(version).as_str()) {
                    return Err(Error::new(ErrorKind::Conflict, "somebody changed the CI since it was read; read it again and decide"));
                }
            }
            (_, None) => {}
        }
        let body = self.body(&update.body, &vars)?;
        let reply = self.write(update.method, &self.path(&update.path, &vars)?, &[], Some(&body), headers).await?;
        match reply {
            Some(value) if !update.read_back => self.ci(id.native_class.as_deref(), &self.profile.record.select(&value)),
            _ => self.get(id).await?.ok_or_else(|| self.missing(id)),
        }
    }

    /// Creates an item, unless its class has one of this name.
    pub(crate) async fn create(&self, class: &str, name: &str, attributes: Map<String, Value>) -> Result<(bool, Ci)> {
        let class = self.profile.class(class)?;
        if !class.creatable {
            let all = self.profile.classes.0.iter().filter(|class| class.creatable).map(|class| class.name.as_str());
            return Err(Error::invalid(format!(
                "items of class `{}` cannot be created here; creatable are {}",
                class.name,
                all.collect::<Vec<_>>().join(", ")
            )));
        }
        if let Some(there) = self.find(name, Some(&class.name)).await? {
            return Ok((false, there));
        }
        self.make(class, name, attributes).await.map(|made| (true, made))
    }

    /// Creates an item without looking for it.
    pub(crate) async fn make(&self, class: &Class, name: &str, attributes: Map<String, Value>) -> Result<Ci> {
        let create = &self.profile.create;
        let mut values = attributes;
        values.insert(create.name.clone(), name.into());
        let vars = self
            .vars()
            .with("list", class.list.as_str())
            .with("native_class", class.native.as_str())
            .with("name", name)
            .with("values", Value::Object(values));
        let pairs = self.pairs(&[&create.query], &vars);
        let reply = self.write(create.method, &self.path(&create.path, &vars)?, &pairs, Some(&self.body(&create.body, &vars)?), Vec::new()).await?;
        let reply = reply.ok_or_else(|| Error::protocol("the CMDB's answer to a create is empty"))?;
        if let Some(failed) = create.failed.as_ref().filter(|failed| failed.at.get(&reply) == Some(&Value::Bool(true))) {
            let code = failed.code.text(&reply).unwrap_or_default();
            let kind = if failed.transient.contains(&code) { ErrorKind::Transient } else { ErrorKind::Invalid };
            return Err(Error::new(kind, "the CMDB did not accept the item").with_vendor_code(connector_core::redact::printable(&code, 80)));
        }
        let native = create.id.text(&reply).ok_or_else(|| Error::protocol("the CMDB's answer to a create has no id"))?;
        let id = self.id(&self.whole_id(&class.native, &native)).map_err(|error| error.with_kind(ErrorKind::Protocol))?;
        let made = self.get(&id).await?.ok_or_else(|| Error::protocol("the item that was just created cannot be read"))?;
        Ok(Ci { attributes: None, ..made })
    }

    /// That there is no such item.
    pub(crate) fn missing(&self, id: &CiId) -> Error {
        Error::new(ErrorKind::NotFound, format!("{} has no item `{}`, or the credential may not see it", self.profile.name, id.whole))
    }
}
