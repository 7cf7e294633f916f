//! ServiceNow tables as the fake keeps them: rows of strings, a class tree, references by sys_id. It refuses to talk HTTP.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// One row.
pub(super) type Row = BTreeMap<String, String>;

/// Table and the table it extends.
const TABLES: [(&str, &str); 20] = [
    ("cmdb_ci", ""),
    ("cmdb_ci_hardware", "cmdb_ci"),
    ("cmdb_ci_computer", "cmdb_ci_hardware"),
    ("cmdb_ci_server", "cmdb_ci_computer"),
    ("cmdb_ci_linux_server", "cmdb_ci_server"),
    ("cmdb_ci_win_server", "cmdb_ci_server"),
    ("cmdb_ci_netgear", "cmdb_ci_hardware"),
    ("cmdb_ci_storage_server", "cmdb_ci_server"),
    ("cmdb_ci_vm_instance", "cmdb_ci"),
    ("cmdb_ci_cluster", "cmdb_ci"),
    ("cmdb_ci_appl", "cmdb_ci"),
    ("cmdb_ci_service", "cmdb_ci"),
    ("cmdb_ci_business_app", "cmdb_ci_service"),
    ("cmdb_rel_ci", ""),
    ("cmdb_rel_type", ""),
    ("task", ""),
    ("incident", "task"),
    ("task_ci", ""),
    ("sys_user_group", ""),
    ("sys_user", ""),
];

/// Reference fields and the table they point to.
const REFERENCES: [(&str, &str); 9] = [
    ("support_group", "sys_user_group"),
    ("assignment_group", "sys_user_group"),
    ("parent", "cmdb_ci"),
    ("child", "cmdb_ci"),
    ("type", "cmdb_rel_type"),
    ("cmdb_ci", "cmdb_ci"),
    ("ci_item", "cmdb_ci"),
    ("task", "task"),
    ("caller_id", "sys_user"),
];

/// Labels of choice values, for `sysparm_display_value`.
const CHOICES: [(&str, &str, &str); 10] = [
    ("operational_status", "1", "Operational"),
    ("operational_status", "2", "Non-Operational"),
    ("operational_status", "6", "Retired"),
    ("state", "1", "New"),
    ("state", "2", "In Progress"),
    ("state", "6", "Resolved"),
    ("state", "7", "Closed"),
    ("impact", "1", "1 - High"),
    ("impact", "2", "2 - Medium"),
    ("impact", "3", "3 - Low"),
];

/// The table's own name, if it is served.
pub(super) fn table(name: &str) -> Option<&'static str> {
    TABLES.iter().find(|(t, _)| *t == name).map(|(t, _)| *t)
}

/// Whether a table is, or extends, another.
pub(super) fn extends(table: &str, base: &str) -> bool {
    let mut at = table;
    while !at.is_empty() {
        if at == base {
            return true;
        }
        at = TABLES.iter().find(|(t, _)| *t == at).map_or("", |(_, parent)| *parent);
    }
    false
}

/// All rows, by sys_id, with the table each lives in.
#[derive(Debug, Default)]
pub(super) struct Store {
    rows: BTreeMap<String, (&'static str, Row)>,
    order: Vec<String>,
    next: u64,
    incidents: u64,
}

/// How reference and choice values are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Display {
    Value,
    Label,
    Both,
}

