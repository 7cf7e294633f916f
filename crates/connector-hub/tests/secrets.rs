//! Credentials, master keys, API keys, approvals and the trail at the command line: what is asked, what is shown, what never is.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod common;

use common::hub::{Hub, json, said, stderr, stdout};
use serde_json::{Value, json};

const CANARY: &str = "hunter2-canary";

/// A hub that keeps one credential.
fn hub_with_credential() -> Hub {
    let hub = Hub::new();
    let output = hub.pipe(&["credentials", "set", "crm", "--connector", "hubspot", "--owner", "ada"], &format!("token={CANARY}\n"));
    assert!(output.status.success(), "{}", stderr(&output));
    hub
}

#[test]
fn a_look_makes_no_key_and_keeping_something_does() {
    let hub = Hub::new();
    for look in [
        &["connectors"][..],
        &["describe", "hubspot"],
        &["tools"],
        &["credentials", "list"],
        &["dlq", "list"],
        &["audit", "verify"],
        &["scopes", "--tools", "hubspot_get_contact"],
    ] {
        let output = hub.run(look);
        assert!(output.status.success(), "{look:?}: {}", stderr(&output));
        assert!(!hub.has(".connectors/master.key"), "{look:?} made a key");
    }
    let output = hub.pipe(&["credentials", "set", "crm", "--field", "token"], CANARY);
    assert!(output.status.success() && stderr(&output).contains("keep a copy"), "{}", stderr(&output));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(hub.dir.path().join(".connectors/master.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn a_secret_on_the_command_line_is_refused_with_the_safer_way_and_not_repeated() {
    let hub = Hub::new();
    let pair = format!("token={CANARY}");
    let option = format!("--token={CANARY}");
    for args in [
        &["credentials", "set", "crm", "--field", &pair][..],
        &["credentials", "set", "crm", &pair],
        &["credentials", "set", "crm", CANARY],
        &["credentials", "set", "crm", "--from-file", CANARY],
        &["credentials", "rotate", "crm", "--field", &pair],
        &["credentials", "set", "crm", &option],
        &["connect", "hubspot", "--field", &pair],
        &["connect", "hubspot", &pair],
    ] {
        let output = hub.run(args);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(!said(&output).contains(CANARY), "{}", said(&output));
    }
    let output = hub.run(&["credentials", "set", "crm", "--field", &pair]);
    assert!(stderr(&output).contains("standard input") && stderr(&output).contains("--from-file"), "{}", stderr(&output));
    assert!(!hub.has(".connectors/master.key"), "nothing was kept");
}

#[test]
fn what_is_known_about_a_credential_is_shown_and_never_the_secret() {
    let hub = hub_with_credential();
    let list = hub.json(&["credentials", "list", "--json"]);
    assert_eq!(list[0]["name"], "crm");
    assert_eq!(list[0]["fields"], json!(["token"]));
    assert_eq!(list[0]["state"], "active");
    let outputs = [
        hub.run(&["credentials", "list"]),
        hub.run(&["credentials", "list", "--json"]),
        hub.run(&["credentials", "show", "crm"]),
        hub.run(&["credentials", "show", "crm", "--json"]),
        hub.run(&["credentials", "grant", "crm", "--workspaces", "sales,support"]),
        hub.pipe(&["credentials", "rotate", "crm", "--field", "token"], &format!("{CANARY}-2")),
        hub.run(&["vault", "verify"]),
        hub.run(&["vault", "keys"]),
        hub.run(&["audit", "tail"]),
        hub.run(&["audit", "tail", "--json"]),
    ];
    for output in &outputs {
        assert!(output.status.success(), "{}", said(output));
        assert!(!said(output).contains(CANARY), "{}", said(output));
    }
    assert!(stdout(&outputs[4]).contains("sales, support"), "{}", stdout(&outputs[4]));
    let shown = hub.json(&["credentials", "show", "crm", "--json"]);
    assert_eq!(shown["version"], 2);
    assert!(shown["previous_until"].is_number(), "the old one is accepted for a while: {shown}");
    for entry in std::fs::read_dir(hub.dir.path().join(".connectors")).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes()), "a file holds the secret");
    }
}

