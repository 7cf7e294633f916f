//! What lies beside the versioned API: which versions there are, and who the token stands for.
//!
//! <https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_versions.htm>

use async_trait::async_trait;
use connector_core::{
    CallCx, Error, OpCall, OpReply, Result,
    connector::{ReplyBody, ReplyMeta},
    transport::Request,
};
use connector_manifest::{Engine, NativeOperation, RawReply};
use http::{HeaderValue, Method, header};
use url::Url;

/// What every base URL of this connector holds before the version.
const DATA: &str = "/services/data";

/// `sf_list_versions`.
#[derive(Debug)]
pub(crate) struct ListVersions;

/// `sf_current_user`.
#[derive(Debug)]
pub(crate) struct CurrentUser;

#[async_trait]
impl NativeOperation for ListVersions {
    async fn call(&self, engine: &Engine, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        // Asked where the connection stands, without the token: every host of Salesforce answers this to anybody.
        get(engine, cx, call, &format!("{DATA}/"), false).await
    }
}

#[async_trait]
impl NativeOperation for CurrentUser {
    async fn call(&self, engine: &Engine, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        get(engine, cx, call, "/services/oauth2/userinfo", true).await
    }
}

async fn get(engine: &Engine, cx: &CallCx, call: OpCall, path: &str, authorize: bool) -> Result<OpReply> {
    let mut request = Request::new(Method::GET, beside(&cx.connection.base_url, path)?);
    request.head.headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let reply = engine.send_raw(cx, request, authorize).await?;
    json(engine, cx, call, reply)
}

fn json(engine: &Engine, cx: &CallCx, call: OpCall, reply: RawReply) -> Result<OpReply> {
    if !reply.is_success() {
        return Err(engine.error_for(cx, &reply));
    }
    let status = reply.status;
    let body = ReplyBody::Json(reply.body);
    let mut output = OpReply::from_value(body.to_value()?, call.decode)?;
    output.meta = ReplyMeta { status, ..output.meta };
    Ok(output)
}

/// An address of the same host, beside the versioned API.
fn beside(base: &Url, path: &str) -> Result<Url> {
    let (before, _) = base
        .path()
        .split_once(DATA)
        .ok_or_else(|| Error::config("the base URL of a Salesforce connection ends with /services/data/v66.0, or another version"))?;
    let mut url = base.clone();
    url.set_path(&format!("{before}{path}"));
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_beside_keeps_host_and_mount() {
        let beside = |base: &str| beside(&base.parse().unwrap(), "/services/oauth2/userinfo").map(String::from);
        assert_eq!(beside("https://acme.my.salesforce.com/services/data/v66.0").unwrap(), "https://acme.my.salesforce.com/services/oauth2/userinfo");
        assert_eq!(beside("http://127.0.0.1:1/sf/services/data/v66.0").unwrap(), "http://127.0.0.1:1/sf/services/oauth2/userinfo");
        assert!(beside("https://acme.my.salesforce.com").is_err());
    }
}
