//! Making and removing relations between items, as far as the profile says how.

use std::collections::{HashMap, HashSet};

use connector_core::{Error, Result};
use serde_json::Value;

use super::{CiId, Graph, System, Vars};
use crate::{
    neutral::{Direction, Kind, Relation},
    profile::{Relate, RuleEnd},
};

/// Records of one relation beyond these are not looked at.
const MOST_RECORDS: usize = 100;

impl System<'_> {
    /// Makes `from` depend on `to`, unless it does; `false`: it did.
    pub(crate) async fn relate(&self, from: &CiId, to: &CiId, kind: Kind) -> Result<(bool, Relation)> {
        let rule = self.way(from, to, kind)?;
        if let Some(there) = self.related(from, to, kind).await? {
            return Ok((false, there));
        }
        let vars = self.relation_vars(rule, from, to).await?;
        self.send_relation(&rule.create, &vars).await?;
        let made = self.related(from, to, kind).await?;
        let made = made.ok_or_else(|| Error::protocol(format!("{} accepted the relation, but does not show it", self.profile.name)))?;
        Ok((true, made))
    }

    /// Removes a relation; `None`: there was none.
    pub(crate) async fn unrelate(&self, from: &CiId, to: &CiId, kind: Kind) -> Result<Option<Relation>> {
        let rule = self.way(from, to, kind)?;
        let Some(there) = self.related(from, to, kind).await? else { return Ok(None) };
        let vars = self.relation_vars(rule, from, to).await?;
        let Some(record) = &rule.record else {
            self.send_relation(&rule.remove, &vars).await?;
            return Ok(Some(there));
        };
        let rows = self.list(&record.list, &self.pairs(&[&record.query], &vars), MOST_RECORDS).await?;
        for row in &rows.rows {
            let is = |end: &RuleEnd, id: &CiId| {
                let class = end.native_class.as_ref().and_then(|at| at.text(row));
                end.id.as_ref().and_then(|at| at.text(row)).is_some_and(|native| native == id.native) && (class.is_none() || class == id.native_class)
            };
            if !is(&record.from, from) || !is(&record.to, to) {
                continue;
            }
            if let Some(id) = record.id.text(row) {
                self.send_relation(&rule.remove, &vars.clone().with("relation", id)).await?;
            }
        }
        Ok(Some(there))
    }

    async fn send_relation(&self, write: &crate::profile::Write, vars: &Vars) -> Result<()> {
        let body = self.body(&write.body, vars)?;
        let pairs = self.pairs(&[&write.query], vars);
        self.write(write.method, &self.path(&write.path, vars)?, &pairs, (!body.is_null()).then_some(&body), Vec::new()).await.map(|_| ())
    }

    /// The relation of this kind between the two, if there is one.
    async fn related(&self, from: &CiId, to: &CiId, kind: Kind) -> Result<Option<Relation>> {
        let kinds = HashSet::from([kind]);
        let found = Graph::new(*self).relations(std::slice::from_ref(from), Direction::Dependencies, &kinds, &HashMap::new()).await?;
        Ok(found.into_iter().find(|relation| relation.from.id == from.whole && relation.to.id == to.whole))
    }

    /// How relations of this kind between such items are made.
    fn way(&self, from: &CiId, to: &CiId, kind: Kind) -> Result<&Relate> {
        if from == to {
            return Err(Error::invalid("an item cannot depend on itself"));
        }
        let fits = |wanted: &Option<String>, id: &CiId| match (wanted, &id.native_class) {
            (Some(wanted), Some(native)) => self.profile.class_name(native) == *wanted,
            _ => true,
        };
        let mut ways = self.profile.relate.iter().filter(|way| way.kind == kind);
        ways.find(|way| fits(&way.from_class, from) && fits(&way.to_class, to)).ok_or_else(|| {
            let each = self.profile.relate.iter().map(|way| {
                let class = |class: &Option<String>| class.clone().unwrap_or_else(|| "any".into());
                format!("{} ({} to {})", way.kind.as_str(), class(&way.from_class), class(&way.to_class))
            });
            let all = each.collect::<Vec<_>>().join(", ");
            let all = if all.is_empty() { "none".to_owned() } else { all };
            Error::unsupported(format!(
                "{} cannot make this relation through the profile `{}`; it can make {all}",
                self.profile.name, self.profile.profile
            ))
        })
    }

    async fn relation_vars(&self, rule: &Relate, from: &CiId, to: &CiId) -> Result<Vars> {
        let format = self.profile.ids.format;
        let class = |id: &CiId| id.native_class.clone().map_or(Value::Null, Value::from);
        let mut vars = self
            .vars()
            .with("from", from.value(format))
            .with("to", to.value(format))
            .with("from_class", class(from))
            .with("to_class", class(to))
            .with("from_one", self.one(from)?);
        if let Some(lookup) = &rule.lookup {
            let found = self.read(&self.path(&lookup.path, &vars)?, &self.pairs(&[&lookup.query], &vars)).await?.unwrap_or_default();
            let rows = lookup.items.get(&found).and_then(Value::as_array).cloned().unwrap_or_default();
            let id = rows.first().and_then(|row| lookup.id.text(row));
            vars = vars.with("type", id.ok_or_else(|| Error::config(format!("{} has no type of relation for this kind", self.profile.name)))?);
        }
        Ok(vars)
    }
}
