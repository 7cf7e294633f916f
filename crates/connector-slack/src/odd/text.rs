//! Text that reaches people and nothing else: Slack gives meaning to three characters.

/// Writes `&`, `<` and `>` so that they are only characters: no mention, no link, no broadcast to a whole channel comes out of foreign text.
/// Markdown (`*bold*`) keeps its meaning.
// https://docs.slack.dev/messaging/formatting-message-text#escaping
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_broadcast_becomes_text() {
        assert_eq!(escape("<!channel> a & b *c* <@U0ANN>"), "&lt;!channel&gt; a &amp; b *c* &lt;@U0ANN&gt;");
    }

    proptest! {
        #[test]
        fn nothing_that_slack_reads_is_left_and_nothing_is_lost(text in "\\PC{0,200}") {
            let escaped = escape(&text);
            prop_assert!(!escaped.contains(['<', '>']));
            prop_assert_eq!(escaped.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"), text);
        }
    }
}
