//! Putting a text above the quoted history of a reply.
//!
//! A PATCH of `body` replaces the whole content, history included (<https://learn.microsoft.com/graph/api/message-update>), so the new text
//! goes in front of what `createReply` gave. Owns that and the check whether it is there already. Refuses to clean anybody's HTML.

use serde_json::{Value, json};

/// A text as it is given, HTML or plain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text<'a> {
    pub(crate) content: &'a str,
    pub(crate) is_html: bool,
}

/// The body of a draft with our text in front, wrapped in an element of this id where the draft is HTML.
pub(crate) fn prepend(draft_body: &Value, text: Text<'_>, element_id: &str) -> Value {
    let old = draft_body["content"].as_str().unwrap_or_default();
    let old_is_html = draft_body["contentType"].as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("html"));
    if !old_is_html && !text.is_html {
        return json!({ "contentType": "text", "content": format!("{}\r\n\r\n{old}", text.content) });
    }
    let own = if text.is_html { text.content.to_owned() } else { to_html(text.content) };
    let history = if old_is_html { old.to_owned() } else { to_html(old) };
    let block = format!("<div id=\"{element_id}\">{own}</div><br>");
    let at = body_start(&history);
    json!({ "contentType": "html", "content": format!("{}{block}{}", &history[..at], &history[at..]) })
}

/// Whether our text is in the draft: by the element's id, or, where Exchange took that away, because the draft starts with it.
pub(crate) fn is_there(draft: &Value, text: Text<'_>, element_id: &str) -> bool {
    let content = draft["body"]["content"].as_str().unwrap_or_default();
    if content.contains(element_id) {
        return true;
    }
    // bodyPreview has 255 characters of plain text; a part of it is enough to tell, short texts must stand alone.
    let ours = plain(text);
    let start: String = ours.chars().take(100).collect();
    let preview = draft["bodyPreview"].as_str().map(squeeze).unwrap_or_default();
    !start.is_empty() && (preview == ours || (start.chars().count() >= 20 && preview.starts_with(&start)))
}

fn body_start(html: &str) -> usize {
    let lower = html.to_ascii_lowercase();
    lower.find("<body").and_then(|open| lower[open..].find('>').map(|close| open + close + 1)).unwrap_or(0)
}

/// Plain text as HTML.
fn to_html(text: &str) -> String {
    let mut html = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '\n' => html.push_str("<br>\n"),
            '\r' => {}
            other => html.push(other),
        }
    }
    html
}

/// Roughly what a preview would show of a text.
fn plain(text: Text<'_>) -> String {
    if !text.is_html {
        return squeeze(text.content);
    }
    let mut plain = String::new();
    let mut in_tag = false;
    for c in text.content.chars() {
        match c {
            '<' => in_tag = true,
            '>' if in_tag => {
                in_tag = false;
                plain.push(' ');
            }
            other if !in_tag => plain.push(other),
            _ => {}
        }
    }
    let plain = plain.replace("&nbsp;", " ").replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&");
    squeeze(&plain)
}

fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HTML: Text<'static> = Text { content: "<p>We are <b>on</b> it.</p>", is_html: true };
    const PLAIN: Text<'static> = Text { content: "1 < 2\nBye", is_html: false };

    fn body(kind: &str, content: &str) -> Value {
        json!({ "contentType": kind, "content": content })
    }

    #[test]
    fn the_history_stays_below_our_text() {
        let made = |draft: &Value, text| prepend(draft, text, "k1")["content"].as_str().unwrap().to_owned();
        let history = body("HTML", "<html><BODY lang=\"en\"><hr>old</BODY></html>");
        assert_eq!(made(&history, HTML), "<html><BODY lang=\"en\"><div id=\"k1\"><p>We are <b>on</b> it.</p></div><br><hr>old</BODY></html>");
        assert_eq!(made(&history, PLAIN), "<html><BODY lang=\"en\"><div id=\"k1\">1 &lt; 2<br>\nBye</div><br><hr>old</BODY></html>");
        assert_eq!(made(&body("text", "> old"), PLAIN), "1 < 2\nBye\r\n\r\n> old");
        assert_eq!(made(&body("text", "a < b"), HTML), "<div id=\"k1\"><p>We are <b>on</b> it.</p></div><br>a &lt; b");
        assert_eq!(made(&Value::Null, PLAIN), "1 < 2\nBye\r\n\r\n");
    }

    #[test]
    fn a_text_that_is_there_is_seen_even_without_its_element() {
        let draft = |content: &str, preview: &str| json!({ "body": body("html", content), "bodyPreview": preview });
        assert!(is_there(&draft("<div id=\"x_k1\">", ""), HTML, "k1"));
        assert!(is_there(&draft("", "We are on it."), HTML, "k1"));
        let long = Text { content: "<p>A text that is long enough to be told by.</p>", is_html: true };
        assert!(is_there(&draft("", "A text that is long enough to be told by. From: Ann"), long, "k1"));
        assert!(!is_there(&draft("<hr>old", "From: Ann We are on it."), HTML, "k1"));
        // A short text at the start of the history's own preview proves nothing.
        assert!(!is_there(&draft("", "We are on it. From: Ann"), HTML, "k1"));
    }
}
