//! Property definitions: list, get, create, change, archive. A custom property must exist before the first write that uses it.

use super::store::Store;
use super::{HubSpot, error, json_body};
use crate::exchange::{Answer, Reply, Req};
use crate::ledger::{EffectKind, Entry};
use serde_json::{Value, json};

const DATA_TYPES: [&str; 7] = ["bool", "date", "datetime", "enumeration", "number", "phone_number", "string"];

impl HubSpot {
    pub(super) fn properties(&self, store: &mut Store, kind: &'static str, rest: &[&str], req: &Req) -> Answer {
        let missing = || error(404, "OBJECT_NOT_FOUND", "Property does not exist");
        let effect = |name: &str, what: &str| {
            let entry = Entry::new("hubspot", EffectKind::PropertyChanged, format!("{kind}.{name}"));
            self.shared.record(entry.detail(json!(what)));
        };
        let definitions = store.properties.entry(kind).or_default();
        match (req.method.as_str(), rest) {
            ("GET", []) => Ok(Reply::json(200, &json!({"results": definitions.values().collect::<Vec<_>>()}))),
            ("GET", [name]) => definitions.get(*name).map(|d| Reply::json(200, d)).ok_or_else(missing),
            ("POST", []) => {
                let body = json_body(req)?;
                let name = body["name"].as_str().unwrap_or_default().to_owned();
                let legal = name.starts_with(|c: char| c.is_ascii_lowercase())
                    && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
                if !legal || !body["label"].is_string() || !body["groupName"].is_string() {
                    return Err(error(400, "VALIDATION_ERROR", "name (lower-case snake), label and groupName are required"));
                }
                if !body["type"].as_str().is_some_and(|t| DATA_TYPES.contains(&t)) || !body["fieldType"].is_string() {
                    return Err(error(400, "VALIDATION_ERROR", "type and fieldType are required and must be known"));
                }
                if definitions.contains_key(&name) {
                    return Err(error(409, "OBJECT_ALREADY_EXISTS", &format!("A property named '{name}' already exists.")));
                }
                let unique = definitions.values().filter(|d| d["hasUniqueValue"] == true).count();
                if body["hasUniqueValue"] == true && unique >= 10 {
                    return Err(error(400, "VALIDATION_ERROR", "An object may have at most 10 unique properties"));
                }
                let definition = definition(&body);
                definitions.insert(name.clone(), definition.clone());
                effect(&name, "created");
                Ok(Reply::json(201, &definition))
            }
            ("PATCH", [name]) => {
                let body = json_body(req)?;
                let stored = definitions.get_mut(*name).ok_or_else(missing)?;
                for key in ["label", "description", "groupName", "fieldType", "options", "hidden", "formField", "displayOrder"] {
                    if let Some(value) = body.get(key) {
                        stored[key] = value.clone();
                    }
                }
                let reply = stored.clone();
                effect(name, "changed");
                Ok(Reply::json(200, &reply))
            }
            ("DELETE", [name]) => {
                if definitions.get(*name).is_some_and(|d| d["hubspotDefined"] == true) {
                    return Err(error(400, "VALIDATION_ERROR", "A property HubSpot defined cannot be archived"));
                }
                if definitions.remove(*name).is_some() {
                    effect(name, "archived");
                }
                Ok(Reply::empty(204))
            }
            ("POST", ["batch", "read"]) => {
                let body = json_body(req)?;
                let names = body["inputs"].as_array().cloned().unwrap_or_default();
                let results: Vec<&Value> = names.iter().filter_map(|i| definitions.get(i["name"].as_str()?)).collect();
                Ok(Reply::json(200, &json!({"status": "COMPLETE", "results": results})))
            }
            _ => Err(error(404, "OBJECT_NOT_FOUND", "No such property operation")),
        }
    }
}

/// A full definition from what a caller sent.
pub(super) fn definition(body: &Value) -> Value {
    let or = |key: &str, default: Value| if body[key].is_null() { default } else { body[key].clone() };
    json!({
        "name": body["name"],
        "label": body["label"],
        "type": body["type"],
        "fieldType": body["fieldType"],
        "description": or("description", json!("")),
        "groupName": body["groupName"],
        "options": or("options", json!([])),
        "displayOrder": or("displayOrder", json!(-1)),
        "calculated": false,
        "externalOptions": false,
        "hasUniqueValue": or("hasUniqueValue", json!(false)),
        "hidden": or("hidden", json!(false)),
        "hubspotDefined": or("hubspotDefined", json!(false)),
        "formField": or("formField", json!(false)),
        "modificationMetadata": {"archivable": true, "readOnlyDefinition": false, "readOnlyValue": or("readOnly", json!(false))},
        "archived": false,
    })
}