/// `YYYY-MM-DD HH:MM:SS`, always UTC.
pub(super) fn stamp(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

impl Store {
    /// Makes a row and returns its sys_id.
    pub(super) fn insert(&mut self, table: &'static str, mut row: Row, now: Timestamp) -> String {
        self.next += 1;
        let sys_id = format!("{:08x}c0a80a0bb400{:012x}", 0x3a29_0000 + self.next, self.next);
        let at = stamp(now);
        for (field, value) in [("sys_id", sys_id.as_str()), ("sys_created_on", &at), ("sys_updated_on", &at), ("sys_mod_count", "0")] {
            row.insert(field.into(), value.into());
        }
        row.insert("sys_class_name".into(), table.into());
        if extends(table, "task") {
            self.incidents += 1;
            row.entry("number".into()).or_insert_with(|| format!("INC{:07}", 10_000 + self.incidents));
            row.entry("state".into()).or_insert_with(|| "1".into());
        }
        if extends(table, "cmdb_ci") {
            row.entry("operational_status".into()).or_insert_with(|| "1".into());
        }
        self.rows.insert(sys_id.clone(), (table, row));
        self.order.push(sys_id.clone());
        sys_id
    }

    /// Writes fields of a row.
    pub(super) fn update(&mut self, sys_id: &str, fields: Row, now: Timestamp) {
        if let Some((_, row)) = self.rows.get_mut(sys_id) {
            row.extend(fields);
            let count = row.get("sys_mod_count").and_then(|c| c.parse::<u64>().ok()).unwrap_or(0) + 1;
            row.insert("sys_mod_count".into(), count.to_string());
            row.insert("sys_updated_on".into(), stamp(now));
        }
    }

    pub(super) fn remove(&mut self, sys_id: &str) {
        self.rows.remove(sys_id);
        self.order.retain(|id| id != sys_id);
    }

    /// A row that is in `base` or a table extending it.
    pub(super) fn get(&self, base: &str, sys_id: &str) -> Option<&Row> {
        self.rows.get(sys_id).filter(|(t, _)| extends(t, base)).map(|(_, row)| row)
    }

    /// The table a row lives in.
    pub(super) fn table_of(&self, sys_id: &str) -> Option<&'static str> {
        self.rows.get(sys_id).map(|(t, _)| *t)
    }

    /// Rows of a table and of those extending it, oldest first.
    pub(super) fn all<'a>(&'a self, base: &'a str) -> impl Iterator<Item = &'a Row> {
        self.order.iter().filter_map(move |id| self.get(base, id))
    }

    /// The value of a field, following dots through references.
    pub(super) fn value<'a>(&'a self, row: &'a Row, path: &str) -> &'a str {
        match path.split_once('.') {
            None => row.get(path).map(String::as_str).unwrap_or_default(),
            Some((field, rest)) => match self.target(row, field) {
                Some(target) => self.value(target, rest),
                None => "",
            },
        }
    }

    fn target(&self, row: &Row, field: &str) -> Option<&Row> {
        let (_, table) = REFERENCES.iter().find(|(f, _)| *f == field)?;
        self.get(table, row.get(field)?)
    }

    /// The display value of a field.
    fn label(&self, row: &Row, field: &str) -> String {
        let value = row.get(field).cloned().unwrap_or_default();
        if let Some(target) = self.target(row, field) {
            return ["name", "number", "user_name"].iter().find_map(|f| target.get(*f)).cloned().unwrap_or(value);
        }
        CHOICES.iter().find(|(f, v, _)| *f == field && *v == value).map_or(value, |(.., label)| (*label).to_owned())
    }

    /// A row as the Table API shows it.
    pub(super) fn show(&self, row: &Row, fields: Option<&[String]>, display: Display, links: bool, base: &str) -> Value {
        let mut out = Map::new();
        let names: Vec<String> = match fields {
            Some(fields) => fields.to_vec(),
            None => row.keys().cloned().collect(),
        };
        for name in names {
            // An unknown field is simply absent.
            let known = row.contains_key(&name) || name.contains('.');
            if !known {
                continue;
            }
            let value = self.value(row, &name).to_owned();
            let label = if name.contains('.') { value.clone() } else { self.label(row, &name) };
            let reference = REFERENCES.iter().find(|(f, _)| *f == name).filter(|_| !value.is_empty());
            let link = reference.map(|(_, table)| format!("{base}/api/now/table/{table}/{value}"));
            let shown = match (display, link) {
                (Display::Value, Some(link)) if links => json!({"link": link, "value": value}),
                (Display::Label, Some(link)) if links => json!({"display_value": label, "link": link}),
                (Display::Both, Some(link)) if links => json!({"display_value": label, "value": value, "link": link}),
                (Display::Value, _) => json!(value),
                (Display::Label, _) => json!(label),
                (Display::Both, _) => json!({"display_value": label, "value": value}),
            };
            out.insert(name, shown);
        }
        Value::Object(out)
    }
}
