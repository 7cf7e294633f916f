//! What happens to arguments before a request is rendered: values are bound into queries, dates are written as HTTP wants them, and what the
//! vendor would refuse or misunderstand is refused here. It refuses to send anything.

use connector_core::{Error, Result, redact::printable};
use serde_json::{Map, Value};

use crate::{
    soql::{self, identifier, instant},
    sosl,
};

type Args = Map<String, Value>;

/// Address and headers may have 16,384 bytes together (REST guide, "HTTP 414 and 431"); this leaves room for token and host.
const LONGEST_ADDRESS: usize = 14_000;
/// The most records of one collection.
const COLLECTION: usize = 200;

fn text<'a>(args: &'a Args, name: &str) -> Option<&'a str> {
    args.get(name).and_then(Value::as_str)
}

/// Takes `params` out of the arguments.
fn values(args: &mut Args) -> Args {
    match args.shift_remove("params") {
        Some(Value::Object(values)) => values,
        _ => Args::new(),
    }
}

/// Binds `params` into `soql`, for queries that go into an address.
pub(crate) fn soql(args: &mut Args) -> Result<()> {
    soql_job(args)?;
    fits_an_address(text(args, "soql").unwrap_or_default(), "use sf_bulk_query, or look up ids with sf_get_records")
}

/// Binds `params` into `soql`.
pub(crate) fn soql_job(args: &mut Args) -> Result<()> {
    let values = values(args);
    let bound = soql::bind(text(args, "soql").unwrap_or_default(), &values)?;
    args.insert("soql".to_owned(), bound.into());
    Ok(())
}

/// Binds `params` into `sosl`.
pub(crate) fn sosl(args: &mut Args) -> Result<()> {
    let values = values(args);
    let bound = sosl::bind(text(args, "sosl").unwrap_or_default(), &values)?;
    fits_an_address(&bound, "use sf_parameterized_search")?;
    args.insert("sosl".to_owned(), bound.into());
    Ok(())
}

fn fits_an_address(query: &str, instead: &str) -> Result<()> {
    let bytes: usize = url::form_urlencoded::byte_serialize(query.as_bytes()).map(str::len).sum();
    if bytes <= LONGEST_ADDRESS {
        return Ok(());
    }
    Err(Error::invalid(format!("the query takes {bytes} bytes of an address, and {LONGEST_ADDRESS} is the most; {instead}")))
}

/// `modified_since` and `unmodified_since` as HTTP dates.
pub(crate) fn http_dates(args: &mut Args) -> Result<()> {
    for name in ["modified_since", "unmodified_since"] {
        if let Some(said) = text(args, name) {
            let at = std::time::SystemTime::from(instant(said)?);
            args.insert(name.to_owned(), httpdate::fmt_http_date(at).into());
        }
    }
    Ok(())
}

/// `start` and `end` as getUpdated and getDeleted want them, at least a minute apart.
pub(crate) fn time_span(args: &mut Args) -> Result<()> {
    let at = |name: &str| instant(text(args, name).unwrap_or_default());
    let (start, end) = (at("start")?, at("end")?);
    // Seconds are ignored, so a shorter span is none.
    if end.as_second() - start.as_second() < 60 {
        return Err(Error::invalid("`end` must be at least a minute after `start`"));
    }
    for (name, at) in [("start", start), ("end", end)] {
        args.insert(name.to_owned(), minute(at).into());
    }
    Ok(())
}

/// `2026-01-01T00:00:00+00:00`.
pub(crate) fn minute(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string()
}

/// The external id is in the address and must not be in the fields as well.
pub(crate) fn upsert(args: &mut Args) -> Result<()> {
    for name in ["sobject", "field"] {
        identifier(text(args, name).unwrap_or_default())?;
    }
    let field = text(args, "field").unwrap_or_default();
    let fields = args.get("fields").and_then(Value::as_object);
    match fields.and_then(|fields| fields.keys().find(|key| key.eq_ignore_ascii_case(field) || key.eq_ignore_ascii_case("id"))) {
        Some(twice) => Err(Error::invalid(format!("leave `{}` out of `fields`: the record is named by `field` and `value`", printable(twice, 80)))),
        None => Ok(()),
    }
}

