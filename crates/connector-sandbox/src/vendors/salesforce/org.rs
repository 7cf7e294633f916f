//! What there is in the org beside records: versions, limits, list views, actions, and reports with their runs.

use super::store::{Kind, kind, shown};
use super::{Salesforce, State, error, not_found, object};
use crate::exchange::{Answer, Reply, Req};
use crate::ledger::{EffectKind, Entry};
use crate::vendors::Shared;
use serde_json::{Value, json};

/// The one report of this org: its opportunities.
pub(super) const REPORT: &str = "00Oxx0000000001AAA";
/// A report shows no more rows.
const MOST_ROWS: usize = 2_000;

/// A run of a report in the background.
#[derive(Debug)]
pub(super) struct Run {
    about: Value,
    looks: u32,
    filters: Value,
}

pub(super) fn versions() -> Reply {
    let version = |label: &str, number: &str| json!({"label": label, "url": format!("/services/data/v{number}"), "version": number});
    Reply::json(200, &json!([version("Winter '26", "65.0"), version("Spring '26", "66.0")]))
}

pub(super) fn resources() -> Reply {
    let names = ["sobjects", "query", "queryAll", "search", "parameterizedSearch", "composite", "jobs", "analytics", "limits", "recent", "actions"];
    let all = names.iter().map(|name| ((*name).to_owned(), format!("/services/data/{}/{name}", super::VERSION).into()));
    Reply::json(200, &Value::Object(all.collect()))
}

pub(super) fn limits(used: u64) -> Reply {
    let left = super::DAILY.saturating_sub(used);
    Reply::json(
        200,
        &json!({"DailyApiRequests": {"Max": super::DAILY, "Remaining": left}, "DailyBulkV2QueryJobs": {"Max": 10_000, "Remaining": 10_000},
        "HourlySyncReportRuns": {"Max": 500, "Remaining": 500}, "HourlyAsyncReportRuns": {"Max": 1_200, "Remaining": 1_200}}),
    )
}

pub(super) fn recent(state: &State, req: &Req) -> Reply {
    let records = state.store.records.values().rev().filter(|record| record.deleted.is_none()).take(req.q_usize("limit", 200));
    let shown = records.map(|record| json!({"attributes": record.attributes(), "Id": record.id, "Name": record.get("Name")}));
    Reply::json(200, &shown.collect())
}

pub(super) fn list_views(kind: &Kind) -> Reply {
    let url = format!("/services/data/{}/sobjects/{}/listviews/00Bxx0000000001AAA", super::VERSION, kind.name);
    let view = json!({"id": "00Bxx0000000001AAA", "developerName": format!("All{}", kind.name), "label": "All", "soqlCompatible": true,
        "describeUrl": format!("{url}/describe"), "resultsUrl": format!("{url}/results")});
    Reply::json(200, &json!({"done": true, "listviews": [view], "nextRecordsUrl": null, "size": 1, "sobjectType": kind.name}))
}

pub(super) fn view_results(state: &State, kind: &Kind, view: &str) -> Answer {
    if !view.starts_with("00Bxx0000000001") {
        return Err(not_found());
    }
    let live = state.store.records.values().filter(|record| record.kind.name == kind.name && record.deleted.is_none());
    let rows: Vec<Value> = live.map(|record| json!({"columns": [{"fieldNameOrPath": "Id", "value": record.id}]})).collect();
    Ok(Reply::json(200, &json!({"done": true, "size": rows.len(), "records": rows})))
}

pub(super) fn quick_actions(kind: &Kind) -> Reply {
    Reply::json(
        200,
        &json!([{"label": "Log a call", "name": "LogACall", "type": "LogACall", "urls": {"quickAction": format!("/services/data/{}/sobjects/{}/quickActions/LogACall", super::VERSION, kind.name)}}]),
    )
}

/// `/actions…`: e-mails are counted, flows run.
pub(super) fn actions(shared: &Shared, req: &Req, path: &[&str]) -> Answer {
    match (req.method.as_str(), path) {
        ("GET", [family @ ("standard" | "custom")]) => {
            let name = if *family == "standard" { "emailSimple" } else { "Escalate" };
            Ok(Reply::json(
                200,
                &json!({"actions": [{"label": name, "name": name, "type": name.to_uppercase(), "url": format!("/services/data/{}/actions/{family}/{name}", super::VERSION)}]}),
            ))
        }
        ("POST", ["standard", name] | ["custom", "flow", name]) => {
            if !["emailSimple", "chatterPost", "Escalate"].contains(name) {
                return Err(not_found());
            }
            let body = object(req)?;
            let inputs = body.get("inputs").and_then(Value::as_array).cloned().unwrap_or_default();
            let outcomes = inputs.iter().map(|input| {
                if *name == "emailSimple" && input["emailAddresses"].as_str().is_none_or(|to| !to.contains('@')) {
                    let errors = json!([{"statusCode": "INVALID_EMAIL_ADDRESS", "message": "Email address is invalid", "fields": []}]);
                    return json!({"actionName": name, "errors": errors, "isSuccess": false, "outputValues": null});
                }
                shared.record(Entry::new("salesforce", EffectKind::RecordCreated, *name).detail(json!({"what": "action"})));
                json!({"actionName": name, "errors": null, "isSuccess": true, "outputValues": {}})
            });
            let outcomes: Vec<Value> = outcomes.collect();
            let failed = outcomes.iter().any(|one| one["isSuccess"] == false);
            Ok(Reply::json(if failed && outcomes.len() == 1 { 400 } else { 200 }, &Value::Array(outcomes)))
        }
        _ => Err(not_found()),
    }
}

