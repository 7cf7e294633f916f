//! Relations of many items at once: which requests find them, and which way round they go.

use std::collections::{BTreeSet, HashMap, HashSet};

use connector_core::Result;
use serde_json::{Value, json};

use super::{CiId, System, texts};
use crate::{
    neutral::{Direction, End, Kind, Relation},
    profile::{Class, IdStyle, Query, Rule, RuleEnd},
};

/// A scan reads no more records than this; a custom field that cannot be filtered is a convention of small installations.
const MOST_SCANNED: usize = 5_000;
/// The relations of one batch of items beyond these are not read.
const MOST_RELATIONS: usize = 5_000;

/// The relations of a CMDB during one call. Remembers what it scanned and which names it looked up.
pub(crate) struct Graph<'a> {
    system: System<'a>,
    scanned: HashMap<usize, Vec<Value>>,
    named: HashMap<String, Vec<End>>,
    /// A list was longer than what is read of one.
    pub(crate) cut: bool,
}

impl<'a> Graph<'a> {
    pub(crate) fn new(system: System<'a>) -> Self {
        Self { system, scanned: HashMap::new(), named: HashMap::new(), cut: false }
    }

    /// The relations in which these items depend on others, or others on them. `names` are the items' names, as far as they are known.
    pub(crate) async fn relations(
        &mut self,
        ids: &[CiId],
        direction: Direction,
        kinds: &HashSet<Kind>,
        names: &HashMap<String, String>,
    ) -> Result<Vec<Relation>> {
        let asked: HashSet<&str> = ids.iter().map(|id| id.whole.as_str()).collect();
        let profile = self.system.profile.clone();
        let mut found: Vec<Relation> = Vec::new();
        for (number, rule) in profile.relations.iter().enumerate() {
            if rule.kind.is_some_and(|kind| !kinds.contains(&kind)) {
                continue;
            }
            let both = rule.kind == Some(Kind::ConnectedTo) || rule.kinds.values().any(|kind| kind.reverse);
            let mut records = Vec::new();
            if rule.whole {
                records = self.all(number, rule).await?;
            } else {
                if both || direction == Direction::Dependencies {
                    records.extend(self.records(rule, &rule.by_from, self.natives(rule, &rule.from), ids).await?);
                }
                if both || direction == Direction::Dependents {
                    if let Some(by_to) = &rule.by_to {
                        records.extend(self.records(rule, by_to, self.natives(rule, &rule.to), ids).await?);
                    }
                    if rule.scan && direction == Direction::Dependents {
                        records.extend(self.scan(number, rule, ids, names).await?);
                    }
                }
            }
            for record in &records {
                found.extend(self.read(rule, record).await?);
            }
        }
        let mut seen = HashSet::new();
        found.retain(|relation| {
            let near = match direction {
                _ if relation.kind == Kind::ConnectedTo => asked.contains(&*relation.from.id) || asked.contains(&*relation.to.id),
                Direction::Dependencies => asked.contains(&*relation.from.id),
                Direction::Dependents => asked.contains(&*relation.to.id),
            };
            near && kinds.contains(&relation.kind) && seen.insert((relation.from.id.clone(), relation.to.id.clone(), relation.kind))
        });
        Ok(found)
    }

    /// The native classes one end of a rule may have; empty: any.
    fn natives(&self, rule: &Rule, end: &RuleEnd) -> Vec<String> {
        let of = |name: &Option<String>| name.as_ref().and_then(|name| self.system.profile.class(name).ok()).map(|class| class.native.clone());
        // The `from` of a class's own records is the record itself.
        let own = (std::ptr::eq(end, &rule.from) && end.native_class.is_none()).then(|| of(&rule.class)).flatten();
        of(&end.class).or(own).into_iter().collect()
    }

    /// The records whose asked end is among `ids`, a batch at a time.
    async fn records(&mut self, rule: &Rule, query: &Query, natives: Vec<String>, ids: &[CiId]) -> Result<Vec<Value>> {
        let mut records = Vec::new();
        // Ids that are unique within a class only are asked for class by class.
        let classes: BTreeSet<Option<&str>> = ids.iter().map(|id| id.native_class.as_deref()).collect();
        for native_class in classes {
            if native_class.is_some_and(|class| !natives.is_empty() && !natives.iter().any(|native| native == class)) {
                continue;
            }
            let format = self.system.profile.ids.format;
            let these: Vec<Value> = ids.iter().filter(|id| id.native_class.as_deref() == native_class).map(|id| id.value(format)).collect();
            for batch in these.chunks(self.system.profile.by_ids.most) {
                let vars = self.system.vars().with("ids", Value::from(batch)).with("native_class", native_class.map_or(Value::Null, Value::from));
                records.extend(self.rows(rule, query, &vars, MOST_RELATIONS).await?);
            }
        }
        Ok(records)
    }

    async fn rows(&mut self, rule: &Rule, query: &Query, vars: &super::Vars, most: usize) -> Result<Vec<Value>> {
        let class: Option<&Class> = rule.class.as_ref().and_then(|name| self.system.profile.classes.0.iter().find(|class| class.name == *name));
        let path = class.map(|class| class.list.as_str()).or(rule.list.as_deref()).unwrap_or_default();
        let mut pairs = self.system.pairs(&[&rule.query, query], vars);
        if let Some(class) = class {
            pairs.extend(class.query.clone());
        }
        if let Some(edges) = &rule.edges {
            let Some(value) = self.system.read(path, &pairs).await? else { return Ok(Vec::new()) };
            let Some(Value::Object(map)) = edges.get(&value) else { return Ok(Vec::new()) };
            let each = |(source, targets): (&String, &Value)| -> Vec<Value> {
                targets.as_array().into_iter().flatten().map(|target| json!({ "source": source, "target": target })).collect()
            };
            let records: Vec<Value> = map.iter().flat_map(each).collect();
            self.cut |= records.len() > most;
            return Ok(records.into_iter().take(most).collect());
        }
        let rows = self.system.list(path, &pairs, most).await?;
        self.cut |= rows.more;
        Ok(rows.rows)
    }

