//! All links of many records: the vendor gives at most 500 of each record in one answer of a batch, and says per record where to go on.
//!
//! <https://developers.hubspot.com/docs/guides/api/crm/associations/associations-v4>

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use connector_core::{CallCx, Error, OpCall, OpReply, Result};
use connector_manifest::{Engine, NativeOperation};
use serde_json::{Value, json};

/// Rounds of pages beyond these mean that the vendor's cursor goes in circles: 100,000 links of one record are 200 pages.
const MOST_ROUNDS: usize = 1_000;
/// Links that are read if the call does not say.
const USUAL_LINKS: usize = 10_000;

/// `hubspot_read_all_associations`.
#[derive(Debug)]
pub(crate) struct ReadAllAssociations;

#[async_trait]
impl NativeOperation for ReadAllAssociations {
    async fn call(&self, engine: &Engine, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let text = |name: &str| call.args.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let most = call.args.get("max_links").and_then(Value::as_u64).and_then(|most| usize::try_from(most).ok()).unwrap_or(USUAL_LINKS);
        let ids: Vec<String> =
            call.args.get("ids").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        let mut seen = BTreeSet::new();
        // What is still to be asked for: the record, and where to go on.
        let mut open: Vec<(String, Option<String>)> = ids.iter().filter(|id| seen.insert((*id).clone())).map(|id| (id.clone(), None)).collect();
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut count = 0;
        let mut truncated = false;
        for _ in 0..MOST_ROUNDS {
            if open.is_empty() {
                break;
            }
            if count >= most {
                truncated = true;
                break;
            }
            let inputs: Vec<Value> = open
                .iter()
                .map(|(id, after)| match after {
                    Some(after) => json!({ "id": id, "after": after }),
                    None => json!({ "id": id }),
                })
                .collect();
            let args = json!({ "from_type": text("from_type"), "to_type": text("to_type"), "inputs": inputs });
            // Records without links are item errors beside the results, not a failure of the whole.
            let page = engine.call_value(cx, "hubspot_batch_read_associations", args).await?;
            let results = page.get("results").and_then(Value::as_array).ok_or_else(|| Error::protocol("the reply has no list of results"))?;
            let mut next = Vec::new();
            for result in results {
                let Some(id) = result.pointer("/from/id").map(written) else { continue };
                let links = found.entry(id.clone()).or_default();
                for to in result.get("to").and_then(Value::as_array).into_iter().flatten().filter_map(|to| to.get("toObjectId")) {
                    if count >= most {
                        truncated = true;
                        break;
                    }
                    links.push(written(to));
                    count += 1;
                }
                if let Some(after) = result.pointer("/paging/next/after").map(written) {
                    next.push((id, Some(after)));
                }
            }
            open = next;
        }
        truncated |= !open.is_empty();
        let missing: Vec<&String> = seen.iter().filter(|id| !found.contains_key(*id)).collect();
        let results: Vec<Value> = found.iter().map(|(id, to)| json!({ "id": id, "to": to })).collect();
        OpReply::from_value(json!({ "results": results, "missing": missing, "truncated": truncated }), call.decode)
    }
}

/// Ids are texts in some answers and numbers in others.
fn written(id: &Value) -> String {
    id.as_str().map_or_else(|| id.to_string(), str::to_owned)
}