#[test]
fn values_come_from_lines_json_or_files() {
    let hub = Hub::new();
    hub.write("key.pem", "-----BEGIN PRIVATE KEY-----\nAA\n-----END PRIVATE KEY-----\n");
    let two = hub.pipe(&["credentials", "set", "two", "--field", "username", "--field", "password", "--json"], "username=ada\npassword=p=q\n");
    assert_eq!(json(&two, &["two"])["fields"], json!(["password", "username"]));
    let object = hub.pipe(&["credentials", "set", "object", "--stdin-json", "--json"], r#"{"token": "t"}"#);
    assert_eq!(json(&object, &["object"])["fields"], json!(["token"]));
    let file = hub.run(&["credentials", "set", "file", "--from-file", "private_key=key.pem", "--json"]);
    assert_eq!(json(&file, &["file"])["fields"], json!(["private_key"]));
    let missing = hub.pipe(&["credentials", "set", "two", "--field", "username", "--field", "password"], "username=ada\n");
    assert_eq!(missing.status.code(), Some(2));
    assert!(stderr(&missing).contains("password"), "{}", stderr(&missing));
    let dates = hub.pipe(&["credentials", "set", "dated", "--field", "token", "--expires", "2099-01-31", "--rotate-every", "90d", "--json"], "t");
    let dated = json(&dates, &["dated"]);
    assert_eq!((dated["expires_at"].as_u64(), dated["rotate_every"].as_u64()), (Some(4_073_500_800_000), Some(7_776_000)));
}

#[test]
fn a_revoked_credential_is_gone_and_is_revoked_only_on_purpose() {
    let hub = hub_with_credential();
    let asked = hub.run(&["credentials", "revoke", "crm"]);
    assert_eq!(asked.status.code(), Some(2));
    assert!(stderr(&asked).contains("--yes"), "{}", stderr(&asked));
    assert_eq!(hub.json(&["credentials", "revoke", "crm", "--yes", "--json"])["state"], "revoked");
    assert_eq!(hub.json(&["credentials", "show", "crm", "--json"])["state"], "revoked");
}

#[test]
fn a_call_takes_its_secret_from_the_vault() {
    let hub = hub_with_credential();
    hub.write("hub.yaml", "connections:\n  crm: { connector: hubspot, credential: crm }\n");
    let output = hub.run(&["call", "hubspot_get_contact", "--arg", "id=512", "--dry-run"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!said(&output).contains(CANARY));
    let health = hub.json(&["connectors", "--json"]);
    assert!(health.is_array());
}

#[test]
fn a_wrong_or_missing_master_key_stops_the_start_with_its_id() {
    let hub = hub_with_credential();
    let id = hub.json(&["credentials", "show", "crm", "--json"])["key_id"].as_str().unwrap().to_owned();
    let file = hub.dir.path().join(".connectors/master.key");
    let copy = hub.dir.path().join("copy");
    std::fs::rename(&file, &copy).unwrap();
    for args in
        [&["credentials", "list"][..], &["vault", "verify"], &["serve", "--listen", "127.0.0.1:0"], &["credentials", "set", "x", "--field", "token"]]
    {
        let output = hub.pipe(args, "t");
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(&id), "{args:?}: {}", stderr(&output));
        assert!(!file.exists(), "{args:?} made another key");
    }
    let other = hub.dir.path().join("other.key");
    assert!(hub.run(&["vault", "new-key", other.to_str().unwrap()]).status.success());
    let text = std::fs::read_to_string(&other).unwrap();
    let wrong = hub.command(&["credentials", "list"]).env("CONNECTORS_MASTER_KEY", text.trim()).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains(&id) && !stderr(&wrong).contains(text.trim()), "{}", stderr(&wrong));
    std::fs::rename(&copy, &file).unwrap();
    assert!(hub.run(&["vault", "verify"]).status.success());
    // What opens no secret needs no key.
    std::fs::rename(&file, &copy).unwrap();
    assert!(hub.run(&["dlq", "list"]).status.success());
}

