//! Bulk API 2.0: query jobs whose rows come page by page as CSV, and loads that are opened, filled once, closed and carried out. A job is done
//! when it is looked at for the second time, so that a client has to wait at least once.

use super::soql::{Path, Query};
use super::store::{Refused, kind, shown};
use super::{Salesforce, State, error, not_found, object};
use crate::exchange::{Answer, Reply, Req};
use serde_json::{Map, Value, json};

/// A job.
#[derive(Debug)]
pub(super) struct Job {
    about: Value,
    looks: u32,
    /// A query's rows: head line and cells.
    head: Vec<String>,
    rows: Vec<Vec<String>>,
    /// A load's upload.
    upload: Option<Vec<u8>>,
    done: Vec<Vec<String>>,
    failed: Vec<Vec<String>>,
}

impl Salesforce {
    /// `/jobs/query…` and `/jobs/ingest…`.
    pub(super) fn jobs(&self, state: &mut State, req: &Req, path: &[&str]) -> Answer {
        let Some((family @ ("query" | "ingest"), rest)) = path.split_first().map(|(family, rest)| (*family, rest)) else { return Err(not_found()) };
        match (req.method.as_str(), rest) {
            ("POST", []) if family == "query" => self.open_query(state, req),
            ("POST", []) => self.open_load(state, req),
            ("GET", []) => {
                let wanted = |job: &&Job| {
                    job.about["object"].is_string()
                        && (job.about["operation"].as_str().is_some_and(|op| op.starts_with("query")) == (family == "query"))
                };
                let all: Vec<Value> = state.jobs.values().filter(wanted).map(|job| job.about.clone()).collect();
                Ok(Reply::json(200, &json!({"done": true, "records": all, "nextRecordsUrl": null})))
            }
            (_, [id, rest @ ..]) => {
                let id = (*id).to_owned();
                let job = state.jobs.get(&id).ok_or_else(not_found)?;
                if job.about["operation"].as_str().is_some_and(|op| op.starts_with("query")) != (family == "query") {
                    return Err(not_found());
                }
                self.job(state, req, &id, rest)
            }
            _ => Err(not_found()),
        }
    }

    fn job(&self, state: &mut State, req: &Req, id: &str, path: &[&str]) -> Answer {
        let now = self.shared.clock.now();
        let conflict = |what: &str| error(409, "INVALIDJOBSTATE", what);
        match (req.method.as_str(), path) {
            ("GET", []) => {
                let job = state.jobs.get_mut(id).ok_or_else(not_found)?;
                job.looks += 1;
                if job.looks > 1 && matches!(job.about["state"].as_str(), Some("UploadComplete" | "InProgress")) {
                    let mut job = state.jobs.remove(id).ok_or_else(not_found)?;
                    self.carry_out(state, &mut job, now);
                    state.jobs.insert(id.to_owned(), job);
                } else if job.looks == 1 && job.about["state"] == "UploadComplete" {
                    job.about["state"] = "InProgress".into();
                }
                Ok(Reply::json(200, &state.jobs[id].about))
            }
            ("PATCH", []) => {
                let wanted = object(req)?;
                let wanted = wanted.get("state").and_then(Value::as_str).unwrap_or_default();
                let job = state.jobs.get_mut(id).ok_or_else(not_found)?;
                let is = job.about["state"].as_str().unwrap_or_default().to_owned();
                match (is.as_str(), wanted) {
                    ("Open", "UploadComplete") if job.upload.is_none() => return Err(conflict("no data was uploaded")),
                    ("Open", "UploadComplete" | "Aborted") | ("UploadComplete" | "InProgress", "Aborted") => job.about["state"] = wanted.into(),
                    _ => return Err(conflict("the job is in another state")),
                }
                // The reply to a PATCH is not the whole job.
                let mut partial = job.about.clone();
                if let Some(map) = partial.as_object_mut() {
                    map.retain(|key, _| !["lineEnding", "columnDelimiter", "contentUrl"].contains(&key.as_str()));
                }
                Ok(Reply::json(200, &partial))
            }
            ("DELETE", []) => {
                if !matches!(state.jobs[id].about["state"].as_str(), Some("JobComplete" | "Aborted" | "Failed" | "UploadComplete")) {
                    return Err(conflict("only jobs that have ended can be deleted"));
                }
                state.jobs.remove(id);
                Ok(Reply::empty(204))
            }
            ("PUT", ["batches"]) => {
                let is_csv = req.header("content-type").is_some_and(|kind| kind.starts_with("text/csv"));
                let job = state.jobs.get_mut(id).ok_or_else(not_found)?;
                if job.about["state"] != "Open" || job.upload.is_some() {
                    return Err(error(400, "INVALIDBATCH", "Found multiple contents for job"));
                }
                if !is_csv {
                    return Err(error(415, "UNSUPPORTED_MEDIA_TYPE", "text/csv is expected"));
                }
                job.upload = Some(req.body.to_vec());
                Ok(Reply::empty(201))
            }
            ("GET", ["results"]) => results(&state.jobs[id], req),
            ("GET", ["successfulResults"]) => {
                let job = &state.jobs[id];
                Ok(csv(["sf__Id", "sf__Created"].map(str::to_owned).into_iter().chain(job.head.iter().cloned()), &job.done))
            }
            ("GET", ["failedResults"]) => {
                let job = &state.jobs[id];
                Ok(csv(["sf__Id", "sf__Error"].map(str::to_owned).into_iter().chain(job.head.iter().cloned()), &job.failed))
            }
            ("GET", ["unprocessedrecords"]) => Ok(csv(state.jobs[id].head.iter().cloned(), &[])),
            _ => Err(not_found()),
        }
    }

