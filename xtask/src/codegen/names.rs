//! From a manifest's names to Rust's.

use connector_manifest::model::TypeExpr;

/// `@odata.nextLink` → `odata_next_link`, `type` → `r#type`.
pub(super) fn field(name: &str) -> String {
    let mut snake = String::new();
    let mut after_lower = false;
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            if after_lower {
                snake.push('_');
            }
            snake.push(c.to_ascii_lowercase());
            after_lower = false;
        } else if c.is_ascii_alphanumeric() {
            snake.push(c);
            after_lower = true;
        } else {
            if !snake.is_empty() && !snake.ends_with('_') {
                snake.push('_');
            }
            after_lower = false;
        }
    }
    if snake.starts_with(|c: char| c.is_ascii_digit()) {
        snake.insert(0, '_');
    }
    match snake.as_str() {
        "self" | "super" | "crate" => format!("{snake}_"),
        word if KEYWORDS.contains(&word) => format!("r#{snake}"),
        _ => snake,
    }
}

/// `get_contact_by_email` → `GetContactByEmail`.
pub(super) fn camel(snake: &str) -> String {
    snake.split('_').filter(|word| !word.is_empty()).map(|word| word[..1].to_ascii_uppercase() + &word[1..]).collect()
}

/// A tool's name without its connector's prefix.
pub(super) fn without_prefix<'a>(tool: &'a str, connector: &str) -> &'a str {
    tool.strip_prefix(connector).and_then(|rest| rest.strip_prefix('_')).unwrap_or(tool)
}

/// The Rust type of a manifest's type; `models` is the path of the models' module.
pub(super) fn rust_type(expr: &TypeExpr, models: &str) -> String {
    let inner = |expr: &TypeExpr| rust_type(expr, models);
    match expr {
        TypeExpr::Any => "serde_json::Value".into(),
        TypeExpr::String | TypeExpr::Datetime | TypeExpr::Date => "String".into(),
        TypeExpr::Integer => "i64".into(),
        TypeExpr::Number => "f64".into(),
        TypeExpr::Boolean => "bool".into(),
        TypeExpr::Object => "serde_json::Map<String, serde_json::Value>".into(),
        TypeExpr::Raw => "connector_core::connector::RawContent".into(),
        TypeExpr::None => "()".into(),
        TypeExpr::Array(item) => format!("Vec<{}>", inner(item)),
        TypeExpr::Map(value) => format!("std::collections::BTreeMap<String, {}>", inner(value)),
        TypeExpr::Nullable(value) => format!("Option<{}>", inner(value)),
        TypeExpr::Model(name) => format!("{models}{name}"),
    }
}

/// A text as doc comment lines.
pub(super) fn doc(text: &str, indent: &str) -> String {
    let text = text.trim();
    let text = if text.is_empty() { "Not documented by the vendor." } else { text };
    // Angle brackets, square brackets and bare addresses mean something to rustdoc.
    let escaped = text.replace('<', "\\<").replace('>', "\\>").replace('[', "\\[").replace(']', "\\]");
    let linked: Vec<String> = escaped
        .lines()
        .map(|line| {
            line.split(' ').map(|word| if word.starts_with("https://") { format!("<{word}>") } else { word.to_owned() }).collect::<Vec<_>>().join(" ")
        })
        .collect();
    linked.iter().map(|line| format!("{indent}/// {}\n", line.trim_end())).collect()
}

const KEYWORDS: [&str; 39] = [
    "as", "async", "await", "break", "const", "continue", "dyn", "else", "enum", "extern", "false", "fn", "for", "gen", "if", "impl", "in", "let",
    "loop", "match", "mod", "move", "mut", "pub", "ref", "return", "static", "struct", "trait", "true", "type", "unsafe", "use", "where", "while",
    "abstract", "final", "override", "try",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_rusts() {
        for (from, to) in [
            ("createdAt", "created_at"),
            ("@odata.nextLink", "odata_next_link"),
            ("type", "r#type"),
            ("hs_object_id", "hs_object_id"),
            ("URLName", "urlname"),
            ("2x", "_2x"),
        ] {
            assert_eq!(field(from), to);
        }
        assert_eq!(camel("get_contact_by_email"), "GetContactByEmail");
        assert_eq!(without_prefix("hubspot_get_contact", "hubspot"), "get_contact");
    }

    #[test]
    fn docs_do_not_confuse_rustdoc() {
        assert_eq!(doc("A list<T>, see https://x.example [1]", ""), "/// A list\\<T\\>, see <https://x.example> \\[1\\]\n");
    }
}
