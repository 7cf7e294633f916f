//! Assertions, judged from the other side: the signature with the public key, header and claims as the server reads them.

use std::{process::Command, sync::Arc, time::Duration};

use connector_core::clock::ManualClock;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use ring::signature::{ECDSA_P256_SHA256_FIXED, KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};

use super::*;

const NOW: u64 = 1_767_225_600;

/// A new RSA key as PKCS#8 and PKCS#1, made by `openssl` because nothing in this workspace makes RSA keys.
fn rsa_key() -> Option<(String, String)> {
    let run = |args: &[&str], input: &str| {
        use std::io::Write as _;
        let mut child = Command::new("openssl")
            .args(args)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .ok()?;
        child.stdin.take().unwrap().write_all(input.as_bytes()).ok()?;
        let output = child.wait_with_output().ok()?;
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    };
    let made = run(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], "")
        .and_then(|pkcs8| Some((run(&["rsa", "-traditional"], &pkcs8)?, pkcs8)))
        .map(|(pkcs1, pkcs8)| (pkcs8, pkcs1));
    if made.is_none() {
        assert!(std::env::var_os("CI").is_none(), "CI must have `openssl`");
        eprintln!("skipped: there is no `openssl` to make an RSA key with");
    }
    made
}

fn connection() -> Connection {
    Connection::new("vendor", "https://api.example").unwrap().with_credential("app").with_setting("login_host", "login.example")
}

struct Rig {
    connection: Connection,
    clock: Arc<ManualClock>,
    credential: Credential,
}

impl Rig {
    fn new(fields: &[(&str, &str)]) -> Self {
        let credential = Credential::new(fields.iter().map(|(key, value)| ((*key).to_owned(), SecretString::from(*value))));
        Self { connection: connection(), clock: Arc::new(ManualClock::at_unix(NOW)), credential }
    }

    fn make(&self, spec: &AssertionSpec, purpose: Purpose) -> Result<Jwt> {
        let ask = AssertionAsk {
            purpose,
            connection: &self.connection,
            credential: &self.credential,
            token_url: "https://login.example/token",
            scopes: "a b",
            clock: &*self.clock,
        };
        assertion(spec, &ask).map(|jwt| Jwt::read(jwt.expose_secret()))
    }
}

#[derive(Debug)]
struct Jwt {
    header: Value,
    claims: Value,
    signed: String,
    signature: Vec<u8>,
}

impl Jwt {
    fn read(text: &str) -> Self {
        let parts: Vec<_> = text.split('.').collect();
        assert_eq!(parts.len(), 3);
        let json = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        let signature = URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
        Self { header: json(parts[0]), claims: json(parts[1]), signed: format!("{}.{}", parts[0], parts[1]), signature }
    }
}

fn spec(text: serde_json::Value) -> AssertionSpec {
    serde_json::from_value(text).unwrap()
}

