//! The org as the fake keeps it: object types with their fields, records, and the vendor's rules about what may be written. It refuses to talk
//! HTTP; a broken rule comes back as a [`Refused`].

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A field of an object type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    /// The vendor's word for its type.
    pub(super) kind: &'static str,
    /// Must be there when a record is created.
    pub(super) required: bool,
}

/// An object type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) prefix: &'static str,
    pub(super) fields: &'static [Field],
}

const fn f(name: &'static str, kind: &'static str) -> Field {
    Field { name, kind, required: false }
}

const fn must(name: &'static str, kind: &'static str) -> Field {
    Field { name, kind, required: true }
}

/// What every record has.
pub(super) const COMMON: [Field; 5] =
    [f("Id", "id"), f("IsDeleted", "boolean"), f("CreatedDate", "datetime"), f("LastModifiedDate", "datetime"), f("SystemModstamp", "datetime")];

/// The object types of this org. `Hub_Id__c` is the External ID field an integration adds.
pub(super) const KINDS: [Kind; 13] = [
    Kind {
        name: "Account",
        prefix: "001",
        fields: &[
            must("Name", "string"),
            f("Industry", "picklist"),
            f("Phone", "phone"),
            f("Website", "url"),
            f("AnnualRevenue", "currency"),
            f("NumberOfEmployees", "int"),
            f("OwnerId", "reference"),
            f("BillingAddress", "address"),
            f("Hub_Id__c", "string"),
        ],
    },
    Kind {
        name: "Contact",
        prefix: "003",
        fields: &[
            must("LastName", "string"),
            f("FirstName", "string"),
            f("Name", "string"),
            f("Email", "email"),
            f("Phone", "phone"),
            f("Title", "string"),
            f("OwnerId", "reference"),
            f("AccountId", "reference"),
            f("HasOptedOutOfEmail", "boolean"),
            f("Hub_Id__c", "string"),
        ],
    },
    Kind {
        name: "Lead",
        prefix: "00Q",
        fields: &[
            must("LastName", "string"),
            must("Company", "string"),
            f("FirstName", "string"),
            f("Email", "email"),
            f("Status", "picklist"),
            f("Hub_Id__c", "string"),
        ],
    },
    Kind {
        name: "Opportunity",
        prefix: "006",
        fields: &[
            must("Name", "string"),
            must("StageName", "picklist"),
            must("CloseDate", "date"),
            f("Amount", "currency"),
            f("OwnerId", "reference"),
            f("AccountId", "reference"),
            f("Hub_Id__c", "string"),
        ],
    },
    Kind {
        name: "Case",
        prefix: "500",
        fields: &[
            f("Subject", "string"),
            f("Status", "picklist"),
            f("Priority", "picklist"),
            f("Description", "textarea"),
            f("ContactId", "reference"),
            f("AccountId", "reference"),
            f("Hub_Id__c", "string"),
        ],
    },
    Kind { name: "CaseComment", prefix: "00a", fields: &[must("ParentId", "reference"), f("CommentBody", "textarea"), f("IsPublished", "boolean")] },
    Kind {
        name: "Task",
        prefix: "00T",
        fields: &[f("Subject", "string"), f("Status", "picklist"), f("WhatId", "reference"), f("WhoId", "reference")],
    },
    Kind { name: "Event", prefix: "00U", fields: &[f("Subject", "string"), f("StartDateTime", "datetime"), f("EndDateTime", "datetime")] },
    Kind { name: "Campaign", prefix: "701", fields: &[must("Name", "string"), f("Status", "picklist")] },
    Kind {
        name: "CampaignMember",
        prefix: "00v",
        fields: &[must("CampaignId", "reference"), f("ContactId", "reference"), f("LeadId", "reference"), f("Status", "picklist")],
    },
    Kind { name: "Product2", prefix: "01t", fields: &[must("Name", "string"), f("ProductCode", "string"), f("IsActive", "boolean")] },
    Kind { name: "User", prefix: "005", fields: &[must("LastName", "string"), f("Name", "string"), f("Username", "string"), f("Email", "email")] },
    Kind {
        name: "ContentVersion",
        prefix: "068",
        fields: &[must("Title", "string"), must("PathOnClient", "string"), f("VersionData", "base64"), f("FirstPublishLocationId", "reference")],
    },
];

/// Picklists that are restricted.
const PICKLISTS: [(&str, &[&str]); 2] =
    [("StageName", &["Prospecting", "Negotiation", "Closed Won", "Closed Lost"]), ("Priority", &["High", "Medium", "Low"])];

