//! A bulk query page by page. The first call starts the job; this and each following one waits for it for a while or gives a page of rows, and the
//! cursor says which. So every call after the first can be sent again without harm, and no more than one page is ever held.
//!
//! <https://developer.salesforce.com/docs/atlas.en-us.api_asynch.meta/api_asynch/query_get_job_results.htm>

use std::time::Duration;

use async_trait::async_trait;
use connector_core::{CallCx, Cursor, Error, ErrorKind, OpCall, OpReply, Result, transport::Request};
use connector_manifest::{Engine, NativeOperation};
use http::{HeaderValue, Method, header};
use serde_json::{Value, json};

use super::rows;

/// How long one call waits for the job, and how the pauses between two looks grow.
const PAUSES: [u64; 5] = [1, 2, 4, 6, 8];
/// A job that is not done after this many calls is given up (a day at the vendor's own pace).
const MOST_LOOKS: u64 = 5_000;

/// `sf_bulk_query`.
#[derive(Debug)]
pub(crate) struct BulkQuery;

/// Where a bulk query stands.
#[derive(Debug, PartialEq)]
pub(super) enum Stand {
    /// The job runs; looked at so often.
    Runs { job: String, looks: u64 },
    /// Rows are there from this locator on; empty for the first page.
    Rows { job: String, locator: String },
}

impl Stand {
    fn job(&self) -> &str {
        let (Self::Runs { job, .. } | Self::Rows { job, .. }) = self;
        job
    }

    /// `~` comes before the part that must change from page to page.
    fn write(&self) -> String {
        match self {
            Self::Runs { job, looks } => format!("q~{job}/runs/{looks}"),
            Self::Rows { job, locator } => format!("q~{job}/rows/{locator}"),
        }
    }

    fn read(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("q~")?.splitn(3, '/');
        let (job, kind, rest) = (parts.next()?, parts.next()?, parts.next()?);
        // It becomes a part of an address.
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'='));
        if job.is_empty() || !plain(job) || !plain(rest) {
            return None;
        }
        let job = job.to_owned();
        match kind {
            "runs" => Some(Self::Runs { job, looks: rest.parse().ok()? }),
            "rows" => Some(Self::Rows { job, locator: rest.to_owned() }),
            _ => None,
        }
    }
}

/// One step of a bulk query.
pub(super) struct Step {
    pub(super) job: String,
    pub(super) state: String,
    pub(super) head: Vec<String>,
    pub(super) rows: Vec<csv::StringRecord>,
    /// Where it goes on; `None` at the end.
    pub(super) next: Option<String>,
}

#[async_trait]
impl NativeOperation for BulkQuery {
    async fn call(&self, engine: &Engine, cx: &CallCx, mut call: OpCall) -> Result<OpReply> {
        let page = call.args.get("page_size").and_then(Value::as_u64).unwrap_or(5_000);
        let step = match &call.cursor {
            Some(cursor) => advance(engine, cx, cursor.as_str(), page).await?,
            None => {
                super::prepare::soql_job(&mut call.args)?;
                let soql = call.args.get("soql").and_then(Value::as_str).unwrap_or_default();
                let deleted = call.args.get("deleted") == Some(&Value::Bool(true));
                let started = start(engine, cx, soql, deleted).await?;
                // Most jobs are done within seconds. If looking fails for the moment, the next call looks again: this one sent again would start
                // another job.
                match advance(engine, cx, started.next.as_deref().unwrap_or_default(), page).await {
                    Err(error) if error.kind().is_passing() => started,
                    other => other?,
                }
            }
        };
        let rows: Vec<Value> = step.rows.iter().map(|row| Value::Object(rows::object(&step.head, row))).collect();
        let mut reply = OpReply::from_value(json!({ "job_id": step.job, "state": step.state, "rows": rows }), call.decode)?;
        reply.next = step.next.map(Cursor::new);
        Ok(reply)
    }
}

/// Starts a job.
pub(super) async fn start(engine: &Engine, cx: &CallCx, soql: &str, deleted: bool) -> Result<Step> {
    let operation = if deleted { "queryAll" } else { "query" };
    let job = engine.call_value(cx, "sf_create_query_job", json!({ "soql": soql, "operation": operation })).await?;
    let id = job.get("id").and_then(Value::as_str).ok_or_else(|| Error::protocol("the new bulk query has no id"))?;
    let stand = Stand::Runs { job: id.to_owned(), looks: 0 };
    Ok(Step { job: id.to_owned(), state: state(&job), head: Vec::new(), rows: Vec::new(), next: Some(stand.write()) })
}