impl Salesforce {
    /// `/analytics/reports…`.
    pub(super) fn reports(&self, state: &mut State, req: &Req, path: &[&str]) -> Answer {
        let now = self.shared.clock.now();
        let url = format!("/services/data/{}/analytics/reports/{REPORT}", super::VERSION);
        if let Some(id) = path.first()
            && !REPORT.starts_with(id)
        {
            return Err(not_found());
        }
        let details = req.q("includeDetails") != Some("false");
        match (req.method.as_str(), path) {
            ("GET", []) => Ok(Reply::json(
                200,
                &json!([{"id": REPORT, "name": "Open deals", "url": url, "describeUrl": format!("{url}/describe"), "instancesUrl": format!("{url}/instances")}]),
            )),
            ("GET", [_, "describe"]) => Ok(Reply::json(200, &json!({"reportMetadata": metadata()}))),
            ("GET", [_]) => Ok(Reply::json(200, &run(state, &Value::Null, details))),
            ("POST", [_]) => {
                let filters = filters(req)?;
                Ok(Reply::json(200, &run(state, &filters, details)))
            }
            ("POST", [_, "instances"]) => {
                let filters = filters(req)?;
                let id = state.store.id("0LG");
                let about = json!({"id": id, "status": "New", "url": format!("{url}/instances/{id}"), "requestDate": shown(now), "completionDate": null,
                    "hasDetailRows": details, "ownerId": "005xx0000000001AAA"});
                state.runs.insert(id, Run { about: about.clone(), looks: 0, filters });
                Ok(Reply::json(200, &about))
            }
            ("GET", [_, "instances"]) => Ok(Reply::json(200, &state.runs.values().map(|run| run.about.clone()).collect())),
            ("GET", [_, "instances", id]) => {
                let one = state.runs.get_mut(*id).ok_or_else(not_found)?;
                one.looks += 1;
                let status = if one.looks < 2 { "Running" } else { "Success" };
                one.about["status"] = status.into();
                let attributes = json!({"id": id, "status": status, "type": "ReportInstance", "reportId": REPORT});
                if status == "Running" {
                    return Ok(Reply::json(200, &json!({"attributes": attributes})));
                }
                one.about["completionDate"] = shown(now).into();
                let filters = one.filters.clone();
                let mut body = run(state, &filters, true);
                body["attributes"] = attributes;
                Ok(Reply::json(200, &body))
            }
            _ => Err(error(405, "METHOD_NOT_ALLOWED", "HTTP Method not allowed")),
        }
    }
}

fn metadata() -> Value {
    json!({"name": "Open deals", "reportFormat": "TABULAR", "detailColumns": ["OPPORTUNITY_NAME", "STAGE_NAME", "AMOUNT"], "aggregates": ["RowCount"]})
}

/// The filters of a run; only columns of the report are taken.
fn filters(req: &Req) -> Result<Value, Reply> {
    if req.body.is_empty() {
        return Ok(Value::Null);
    }
    let body = object(req)?;
    let filters = body.get("reportMetadata").and_then(|metadata| metadata.get("reportFilters")).cloned().unwrap_or_default();
    let columns = metadata()["detailColumns"].as_array().cloned().unwrap_or_default();
    let strange = filters.as_array().into_iter().flatten().find(|filter| !columns.contains(&filter["column"]));
    match strange {
        Some(_) => Err(error(400, "BAD_REQUEST", "The filter column is not part of the report.")),
        None => Ok(filters),
    }
}

fn run(state: &State, filters: &Value, details: bool) -> Value {
    let opportunity = kind("Opportunity").map(|kind| kind.name);
    let columns = [("OPPORTUNITY_NAME", "Name"), ("STAGE_NAME", "StageName"), ("AMOUNT", "Amount")];
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let passes = |record: &&super::store::Record| {
        filters.as_array().into_iter().flatten().all(|filter| {
            let field = columns.iter().find(|(column, _)| filter["column"] == *column).map_or("Id", |(_, field)| *field);
            let (have, want) = (text(&record.get(field)), filter["value"].as_str().unwrap_or_default());
            match filter["operator"].as_str().unwrap_or("equals") {
                "notEqual" => have != want,
                "contains" => have.contains(want),
                _ => have == want,
            }
        })
    };
    let records: Vec<_> =
        state.store.records.values().filter(|record| Some(record.kind.name) == opportunity && record.deleted.is_none()).filter(passes).collect();
    let row = |record: &&super::store::Record| {
        let cells: Vec<Value> =
            columns.iter().map(|(_, field)| record.get(field)).map(|value| json!({"label": text(&value), "value": value})).collect();
        json!({"dataCells": cells})
    };
    let rows: Vec<Value> = if details { records.iter().take(MOST_ROWS).map(row).collect() } else { Vec::new() };
    json!({"attributes": {"type": "Report", "reportId": REPORT, "reportName": "Open deals"}, "allData": records.len() <= MOST_ROWS, "hasDetailRows": details,
        "factMap": {"T!T": {"aggregates": [{"label": records.len().to_string(), "value": records.len()}], "rows": rows}},
        "groupingsDown": {"groupings": []}, "groupingsAcross": {"groupings": []}, "reportMetadata": metadata(),
        "reportExtendedMetadata": {"detailColumnInfo": {}}})
}
