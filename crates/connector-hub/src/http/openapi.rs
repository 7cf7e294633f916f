//! `/openapi.json`: what is served, as OpenAPI 3.1, made from the route table.
//!
//! Owns one line of words per route. Refuses to describe what does not exist: paths, methods, ids and roles come from the table that the
//! router is made of, and a shape stands here only where the hub itself fixes one. What vendors reply is described by `/api/v1/tools`.

mod schemas;
mod words;

use axum::{http::header, response::IntoResponse};
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

use super::routes::{IdKind, Needs, Place, ROUTES, Route};
use words::{Reply, WORDS, Words};

/// The version of OpenAPI.
const VERSION: &str = "3.1.0";

static DOCUMENT: LazyLock<String> = LazyLock::new(|| document().to_string());

pub(super) async fn serve() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "public, max-age=300")], DOCUMENT.as_str())
}

/// The whole description.
fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let (path, catch_all) = public_path(route.path);
        let methods: &[&str] = if catch_all { &["POST", "GET"] } else { &[route.method] };
        for method in methods {
            paths.entry(path.clone()).or_insert_with(|| json!({}))[method.to_ascii_lowercase()] = operation(route, method, &path);
        }
    }
    json!({
        "openapi": VERSION,
        "info": {
            "title": "Connectors hub",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Tools, events and credentials of the systems a company runs on. What a tool takes and gives is in `GET /api/v1/tools`; \
                            every error is a problem of RFC 9457.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": {
                    "type": "http", "scheme": "bearer",
                    "description": "An API key: `Authorization: Bearer ck_…`. It is bound to a tenant, workspaces and a role.",
                },
                "session": {
                    "type": "apiKey", "in": "cookie", "name": "connectors_signin",
                    "description": "The session of one sign-in, in a cookie whose name goes on with the sign-in's own.",
                },
            },
            "schemas": schemas::all(),
            "responses": {
                "Problem": {
                    "description": "What happened, which class of error it is, and what to do.",
                    "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
                },
            },
        },
    })
}

/// The path as the outside sees it, and whether the router's is a catch-all.
fn public_path(path: &str) -> (String, bool) {
    match path.split_once("{*") {
        Some((before, _)) => (format!("{before}{{connector_id}}/{{workspace_id}}"), true),
        None => (path.to_owned(), false),
    }
}

fn words_of(route: &Route) -> Option<&'static Words> {
    WORDS.iter().find(|words| words.method == route.method && words.path == route.path)
}

fn operation(route: &Route, method: &str, path: &str) -> Value {
    let words = words_of(route);
    let mut parameters: Vec<Value> = path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| {
            let kind = route.ids.iter().find(|(_, place)| matches!(place, Place::Path(param) if *param == name)).map(|(kind, _)| *kind);
            let schema = json!({ "type": "string" });
            json!({ "name": name, "in": "path", "required": true, "schema": schema, "description": kind.map_or("", id_words) })
        })
        .collect();
    for (name, says) in words.map(|words| words.query).unwrap_or_default() {
        parameters.push(json!({ "name": name, "in": "query", "required": false, "schema": { "type": "string" }, "description": says }));
    }
    for (kind, place) in route.ids {
        if let Place::Query(name) = place
            && !parameters.iter().any(|known| known["in"] == "query" && known["name"] == *name)
        {
            parameters
                .push(json!({ "name": name, "in": "query", "required": false, "schema": { "type": "string" }, "description": id_words(*kind) }));
        }
    }
    let mut operation = json!({
        "operationId": operation_id(method, path),
        "summary": words.map_or("", |words| words.says),
        "tags": [tag(path)],
        "parameters": parameters,
        "security": security(route.needs),
        "responses": responses(route, words),
    });
    if let Needs::Key(role) = route.needs {
        operation["description"] = format!("Needs the role {role} or above.").into();
        operation["x-role"] = role.to_string().into();
    }
    if let Some(body) = words.and_then(|words| words.body) {
        operation["requestBody"] = json!({ "required": false, "content": { "application/json": { "schema": schemas::reference(body) } } });
    }
    operation
}

fn responses(route: &Route, words: Option<&Words>) -> Value {
    let (status, content) = match words.map_or(Reply::Json("Anything"), |words| words.reply) {
        Reply::Json(schema) => ("200", json!({ "application/json": { "schema": schemas::reference(schema) } })),
        Reply::List(schema) => ("200", json!({ "application/json": { "schema": { "type": "array", "items": schemas::reference(schema) } } })),
        Reply::Made(schema) => ("201", json!({ "application/json": { "schema": schemas::reference(schema) } })),
        Reply::Text(kind) => ("200", json!({ kind: { "schema": { "type": "string" } } })),
        Reply::Redirect => ("303", json!({})),
        Reply::Upgrade => ("101", json!({})),
    };
    let mut responses = Map::new();
    let mut good = json!({ "description": words.map_or("It was done.", |words| words.says) });
    if content.as_object().is_some_and(|content| !content.is_empty()) {
        good["content"] = content;
    }
    responses.insert(status.to_owned(), good);
    if route.path == "/api/v1/tools/{tool}/execute" {
        let schema = schemas::reference("Waiting");
        let waiting = json!({
            "description": "An approval is needed, or the call waits in the queue.",
            "content": { "application/json": { "schema": schema } },
        });
        responses.insert("202".into(), waiting);
    }
    if !matches!(route.needs, Needs::Public) {
        responses.insert("default".into(), json!({ "$ref": "#/components/responses/Problem" }));
    }
    responses.into()
}