#[test]
fn rsa_signatures_verify_for_both_paddings_and_both_forms_of_the_key() {
    let Some((pkcs8, pkcs1)) = rsa_key() else { return };
    let der = PrivateKeyDer::from_pem_slice(pkcs1.as_bytes()).unwrap();
    assert!(matches!(der, PrivateKeyDer::Pkcs1(_)), "{}", pkcs1.lines().next().unwrap());
    let public = RsaKeyPair::from_der(der.secret_der()).unwrap().public_key().as_ref().to_vec();
    let escaped = pkcs8.replace('\n', "\\n");
    let parameters: [(&str, &'static ring::signature::RsaParameters); 2] =
        [("RS256", &RSA_PKCS1_2048_8192_SHA256), ("PS256", &RSA_PSS_2048_8192_SHA256)];
    for pem in [&pkcs8, &pkcs1, &escaped] {
        let rig = Rig::new(&[("client_id", "app-1"), ("private_key", pem), ("subject", "ana@acme.test"), ("key_id", "k7")]);
        for (algorithm, verify) in parameters {
            let jwt = rig.make(&spec(serde_json::json!({ "algorithm": algorithm })), Purpose::Grant).unwrap();
            UnparsedPublicKey::new(verify, &public).verify(jwt.signed.as_bytes(), &jwt.signature).unwrap();
            assert_eq!(jwt.header, serde_json::json!({ "alg": algorithm, "typ": "JWT", "kid": "k7" }));
        }
    }
    // An RSA key is refused for ES256, with its field's name and without its bytes.
    let error = Rig::new(&[("client_id", "a"), ("private_key", &pkcs1)]).make(&spec(serde_json::json!({ "algorithm": "ES256" })), Purpose::Grant);
    let error = error.unwrap_err();
    assert!(error.message().contains("`private_key` of credential `app`"), "{error}");
    assert!(!error.to_string().contains("MII"));
}

#[test]
fn a_service_accounts_key_file_brings_its_address_and_key_id() {
    let Some((pkcs8, _)) = rsa_key() else { return };
    let file = serde_json::json!({ "type": "service_account", "private_key_id": "ab12", "private_key": pkcs8,
        "client_email": "robot@project.example", "client_id": "1234567890", "token_uri": "https://oauth2.example/token" });
    let google = spec(serde_json::json!({ "audience": "https://oauth2.example/token", "lifetime": 3600, "scope_claim": true }));
    for field in ["private_key", "service_account"] {
        let jwt = Rig::new(&[("client_id", "1234567890"), (field, &file.to_string())]).make(&google, Purpose::Grant).unwrap();
        assert_eq!((&jwt.header["kid"], &jwt.header["alg"]), (&"ab12".into(), &"RS256".into()));
        let claims = &jwt.claims;
        assert_eq!(
            (&claims["iss"], &claims["scope"], &claims["aud"]),
            (&"robot@project.example".into(), &"a b".into(), &"https://oauth2.example/token".into())
        );
        assert_eq!((claims["iat"].as_u64(), claims["exp"].as_u64()), (Some(NOW), Some(NOW + 3600)));
        assert!(claims.get("sub").is_none(), "a service account without a subject speaks for itself");
    }
    // Whom it stands for, if somebody is named.
    let rig = Rig::new(&[("client_id", "1"), ("service_account", &file.to_string()), ("subject", "ana@acme.test")]);
    assert_eq!(rig.make(&google, Purpose::Grant).unwrap().claims["sub"], "ana@acme.test");
}

#[test]
fn an_elliptic_curve_key_and_its_certificate_prove_a_client() {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = CertificateParams::new(vec!["app.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    let rig = Rig::new(&[("client_id", "app-1"), ("private_key", &key.serialize_pem()), ("certificate", &certificate.pem())]);
    let microsoft = spec(serde_json::json!({ "algorithm": "ES256", "thumbprint": true, "audience": "https://{login_host}/{client_id}" }));
    let first = rig.make(&microsoft, Purpose::ClientAuth).unwrap();
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.public_key_raw());
    public.verify(first.signed.as_bytes(), &first.signature).unwrap();
    assert_eq!(first.header["x5t#S256"], URL_SAFE_NO_PAD.encode(Sha256::digest(certificate.der())));
    let claims = &first.claims;
    assert_eq!((&claims["iss"], &claims["sub"], &claims["aud"]), (&"app-1".into(), &"app-1".into(), &"https://login.example/app-1".into()));
    assert_eq!((claims["nbf"].as_u64(), claims["exp"].as_u64()), (Some(NOW - 30), Some(NOW + 300)));
    assert!(claims.get("scope").is_none());
    // Each has an id of its own, shaped like a UUID, and the clock is the injected one.
    rig.clock.advance(Duration::from_secs(60));
    let second = rig.make(&microsoft, Purpose::ClientAuth).unwrap();
    assert_ne!(first.claims["jti"], second.claims["jti"]);
    assert_eq!(second.claims["iat"].as_u64(), Some(NOW + 60));
    let id = first.claims["jti"].as_str().unwrap().to_owned();
    assert_eq!((id.len(), &id[14..15], id.matches('-').count()), (36, "4", 4));
}

#[test]
fn without_an_audience_the_token_url_is_meant_and_what_is_missing_is_named() {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem();
    let plain = spec(serde_json::json!({ "algorithm": "ES256" }));
    let jwt = Rig::new(&[("client_id", "c"), ("private_key", &key)]).make(&plain, Purpose::ClientAuth).unwrap();
    assert_eq!(jwt.claims["aud"], "https://login.example/token");
    let error = |fields: &[(&str, &str)], spec: &AssertionSpec, purpose| Rig::new(fields).make(spec, purpose).unwrap_err().message().to_owned();
    assert!(error(&[("private_key", &key)], &plain, Purpose::ClientAuth).contains("needs the field `client_id`"));
    assert!(error(&[("client_id", "c")], &plain, Purpose::Grant).contains("has no field `private_key`"));
    let named = spec(serde_json::json!({ "algorithm": "ES256", "subject": "{subject}" }));
    assert!(error(&[("client_id", "c"), ("private_key", &key)], &named, Purpose::Grant).contains("needs the field `subject`"));
    let certified = spec(serde_json::json!({ "algorithm": "ES256", "thumbprint": true }));
    assert!(error(&[("client_id", "c"), ("private_key", &key)], &certified, Purpose::Grant).contains("`certificate`"));
    let wrong = [("client_id", "c"), ("private_key", &*key), ("certificate", "canary")];
    let message = error(&wrong, &certified, Purpose::Grant);
    assert!(message.contains("`certificate`") && !message.contains("canary"), "{message}");
}

#[test]
fn what_is_no_key_is_refused_without_being_shown() {
    let ec = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem();
    let sec1 = ec.replace("PRIVATE KEY", "EC PRIVATE KEY");
    let encrypted = ec.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let cut = &ec[..ec.len() / 2];
    let body: String = ec.lines().filter(|line| !line.starts_with('-')).collect();
    for (field, value, expected) in [
        ("private_key", "canary-hunter2", "PEM"),
        ("private_key", cut, "PEM"),
        ("private_key", &*sec1, "PKCS#8"),
        ("private_key", &*encrypted, "encrypted"),
        ("private_key", r#"{"private_key":42,"x":"canary"}"#, "key file"),
        ("service_account", "canary", "key file"),
    ] {
        let error =
            Rig::new(&[("client_id", "c"), (field, value)]).make(&spec(serde_json::json!({ "algorithm": "ES256" })), Purpose::Grant).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(expected) && shown.contains(&format!("`{field}` of credential `app`")), "{shown}");
        assert!(!shown.contains("canary") && !body.as_bytes().chunks(12).any(|part| shown.contains(std::str::from_utf8(part).unwrap())), "{shown}");
    }
    // A curve key cannot sign for RSA.
    let error = Rig::new(&[("client_id", "c"), ("private_key", &ec)]).make(&AssertionSpec::default(), Purpose::Grant).unwrap_err();
    assert!(error.message().contains("not an RSA key"), "{error}");
}
