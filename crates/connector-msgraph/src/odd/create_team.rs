//! Starting to make a team: the answer is empty, and its headers say which team it will be.
//! <https://learn.microsoft.com/graph/api/team-post>

use async_trait::async_trait;
use connector_core::{CallCx, Error, OpCall, OpReply, Result};
use connector_manifest::{Engine, NativeOperation};
use http::{HeaderMap, HeaderName, Method, header};
use serde::Deserialize;
use serde_json::json;

use super::{
    args::{arguments, request},
    delegated::is_delegated,
};

/// The native operation.
#[derive(Debug)]
pub(crate) struct CreateTeam;

#[derive(Deserialize)]
struct Args {
    display_name: String,
    description: Option<String>,
    #[serde(default = "private")]
    visibility: String,
    owner: Option<String>,
    #[serde(default = "standard")]
    template: String,
}

fn private() -> String {
    "private".into()
}

fn standard() -> String {
    "standard".into()
}

#[async_trait]
impl NativeOperation for CreateTeam {
    async fn call(&self, engine: &Engine, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let args: Args = arguments(&call)?;
        if args.owner.is_none() && !is_delegated(cx) {
            return Err(Error::invalid("an app alone must name the team's first owner; give the parameter `owner`"));
        }
        let root = cx.connection.setting("graph_root").unwrap_or("https://graph.microsoft.com/v1.0");
        let quoted = |text: &str| text.replace('\'', "''");
        let mut body = json!({
            "template@odata.bind": format!("{root}/teamsTemplates('{}')", quoted(&args.template)),
            "displayName": args.display_name, "visibility": args.visibility,
        });
        if let Some(description) = args.description {
            body["description"] = description.into();
        }
        if let Some(owner) = args.owner {
            body["members"] = json!([{
                "@odata.type": "#microsoft.graph.aadUserConversationMember", "roles": ["owner"],
                "user@odata.bind": format!("{root}/users('{}')", quoted(&owner)),
            }]);
        }
        let reply = engine.send_raw(cx, request(cx, Method::POST, "/teams", Some(&body))?, true).await?;
        if !reply.is_success() {
            return Err(engine.error_for(cx, &reply));
        }
        let team = named(&reply.headers, header::CONTENT_LOCATION, "teams").or_else(|| named(&reply.headers, header::LOCATION, "teams"));
        let team = team.ok_or_else(|| Error::protocol("the team is being made, but the answer does not say which one; look for its name"))?;
        let operation = named(&reply.headers, header::LOCATION, "operations");
        OpReply::from_value(json!({ "team_id": team, "operation_id": operation }), call.decode)
    }
}

/// What stands in `…/collection('id')` or `…/collection/id` of a header.
fn named(headers: &HeaderMap, header: HeaderName, collection: &str) -> Option<String> {
    let location = headers.get(header)?.to_str().ok()?;
    let (_, rest) = location.split_once(&format!("{collection}("))?;
    let (id, _) = rest.trim_start_matches('\'').split_once(['\'', ')'])?;
    (!id.is_empty()).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_are_read_from_the_headers() {
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, "/teams('t-1')/operations('o-1')".parse().unwrap());
        headers.insert(header::CONTENT_LOCATION, "/teams('t-1')".parse().unwrap());
        assert_eq!(named(&headers, header::CONTENT_LOCATION, "teams").as_deref(), Some("t-1"));
        assert_eq!(named(&headers, header::LOCATION, "operations").as_deref(), Some("o-1"));
        assert_eq!(named(&headers, header::CONTENT_LOCATION, "operations"), None);
    }
}