    fn about(&self, state: &mut State, kind: &str, operation: &str, at: &str) -> Value {
        json!({"id": state.store.id("750"), "operation": operation, "object": kind, "state": at, "createdDate": shown(self.shared.clock.now()),
            "createdById": "005xx0000000001AAA", "contentType": "CSV", "apiVersion": 66.0, "lineEnding": "LF", "columnDelimiter": "COMMA"})
    }

    fn open_query(&self, state: &mut State, req: &Req) -> Answer {
        let body = object(req)?;
        let text = body.get("query").and_then(Value::as_str).unwrap_or_default();
        let operation = body.get("operation").and_then(Value::as_str).unwrap_or("query").to_owned();
        let query = Query::parse(text).map_err(|refused| error(400, "API_ERROR", &format!("{}: {}", refused.code, refused.message)))?;
        if query.fields.is_empty() || text.to_uppercase().contains(" OFFSET ") {
            return Err(error(400, "FEATURENOTENABLED", "Bulk API 2.0 does not run aggregates or OFFSET"));
        }
        if query.fields.iter().any(|path| query.kind.field(&path.field).is_some_and(|field| field.kind == "address")) {
            return Err(error(400, "API_ERROR", "FeatureNotEnabled : Selecting compound data not supported in Bulk Query"));
        }
        let ids = query.run(&state.store, operation == "queryAll");
        let name = |path: &Path| path.parent.as_ref().map_or(path.field.clone(), |(parent, _)| format!("{parent}.{}", path.field));
        let rows = ids.iter().filter_map(|id| state.store.records.get(id));
        let rows = rows.map(|record| query.fields.iter().map(|path| cell(&path.of(&state.store, record))).collect()).collect();
        let about = self.about(state, query.kind.name, &operation, "UploadComplete");
        let id = about["id"].as_str().unwrap_or_default().to_owned();
        let head = query.fields.iter().map(name).collect();
        state.jobs.insert(id, Job { about: about.clone(), looks: 0, head, rows, upload: None, done: Vec::new(), failed: Vec::new() });
        Ok(Reply::json(200, &about))
    }

    fn open_load(&self, state: &mut State, req: &Req) -> Answer {
        let body = object(req)?;
        let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
        let (kind_name, operation) = (text("object"), text("operation"));
        let Some(kind) = kind(kind_name) else { return Err(error(400, "INVALIDENTITY", &format!("Unable to find object: {kind_name}"))) };
        let is_known = ["insert", "update", "upsert", "delete", "hardDelete"].contains(&operation);
        if !is_known || operation == "hardDelete" {
            return Err(error(400, "FEATURENOTENABLED", "hardDelete needs a permission of its own"));
        }
        let mut about = self.about(state, kind.name, operation, "Open");
        let id = about["id"].as_str().unwrap_or_default().to_owned();
        if operation == "upsert" {
            if kind.field(text("externalIdFieldName")).is_none() {
                return Err(error(400, "INVALIDJOB", "external id field is required for upsert"));
            }
            about["externalIdFieldName"] = text("externalIdFieldName").into();
        }
        about["contentUrl"] = format!("services/data/{}/jobs/ingest/{id}/batches", super::VERSION).into();
        let job = Job { about: about.clone(), looks: 0, head: Vec::new(), rows: Vec::new(), upload: None, done: Vec::new(), failed: Vec::new() };
        state.jobs.insert(id, job);
        Ok(Reply::json(200, &about))
    }