/// All or none holds for one request, so for no more than one takes; and each record says what it is.
pub(crate) fn collection(args: &mut Args) -> Result<()> {
    let all_or_none = args.get("all_or_none") == Some(&Value::Bool(true));
    for name in ["records", "ids"] {
        let Some(items) = args.get(name).and_then(Value::as_array) else { continue };
        if all_or_none && items.len() > COLLECTION {
            return Err(Error::invalid(format!(
                "`all_or_none` holds for {COLLECTION} {name} at most, not {}; longer lists go in several requests",
                items.len()
            )));
        }
        if name == "ids" {
            continue;
        }
        if let Some(at) = items.iter().position(|item| item.pointer("/attributes/type").is_none_or(|kind| !kind.is_string())) {
            return Err(Error::invalid(format!("`records[{at}]` does not say what it is; give it `attributes: {{type: Contact}}`")));
        }
    }
    Ok(())
}

/// A member is a contact or a lead.
pub(crate) fn campaign_member(args: &mut Args) -> Result<()> {
    let given = ["contact_id", "lead_id"].iter().filter(|name| text(args, name).is_some()).count();
    if given == 1 { Ok(()) } else { Err(Error::invalid("give either `contact_id` or `lead_id`")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn after(prepare: fn(&mut Args) -> Result<()>, args: Value) -> Result<Value> {
        let Value::Object(mut args) = args else { panic!("args must be an object") };
        prepare(&mut args).map(|()| Value::Object(args))
    }

    #[test]
    fn dates_are_written_as_each_header_and_query_wants_them() {
        let dates = after(http_dates, json!({ "unmodified_since": "2026-01-02T10:00:00.000+0000", "id": "x" })).unwrap();
        assert_eq!(dates, json!({ "unmodified_since": "Fri, 02 Jan 2026 10:00:00 GMT", "id": "x" }));
        let span = after(time_span, json!({ "start": "2026-01-01T01:00:00+01:00", "end": "2026-01-01T00:05:30Z" })).unwrap();
        assert_eq!(span, json!({ "start": "2026-01-01T00:00:00+00:00", "end": "2026-01-01T00:05:30+00:00" }));
        assert!(after(time_span, json!({ "start": "2026-01-01T00:00:00Z", "end": "2026-01-01T00:00:59Z" })).is_err());
        assert!(after(http_dates, json!({ "modified_since": "yesterday" })).is_err());
    }

    #[test]
    fn all_or_none_of_more_than_one_request_is_refused() {
        let ids: Vec<String> = (0..201).map(|id| id.to_string()).collect();
        assert!(after(collection, json!({ "ids": ids, "all_or_none": false })).is_ok());
        assert!(after(collection, json!({ "ids": ids, "all_or_none": true })).unwrap_err().to_string().contains("200 ids"));
        assert!(after(collection, json!({ "records": [{ "LastName": "x" }] })).unwrap_err().to_string().contains("records[0]"));
    }

    #[test]
    fn an_upsert_names_its_key_once() {
        let said = |fields: Value| after(upsert, json!({ "sobject": "Contact", "field": "Hub_Id__c", "value": "1", "fields": fields }));
        assert!(said(json!({ "LastName": "x" })).is_ok());
        assert!(said(json!({ "hub_id__C": "1" })).is_err() && said(json!({ "Id": "1" })).is_err());
        assert!(after(upsert, json!({ "sobject": "Contact/..", "field": "a", "fields": {} })).is_err());
    }

    #[test]
    fn a_query_that_no_address_takes_is_refused_before_it_is_sent() {
        let ids: Vec<String> = (0..900).map(|id| format!("003xx00000{id:05}AAA")).collect();
        let args = json!({ "soql": "SELECT Id FROM Contact WHERE Id IN :ids", "params": { "ids": ids } });
        assert!(after(soql, args.clone()).unwrap_err().to_string().contains("sf_bulk_query"));
        assert!(after(soql_job, args).unwrap()["soql"].as_str().unwrap().len() > 10_000);
    }
}
