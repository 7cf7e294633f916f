//! One spelling for JSON that means the same, and digests over it.

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// SHA-256 over length-prefixed parts, so that no two lists of parts give the same bytes.
pub(crate) fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// As [`digest`], in hex.
pub(crate) fn hex_digest(parts: &[&[u8]]) -> String {
    hex::encode(digest(parts))
}

/// SHA-256 of these bytes, in hex.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Arguments as text: keys sorted at every depth, no spaces.
pub(crate) fn canonical(args: &Map<String, Value>) -> String {
    let mut text = String::new();
    write_map(args, &mut text);
    text
}

/// Any value as text, as [`canonical`].
pub(crate) fn canonical_value(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

fn write_map(map: &Map<String, Value>, to: &mut String) {
    let mut keys: Vec<&String> = map.keys().collect();
    keys.sort();
    to.push('{');
    for (at, key) in keys.into_iter().enumerate() {
        if at > 0 {
            to.push(',');
        }
        to.push_str(&Value::from(key.as_str()).to_string());
        to.push(':');
        write(&map[key], to);
    }
    to.push('}');
}

fn write(value: &Value, to: &mut String) {
    match value {
        Value::Object(map) => write_map(map, to),
        Value::Array(items) => {
            to.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    to.push(',');
                }
                write(item, to);
            }
            to.push(']');
        }
        scalar => to.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_order_of_keys_does_not_matter_and_everything_else_does() {
        let of = |value: Value| canonical_value(&value);
        assert_eq!(of(json!({"b": [1, {"y": null, "x": "é\""}], "a": true})), of(json!({"a": true, "b": [1, {"x": "é\"", "y": null}]})));
        assert_eq!(of(json!({"b": 1, "a": [2]})), r#"{"a":[2],"b":1}"#);
        assert_ne!(of(json!([1, 2])), of(json!([2, 1])));
        assert_ne!(of(json!("1")), of(json!(1)));
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
        assert_ne!(digest(&[b"a"]), digest(&[b"a", b""]));
    }
}
