//! The small lookups beside the CRM: owners, pipelines and account details.

use super::error;
use crate::exchange::{Answer, Reply, Req};
use serde_json::{Value, json};

const OWNERS: [(&str, &str, &str, &str); 3] =
    [("71", "dana@contoso.example", "Dana", "Okafor"), ("72", "emil@contoso.example", "Emil", "Varga"), ("73", "fay@contoso.example", "Fay", "Lund")];

pub(super) fn owners(req: &Req) -> Answer {
    let limit = req.q_usize("limit", 100).clamp(1, 500);
    let after = req.q("after").unwrap_or("0").to_owned();
    let mut matching = OWNERS.iter().filter(|(id, email, ..)| *id > after.as_str() && req.q("email").is_none_or(|e| e == *email));
    let results: Vec<Value> = matching
        .by_ref()
        .take(limit)
        .map(|(id, email, first, last)| {
            json!({"id": id, "email": email, "type": "PERSON", "firstName": first, "lastName": last,
                "userId": id.parse::<u64>().unwrap_or(0) + 1000, "teams": [], "archived": false,
                "createdAt": "2025-01-01T00:00:00.000Z", "updatedAt": "2025-01-01T00:00:00.000Z"})
        })
        .collect();
    let mut body = json!({"results": results});
    if let (Some(_), Some(last)) = (matching.next(), results.last()) {
        body["paging"] = json!({"next": {"after": last["id"]}});
    }
    Ok(Reply::json(200, &body))
}

pub(super) fn owner(id: &str) -> Answer {
    let req = Req::new(http::Method::GET, String::new(), "/", http::HeaderMap::new(), bytes::Bytes::new());
    let all: Value = owners(&req).ok().and_then(|r| serde_json::from_slice(&r.body).ok()).unwrap_or_default();
    let found = all["results"].as_array().into_iter().flatten().find(|o| o["id"] == id);
    found.map(|o| Reply::json(200, o)).ok_or_else(|| error(404, "OBJECT_NOT_FOUND", "Owner not found"))
}

pub(super) fn pipelines(kind: &str) -> Answer {
    let stage = |n: usize, id: &str, label: &str, metadata: Value| json!({"id": id, "label": label, "displayOrder": n, "metadata": metadata, "archived": false});
    let pipeline = match kind {
        "deals" => {
            let stages = [
                ("appointmentscheduled", "Appointment scheduled", "0.2", "false"),
                ("qualifiedtobuy", "Qualified to buy", "0.4", "false"),
                ("contractsent", "Contract sent", "0.9", "false"),
                ("closedwon", "Closed won", "1.0", "true"),
                ("closedlost", "Closed lost", "0.0", "true"),
            ];
            let stages: Vec<Value> = stages
                .iter()
                .enumerate()
                .map(|(n, (id, label, p, closed))| stage(n, id, label, json!({"isClosed": closed, "probability": p})))
                .collect();
            json!({"id": "default", "label": "Sales pipeline", "displayOrder": 0, "stages": stages, "archived": false})
        }
        "tickets" => {
            let stages = [("1", "New", "OPEN"), ("2", "Waiting on contact", "OPEN"), ("3", "Waiting on us", "OPEN"), ("4", "Closed", "CLOSED")];
            let stages: Vec<Value> =
                stages.iter().enumerate().map(|(n, (id, label, state))| stage(n, id, label, json!({"ticketState": state}))).collect();
            json!({"id": "0", "label": "Support pipeline", "displayOrder": 0, "stages": stages, "archived": false})
        }
        _ => return Err(error(400, "VALIDATION_ERROR", "Only deals and tickets have pipelines here")),
    };
    Ok(Reply::json(200, &json!({"results": [pipeline]})))
}

pub(super) fn account() -> Reply {
    Reply::json(
        200,
        &json!({"portalId": super::PORTAL, "accountType": "STANDARD", "timeZone": "Europe/Berlin", "companyCurrency": "EUR",
            "additionalCurrencies": [], "utcOffset": "+01:00", "utcOffsetMilliseconds": 3_600_000,
            "uiDomain": "app.hubspot.com", "dataHostingLocation": "eu1"}),
    )
}