#[cfg(unix)]
#[test]
fn a_key_file_that_others_can_read_is_refused_with_what_mends_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let hub = hub_with_credential();
    let file = hub.dir.path().join(".connectors/master.key");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let output = hub.run(&["credentials", "list"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("chmod 600"), "{}", stderr(&output));
}

#[test]
fn master_keys_are_changed_while_secrets_stay() {
    let hub = hub_with_credential();
    let old = hub.json(&["credentials", "show", "crm", "--json"])["key_id"].as_str().unwrap().to_owned();
    let made = hub.run(&["vault", "new-key", "new.key"]);
    assert!(made.status.success(), "{}", stderr(&made));
    let again = hub.run(&["vault", "new-key", "new.key"]);
    assert_eq!(again.status.code(), Some(2), "a key is never overwritten: {}", stderr(&again));
    hub.write(
        "hub.yaml",
        &format!("vault:\n  keys:\n    - {{ id: k2, from: \"file:new.key\" }}\n    - {{ id: {old}, from: \"file:.connectors/master.key\" }}\n"),
    );
    let report = hub.json(&["vault", "rotate-key", "--json"]);
    assert_eq!(report["key_id"], "k2");
    assert!(report["rewrapped"].as_u64() > Some(0), "{report}");
    assert_eq!(report["unreadable"], json!([]));
    assert_eq!(hub.json(&["credentials", "show", "crm", "--json"])["key_id"], "k2");
    let by_key = hub.json(&["vault", "keys", "--json"]);
    assert_eq!(by_key.get(&old).and_then(Value::as_u64).unwrap_or(0), 0, "{by_key}");
    let second = hub.run(&["vault", "rotate-key"]);
    assert!(stdout(&second).contains("sealed anew under `k2`"), "{}", stdout(&second));
}

#[test]
fn keys_are_shown_once_and_listed_without_themselves() {
    let hub = Hub::new();
    let made = hub.run(&["keys", "create", "--role", "operator", "--workspaces", "sales", "--name", "helpdesk"]);
    assert!(made.status.success(), "{}", stderr(&made));
    let key = stdout(&made).trim().to_owned();
    assert!(key.starts_with("ck_") && key.len() == 67, "standard output is the key alone");
    let list = hub.run(&["keys", "list"]);
    assert!(stdout(&list).contains("helpdesk") && !said(&list).contains(&key), "{}", stdout(&list));
    let id = hub.json(&["keys", "list", "--json"])[0]["id"].as_str().unwrap().to_owned();
    assert!(hub.run(&["keys", "revoke", &id]).status.success());
    assert!(hub.json(&["keys", "list", "--json"])[0]["revoked_at"].is_number());
    assert_eq!(hub.run(&["keys", "revoke", "k0"]).status.code(), Some(4));
    let trail = hub.json(&["audit", "tail", "--json"]);
    let operations: Vec<&str> = trail.as_array().unwrap().iter().map(|one| one["record"]["operation"].as_str().unwrap()).collect();
    assert_eq!(operations, ["keys.create", "keys.create", "keys.revoke", "keys.revoke", "keys.revoke", "keys.revoke"], "intent and outcome of each");
    assert_eq!(trail[0]["record"]["actor"], "user:ada");
}

