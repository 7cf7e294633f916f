//! The shapes that the hub itself fixes.

use serde_json::{Value, json};

/// A schema by name.
pub(super) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn text(says: &str) -> Value {
    json!({ "type": "string", "description": says })
}

fn maybe(says: &str) -> Value {
    json!({ "type": ["string", "null"], "description": says })
}

fn number(says: &str) -> Value {
    json!({ "type": "integer", "minimum": 0, "description": says })
}

fn texts(says: &str) -> Value {
    json!({ "type": "array", "items": { "type": "string" }, "description": says })
}

fn object(required: &[&str], properties: Value) -> Value {
    json!({ "type": "object", "required": required, "properties": properties })
}

/// What goes in: nothing else is taken.
fn taken(required: &[&str], properties: Value) -> Value {
    json!({ "type": "object", "required": required, "properties": properties, "additionalProperties": false })
}

/// All of them, by name.
pub(super) fn all() -> Value {
    let event = json!({
        "seq": number("Its place in the log."), "tenant": text("Its tenant."), "workspace": text("Its workspace."),
        "connector": text("The connector it came through."), "connection": text("The connection whose secret proved it."),
        "event_id": text("Unique per tenant and connection."), "event_type": text("Its kind."),
        "order_key": maybe("Events with the same key are handled in order."),
        "flags": texts("Oddities."), "received_at": number("Unix milliseconds."), "duplicates": number("How often it came again."),
        "payload": { "description": "What the vendor sent, if it was asked for." },
    });
    let job = json!({
        "id": number("Its id."), "tenant": text("Its tenant."), "workspace": text("Its workspace."), "queue": text("events, outbox, …"),
        "subject": text("What it is about."), "key": maybe("Its idempotency key in the queue."),
        "order_key": maybe("Jobs with the same key go in order."),
        "state": { "enum": ["pending", "leased", "done", "dead", "discarded"] }, "attempts": number("Attempts started."),
        "max_attempts": number("Attempts it has."), "not_before": number("Unix milliseconds."), "created_at": number("Unix milliseconds."),
        "last_error": { "type": ["object", "null"],
        "description": "Why the last attempt failed: class and message, without payloads and secrets." },
        "connector": maybe("The connector, where one is shown alone."), "connection": maybe("The connection, where one is shown alone."),
        "event": { "anyOf": [reference("Event"), { "type": "null" }] }, "payload": { "description": "What is in it, if it was asked for." },
    });
    json!({
        "Anything": { "description": "JSON whose shape belongs to its subject." },
        "Problem": object(&["type", "title", "status", "detail"], json!({
            "type": text("urn:connectors:problem:CLASS"), "title": text("The class."), "status": number("The status."),
            "detail": text("What happened."),
            "advice": text("What to do."), "connector": maybe("Where."), "operation": maybe("At what."),
            "vendor_status": { "type": ["integer", "null"] },
            "vendor_code": maybe("The vendor's code."), "vendor_request_id": maybe("The vendor's id of the request."),
            "context": { "type": "object" },
        })),
        "Tool": object(&["name", "effect"], json!({
            "name": text("Its name."), "connector": maybe("Its connector; null for a view's tool, which has `view` and `over` instead."),
            "view": text("The view it is of."),
            "over": { "type": "array", "items": { "type": "object" }, "description": "The connections that can do it, and the tool each calls." },
            "effect": { "enum": ["read", "write", "destructive"] },
            "approval": {}, "summary": text("What it does."), "input_schema": { "type": "object" }, "output_schema": {},
            "scopes": texts("What it needs."),
            "repeat": {}, "limit_class": {},
        })),
        "Execute": taken(&[], json!({
            "connection": text("Which connection, if there are several."), "workspace": text("default if not said."),
            "params": { "type": "object" },
            "dry_run": { "type": "boolean" }, "idempotency_key": text("The same key is the same call, for seven days."),
            "cursor": text("Where the next page begins."),
        })),
        "Executed": object(&["status"], json!({
            "status": { "enum": ["done", "dry_run"] }, "result": {}, "request": {}, "attempts": number("Attempts made."),
            "cached": { "type": "boolean" },
            "next_cursor": text("Where the next page begins."), "failed_items": { "type": "array" },
        })),
        "Waiting": object(&["status"], json!({
            "status": { "enum": ["pending_approval", "queued"] }, "approval_id": text("The approval to be given."), "expires_at": {}, "job_id": {},
            "reason": {},
        })),
        "Event": object(&["seq", "connector", "connection", "event_id", "event_type", "received_at"], event),
        "Job": object(&["id", "queue", "subject", "state", "attempts"], job),
        "Which": taken(&[], json!({
            "queue": text("For dead letters: only this queue's."), "state": { "const": "dead" }, "connector": text("Only this connector's."),
            "connection": text("Only this connection's."), "type": text("Only this kind of event, or this tool's."),
            "flag": text("Only events with this oddity."),
            "since": text("Only what came since then."), "after": number("Only what comes after this number."),
            "limit": number("At most this many, up to 1000."), "all": { "type": "boolean",
            "description": "Everything; needed if nothing else is said." },
        })),
        "Count": object(&["count", "done"], json!({
            "count": number("How many."), "done": text("What was done."), "next_after": { "type": ["integer", "null"],
            "description": "Where to go on; null if that was all." },
        })),
        "Message": object(&["id", "topic", "type", "workspace", "at", "data"], json!({
            "seq": number("Its number, over WebSocket."), "id": text("The same id is the same message."), "topic": text("Dotted words."),
            "type": text("The kind of the event it comes from."), "workspace": text("Its workspace."), "at": number("Unix milliseconds."),
            "data": {},
        })),
        "Connect": taken(&[], json!({
            "connection": text("Which connection, if there are several."), "tools": texts("The tools it is for."), "scopes": texts("More scopes."),
            "next": text("A path on this hub to go on to."),
        })),
        "Credential": taken(&["name", "fields"], json!({
            "name": text("Its name."), "fields": { "type": "object", "additionalProperties": { "type": "string", "writeOnly": true } },
            "connector": text("The connector it is for."), "scheme": text("How it authenticates."), "workspaces": texts("Who may use it."),
            "scopes": texts("What it may do."), "owner": text("Who looks after it."), "expires": text("2027-01-31 or 2027-01-31T12:00:00Z"),
            "rotate_every": text("90d"),
        })),
        "Grant": taken(&["workspaces"], json!({ "workspaces": texts("Who may use it.") })),
        "Rotate": taken(&["fields"], json!({
            "fields": { "type": "object", "additionalProperties": { "type": "string", "writeOnly": true } },
            "overlap": text("How long the old ones stay good: 24h"),
        })),
        "KeyOrder": taken(&["role"], json!({
            "role": { "enum": ["viewer", "operator", "approver", "admin"] }, "workspaces": texts("What it is good for; `*` is all of them."),
            "name": text("What it is for."),
        })),
    })
}