fn security(needs: Needs) -> Value {
    match needs {
        Needs::Key(_) => json!([{ "key": [] }]),
        // With a ticket in the query neither is needed; the session comes from it.
        Needs::Session => json!([{ "key": [] }, { "session": [] }, {}]),
        Needs::Public | Needs::Signature => json!([]),
    }
}

fn operation_id(method: &str, path: &str) -> String {
    let words = path.split(['/', '-', '.']).filter(|part| !part.is_empty()).map(|part| part.trim_matches(['{', '}']));
    let name = words.collect::<Vec<_>>().join("_");
    format!("{}_{}", method.to_ascii_lowercase(), if name.is_empty() { "dashboard" } else { &name })
}

fn tag(path: &str) -> &str {
    let mut parts = path.split('/').filter(|part| !part.is_empty() && *part != "api" && *part != "v1");
    parts.next().filter(|part| !part.contains('.')).unwrap_or("hub")
}

fn id_words(kind: IdKind) -> &'static str {
    match kind {
        IdKind::Connector => "A connector.",
        IdKind::Tool => "A tool.",
        IdKind::Connection => "A connection.",
        IdKind::Credential => "A credential, by name.",
        IdKind::Approval => "An approval.",
        IdKind::Subscription => "A subscription of a vendor.",
        IdKind::DeadLetter => "A dead letter.",
        IdKind::Event => "An event, by number.",
        IdKind::Key => "An API key, by its public id.",
        IdKind::Ticket => "A one-time ticket.",
        IdKind::SignIn => "The state of a sign-in.",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn refs(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    match value {
                        Value::String(target) if key == "$ref" => found.push(target.clone()),
                        _ => refs(value, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| refs(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_route_is_in_it_with_its_role_and_its_ids_and_nothing_else_is() {
        let document = document();
        let mut known = BTreeSet::new();
        for route in ROUTES {
            let (path, catch_all) = public_path(route.path);
            let operation = &document["paths"][&path][route.method.to_ascii_lowercase()];
            assert!(operation.is_object(), "{route:?} is not described");
            assert!(words_of(route).is_some(), "{route:?} has no words: add a line to http/openapi/words.rs");
            let role = match route.needs {
                Needs::Key(role) => Value::from(role.to_string()),
                _ => Value::Null,
            };
            assert_eq!(operation["x-role"], role, "{route:?}");
            for (_, place) in route.ids {
                let (name, at) = match place {
                    Place::Path(name) => (name, "path"),
                    Place::Query(name) => (name, "query"),
                    Place::Body(_) => {
                        assert!(operation["requestBody"].is_object(), "{route:?} takes a body");
                        continue;
                    }
                };
                let there = operation["parameters"].as_array().unwrap().iter().any(|one| one["name"] == *name && one["in"] == at);
                assert!(there, "{route:?} takes `{name}` in its {at}");
            }
            known.insert((path.clone(), route.method.to_ascii_lowercase()));
            if catch_all {
                known.insert((path, "get".to_owned()));
            }
        }
        for (path, methods) in document["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys() {
                assert!(known.contains(&(path.clone(), method.clone())), "{method} {path} does not exist");
            }
        }
        for words in WORDS {
            assert!(
                ROUTES.iter().any(|route| route.method == words.method && route.path == words.path),
                "{} {} does not exist",
                words.method,
                words.path
            );
        }
    }

    #[test]
    fn it_is_sound_by_itself() {
        let document = document();
        let mut found = Vec::new();
        refs(&document, &mut found);
        assert!(!found.is_empty());
        for target in found {
            assert!(document.pointer(target.trim_start_matches('#')).is_some(), "{target} leads nowhere");
        }
        let mut ids = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{method} {path}: this operation id is there twice");
                let in_path: BTreeSet<&str> = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
                let parameters = operation["parameters"].as_array().unwrap();
                let named: BTreeSet<&str> = parameters.iter().filter(|one| one["in"] == "path").map(|one| one["name"].as_str().unwrap()).collect();
                assert_eq!(in_path, named, "{method} {path}");
                let all: BTreeSet<(&str, &str)> = parameters.iter().map(|one| (one["in"].as_str().unwrap(), one["name"].as_str().unwrap())).collect();
                assert_eq!(all.len(), parameters.len(), "{method} {path}: a parameter is there twice");
            }
        }
    }
}