/// Days a deleted record stays in the recycle bin.
const BIN_DAYS: i64 = 15;

/// The object type of this name, in any case.
pub(super) fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name.eq_ignore_ascii_case(name))
}

impl Kind {
    /// The field of this name, in any case.
    pub(super) fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().chain(&COMMON).find(|field| field.name.eq_ignore_ascii_case(name))
    }

    /// All fields.
    pub(super) fn all(&self) -> impl Iterator<Item = &'static Field> + use<> {
        COMMON.iter().chain(self.fields)
    }
}

/// A rule that was broken: the vendor's code, its words, the fields.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    pub(super) status: u16,
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) fields: Vec<String>,
}

impl Refused {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: 400, code, message: message.into(), fields: Vec::new() }
    }

    pub(super) fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    fn on(mut self, field: &str) -> Self {
        self.fields.push(field.to_owned());
        self
    }

    /// As collections, trees and saves tell it.
    pub(super) fn item(&self) -> Value {
        json!({"statusCode": self.code, "message": self.message, "fields": self.fields})
    }
}

/// One record.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) kind: &'static Kind,
    pub(super) id: String,
    pub(super) fields: Map<String, Value>,
    pub(super) created: Timestamp,
    pub(super) modified: Timestamp,
    pub(super) deleted: Option<Timestamp>,
}

impl Record {
    /// A field's value; null if it is empty.
    pub(super) fn get(&self, field: &str) -> Value {
        match field {
            "Id" => self.id.clone().into(),
            "IsDeleted" => self.deleted.is_some().into(),
            "CreatedDate" => shown(self.created).into(),
            "LastModifiedDate" | "SystemModstamp" => shown(self.modified).into(),
            "Name" if matches!(self.kind.name, "Contact" | "User") => {
                let part = |name: &str| self.fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
                format!("{} {}", part("FirstName"), part("LastName")).trim().to_owned().into()
            }
            other => self.fields.get(other).cloned().unwrap_or_default(),
        }
    }

    /// `attributes`.
    pub(super) fn attributes(&self) -> Value {
        json!({"type": self.kind.name, "url": format!("/services/data/v66.0/sobjects/{}/{}", self.kind.name, self.id)})
    }
}

/// `2026-01-02T10:00:00.000+0000`.
pub(super) fn shown(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%3f+0000").to_string()
}

/// The whole org.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) records: BTreeMap<String, Record>,
    pub(super) next: u64,
    /// Records another transaction holds; writing them fails with `UNABLE_TO_LOCK_ROW` so many times.
    pub(super) locked: BTreeMap<String, u32>,
    /// What outbound messages tell of, in order.
    pub(super) told: Vec<String>,
}

impl Store {
    /// A fresh id of 18 characters: prefix, instance, number, and the three that tell upper case from lower.
    pub(super) fn id(&mut self, prefix: &str) -> String {
        self.next += 1;
        let short = format!("{prefix}xx{:010}", self.next);
        let tail = case_tail(&short);
        short + &tail
    }

    /// A live record by id, 15 or 18 characters.
    pub(super) fn find(&self, kind: &Kind, id: &str) -> Result<&Record, Refused> {
        let known = |record: &&Record| record.kind.name == kind.name;
        let record = self.by_id(id).filter(known);
        match record {
            Some(record) if record.deleted.is_none() => Ok(record),
            Some(_) => Err(Refused::new("ENTITY_IS_DELETED", "entity is deleted").status(404)),
            None if !matches!(id.len(), 15 | 18) => {
                Err(Refused::new("MALFORMED_ID", format!("Provided external ID field does not exist or is not accessible: {id}")).status(400))
            }
            None => Err(Refused::new("NOT_FOUND", "The requested resource does not exist").status(404)),
        }
    }

    fn by_id(&self, id: &str) -> Option<&Record> {
        match id.len() {
            18 => self.records.get(id),
            15 => self.records.range(id.to_owned()..).next().map(|(_, record)| record).filter(|record| record.id.starts_with(id)),
            _ => None,
        }
    }

    /// Live records whose external id field has this value.
    pub(super) fn by_external(&self, kind: &Kind, field: &str, value: &str) -> Result<Vec<String>, Refused> {
        if field.eq_ignore_ascii_case("Id") {
            return Ok(self.find(kind, value).map(|record| vec![record.id.clone()]).unwrap_or_default());
        }
        let Some(field) = kind.field(field).filter(|field| field.name == "Hub_Id__c") else {
            return Err(Refused::new("NOT_FOUND", "Provided external ID field does not exist or is not accessible").status(404));
        };
        let fits = |record: &&Record| record.kind.name == kind.name && record.deleted.is_none() && record.get(field.name) == value;
        Ok(self.records.values().filter(fits).map(|record| record.id.clone()).collect())
    }

