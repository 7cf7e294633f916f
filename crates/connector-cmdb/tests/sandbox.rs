//! Both profiles over HTTP against the stateful fakes of the sandbox: the same questions, the same answers, whatever the system.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{collections::BTreeSet, sync::Arc};

use connector_cmdb::Cmdb;
use connector_http::{EgressPolicy, HttpTransport};
use connector_sandbox::Sandbox;
use secrecy::SecretString;

fn credential(sandbox: &Sandbox, vendor: &str, name: &str) -> Option<&'static str> {
    let name = if name == "username" { "user" } else { name };
    sandbox.credentials().into_iter().find(|credential| credential.vendor == vendor && credential.name == name).map(|credential| credential.value)
}

fn client(sandbox: &Sandbox, profile: &str) -> Cmdb {
    let transport = HttpTransport::builder().egress(EgressPolicy::new().allow_loopback()).build().unwrap();
    let fields: Vec<(&'static str, SecretString)> =
        ["token", "username", "password"].into_iter().filter_map(|name| Some((name, credential(sandbox, profile, name)?.into()))).collect();
    Cmdb::builder().profile(profile).base_url(sandbox.base_url(profile)).credential(fields).transport(Arc::new(transport)).build().unwrap()
}

#[tokio::test]
async fn the_same_questions_have_the_same_answers_in_both_systems() {
    let sandbox = Sandbox::builder().start("127.0.0.1:0").await.unwrap();
    let mut answers = Vec::new();
    for profile in ["netbox", "servicenow"] {
        let cmdb = client(&sandbox, profile);
        assert!(cmdb.probe().await.unwrap().ok);
        let web = cmdb.find_ci_by_name("web01").await.unwrap().unwrap();
        assert_eq!((web.name.as_str(), web.ips.clone().unwrap_or_default()), ("web01", vec!["10.1.2.3".to_owned()]), "{profile}");
        assert_eq!(cmdb.find_ci_by_name("no such thing").await.unwrap(), None, "{profile}");
        assert_eq!(cmdb.search_cis("web0").await.unwrap().results.len(), 2, "{profile}");
        let owners = cmdb.get_owner(&web.id).await.unwrap();
        assert_eq!(owners.results[0].name, "Web Operations", "{profile}");

        let shop = cmdb.find_ci_by_name("shop").await.unwrap().unwrap();
        let down = cmdb.dependencies(&shop.id).await.unwrap();
        assert_eq!((down.cyclic, down.truncated), (Some(true), false), "{profile}");
        let database = cmdb.find_ci_by_name("db01").await.unwrap().unwrap();
        let up = cmdb.dependents(&database.id).await.unwrap();
        let names = |nodes: &[connector_cmdb::models::WalkNode]| nodes.iter().filter_map(|node| node.name.clone()).collect::<BTreeSet<_>>();
        // Addresses of the two systems differ, names do not. Clusters are related the other way round in the fake ServiceNow.
        answers.push((names(&down.nodes), names(&up.nodes)));
    }
    let [netbox, servicenow] = &answers[..] else { panic!("two systems") };
    for needed in ["billing-api", "auth", "search", "vm-shop-1", "hv01", "db01", "stor01", "app02"] {
        assert!(netbox.0.contains(needed) && servicenow.0.contains(needed), "{needed}: {netbox:?} {servicenow:?}");
    }
    for affected in ["postgres-orders", "billing-api", "shop", "storefront-cdn", "app01"] {
        assert!(netbox.1.contains(affected) && servicenow.1.contains(affected), "{affected}: {netbox:?} {servicenow:?}");
    }
}

#[tokio::test]
async fn a_ticket_is_linked_once_in_both_systems() {
    let sandbox = Sandbox::builder().start("127.0.0.1:0").await.unwrap();
    for profile in ["netbox", "servicenow"] {
        let cmdb = client(&sandbox, profile);
        let web = cmdb.find_ci_by_name("web01").await.unwrap().unwrap();
        let ticket = match profile {
            "netbox" => "INC-8841".to_owned(),
            _ => {
                // The one incident of the fake, by its own id.
                let rows = sandbox_incident(&sandbox).await;
                rows["result"][0]["sys_id"].as_str().unwrap().to_owned()
            }
        };
        let first = cmdb.link_ticket(&ticket, [&web.id]).await.unwrap();
        let second = cmdb.link_ticket(&ticket, [&web.id]).await.unwrap();
        assert_eq!((first.linked.len(), second.linked.len(), second.already_linked.len()), (1, 0, 1), "{profile}");
        assert_eq!(cmdb.list_linked_cis(&ticket).await.unwrap().results[0].ci_id, web.id, "{profile}");
        assert_eq!(cmdb.list_linked_tickets(&web.id).await.unwrap().results.len(), 1, "{profile}");
        let impact = cmdb.impact().with(|operation| operation.ticket(&ticket)).await.unwrap();
        assert_eq!(impact.roots, std::slice::from_ref(&web.id), "{profile}");
        assert_eq!(cmdb.unlink_ticket(&ticket).await.unwrap().removed.len(), 1, "{profile}");
        assert!(cmdb.list_linked_cis(&ticket).await.unwrap().results.is_empty(), "{profile}");
    }
}

/// Asks the fake directly: tickets are no business of this connector.
async fn sandbox_incident(sandbox: &Sandbox) -> serde_json::Value {
    use connector_core::{
        CallCx, Connection,
        transport::{Request, Transport as _},
    };
    let transport = HttpTransport::builder().egress(EgressPolicy::new().allow_loopback()).build().unwrap();
    let base = sandbox.base_url("servicenow");
    let cx = CallCx::new(Arc::new(Connection::new("servicenow", &base).unwrap()));
    let mut request = Request::new(http::Method::GET, format!("{base}/api/now/table/incident").parse().unwrap());
    let field = |name: &str| credential(sandbox, "servicenow", name).unwrap();
    let basic = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("{}:{}", field("username"), field("password")));
    request.head.headers.insert("authorization", format!("Basic {basic}").parse().unwrap());
    let body = transport.send(&cx, request).await.unwrap().into_body().collect(1 << 20).await.unwrap();
    serde_json::from_slice(&body).unwrap()
}

#[tokio::test]
async fn items_are_created_once_and_changed_unless_somebody_else_did() {
    let sandbox = Sandbox::builder().start("127.0.0.1:0").await.unwrap();
    for (profile, class, attributes, change) in [
        ("netbox", "cluster", serde_json::json!({}), serde_json::json!({ "status": "offline" })),
        ("servicenow", "linux_server", serde_json::json!({ "serial_number": "SN-9" }), serde_json::json!({ "operational_status": "6" })),
    ] {
        let cmdb = client(&sandbox, profile);
        let make = || cmdb.create_ci(class, "made-here").with(|operation| operation.attributes(attributes.as_object().unwrap().clone()));
        let (first, second) = (make().await.unwrap(), make().await.unwrap());
        assert_eq!((first.created, second.created, &first.ci.id), (true, false, &second.ci.id), "{profile}");
        let read = second.ci.updated_at.clone().unwrap();
        cmdb.update_ci(&first.ci.id, change.as_object().unwrap().clone()).with(|operation| operation.unless_changed_since(&read)).await.unwrap();
        let status = cmdb.get_ci(&first.ci.id).await.unwrap().unwrap().status.unwrap();
        assert_eq!(status, change.as_object().unwrap().values().next().unwrap().as_str().unwrap(), "{profile}");
    }
}