#[test]
fn somebody_else_approves_and_the_exact_write_goes_through_once() {
    let hub = Hub::new();
    hub.write("hub.yaml", "policy: { writes: approve }\nconnections:\n  crm: { connector: hubspot, credential: { token: \"${T}\" } }\n");
    let create = ["call", "hubspot_create_contact", "--params", r#"{"properties": {"email": "a@example.com"}}"#];
    let call = |user: &str| hub.command(&create).env("USER", user).env("T", "x").output().unwrap();
    let asked = call("ada");
    assert_eq!(asked.status.code(), Some(3), "{}", said(&asked));
    let id = serde_json::from_slice::<Value>(&asked.stdout).unwrap()["approval_id"].as_str().unwrap().to_owned();
    let run = |user: &str, args: &[&str]| hub.command(args).env("USER", user).env("T", "x").output().unwrap();
    let listed = run("bob", &["approvals", "list"]);
    assert!(stdout(&listed).contains("hubspot_create_contact") && stdout(&listed).contains("user:ada"), "{}", said(&listed));
    let own = run("ada", &["approvals", "approve", &id]);
    assert_eq!(own.status.code(), Some(1), "{}", said(&own));
    assert!(stderr(&own).contains("somebody else"), "{}", stderr(&own));
    let approved = run("bob", &["approvals", "approve", &id, "--json"]);
    assert_eq!(serde_json::from_slice::<Value>(&approved.stdout).unwrap()["decided_by"], "user:bob");
    let again = run("eve", &["approvals", "deny", &id]);
    assert_eq!(again.status.code(), Some(1), "decided is decided: {}", said(&again));
    assert_eq!(run("bob", &["approvals", "show", "nobody"]).status.code(), Some(4));
    let trail = run("bob", &["audit", "tail"]);
    assert!(stdout(&trail).contains("approvals.approve") && stdout(&trail).contains("user:bob"), "{}", stdout(&trail));
}

#[test]
fn who_used_a_credential_is_told_and_the_chain_holds() {
    let hub = hub_with_credential();
    let used = hub.run(&["audit", "who-used", "crm"]);
    assert!(used.status.success() && stdout(&used).contains("credentials.set"), "{}", said(&used));
    assert_eq!(hub.run(&["audit", "who-used", "nobody"]).status.code(), Some(4));
    let verified = hub.json(&["audit", "verify", "--json"]);
    assert_eq!(verified["first_bad"], Value::Null);
    assert!(verified["checked"].as_u64() >= Some(2), "{verified}");
}

#[test]
fn scopes_of_tools_are_the_least_and_typos_are_told() {
    let hub = Hub::new();
    let report = hub.json(&["scopes", "--tools", "hubspot_get_contact,hubspot_get_contact_by_email", "--json"]);
    assert_eq!(report["connectors"][0]["connector"], "hubspot");
    assert!(report["connectors"][0]["scopes"].as_array().unwrap().iter().any(|scope| scope == "crm.objects.contacts.read"), "{report}");
    let typo = hub.run(&["scopes", "--tools", "hubspot_get_contcat"]);
    assert_eq!(typo.status.code(), Some(2));
    assert!(stderr(&typo).contains("did you mean"), "{}", stderr(&typo));
}

/// A dead letter and an event of this tenant, as a running hub would leave them.
fn left_behind(hub: &Hub, tenant: &str) -> (String, String) {
    use connector_core::{
        ErrorKind, TenantId, WorkspaceId,
        state::{EventFilter, EventLog as _, JobError, JobQueue as _, NewEvent, NewJob},
    };
    let store = connector_state::SqliteState::open(hub.dir.path().join(".connectors/connectors.db")).unwrap();
    let (tenant, workspace) = (TenantId::from(tenant), WorkspaceId::default());
    let job = NewJob {
        tenant: tenant.clone(),
        workspace: workspace.clone(),
        queue: "outbox".into(),
        subject: "hubspot_create_contact".into(),
        key: None,
        order_key: None,
        payload: "{}".into(),
        not_before: 0,
        max_attempts: 1,
    };
    let event = NewEvent {
        tenant: tenant.clone(),
        workspace,
        connector: "hubspot".into(),
        connection: "hubspot".into(),
        event_id: "e1".into(),
        event_type: "contact.created".into(),
        order_key: None,
        flags: Vec::new(),
        payload: "{}".into(),
        digest: None,
        received_at: 1,
    };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let letter = store.bury_new(job, JobError { kind: ErrorKind::Timeout, message: "no answer".into() }).await.unwrap();
        store.append(vec![event]).await.unwrap();
        let events = store.events(&tenant, EventFilter::default()).await.unwrap();
        (letter.to_string(), events[0].seq.to_string())
    })
}

