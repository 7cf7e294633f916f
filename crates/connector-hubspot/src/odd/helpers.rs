//! What support asks about a sender: the tier of the company, whether somebody is a prospect, what is behind a deal.
//! Each puts a few operations together, so every request is cached, batched, limited and retried like any other.
//!
//! <https://developers.hubspot.com/docs/guides/api/crm/associations/associations-v4>

use async_trait::async_trait;
use connector_core::{CallCx, Cursor, Error, OpCall, OpReply, Result};
use connector_manifest::{Engine, NativeOperation};
use serde_json::{Map, Value, json};

/// The tier of whoever nothing else is said about.
pub(crate) const DEFAULT_TIER: &str = "standard";
/// The properties that may hold a company's tier, the first that does wins.
const TIER_PROPERTIES: [&str; 2] = ["tier", "hub_tier"];
/// The HubSpot-defined label "primary company" of a contact.
const PRIMARY_COMPANY: u64 = 1;
/// Lifecycle stages of people who have bought.
const BOUGHT: [&str; 2] = ["customer", "evangelist"];

/// `hubspot_company_tier`.
#[derive(Debug)]
pub(crate) struct CompanyTier;

#[async_trait]
impl NativeOperation for CompanyTier {
    async fn call(&self, engine: &Engine, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let default = call.args.get("default").and_then(Value::as_str).unwrap_or(DEFAULT_TIER);
        let unknown = json!({ "tier": default, "source": "default", "company_id": null, "company_name": null });
        let Some(contact) = contact_id(engine, cx, &call.args).await? else { return OpReply::from_value(unknown, call.decode) };
        let Some(company) = primary_company(engine, cx, &contact).await? else { return OpReply::from_value(unknown, call.decode) };
        let record = engine.call_value(cx, "hubspot_get_company", json!({ "id": company })).await?;
        let property = |name: &str| property(&record, name);
        let tier = TIER_PROPERTIES.iter().find_map(|name| property(name));
        let answer = json!({
            "tier": tier.unwrap_or(default),
            "source": if tier.is_some() { "company" } else { "default" },
            "company_id": company,
            "company_name": property("name"),
        });
        OpReply::from_value(answer, call.decode)
    }
}

/// `hubspot_is_prospect`.
#[derive(Debug)]
pub(crate) struct IsProspect;

#[async_trait]
impl NativeOperation for IsProspect {
    async fn call(&self, engine: &Engine, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let nobody = json!({ "prospect": false, "open_deals": 0, "won_deals": 0, "lifecyclestage": null });
        let contact = match (text(&call.args, "contact_id"), text(&call.args, "email")) {
            (Some(id), _) => engine.call_value(cx, "hubspot_get_contact", json!({ "id": id })).await?,
            (None, Some(email)) => by_email(engine, cx, email).await?,
            (None, None) => return Err(nobody_named()),
        };
        let Some(id) = contact.get("id").and_then(Value::as_str) else { return OpReply::from_value(nobody, call.decode) };
        let stage = property(&contact, "lifecyclestage");
        let deals = linked(engine, cx, ("contacts", id), "deals", |_| true).await?;
        let (open, won) = if deals.is_empty() { (0, 0) } else { count_deals(engine, cx, &deals).await? };
        let bought = won > 0 || stage.is_some_and(|stage| BOUGHT.contains(&stage));
        let answer = json!({ "prospect": open > 0 && !bought, "open_deals": open, "won_deals": won, "lifecyclestage": stage });
        OpReply::from_value(answer, call.decode)
    }
}

/// `hubspot_deal_context`.
#[derive(Debug)]
pub(crate) struct DealContext;

#[async_trait]
impl NativeOperation for DealContext {
    async fn call(&self, engine: &Engine, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let id = call.args.get("deal_id").and_then(Value::as_str).unwrap_or_default();
        let deal = engine.call_value(cx, "hubspot_get_deal", json!({ "id": id, "associations": ["contacts", "companies"] })).await?;
        let mut answer = Map::new();
        for (to, read) in [("contacts", "hubspot_batch_read_contacts"), ("companies", "hubspot_batch_read_companies")] {
            let listed = deal.get("associations").and_then(|all| all.get(to));
            // `associations=` gives a first page only; where there is more, the links are listed.
            let ids = if listed.is_some_and(|listed| listed.pointer("/paging/next").is_some()) {
                linked(engine, cx, ("deals", id), to, |_| true).await?
            } else {
                let results = listed.and_then(|listed| listed.get("results")).and_then(Value::as_array);
                let mut ids: Vec<String> = results.into_iter().flatten().filter_map(|link| id_text(link.get("id")?)).collect();
                // A record linked with two labels is listed twice.
                ids.sort_unstable();
                ids.dedup();
                ids
            };
            let records = if ids.is_empty() { Value::Array(Vec::new()) } else { batch_read(engine, cx, read, &ids, None).await? };
            answer.insert(to.to_owned(), records);
        }
        answer.insert("deal".to_owned(), deal);
        OpReply::from_value(Value::Object(answer), call.decode)
    }
}

