//! Against a delivery that OpenSSL made (`fixtures/vector.json`): opened as it is, closed with any bit of it changed.

use serde_json::json;

use super::*;

/// A second in the life of the fixture's tokens.
const NOW: u64 = 1_795_219_260;
const APP: &str = "11111111-1111-4111-8111-111111111111";
const TENANT: &str = "22222222-2222-4222-8222-222222222222";

fn vector() -> Value {
    serde_json::from_str(include_str!("fixtures/vector.json")).unwrap()
}

fn pem(before: &str) -> String {
    let kind = "PRIVATE KEY";
    format!("{before}-----BEGIN {kind}-----\n{}-----END {kind}-----\n", include_str!("fixtures/test_only_key.b64"))
}

fn keys() -> Vec<PrivateKey> {
    vec![PrivateKey::from_pem(&pem(&format!("app-id: {APP}\n"))).unwrap()]
}

fn signing() -> SigningKeys {
    let keys = SigningKeys::default();
    assert_eq!(keys.set(vector()["jwks"].to_string().as_bytes()), 1);
    keys
}

fn delivery(token: &str) -> Value {
    json!({ "value": [{ "tenantId": TENANT }], "validationTokens": [vector()["tokens"][token]] })
}

#[test]
fn what_openssl_closed_is_opened() {
    let vector = vector();
    assert_eq!(open(&vector["content"], &keys()), Ok(vector["plain"].clone()));
    // During the exchange of a certificate either key will do.
    let other = aws_lc_rs::rsa::PrivateDecryptingKey::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let other = || PrivateKey { key: OaepPrivateDecryptingKey::new(other.clone()).unwrap(), app_id: None };
    let mut both = vec![other()];
    both.extend(keys());
    assert_eq!(open(&vector["content"], &both), Ok(vector["plain"].clone()));
    assert_eq!(open(&vector["content"], &[other()]), Err("none of the connection's private keys opens the encrypted content"));
    assert!(open(&vector["content"], &[]).is_err());
}

#[test]
fn one_changed_bit_keeps_it_closed() {
    let vector = vector();
    let keys = keys();
    for name in ["data", "dataSignature", "dataKey"] {
        let bytes = STANDARD.decode(vector["content"][name].as_str().unwrap()).unwrap();
        // RSA is slow in a debug build: every bit of the signature, one in each byte of the data and of the wrapped key.
        let step = if name == "dataSignature" { 1 } else { 8 };
        for bit in (0..bytes.len() * 8).step_by(step) {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let mut content = vector["content"].clone();
            content[name] = STANDARD.encode(changed).into();
            assert!(open(&content, &keys).is_err(), "{name}, bit {bit}");
        }
    }
    for broken in [json!(null), json!({}), json!({ "data": "", "dataKey": "", "dataSignature": "" }), json!({ "data": 7 })] {
        assert!(open(&broken, &keys).is_err(), "{broken}");
    }
}

#[test]
fn tokens_are_checked_one_by_one() {
    assert_eq!(tokens(&delivery("good"), &signing(), &keys(), NOW), Ok(()));
    for (token, why) in [
        ("other_app", "for another app"),
        ("other_tenant", "from another tenant"),
        ("other_publisher", "not from Graph's change notifications"),
        ("expired", "expired"),
        ("not_yet", "not valid yet"),
        ("other_key", "not Microsoft's"),
        ("no_algorithm", "not signed with RS256"),
    ] {
        let refusal = tokens(&delivery(token), &signing(), &keys(), NOW).unwrap_err();
        assert!(refusal.contains(why), "{token}: {refusal}");
        // One good token does not make a bad one good.
        let mut mixed = delivery("good");
        mixed["validationTokens"].as_array_mut().unwrap().push(vector()["tokens"][token].clone());
        assert!(tokens(&mixed, &signing(), &keys(), NOW).is_err(), "{token}");
    }
    let token = vector()["tokens"]["good"].as_str().unwrap().to_owned();
    let middle = token.rfind('.').unwrap() + 20;
    let forged = format!("{}{}{}", &token[..middle], if token.as_bytes()[middle] == b'A' { 'B' } else { 'A' }, &token[middle + 1..]);
    let mut delivery_of = delivery("good");
    delivery_of["validationTokens"] = json!([forged]);
    assert_eq!(tokens(&delivery_of, &signing(), &keys(), NOW), Err("the signature of a validation token does not fit"));
    delivery_of["validationTokens"] = json!([]);
    assert!(tokens(&delivery_of, &signing(), &keys(), NOW).is_err(), "none at all");
}

#[test]
fn without_keys_or_an_app_nothing_is_believed() {
    assert!(tokens(&delivery("good"), &SigningKeys::default(), &keys(), NOW).unwrap_err().contains("were not handed in"));
    let nameless = vec![PrivateKey::from_pem(&pem("")).unwrap()];
    assert!(tokens(&delivery("good"), &signing(), &nameless, NOW).unwrap_err().contains("app-id"));
    let keys = signing();
    assert_eq!((keys.set(b"nonsense"), keys.set(br#"{"keys":[]}"#)), (0, 0));
    assert_eq!(tokens(&delivery("good"), &keys, &self::keys(), NOW), Ok(()), "a set without keys changes nothing");
    assert!(PrivateKey::from_pem("secret").is_none());
}
