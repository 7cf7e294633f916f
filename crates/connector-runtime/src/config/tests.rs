//! Tests of the configuration: what is read, and how mistakes are told.

use super::*;

const HUB: &str = r#"
connections:
  hubspot:
    connector: hubspot
    credential:
      token: ${HUBSPOT_API_KEY}
    workspaces: [ws_sales]
    webhook: { secrets: ["${HUBSPOT_SECRET}"], public_url: "https://hub.example" }
    settings: { portal: 512, verbose: true, region: eu }
    egress_allow: ["erp.internal:8443"]
    policy: { writes: approve, workspaces: { ws_bots: deny } }
  mail:
    connector: msgraph
    tenant: acme
    credential: mail_prod
manifests: [./connectors]
resilience: { retry: { max_attempts: 5 }, hubspot: { timeout: { read_ms: 4000 } } }
policy: { writes: allow }
egress: { allow_loopback: true, allow: [10.20.0.0/16] }
state: sqlite://hub.db
listen: 127.0.0.1:8080
public_url: https://hub.example
tenants: [default, acme]
"#;

fn wrong(text: &str) -> String {
    HubConfig::parse("hub.yaml", text).unwrap_err().to_string()
}

#[test]
fn a_whole_file_is_read() {
    let config = HubConfig::parse("hub.yaml", HUB).unwrap();
    let hubspot = &config.connections["hubspot"];
    assert_eq!(hubspot.credential, CredentialConfig::Fields([("token".into(), "${HUBSPOT_API_KEY}".into())].into()));
    assert_eq!((hubspot.settings["portal"].as_str(), hubspot.settings["verbose"].as_str()), ("512", "true"));
    assert_eq!(hubspot.policy.of("ws_bots"), Writes::Deny);
    assert_eq!(hubspot.policy.of("ws_sales"), Writes::Approve);
    assert_eq!(config.connections["mail"].credential, CredentialConfig::Named("mail_prod".into()));
    assert_eq!(config.connections["mail"].workspaces, ["*"]);
    assert_eq!(config.resilience["hubspot"]["timeout"]["read_ms"], 4000);
    config.egress.policy().unwrap();
    assert_eq!(HubConfig::parse("hub.yaml", "# nothing\n").unwrap(), HubConfig::default());
}

#[test]
fn mistakes_name_their_place_and_what_is_meant() {
    let texts = [
        "conections: {}",
        "connections:\n  crm:\n    conector: hubspot",
        "connections:\n  crm:\n    connector: hubspot\n    policy: { writes: alow }",
        "connections:\n  crm: hubspot-s3cret",
        "egress: { allow_loopback: s3cret }",
        "connections:\n  crm:\n    credential: { token: \"${X}\" }",
        "connections:\n  crm: &a { connector: x }",
        "listen: a\nlisten: b",
        "connections:\n  crm:\n    connector: x\n    webhook: { secrets: [${X}] }",
        "a: 1\n---\nb: 2",
        "connections:\n\tcrm: 1",
    ];
    let shown: Vec<String> = texts.iter().map(|text| wrong(text)).collect();
    assert!(!shown.concat().contains("s3cret"), "{shown:#?}");
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn a_secret_in_plain_text_is_refused_with_the_safer_way_and_not_shown() {
    let text = "
tenants: [acme]
connections:
  crm:
    connector: hubspot
    tenant: acmee
    credential:
      client_id: public
      client_secret: s3cret
    webhook:
      secrets:
        - ${GOOD}
        - s3cret
    settings:
      api_key: s3cret
  Bad Id:
    connector: x
";
    let shown = wrong(text);
    assert!(!shown.contains("s3cret"), "{shown}");
    insta::assert_snapshot!(shown);
}

#[test]
fn what_is_missing_is_named_with_who_needs_it() {
    let env: Env = std::sync::Arc::new(|name| match name {
        "SET" => Some("a${SET}".into()),
        "EMPTY" => Some(String::new()),
        _ => None,
    });
    let mut substitution = Substitution::new(env);
    assert_eq!(substitution.fill("x", "<${SET}>"), "<a${SET}>", "values are never expanded again");
    for text in ["${MISSING}", "${EMPTY}", "${not a name}", "${open"] {
        substitution.fill("connections.crm.base_url", text);
    }
    insta::assert_snapshot!(substitution.finish().unwrap_err().message().replace("; ", "\n"));
}

#[test]
fn the_vault_is_read_and_its_mistakes_have_their_place_too() {
    let config = HubConfig::parse(
        "hub.yaml",
        "
vault:
  keys: [{ id: k2026, from: \"env:CONNECTORS_MASTER_KEY\" }]
  stores: { files: { kind: file, dir: /run/secrets } }
connections:
  slack: { connector: slack, credential: \"files:slack\" }
",
    )
    .unwrap();
    assert_eq!(config.vault.unwrap().keys[0].id, "k2026");
    assert_eq!(config.connections["slack"].credential, CredentialConfig::Named("files:slack".into()));
    let shown = wrong(
        "vault:
  keys:
    - id: K!
      from: \"env:CONNECTORS_MASTER_KEY\"
    - id: t
      from: \"transit:https://bao.internal:8200/transit/hub\"
      token: s3cret
connections:
  slack: { connector: slack, credential: \"fiels:slack\" }
",
    );
    assert!(shown.contains("hub.yaml:3:11") && shown.contains("hub.yaml:7:14") && shown.contains("hub.yaml:9:42"), "{shown}");
    assert!(shown.contains("there is no secret store `fiels`") && !shown.contains("s3cret"), "{shown}");
}

#[test]
fn a_workspace_belongs_to_one_tenant() {
    let hub = |other: &str| {
        format!(
            "connections:\n  one: {{ connector: x, tenant: acme, workspaces: [sales] }}\n  two: {{ connector: x, tenant: {other}, workspaces: [sales, \"*\"] }}\n"
        )
    };
    HubConfig::parse("hub.yaml", &hub("acme")).unwrap().check().unwrap();
    let error = wrong(&hub("globex"));
    assert!(error.contains("hub.yaml:3:40") && error.contains("belongs to the tenant `acme`"), "{error}");
}