    /// Checks values against the fields; unknown ones are refused as ones nobody may see.
    fn checked(&self, kind: &'static Kind, fields: &Map<String, Value>, own: Option<&str>) -> Result<Map<String, Value>, Refused> {
        let mut checked = Map::new();
        for (name, value) in fields.iter().filter(|(name, _)| *name != "attributes") {
            let Some(field) = kind.field(name) else {
                let message = format!("No such column '{name}' on sobject of type {}", kind.name);
                return Err(Refused::new("INVALID_FIELD", message).on(name));
            };
            let read_only = COMMON.iter().any(|common| common.name == field.name) || (field.name == "Name" && kind.name == "Contact");
            if read_only || field.kind == "address" {
                let message = format!("Unable to create/update fields: {}. Please check the security settings of this field", field.name);
                return Err(Refused::new("INVALID_FIELD_FOR_INSERT_UPDATE", message).on(field.name));
            }
            checked.insert(field.name.to_owned(), self.value(kind, field, value, own)?);
        }
        Ok(checked)
    }

    fn value(&self, kind: &Kind, field: &Field, value: &Value, own: Option<&str>) -> Result<Value, Refused> {
        let text = match value {
            Value::Null => return Ok(Value::Null),
            Value::String(text) if text.is_empty() => return Ok(Value::Null),
            Value::String(text) => text.clone(),
            Value::Object(_) | Value::Array(_) => {
                return Err(Refused::new("JSON_PARSER_ERROR", format!("Cannot deserialize value of {}", field.name)));
            }
            other => other.to_string(),
        };
        let wrong = |code, what: &str| Err(Refused::new(code, format!("{}: {what}", field.name)).on(field.name));
        match field.kind {
            "boolean" => return text.parse::<bool>().map(Value::from).or_else(|_| wrong("JSON_PARSER_ERROR", "not a boolean")),
            "int" => return text.parse::<i64>().map(Value::from).or_else(|_| wrong("JSON_PARSER_ERROR", "not a number")),
            "currency" => return text.parse::<f64>().map(Value::from).or_else(|_| wrong("JSON_PARSER_ERROR", "not a number")),
            "email" if !text.contains('@') => return wrong("INVALID_EMAIL_ADDRESS", "invalid email address"),
            "string" if text.chars().count() > 80 && field.name != "Subject" => {
                return wrong("STRING_TOO_LONG", "data value too large (max length=80)");
            }
            "reference" if self.by_id(&text).is_none_or(|record| record.deleted.is_some()) => {
                return wrong("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id");
            }
            "picklist" => {
                if let Some((_, values)) = PICKLISTS.iter().find(|(name, _)| *name == field.name)
                    && !values.contains(&text.as_str())
                {
                    return wrong("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", "bad value for restricted picklist field");
                }
            }
            _ => {}
        }
        if field.name == "Hub_Id__c"
            && let Some(other) = self.by_external(kind, field.name, &text)?.into_iter().find(|id| Some(id.as_str()) != own)
        {
            let message = format!("duplicate value found: {} duplicates value on record with id: {other}", field.name);
            return Err(Refused::new("DUPLICATE_VALUE", message).on(field.name));
        }
        Ok(text.into())
    }

