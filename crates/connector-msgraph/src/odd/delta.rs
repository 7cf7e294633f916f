//! Following folders by their changes. <https://learn.microsoft.com/graph/delta-query-messages>
//!
//! A cursor is the link Graph gave, followed as it is: links carry the options of the first call. Owns the stream names and the reading of
//! removals. Refuses links to another host (the engine does, before the credential is put on). A forgotten token is
//! [`connector_core::ErrorKind::CursorExpired`] by the error table: 410 without a code, or `syncStateNotFound` on any 4xx.

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    CallCx, Cursor, Error, Result,
    delta::{Change, DeltaPage},
};
use connector_manifest::{Engine, NativeDelta};
use serde_json::{Value, json};

use super::args::{items, text};

/// Changes per page.
const PAGE: u32 = 100;

/// The delta source of both streams.
#[derive(Debug)]
pub(crate) struct MailDelta;

/// What a stream name means.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source<'a> {
    operation: &'static str,
    mailbox: Option<&'a str>,
    folder: Option<&'a str>,
}

impl<'a> Source<'a> {
    /// `messages`, `messages:FOLDER`, `messages:MAILBOX/FOLDER`, `folders`, `folders:MAILBOX`.
    fn of(stream: &'a str) -> Result<Self> {
        let (name, rest) = stream.split_once(':').map_or((stream, None), |(name, rest)| (name, Some(rest)));
        let named = |text: &'a str| if text.is_empty() { Err(unknown(stream)) } else { Ok(Some(text)) };
        match (name, rest) {
            ("messages", None) => Ok(Self { operation: "msgraph_delta_messages", mailbox: None, folder: None }),
            ("messages", Some(rest)) => {
                // A mailbox has an `@` or is a GUID and never a slash; folder ids are base64url and have neither.
                let (mailbox, folder) = match rest.rsplit_once('/') {
                    Some((mailbox, folder)) => (named(mailbox)?, folder),
                    None => (None, rest),
                };
                Ok(Self { operation: "msgraph_delta_messages", mailbox, folder: named(folder)? })
            }
            ("folders", None) => Ok(Self { operation: "msgraph_delta_folders", mailbox: None, folder: None }),
            ("folders", Some(rest)) => Ok(Self { operation: "msgraph_delta_folders", mailbox: named(rest)?, folder: None }),
            _ => Err(unknown(stream)),
        }
    }
}

fn unknown(stream: &str) -> Error {
    Error::unsupported(format!(
        "`{}` is not a stream of msgraph; accepted: messages, messages:FOLDER, messages:MAILBOX/FOLDER, folders, folders:MAILBOX",
        connector_core::redact::printable(stream, 60)
    ))
}

#[async_trait]
impl NativeDelta for MailDelta {
    async fn changes(&self, engine: &Engine, cx: &CallCx, stream: &str, cursor: Option<Cursor>) -> Result<DeltaPage> {
        let source = Source::of(stream)?;
        let mut args = json!({ "user": source.mailbox, "page_size": PAGE });
        if let Some(folder) = source.folder {
            args["folder"] = folder.into();
        }
        // The engine's cursors are a page count and the link; a round that starts from a stored link is on its first page.
        let from = cursor.as_ref().map(|link| Cursor::new(format!("1~{}", link.as_str())));
        let page = engine.call_inner(cx, source.operation, args, from).await?.body.to_value()?;
        let changes = items(&page).iter().filter_map(|item| change(item).transpose()).collect::<Result<_>>()?;
        let (link, more) = match (text(&page, "@odata.nextLink"), text(&page, "@odata.deltaLink")) {
            (Some(next), _) => (next, true),
            (None, Some(delta)) => (delta, false),
            (None, None) => return Err(Error::protocol("the page of changes has neither a next nor a delta link")),
        };
        if more && cursor.is_some_and(|cursor| cursor.as_str() == link) {
            return Err(Error::protocol("the changes go in circles: Graph named the same next page again").with_vendor_code("CursorLoop"));
        }
        Ok(DeltaPage { changes, next: Cursor::new(link), more })
    }
}

/// One change. Moving out of the folder shows as removed too (reason `changed`).
fn change(item: &Value) -> Result<Option<Change>> {
    let Some(key) = text(item, "id").map(str::to_owned) else { return Ok(None) };
    if item.get("@removed").is_some_and(|removed| !removed.is_null()) {
        return Ok(Some(Change::Delete { key }));
    }
    let record = serde_json::to_vec(item).map_err(|error| Error::internal("a change cannot be written as JSON").with_source(error))?;
    Ok(Some(Change::Upsert { key, record: Bytes::from(record) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_names_say_mailbox_and_folder() {
        let source = |stream| Source::of(stream).map(|source| (source.operation, source.mailbox, source.folder)).map_err(|error| error.kind());
        let messages = "msgraph_delta_messages";
        assert_eq!(source("messages"), Ok((messages, None, None)));
        assert_eq!(source("messages:archive"), Ok((messages, None, Some("archive"))));
        assert_eq!(source("messages:sales@contoso.com/inbox"), Ok((messages, Some("sales@contoso.com"), Some("inbox"))));
        assert_eq!(source("folders:sales@contoso.com"), Ok(("msgraph_delta_folders", Some("sales@contoso.com"), None)));
        for wrong in ["events", "messages:", "messages:/inbox", "folders:", ""] {
            assert_eq!(source(wrong), Err(connector_core::ErrorKind::Unsupported), "{wrong}");
        }
    }
}
