//! The pages a person sees in the browser after signing in at a vendor: one file each, nothing loaded, no scripts, everything escaped.

use std::fmt::Write as _;

/// Colours and type of all pages of the hub.
const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;margin:4rem auto;max-width:40rem;padding:0 1rem;color:#1b1f24;background:#fff}\
h1{font-size:1.4rem}dl{display:grid;grid-template-columns:max-content 1fr;gap:.4rem 1.2rem}dt{color:#57606a}dd{margin:0}\
.ok{color:#116329}.warn{color:#7d4e00}.bad{color:#a40e26}code{background:#f0f2f4;padding:.05rem .3rem;border-radius:.25rem}\
p.note{color:#57606a}@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}dt,p.note{color:#9198a1}.ok{color:#3fb950}\
.warn{color:#d29922}.bad{color:#f85149}code{background:#21262d}}";

/// What a browser may do with such a page: show it.
pub(crate) const CSP: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// How an account was connected, in words.
#[derive(Debug, Default)]
pub(crate) struct Connected {
    pub(crate) connector: String,
    pub(crate) connection: String,
    pub(crate) granted: Vec<String>,
    pub(crate) missing: Vec<String>,
    pub(crate) unusable_tools: Vec<String>,
    pub(crate) note: Option<String>,
    /// A path on this hub to go on to.
    pub(crate) next: Option<String>,
}

/// The page after a consent that worked, wholly or in part.
pub(crate) fn connected(report: &Connected) -> String {
    let mut body = String::new();
    let whole = report.missing.is_empty();
    let (class, headline) = if whole { ("ok", "connected") } else { ("warn", "connected, with less than was asked for") };
    push(&mut body, format_args!("<h1 class=\"{class}\">{} is {headline}</h1><dl>", escape(&report.connector)));
    let mut row = |name: &str, value: &str| push(&mut body, format_args!("<dt>{name}</dt><dd>{value}</dd>"));
    row("Connection", &escape(&report.connection));
    row("Granted", &if report.granted.is_empty() { "the vendor does not say".to_owned() } else { codes(&report.granted) });
    if !whole {
        row("Not granted", &codes(&report.missing));
    }
    if !report.unusable_tools.is_empty() {
        row("Cannot work", &codes(&report.unusable_tools));
    }
    body.push_str("</dl>");
    if let Some(note) = &report.note {
        push(&mut body, format_args!("<p>{}</p>", escape(note)));
    }
    if !whole {
        body.push_str("<p>To grant the rest, connect again and leave every box ticked. Everything else works as it is.</p>");
    }
    match report.next.as_deref().filter(|next| is_local(next)) {
        Some(next) => push(&mut body, format_args!("<p><a href=\"{}\">Go on</a></p>", escape(next))),
        None => body.push_str("<p class=\"note\">You can close this window.</p>"),
    }
    whole_page("Connected", &body)
}

/// The page after one that did not work: what happened and what to do.
pub(crate) fn failed(what: &str, advice: &str) -> String {
    let mut body = String::from("<h1 class=\"bad\">Not connected</h1>");
    push(&mut body, format_args!("<p>{}</p><p><strong>What to do:</strong> {}</p>", escape(what), escape(advice)));
    body.push_str("<p class=\"note\">Nothing was stored. You can close this window.</p>");
    whole_page("Not connected", &body)
}

/// A path on this hub and nowhere else.
fn is_local(next: &str) -> bool {
    next.starts_with('/') && !next.starts_with("//") && !next.contains('\\') && !next.chars().any(char::is_control)
}

fn whole_page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"robots\" content=\"noindex\"><title>{title} – connectors hub</title><style>{STYLE}</style></head><body>{body}</body></html>"
    )
}

fn codes(items: &[String]) -> String {
    items.iter().map(|item| format!("<code>{}</code>", escape(item))).collect::<Vec<_>>().join(" ")
}

fn push(text: &mut String, part: std::fmt::Arguments<'_>) {
    // Writing to a `String` cannot fail.
    let _never = text.write_fmt(part).is_err();
}

/// Text inside HTML, quotes included: names and errors come from outside.
pub(crate) fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, c| {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVIL: &str = "<script>alert('x')</script>\"onmouseover=\"y";

    fn tame(html: &str) {
        assert!(!html.contains("<script") && !html.contains("\"onmouseover"), "{html}");
    }

    #[test]
    fn what_vendors_and_people_say_stays_text() {
        let evil = || EVIL.to_owned();
        let report = Connected {
            connector: evil(),
            connection: evil(),
            granted: vec![evil()],
            missing: vec![evil()],
            unusable_tools: vec![evil()],
            note: Some(evil()),
            next: Some(format!("/{EVIL}")),
        };
        tame(&connected(&report));
        tame(&failed(EVIL, EVIL));
    }

    #[test]
    fn the_way_on_leads_to_this_hub_only() {
        for next in ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/a\nb"] {
            assert!(!connected(&Connected { next: Some(next.into()), ..Connected::default() }).contains("<a "), "{next}");
        }
        assert!(connected(&Connected { next: Some("/setup?step=2".into()), ..Connected::default() }).contains("href=\"/setup?step=2\""));
    }

    #[test]
    fn partial_consent_names_what_is_missing_and_what_cannot_work() {
        let report = Connected { missing: vec!["tickets".into()], unusable_tools: vec!["hubspot_create_ticket".into()], ..Connected::default() };
        let html = connected(&report);
        assert!(html.contains("less than was asked for") && html.contains("<code>tickets</code>") && html.contains("hubspot_create_ticket"));
    }
}