    /// Does what a job is for.
    fn carry_out(&self, state: &mut State, job: &mut Job, now: jiff::Timestamp) {
        job.about["state"] = "JobComplete".into();
        if job.about["operation"].as_str().is_some_and(|op| op.starts_with("query")) {
            job.about["numberRecordsProcessed"] = job.rows.len().into();
            return;
        }
        let Some(upload) = job.upload.take() else { return };
        let mut reader = csv::Reader::from_reader(upload.as_slice());
        let Ok(head) = reader.headers().cloned() else {
            job.about["state"] = "Failed".into();
            job.about["errorMessage"] = "InvalidBatch : Field name not found".into();
            return;
        };
        job.head = head.iter().map(str::to_owned).collect();
        let operation = job.about["operation"].as_str().unwrap_or_default().to_owned();
        let by = job.about["externalIdFieldName"].as_str().unwrap_or_default().to_owned();
        let Some(kind) = job.about["object"].as_str().and_then(kind) else { return };
        let rows: Vec<csv::StringRecord> = match reader.records().collect() {
            Ok(rows) => rows,
            Err(_) => {
                job.about["state"] = "Failed".into();
                job.about["errorMessage"] = "InvalidBatch : CLIENT_INPUT_ERROR".into();
                return;
            }
        };
        // The vendor does not keep the order either.
        for row in rows.iter().rev() {
            let mut fields = Map::new();
            for (name, cell) in job.head.iter().zip(row.iter()).filter(|(_, cell)| !cell.is_empty()) {
                fields.insert(name.clone(), if cell == "#N/A" { Value::Null } else { cell.into() });
            }
            let id = fields.get("Id").and_then(Value::as_str).unwrap_or_default().to_owned();
            let outcome = match operation.as_str() {
                "insert" => state.store.create(kind, &fields, now).map(|id| (id, true)),
                "update" => state.store.update(kind, &id, &fields, now).map(|id| (id, false)),
                "delete" => state.store.delete(kind, &id, now).map(|id| (id, false)),
                _ => match fields.shift_remove(&by).and_then(|value| value.as_str().map(str::to_owned)) {
                    Some(value) => state.store.upsert(kind, (by.as_str(), value.as_str()), &fields, now),
                    None => Err(Refused::new("MISSING_ARGUMENT", format!("{by} not specified"))),
                },
            };
            let echo = row.iter().map(str::to_owned);
            match outcome {
                Ok((id, created)) => {
                    self.wrote("bulk", &id);
                    job.done.push([id, created.to_string()].into_iter().chain(echo).collect());
                }
                Err(refused) => {
                    let said = format!("{}:{}:{} --", refused.code, refused.message, refused.fields.join(" "));
                    job.failed.push([String::new(), said].into_iter().chain(echo).collect());
                }
            }
        }
        job.about["numberRecordsProcessed"] = rows.len().into();
        job.about["numberRecordsFailed"] = job.failed.len().into();
    }
}

/// A page of a query's rows.
fn results(job: &Job, req: &Req) -> Answer {
    if job.about["state"] != "JobComplete" {
        return Err(error(400, "INVALIDJOBSTATE", "the job is not complete"));
    }
    let from: usize = match req.q("locator") {
        None => 0,
        Some(locator) => locator.strip_prefix("MT").and_then(|at| at.parse().ok()).ok_or_else(|| error(400, "INVALID_LOCATOR", "invalid locator"))?,
    };
    let until = (from + req.q_usize("maxRecords", 50_000)).min(job.rows.len());
    let rows = job.rows.get(from..until).unwrap_or_default();
    let locator = if until < job.rows.len() { format!("MT{until}") } else { "null".to_owned() };
    Ok(csv(job.head.iter().cloned(), rows).with("sforce-locator", &locator).with("sforce-numberofrecords", &rows.len().to_string()))
}

fn csv(head: impl Iterator<Item = String>, rows: &[Vec<String>]) -> Reply {
    let mut writer = csv::WriterBuilder::new().quote_style(csv::QuoteStyle::Always).from_writer(Vec::new());
    let head: Vec<String> = head.collect();
    let written = writer.write_record(&head).and_then(|()| rows.iter().try_for_each(|row| writer.write_record(row)));
    match written.ok().and_then(|()| writer.into_inner().ok()) {
        Some(text) => Reply::bytes(200, "text/csv; charset=UTF-8", text.into()),
        None => error(500, "UNKNOWN_EXCEPTION", "the rows cannot be written"),
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