/// The contact the arguments mean; `None` if HubSpot does not know the address.
async fn contact_id(engine: &Engine, cx: &CallCx, args: &Map<String, Value>) -> Result<Option<String>> {
    match (text(args, "contact_id"), text(args, "email")) {
        (Some(id), _) => Ok(Some(id.to_owned())),
        (None, Some(email)) => Ok(by_email(engine, cx, email).await?.get("id").and_then(id_text)),
        (None, None) => Err(nobody_named()),
    }
}

/// Only the address is passed, so that concurrent lookups share a batch and later ones the cache.
async fn by_email(engine: &Engine, cx: &CallCx, email: &str) -> Result<Value> {
    match engine.call_value(cx, "hubspot_get_contact_by_email", json!({ "email": email })).await {
        Err(error) if error.is_not_found() => Ok(Value::Null),
        other => other,
    }
}

fn nobody_named() -> Error {
    Error::invalid("`contact_id` or `email` is needed")
}

/// The company labelled primary; without one the only company there is.
async fn primary_company(engine: &Engine, cx: &CallCx, contact: &str) -> Result<Option<String>> {
    let primary = linked(engine, cx, ("contacts", contact), "companies", |link| {
        let labels = link.get("associationTypes").and_then(Value::as_array);
        labels.into_iter().flatten().any(|label| label.get("typeId").and_then(Value::as_u64) == Some(PRIMARY_COMPANY))
    });
    if let Some(company) = primary.await?.into_iter().next() {
        return Ok(Some(company));
    }
    let mut all = linked(engine, cx, ("contacts", contact), "companies", |_| true).await?;
    Ok(if all.len() == 1 { all.pop() } else { None })
}

/// The linked ids of one type whose link passes, over all pages.
async fn linked(engine: &Engine, cx: &CallCx, from: (&str, &str), to: &str, passes: impl Fn(&Value) -> bool) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    let mut cursor: Option<Cursor> = None;
    loop {
        let args = json!({ "from_type": from.0, "from_id": from.1, "to_type": to });
        let reply = engine.call_inner(cx, "hubspot_list_associations", args, cursor).await?;
        let body = reply.body.to_value()?;
        let links = body.get("results").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        ids.extend(links.iter().filter(|link| passes(link)).filter_map(|link| id_text(link.get("toObjectId")?)));
        match reply.next {
            Some(next) => cursor = Some(next),
            None => return Ok(ids),
        }
    }
}

/// Open and won deals, by the stages of the account's own pipelines: their ids are opaque and differ per account.
async fn count_deals(engine: &Engine, cx: &CallCx, ids: &[String]) -> Result<(u64, u64)> {
    let pipelines = engine.call_value(cx, "hubspot_list_pipelines", json!({ "object_type": "deals" })).await?;
    let deals = batch_read(engine, cx, "hubspot_batch_read_deals", ids, Some(&["pipeline", "dealstage"])).await?;
    let (mut open, mut won) = (0, 0);
    for deal in deals.as_array().into_iter().flatten() {
        let stage = pipelines
            .get("results")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter(|pipeline| pipeline.get("id").and_then(Value::as_str) == property(deal, "pipeline"))
            .filter_map(|pipeline| pipeline.get("stages").and_then(Value::as_array))
            .flatten()
            .find(|stage| stage.get("id").and_then(Value::as_str) == property(deal, "dealstage"));
        let fact = |name: &str| stage.and_then(|stage| stage.get("metadata")?.get(name)?.as_str());
        // A stage nobody knows (a deleted pipeline) counts as neither.
        match (fact("isClosed"), fact("probability").and_then(|chance| chance.parse::<f64>().ok())) {
            (Some("false"), _) => open += 1,
            (Some("true"), Some(chance)) if chance >= 1.0 => won += 1,
            _ => {}
        }
    }
    Ok((open, won))
}

/// Many records; ids that do not exist are left out.
async fn batch_read(engine: &Engine, cx: &CallCx, tool: &str, ids: &[String], properties: Option<&[&str]>) -> Result<Value> {
    let inputs: Vec<Value> = ids.iter().map(|id| json!({ "id": id })).collect();
    let mut args = json!({ "inputs": inputs });
    if let Some(properties) = properties {
        args["properties"] = json!(properties);
    }
    let mut body = engine.call_value(cx, tool, args).await?;
    Ok(body.get_mut("results").map_or_else(|| Value::Array(Vec::new()), Value::take))
}

fn text<'a>(args: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    args.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// A property that says something: HubSpot has null and the empty text for "no value".
fn property<'a>(record: &'a Value, name: &str) -> Option<&'a str> {
    record.get("properties")?.get(name)?.as_str().filter(|text| !text.is_empty())
}

/// Ids are texts in most places and numbers in v4 associations.
fn id_text(id: &Value) -> Option<String> {
    id.as_str().map(str::to_owned).or_else(|| id.as_u64().map(|number| number.to_string()))
}