#[test]
fn another_tenants_ids_look_like_nobodys_at_the_command_line_too() {
    let hub = Hub::new();
    hub.write("hub.yaml", "policy: { writes: approve }\nconnections:\n  crm-a: { connector: hubspot, tenant: a, credential: { token: \"${T}\" } }\n  crm-b: { connector: hubspot, tenant: b, credential: { token: \"${T}\" } }\n");
    let run = |args: &[&str]| hub.command(args).env("T", "x").output().unwrap();
    let made = hub
        .command(&["credentials", "set", "cred-a", "--field", "token", "--tenant", "a"])
        .env("T", "x")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn();
    let mut made = made.unwrap();
    std::io::Write::write_all(&mut made.stdin.take().unwrap(), b"t").unwrap();
    assert!(made.wait_with_output().unwrap().status.success());
    let create = run(&["keys", "create", "--role", "viewer", "--tenant", "a", "--json"]);
    let key = serde_json::from_slice::<Value>(&create.stdout).unwrap()["record"]["id"].as_str().unwrap().to_owned();
    let asked = run(&["call", "hubspot_create_contact", "--params", r#"{"properties": {"email": "a@example.com"}}"#, "--tenant", "a"]);
    let approval = serde_json::from_slice::<Value>(&asked.stdout).unwrap()["approval_id"].as_str().unwrap().to_owned();
    let nobody = "0".repeat(32);
    let (letter, event) = left_behind(&hub, "a");
    let cases: [(&[&str], &str, &str); 19] = [
        (&["dlq", "show", "ID"], &letter, "987654"),
        (&["dlq", "retry", "ID"], &letter, "987654"),
        (&["dlq", "discard", "ID"], &letter, "987654"),
        (&["events", "show", "ID"], &event, "987654"),
        (&["events", "replay", "ID"], &event, "987654"),
        (&["connect", "hubspot", "--connection", "ID", "--scheme", "bearer", "--from-file", "token=hub.yaml"], "crm-a", "crm-x"),
        (&["credentials", "show", "ID"], "cred-a", "cred-x"),
        (&["credentials", "grant", "ID", "--workspaces", "*"], "cred-a", "cred-x"),
        (&["credentials", "rotate", "ID", "--field", "token"], "cred-a", "cred-x"),
        (&["credentials", "revoke", "ID", "--yes"], "cred-a", "cred-x"),
        (&["credentials", "validate", "ID"], "cred-a", "cred-x"),
        (&["audit", "who-used", "ID"], "cred-a", "cred-x"),
        (&["approvals", "show", "ID"], &approval, &nobody),
        (&["approvals", "approve", "ID"], &approval, &nobody),
        (&["approvals", "deny", "ID"], &approval, &nobody),
        (&["keys", "revoke", "ID"], &key, "k000000000000"),
        (&["scopes", "--diff", "ID"], "crm-a", "crm-x"),
        (&["disconnect", "ID", "--yes"], "crm-a", "crm-x"),
        (&["call", "hubspot_get_contact", "--arg", "id=1", "--connection", "ID"], "crm-a", "crm-x"),
    ];
    for (args, theirs, made_up) in cases {
        let ask = |id: &str| {
            let mut args: Vec<&str> = args.iter().map(|arg| if *arg == "ID" { id } else { arg }).collect();
            args.extend(["--tenant", "b"]);
            let output = run(&args);
            (output.status.code(), stdout(&output).replace(id, "ID"), stderr(&output).replace(id, "ID"))
        };
        let (foreign, missing) = (ask(theirs), ask(made_up));
        assert_eq!(foreign, missing, "{args:?}");
        assert_ne!(foreign.0, Some(0), "{args:?}");
    }
    println!("tenant matrix: {} commands, each with another tenant's id and with nobody's", cases.len());
}

#[test]
fn a_tenant_that_the_configuration_does_not_know_is_refused() {
    let hub = Hub::new();
    hub.write("hub.yaml", "tenants: [default, acme]\n");
    let output = hub.run(&["credentials", "list", "--tenant", "acmee"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("did you mean `acme`?"), "{}", stderr(&output));
}

#[cfg(target_os = "linux")]
#[test]
fn the_running_hub_writes_no_core() {
    use std::{
        io::{BufRead as _, BufReader},
        process::Stdio,
    };
    let hub = Hub::new();
    let mut child = hub.command(&["serve", "--listen", "127.0.0.1:0"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let listens = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("the hub listens on")));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id()));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(listens.is_some(), "it did not start");
    let limits = limits.unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{core}");
}
