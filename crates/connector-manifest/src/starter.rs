//! The manifest a person starts from: short, commented, and already valid.

/// A commented manifest for `manifest new`. It passes [`crate::load`] as it stands, if `base_url` is an address that may be called.
///
/// `id` names the connector, the prefix of its tools and its environment variable; anything in it that cannot stand there becomes `_`.
pub fn new_manifest_template(id: &str, name: &str, base_url: &str) -> String {
    let word: String = id.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
    let word = word.trim_matches('_');
    let prefix =
        if word.starts_with(|c: char| c.is_ascii_lowercase()) { word.to_owned() } else { format!("api_{word}").trim_end_matches('_').to_owned() };
    let id: String = id
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c.to_ascii_lowercase() } else { '-' })
        .collect::<String>()
        .trim_start_matches(['-', '_'])
        .chars()
        .take(63)
        .collect();
    let id = if id.is_empty() { "my-api".to_owned() } else { id };
    TEMPLATE
        .replace("@ID@", &quoted(&id))
        .replace("@BASE@", &quoted(base_url))
        .replace("@ENV@", &prefix.to_uppercase())
        .replace("@PREFIX@", &prefix)
        .replace("@NAME@", &quoted(name))
}

/// A YAML text in double quotes; JSON's escapes are YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

const TEMPLATE: &str = r#"# A connector as data. Check it with `connector-hub manifest check FILE`, see its requests with `connector-hub manifest render FILE`.
# Editors complete and check it with docs/spec/manifest.schema.json.
connector: webhook                # a REST API of your own
id: @ID@
name: @NAME@
version: 0.1.0
base_url: @BASE@

# The token is read from the environment; it never stands in this file.
auth:
  type: bearer                    # or api_key, basic, oauth2, hmac, none
  token_env: @ENV@_API_TOKEN

# How often the API may be asked, as its owner publishes it.
limits:
  default: { windows: ["60/1m"], concurrent: 4 }

# Where a reply tells its errors, and what they mean. What no rule matches is judged by its HTTP status.
errors:
  code: .error.code
  message: .error.message
  table:
    - { status: 409, class: conflict, advice: read the record again and decide }

models:
  Order:
    doc: An order.
    fields: { id: string, status: string, total: { type: number, doc: In the currency of the account. } }

tools:
  - name: @PREFIX@_get_order
    doc: Gives one order by its id, or nothing if there is none.
    method: GET                   # GET reads; POST, PUT and PATCH write; DELETE is destructive
    path: /orders/{id}
    params:
      - { name: id, type: string, required: true, doc: The id of the order. }
    returns: Order
    none_on: [404]
    example:                      # the test, the documentation and the dry run
      args: { id: A-17 }
      reply: { id: A-17, status: open, total: 12.5 }

  - name: @PREFIX@_find_order_by_reference
    doc: Gives the order with our reference, or nothing if there is none.
    method: GET
    path: /orders
    query: { reference: "{reference}" }
    params:
      - { name: reference, type: string, required: true, doc: Our own reference. }
    select: .orders[0]
    returns: Order?
    example:
      args: { reference: PO-1 }
      reply: { orders: [{ id: A-17, status: open, total: 12.5 }] }

  - name: @PREFIX@_create_order
    doc: Creates an order.
    method: POST
    path: /orders
    approval_required: true       # a person allows each call
    # If nobody knows whether it happened, look for it by our reference before sending it again.
    repeat: { lookup: @PREFIX@_find_order_by_reference, by: { reference: .reference } }
    params:
      - { name: reference, type: string, required: true, doc: Our own reference. }
      - { name: items, type: "array<object>", required: true, min: 1, doc: What is ordered. }
      - { name: note, type: string, doc: A note for the people who pack it. }
    body: { reference: "{reference}", items: "{items}", note: "{note}" }
    returns: Order
    example:
      args: { reference: PO-1, items: [{ sku: X1, quantity: 2 }] }
      reply: { id: A-17, status: open, total: 12.5 }
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Strictness, load};

    #[test]
    fn the_starter_has_nothing_to_complain_about() {
        for (id, name, base) in [
            ("orders", "Orders", "https://orders.example.com/api"),
            ("Erp System #2", "ERP: \"the\" {system}", "https://erp.example.com"),
            ("42", "名前", "https://x.example"),
            ("", "", "https://x.example"),
        ] {
            let text = new_manifest_template(id, if name.is_empty() { "Name" } else { name }, base);
            let parsed = load(&[("new.yaml", &text)], Strictness::Custom).unwrap_or_else(|found| panic!("{id}:\n{found}"));
            assert!(parsed.warnings.is_empty(), "{id}:\n{}", parsed.warnings);
        }
    }
}
