//! What the composite resources would misread: names of steps, references to steps that are not there, headers that are not taken, too many
//! queries. A reference (`@{step.id}`) that nobody made is most likely somebody's text, so it is refused.
//!
//! <https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_composite_composite.htm>

use connector_core::{Error, Result, redact::printable};
use serde_json::{Map, Value};

/// How many steps may be queries or collections.
const COSTLY: usize = 5;
/// The most steps of all graphs of one call.
const GRAPH_STEPS: usize = 500;

/// `sf_composite`.
pub(crate) fn composite(args: &mut Map<String, Value>) -> Result<()> {
    let steps = list(args.get("steps"));
    check_steps(steps, "steps")?;
    let costly = steps.iter().filter(|step| {
        let url = text(step, "url");
        url.contains("/query") || url.contains("/composite/sobjects")
    });
    if costly.count() > COSTLY {
        return Err(Error::invalid(format!("no more than {COSTLY} steps may be queries or collections")));
    }
    Ok(())
}

/// `sf_composite_graph`.
pub(crate) fn graph(args: &mut Map<String, Value>) -> Result<()> {
    let graphs = list(args.get("graphs"));
    let mut total = 0;
    for (at, graph) in graphs.iter().enumerate() {
        let steps = list(graph.get("compositeRequest"));
        total += steps.len();
        check_steps(steps, &format!("graphs[{at}].compositeRequest"))?;
    }
    if total > GRAPH_STEPS {
        return Err(Error::invalid(format!("all graphs together may have {GRAPH_STEPS} steps, not {total}")));
    }
    Ok(())
}

/// `sf_composite_batch`: addresses begin with the version here, and not with `/services/data` as everywhere else.
pub(crate) fn batch(args: &mut Map<String, Value>) -> Result<()> {
    for (at, request) in list(args.get("requests")).iter().enumerate() {
        let url = text(request, "url");
        if !is_versioned(url) {
            return Err(Error::invalid(format!("`requests[{at}].url` must begin with the version, for example v66.0/sobjects/Account/001xx..")));
        }
        check_method(request, &format!("requests[{at}]"))?;
    }
    Ok(())
}

fn check_steps(steps: &[Value], place: &str) -> Result<()> {
    let mut known: Vec<&str> = Vec::with_capacity(steps.len());
    for (at, step) in steps.iter().enumerate() {
        let place = format!("{place}[{at}]");
        let name = text(step, "referenceId");
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_name || known.contains(&name) {
            let name = printable(name, 40);
            return Err(Error::invalid(format!("`{place}.referenceId` is `{name}`; it must be letters, digits and `_`, and no other step's")));
        }
        if !text(step, "url").strip_prefix("/services/data/").is_some_and(is_versioned) {
            return Err(Error::invalid(format!("`{place}.url` must be a whole path, for example /services/data/v66.0/sobjects/Account")));
        }
        check_method(step, &place)?;
        let headers = step.get("httpHeaders").and_then(Value::as_object);
        if headers
            .is_some_and(|headers| headers.keys().any(|name| ["accept", "authorization", "content-type"].contains(&&*name.to_ascii_lowercase())))
        {
            return Err(Error::invalid(format!("`{place}.httpHeaders` may not hold Accept, Authorization or Content-Type")));
        }
        references(step.get("url").unwrap_or(&Value::Null), &known, &place)?;
        references(step.get("body").unwrap_or(&Value::Null), &known, &place)?;
        known.push(name);
    }
    Ok(())
}

fn check_method(step: &Value, place: &str) -> Result<()> {
    if ["GET", "POST", "PATCH", "PUT", "DELETE"].contains(&text(step, "method")) {
        return Ok(());
    }
    Err(Error::invalid(format!("`{place}.method` must be GET, POST, PATCH, PUT or DELETE")))
}

/// Every `@{step...}` must name a step before.
fn references(value: &Value, known: &[&str], place: &str) -> Result<()> {
    match value {
        Value::String(said) => said.match_indices("@{").try_for_each(|(at, _)| {
            let name = said[at + 2..].split(['.', '[', '}']).next().unwrap_or_default();
            if known.contains(&name) {
                return Ok(());
            }
            Err(Error::invalid(format!(
                "`{place}` refers to `@{{{}`, which no step before it is called; take `@{{` out of texts that are not yours",
                printable(name, 40)
            )))
        }),
        Value::Array(items) => items.iter().try_for_each(|item| references(item, known, place)),
        Value::Object(map) => map.values().try_for_each(|value| references(value, known, place)),
        _ => Ok(()),
    }
}

/// `v66.0/…`.
fn is_versioned(url: &str) -> bool {
    let version = url.split('/').next().unwrap_or_default();
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    version.strip_prefix('v').and_then(|number| number.split_once('.')).is_some_and(|(whole, part)| digits(whole) && digits(part))
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn steps(second: Value) -> Result<()> {
        let mut args = Map::new();
        let first = json!({ "method": "POST", "url": "/services/data/v66.0/sobjects/Account", "referenceId": "acc", "body": { "Name": "A" } });
        args.insert("steps".into(), json!([first, second]));
        composite(&mut args)
    }

    fn step(change: impl Fn(&mut Value)) -> Value {
        let mut step = json!({ "method": "POST", "url": "/services/data/v66.0/sobjects/Contact", "referenceId": "con",
            "body": { "AccountId": "@{acc.id}", "LastName": "Diaz" } });
        change(&mut step);
        step
    }

    #[test]
    fn references_go_to_earlier_steps_only() {
        assert!(steps(step(|_| {})).is_ok());
        for foreign in ["@{con.id}", "hello @{refs.other}", "@{"] {
            let error = steps(step(|step| step["body"]["LastName"] = foreign.into())).unwrap_err();
            assert!(error.to_string().contains("take `@{` out"), "{error}");
        }
    }

    #[test]
    fn steps_are_named_once_and_have_whole_paths() {
        assert!(steps(step(|step| step["referenceId"] = "acc".into())).is_err());
        assert!(steps(step(|step| step["referenceId"] = "a-b".into())).is_err());
        assert!(steps(step(|step| step["url"] = "v66.0/sobjects/Contact".into())).is_err());
        assert!(steps(step(|step| step["method"] = "get".into())).is_err());
        assert!(steps(step(|step| step["httpHeaders"] = json!({ "authorization": "x" }))).is_err());
        let mut args = Map::new();
        args.insert("requests".into(), json!([{ "method": "GET", "url": "/services/data/v66.0/limits" }]));
        assert!(batch(&mut args).is_err());
        args.insert("requests".into(), json!([{ "method": "GET", "url": "v66.0/limits" }]));
        assert!(batch(&mut args).is_ok());
    }
}