    /// The records of a class that name one of the items. The class is read once per walk.
    async fn scan(&mut self, number: usize, rule: &Rule, ids: &[CiId], names: &HashMap<String, String>) -> Result<Vec<Value>> {
        let all = self.all(number, rule).await?;
        let wanted: HashSet<String> = ids.iter().filter_map(|id| names.get(&id.whole)).map(|name| name.to_lowercase()).collect();
        let told = |record: &Value| rule.to.name.as_ref().map(|at| texts(&at.select(record))).unwrap_or_default();
        Ok(all.into_iter().filter(|record| told(record).iter().any(|name| wanted.contains(&name.to_lowercase()))).collect())
    }

    /// All records of a rule, read once per walk.
    async fn all(&mut self, number: usize, rule: &Rule) -> Result<Vec<Value>> {
        if let Some(known) = self.scanned.get(&number) {
            return Ok(known.clone());
        }
        let all = self.rows(rule, &Query::new(), &self.system.vars(), MOST_SCANNED).await?;
        self.scanned.insert(number, all.clone());
        Ok(all)
    }

    /// The relations a record holds.
    async fn read(&mut self, rule: &Rule, record: &Value) -> Result<Vec<Relation>> {
        let native = rule.native.as_ref().and_then(|at| at.text(record)).filter(|text| !text.is_empty());
        let meaning = native.as_ref().and_then(|native| rule.kinds.get(native));
        let kind = rule.kind.or(meaning.map(|meaning| meaning.kind)).unwrap_or(Kind::Other);
        let reverse = meaning.is_some_and(|meaning| meaning.reverse);
        let native = (kind == Kind::Other).then_some(native).flatten();
        let own_class = rule.class.as_deref();
        let froms = self.ends(&rule.from, own_class, record).await?;
        let tos = self.ends(&rule.to, None, record).await?;
        let mut relations = Vec::new();
        for from in &froms {
            for to in tos.iter().filter(|to| to.id != from.id) {
                let (from, to) = if reverse { (to.clone(), from.clone()) } else { (from.clone(), to.clone()) };
                relations.push(Relation { from, to, kind, native: native.clone() });
            }
        }
        Ok(relations)
    }

    /// What one end of a record points at: nothing, one item, or several.
    async fn ends(&mut self, end: &RuleEnd, own_class: Option<&str>, record: &Value) -> Result<Vec<End>> {
        let names = end.name.as_ref().map(|at| texts(&at.select(record))).unwrap_or_default();
        if let Some(at) = &end.reference {
            return Ok(texts(&at.select(record)).iter().filter_map(|text| self.pointed_at(text, names.first())).collect());
        }
        let Some(at) = &end.id else {
            let mut ends = Vec::new();
            for name in names {
                ends.extend(self.by_name(&name).await?);
            }
            return Ok(ends);
        };
        let profile = self.system.profile;
        let told = end.native_class.as_ref().and_then(|at| at.text(record)).filter(|text| !text.is_empty());
        let declared = end.class.as_deref().or(own_class).and_then(|name| profile.class(name).ok()).map(|class| class.native.clone());
        let native_class = told.or(declared);
        if profile.ids.style == IdStyle::Typed && native_class.as_ref().is_none_or(|class| profile.native_class(class).is_none()) {
            // It points at something this profile has no class for, such as a rack.
            return Ok(Vec::new());
        }
        let ids = texts(&at.select(record));
        let matched = names.len() == ids.len();
        let class = native_class.as_deref().map(|native| profile.class_name(native));
        let ends = ids.into_iter().filter(|id| !id.is_empty()).enumerate().map(|(number, id)| End {
            id: self.system.whole_id(native_class.as_deref().unwrap_or_default(), &id),
            name: matched.then(|| names[number].clone()).filter(|name| !name.is_empty()),
            class: class.clone(),
        });
        Ok(ends.collect())
    }

    /// What `Server::12` points at, if the profile knows the class.
    fn pointed_at(&self, text: &str, name: Option<&String>) -> Option<End> {
        let (native, id) = text.split_once("::")?;
        let class = self.system.profile.native_class(native)?;
        Some(End { id: self.system.whole_id(native, id), name: name.filter(|name| !name.is_empty()).cloned(), class: Some(class.name.clone()) })
    }

    /// The items of this name, looked up once per walk.
    async fn by_name(&mut self, name: &str) -> Result<Vec<End>> {
        if let Some(known) = self.named.get(name) {
            return Ok(known.clone());
        }
        let vars = self.system.vars().with("name", name).with("names", json!([name]));
        let mut found = Vec::new();
        for class in self.system.profile.look_through(None)? {
            for row in self.system.rows(class, &self.system.profile.by_name, &vars, 10).await?.rows {
                let ci = self.system.ci(Some(&class.native), &row)?;
                if ci.name.eq_ignore_ascii_case(name) {
                    found.push(End { id: ci.id, name: Some(ci.name), class: Some(ci.class) });
                }
            }
            // The first class that has the name is meant, as in cmdb_find_ci_by_name.
            if !found.is_empty() {
                break;
            }
        }
        self.named.insert(name.to_owned(), found.clone());
        Ok(found)
    }
}
