//! Rows into Salesforce through Bulk API 2.0 jobs, and what became of each. A job takes one upload, and that is sent once: if nobody knows whether
//! it arrived, the job is deleted, which undoes nothing because a job only starts when it is closed. Jobs do not keep the rows' order, so outcomes
//! find their rows by content.
//!
//! <https://developer.salesforce.com/docs/atlas.en-us.api_asynch.meta/api_asynch/bulk_api_2_0_ingest.htm>

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use async_trait::async_trait;
use connector_core::{CallCx, Error, ErrorKind, OpCall, OpReply, ReplyBody, Result, connector::ItemError, redact::printable};
use connector_manifest::{Engine, NativeOperation};
use serde_json::{Value, json};

use super::{bulk_query::ended, outcomes, rows};

/// The most bytes of one job, counted with what a result row has besides. The vendor takes 100 MB; what is uploaded comes back as results, and
/// no reply over 10 MB is read.
const JOB: usize = 7 * 1024 * 1024;
/// What a result row has besides its cells: id, flag and an error message.
const RESULT: usize = 300;
/// Pauses between looks at a job; the last one is repeated.
const PAUSES: [u64; 6] = [1, 2, 3, 5, 8, 10];
/// A job that is not done after this many looks (about ten minutes) is left to itself and reported.
const LOOKS: usize = 64;

/// `sf_bulk_load`.
#[derive(Debug)]
pub(crate) struct BulkLoad;

/// What a load gave so far.
#[derive(Debug, Default)]
struct Loaded {
    jobs: Vec<String>,
    processed: usize,
    created: usize,
    unprocessed: usize,
    ids: Vec<Value>,
    failed: Vec<ItemError>,
}

/// The rows of one job: their places in the input and their cells.
#[derive(Debug, Default)]
struct Chunk {
    csv: Vec<u8>,
    rows: Vec<(usize, Vec<String>)>,
    weight: usize,
}

#[async_trait]
impl NativeOperation for BulkLoad {
    async fn call(&self, engine: &Engine, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let text = |name: &str| call.args.get(name).and_then(Value::as_str).unwrap_or_default();
        let (operation, external_id) = (text("operation"), text("external_id_field"));
        if (operation == "upsert") == external_id.is_empty() {
            return Err(Error::invalid("`external_id_field` goes with `operation: upsert`, and only with it"));
        }
        let open = json!({
            "sobject": text("sobject"), "operation": operation,
            "external_id_field": if external_id.is_empty() { Value::Null } else { external_id.into() },
        });
        let input = call.args.get("rows").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let columns = rows::columns(input)?;
        let mut loaded = Loaded { ids: vec![Value::Null; input.len()], ..Loaded::default() };
        for chunk in chunks(&columns, input)? {
            if let Err(error) = load(engine, cx, &open, &columns, &chunk, &mut loaded).await {
                // What earlier jobs did stands.
                if loaded.jobs.is_empty() {
                    return Err(error);
                }
                loaded.failed.extend(chunk.rows.iter().map(|(at, _)| item(*at, error.kind(), error.vendor_code(), error.message())));
            }
        }
        let body = json!({
            "jobs": loaded.jobs, "processed": loaded.processed, "failed": loaded.failed.len(), "unprocessed": loaded.unprocessed,
            "created": loaded.created, "ids": loaded.ids,
        });
        let mut reply = OpReply::from_value(body, call.decode)?;
        loaded.failed.sort_by_key(|failed| failed.index);
        reply.partial = loaded.failed;
        Ok(reply)
    }
}

/// The rows in portions that one job takes. All of them are written before the first is sent, so that a mistake in the last row costs nothing.
fn chunks(columns: &[String], input: &[Value]) -> Result<Vec<Chunk>> {
    let head = rows::line(columns)?;
    let mut all = Vec::new();
    let mut chunk = Chunk { csv: head.clone(), ..Chunk::default() };
    for (at, row) in input.iter().enumerate() {
        let cells = rows::cells(columns, row, at)?;
        let line = rows::line(&cells)?;
        if !chunk.rows.is_empty() && chunk.weight + line.len() + RESULT > JOB {
            all.push(std::mem::replace(&mut chunk, Chunk { csv: head.clone(), ..Chunk::default() }));
        }
        chunk.weight += line.len() + RESULT;
        chunk.csv.extend(line);
        chunk.rows.push((at, cells));
    }
    all.push(chunk);
    Ok(all)
}