    /// Creates a record.
    pub(super) fn create(&mut self, kind: &'static Kind, fields: &Map<String, Value>, now: Timestamp) -> Result<String, Refused> {
        let checked = self.checked(kind, fields, None)?;
        let absent: Vec<&str> =
            kind.fields.iter().filter(|field| field.required && checked.get(field.name).is_none_or(Value::is_null)).map(|field| field.name).collect();
        if !absent.is_empty() {
            let mut refused = Refused::new("REQUIRED_FIELD_MISSING", format!("Required fields are missing: [{}]", absent.join(", ")));
            refused.fields = absent.iter().map(|name| (*name).to_owned()).collect();
            return Err(refused);
        }
        // The org's duplicate rule: a contact's address is used once.
        if let Some(email) = checked.get("Email").and_then(Value::as_str).filter(|_| kind.name == "Contact") {
            let same = |record: &&Record| record.kind.name == "Contact" && record.deleted.is_none() && record.get("Email") == email;
            if self.records.values().any(|record| same(&record)) && fields.get("attributes").is_none_or(|a| a["allowSave"] != true) {
                return Err(Refused::new("DUPLICATES_DETECTED", "Use one of these records?"));
            }
        }
        if kind.name == "CampaignMember" {
            let same = |record: &Record| {
                ["CampaignId", "ContactId", "LeadId"].iter().all(|name| record.get(name) == checked.get(*name).cloned().unwrap_or_default())
            };
            if self.records.values().any(|record| record.kind.name == kind.name && record.deleted.is_none() && same(record)) {
                return Err(Refused::new("DUPLICATE_VALUE", "Already a campaign member."));
            }
        }
        let id = self.id(kind.prefix);
        let fields = checked.into_iter().filter(|(_, value)| !value.is_null()).collect();
        self.records.insert(id.clone(), Record { kind, id: id.clone(), fields, created: now, modified: now, deleted: None });
        self.told.push(id.clone());
        Ok(id)
    }

    /// Changes a record.
    pub(super) fn update(&mut self, kind: &'static Kind, id: &str, fields: &Map<String, Value>, now: Timestamp) -> Result<String, Refused> {
        let id = self.find(kind, id)?.id.clone();
        let mut fields = fields.clone();
        fields.retain(|name, _| !name.eq_ignore_ascii_case("id"));
        let checked = self.checked(kind, &fields, Some(&id))?;
        self.unlocked(&id)?;
        if let Some(record) = self.records.get_mut(&id) {
            for (name, value) in checked {
                if value.is_null() {
                    record.fields.shift_remove(&name)
                } else {
                    record.fields.insert(name, value)
                };
            }
            record.modified = now;
        }
        self.told.push(id.clone());
        Ok(id)
    }

    /// Moves a record to the recycle bin.
    pub(super) fn delete(&mut self, kind: &Kind, id: &str, now: Timestamp) -> Result<String, Refused> {
        let id = self.find(kind, id)?.id.clone();
        self.unlocked(&id)?;
        if let Some(record) = self.records.get_mut(&id) {
            (record.deleted, record.modified) = (Some(now), now);
        }
        Ok(id)
    }

    /// Creates or changes the record with this external id; true if it was created.
    pub(super) fn upsert(
        &mut self,
        kind: &'static Kind,
        by: (&str, &str),
        fields: &Map<String, Value>,
        now: Timestamp,
    ) -> Result<(String, bool), Refused> {
        let (field, value) = by;
        match self.by_external(kind, field, value)?.as_slice() {
            [] => {
                let mut fields = fields.clone();
                fields.insert(field.to_owned(), value.into());
                self.create(kind, &fields, now).map(|id| (id, true))
            }
            [id] => self.update(kind, &id.clone(), fields, now).map(|id| (id, false)),
            _ => Err(Refused::new("DUPLICATE_EXTERNAL_ID", "more than one record found for external id field").status(300)),
        }
    }

    /// The type of a record by its id.
    pub(super) fn kind_of(&self, id: &str) -> Option<&'static Kind> {
        KINDS.iter().find(|kind| id.starts_with(kind.prefix))
    }

    fn unlocked(&mut self, id: &str) -> Result<(), Refused> {
        match self.locked.get_mut(id) {
            Some(left) if *left > 0 => {
                *left -= 1;
                Err(Refused::new("UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access to this record"))
            }
            _ => Ok(()),
        }
    }

    /// Drops what has been in the recycle bin for too long.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        let old = |record: &Record| record.deleted.is_some_and(|at| now.as_second() - at.as_second() > BIN_DAYS * 86_400);
        let gone: BTreeSet<String> = self.records.values().filter(|record| old(record)).map(|record| record.id.clone()).collect();
        self.records.retain(|id, _| !gone.contains(id));
    }
}

/// The three characters that make an id safe where case does not count.
fn case_tail(short: &str) -> String {
    const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345";
    let tail = short.as_bytes().chunks(5).take(3).map(|five| {
        let bits = five.iter().enumerate().filter(|(_, byte)| byte.is_ascii_uppercase()).fold(0, |bits, (at, _)| bits | (1_usize << at));
        char::from(LETTERS[bits])
    });
    tail.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_carry_their_case() {
        assert_eq!(case_tail("00Dxx0000001gPL"), "EAY");
        let mut store = Store::default();
        assert_eq!(store.id("003"), "003xx0000000001AAA");
    }
}