/// Waits for the job for a while, or gives its next rows.
pub(super) async fn advance(engine: &Engine, cx: &CallCx, cursor: &str, page: u64) -> Result<Step> {
    let stand = Stand::read(cursor).ok_or_else(|| Error::new(ErrorKind::CursorExpired, "this cursor is not one of a bulk query"))?;
    let locator = match &stand {
        Stand::Rows { locator, .. } => locator.clone(),
        Stand::Runs { job, looks } => match wait(engine, cx, job).await? {
            None => String::new(),
            Some(state) if *looks < MOST_LOOKS => {
                let next = Stand::Runs { job: job.clone(), looks: looks + 1 };
                return Ok(Step { job: job.clone(), state, head: Vec::new(), rows: Vec::new(), next: Some(next.write()) });
            }
            Some(_) => {
                return Err(
                    Error::new(ErrorKind::Timeout, "the bulk query does not end; stop it with sf_abort_query_job").with_context("job", job.as_str())
                );
            }
        },
    };
    fetch(engine, cx, stand.job(), &locator, page).await
}

/// Looks until the job is done, for about 20 seconds; the state it is in if that was not enough.
async fn wait(engine: &Engine, cx: &CallCx, job: &str) -> Result<Option<String>> {
    let mut pauses = PAUSES.into_iter();
    loop {
        let found = engine.call_value(cx, "sf_get_query_job", json!({ "job_id": job })).await?;
        match &*state(&found) {
            "JobComplete" => return Ok(None),
            "Failed" | "Aborted" => return Err(ended(&found)),
            state => match pauses.next() {
                Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                None => return Ok(Some(state.to_owned())),
            },
        }
    }
}

/// One page of rows. The headers of the reply say where the next one is, so it is not asked for as an operation.
async fn fetch(engine: &Engine, cx: &CallCx, job: &str, locator: &str, page: u64) -> Result<Step> {
    let mut url = format!("{}/jobs/query/{job}/results?maxRecords={page}", cx.connection.base());
    if !locator.is_empty() {
        url.push_str("&locator=");
        url.extend(url::form_urlencoded::byte_serialize(locator.as_bytes()));
    }
    let url = url.parse().map_err(|error| Error::config("the base URL of this connection cannot be used").with_source(error))?;
    let mut request = Request::new(Method::GET, url);
    request.head.headers.insert(header::ACCEPT, HeaderValue::from_static("text/csv"));
    let reply = engine.send_raw(cx, request, true).await?;
    if !reply.is_success() {
        return Err(engine.error_for(cx, &reply));
    }
    let (head, rows) = rows::read(&reply.body)?;
    let header = |name: &str| reply.headers.get(name).and_then(|value| value.to_str().ok());
    // The last page says `null`, in letters.
    let next = header("sforce-locator").filter(|locator| !locator.is_empty() && *locator != "null");
    if header("sforce-numberofrecords").and_then(|count| count.parse::<usize>().ok()).is_some_and(|count| count != rows.len()) {
        return Err(Error::protocol("the page has another number of rows than its header says"));
    }
    let next = next.map(|locator| Stand::Rows { job: job.to_owned(), locator: locator.to_owned() }.write());
    Ok(Step { job: job.to_owned(), state: "JobComplete".to_owned(), head, rows, next })
}

fn state(job: &Value) -> String {
    job.get("state").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// What a job that did not come to its end stands for.
pub(super) fn ended(job: &Value) -> Error {
    let text = |name: &str| job.get(name).and_then(Value::as_str).unwrap_or_default();
    let (state, said) = (text("state"), text("errorMessage"));
    // `INVALID_FIELD: ...`: the code is in front of the message.
    let code = said.split([':', ' ']).next().unwrap_or_default();
    let is_code = !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    let kind = if state == "Aborted" { ErrorKind::Conflict } else { super::outcomes::class(code, said, 400) };
    let error =
        Error::new(kind, format!("the bulk job is {}", if state == "Aborted" { "aborted" } else { "failed" })).with_context("job", text("id"));
    let error = if is_code { error.with_vendor_code(connector_core::redact::printable(code, 80)) } else { error };
    if said.is_empty() { error } else { error.with_context("vendor_message", connector_core::redact::scrub(said, 200)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_says_where_it_stands_and_nothing_else() {
        for stand in [Stand::Runs { job: "750xx".into(), looks: 3 }, Stand::Rows { job: "750xx".into(), locator: "MTAwMDA".into() }] {
            assert_eq!(Stand::read(&stand.write()).unwrap(), stand);
        }
        for foreign in ["1~200", "q~", "q~../runs/1", "q~750/rows/../../x", "q~750/other/1", "q~750/runs/x", "q~a?b/rows/"] {
            assert_eq!(Stand::read(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_failed_job_is_what_its_message_says() {
        let failed = json!({ "id": "750xx", "state": "Failed", "errorMessage": "INVALID_FIELD: No such column 'X'" });
        let error = ended(&failed);
        assert_eq!((error.kind(), error.vendor_code()), (ErrorKind::Invalid, Some("INVALID_FIELD")));
        assert_eq!(ended(&json!({ "state": "Aborted" })).kind(), ErrorKind::Conflict);
    }
}