/// One job from its opening to its results.
async fn load(engine: &Engine, cx: &CallCx, open: &Value, columns: &[String], chunk: &Chunk, loaded: &mut Loaded) -> Result<()> {
    let csv = std::str::from_utf8(&chunk.csv).map_err(|error| Error::internal("the rows are not text").with_source(error))?;
    let job = engine.call_value(cx, "sf_create_load_job", open.clone()).await?;
    let id = job.get("id").and_then(Value::as_str).ok_or_else(|| Error::protocol("the new load has no id"))?;
    if let Err(error) = engine.call_value(cx, "sf_upload_load_data", json!({ "job_id": id, "csv": csv })).await {
        // Open jobs carry nothing out. Whether the rows arrived or not, without its end nothing happens to them.
        let aborted = engine.call_value(cx, "sf_abort_load_job", json!({ "job_id": id })).await;
        let what = match &aborted {
            Ok(_) => "the rows could not be uploaded; the job was aborted and nothing was loaded",
            Err(_) => "the rows could not be uploaded and nothing was loaded; the job could not be aborted and stays open for a day, doing nothing",
        };
        let kind = if matches!(error.kind(), ErrorKind::Unknown | ErrorKind::Timeout) { ErrorKind::Transient } else { error.kind() };
        return Err(Error::new(kind, what).with_retry(error.retry()).with_context("job", id).with_source(error));
    }
    engine.call_value(cx, "sf_close_load_job", json!({ "job_id": id })).await?;
    loaded.jobs.push(id.to_owned());
    let job = finish(engine, cx, id).await?;
    if job.get("state").and_then(Value::as_str) == Some("Aborted") {
        return Err(ended(&job));
    }
    let mut places: HashMap<&[String], VecDeque<usize>> = HashMap::new();
    for (at, cells) in &chunk.rows {
        places.entry(cells).or_default().push_back(*at);
    }
    let args = json!({ "job_id": id });
    for (tool, fate) in
        [("sf_get_load_successes", Fate::Done), ("sf_get_load_failures", Fate::Failed), ("sf_get_load_unprocessed", Fate::Unprocessed)]
    {
        let reply = engine.call_inner(cx, tool, args.clone(), None).await?;
        let ReplyBody::Raw { bytes, .. } = &reply.body else { continue };
        if bytes.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let (head, records) = rows::read(bytes)?;
        for record in &records {
            let cell = |name: &str| head.iter().position(|known| known == name).and_then(|at| record.get(at)).unwrap_or_default();
            let cells: Vec<String> = columns.iter().map(|name| cell(name).to_owned()).collect();
            let place = places.get_mut(cells.as_slice()).and_then(VecDeque::pop_front);
            loaded.tell(fate, place, cell("sf__Id"), cell("sf__Created"), cell("sf__Error"));
        }
    }
    Ok(())
}

/// What became of a row.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Done,
    Failed,
    Unprocessed,
}

impl Loaded {
    fn tell(&mut self, fate: Fate, place: Option<usize>, id: &str, created: &str, error: &str) {
        match fate {
            Fate::Done => {
                self.processed += 1;
                self.created += usize::from(created == "true");
                if let Some(slot) = place.and_then(|place| self.ids.get_mut(place)) {
                    *slot = id.into();
                }
            }
            Fate::Failed => {
                // `DUPLICATE_VALUE:duplicate value found:Email --`
                let code = error.split(':').next().unwrap_or_default();
                let kind = outcomes::class(code, error, 400);
                let said = "Salesforce refused this row; its vendor code says why";
                self.failed.push(ItemError { index: place, ..item(0, kind, Some(code).filter(|code| !code.is_empty()), said) });
            }
            Fate::Unprocessed => {
                self.unprocessed += 1;
                let said = "the job ended before it came to this row; send it again";
                self.failed.push(ItemError { index: place, retryable: true, ..item(0, ErrorKind::Transient, None, said) });
            }
        }
    }
}

fn item(at: usize, kind: ErrorKind, code: Option<&str>, message: &str) -> ItemError {
    ItemError {
        index: Some(at),
        key: None,
        kind,
        message: message.to_owned(),
        vendor_code: code.map(|code| printable(code, 80)),
        retryable: kind.is_passing(),
    }
}

/// Waits until a closed job has ended. A failed one has results too: rows are committed 200 at a time.
async fn finish(engine: &Engine, cx: &CallCx, id: &str) -> Result<Value> {
    for look in 0..LOOKS {
        let job = engine.call_value(cx, "sf_get_load_job", json!({ "job_id": id })).await?;
        if matches!(job.get("state").and_then(Value::as_str), Some("JobComplete" | "Failed" | "Aborted")) {
            return Ok(job);
        }
        let pause = PAUSES.get(look).or(PAUSES.last()).copied().unwrap_or(10);
        tokio::time::sleep(Duration::from_secs(pause)).await;
    }
    let message = "the load still runs; look with sf_get_load_job, then read sf_get_load_successes and sf_get_load_failures. Do not send it again";
    Err(Error::new(ErrorKind::Unknown, message).with_context("job", id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_rows_go_into_several_jobs_and_keep_their_places() {
        let long = "x".repeat(1_000_000);
        let input: Vec<Value> = (0..16).map(|at| json!({ "Name": format!("{at}{long}") })).collect();
        let chunks = chunks(&["Name".to_owned()], &input).unwrap();
        assert_eq!(chunks.iter().map(|chunk| chunk.rows.len()).collect::<Vec<_>>(), [7, 7, 2]);
        assert!(chunks.iter().all(|chunk| chunk.csv.starts_with(b"Name\n") && chunk.csv.len() < JOB));
        assert_eq!(chunks[2].rows[1].0, 15);
    }

    #[test]
    fn fates_are_counted_and_placed() {
        let mut loaded = Loaded { ids: vec![Value::Null; 3], ..Loaded::default() };
        loaded.tell(Fate::Done, Some(2), "003A", "true", "");
        loaded.tell(Fate::Failed, Some(0), "", "", "DUPLICATE_VALUE:duplicate value found: <unknown> duplicates value on record with id:x --");
        loaded.tell(Fate::Unprocessed, None, "", "", "");
        assert_eq!((loaded.processed, loaded.created, loaded.unprocessed), (1, 1, 1));
        assert_eq!(loaded.ids, [Value::Null, Value::Null, json!("003A")]);
        let found: Vec<_> = loaded.failed.iter().map(|one| (one.index, one.kind, one.retryable)).collect();
        assert_eq!(found, [(Some(0), ErrorKind::Conflict, false), (None, ErrorKind::Transient, true)]);
    }
}
