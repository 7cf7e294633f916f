//! Following mail, calendars, drives, lists and channels by their changes. <https://learn.microsoft.com/graph/delta-query-overview>
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
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::args::{items, text};

/// Changes per page.
const PAGE: u32 = 100;
/// Messages of a channel per page, the most there is.
const CHANNEL_PAGE: u32 = 50;
/// How far back and ahead a calendar is followed.
const DAYS: (i64, i64) = (30, 365);

/// The delta source of all streams.
#[derive(Debug)]
pub(crate) struct GraphDelta;

/// What a stream name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source<'a> {
    Messages { mailbox: Option<&'a str>, folder: Option<&'a str> },
    Folders { mailbox: Option<&'a str> },
    Events { mailbox: Option<&'a str> },
    DriveItems { drive: &'a str },
    ListItems { site: &'a str, list: &'a str },
    ChannelMessages { team: &'a str, channel: &'a str },
}

impl<'a> Source<'a> {
    /// `messages`, `messages:FOLDER`, `messages:MAILBOX/FOLDER`, `folders`, `folders:MAILBOX`, `events`, `events:MAILBOX`, `drive_items:DRIVE`,
    /// `list_items:SITE/LIST`, `channel_messages:TEAM/CHANNEL`.
    fn of(stream: &'a str) -> Result<Self> {
        let (name, rest) = stream.split_once(':').map_or((stream, None), |(name, rest)| (name, Some(rest)));
        let named = |text: &'a str| if text.is_empty() { Err(unknown(stream)) } else { Ok(text) };
        let pair = |text: &'a str| match text.split_once('/') {
            Some((first, second)) => Ok((named(first)?, named(second)?)),
            None => Err(unknown(stream)),
        };
        match (name, rest) {
            ("messages", None) => Ok(Self::Messages { mailbox: None, folder: None }),
            ("messages", Some(rest)) => {
                // A mailbox has an `@` or is a GUID and never a slash; folder ids are base64url and have neither.
                let (mailbox, folder) = match rest.rsplit_once('/') {
                    Some((mailbox, folder)) => (Some(named(mailbox)?), folder),
                    None => (None, rest),
                };
                Ok(Self::Messages { mailbox, folder: Some(named(folder)?) })
            }
            ("folders", rest) => Ok(Self::Folders { mailbox: rest.map(named).transpose()? }),
            ("events", rest) => Ok(Self::Events { mailbox: rest.map(named).transpose()? }),
            ("drive_items", Some(rest)) => Ok(Self::DriveItems { drive: named(rest)? }),
            // Ids of sites have commas, those of teams dashes; neither has a slash.
            ("list_items", Some(rest)) => pair(rest).map(|(site, list)| Self::ListItems { site, list }),
            ("channel_messages", Some(rest)) => pair(rest).map(|(team, channel)| Self::ChannelMessages { team, channel }),
            _ => Err(unknown(stream)),
        }
    }

    /// The tool that gives a page, and its arguments; those of the first call count only there.
    fn call(self, now: Timestamp, is_first: bool) -> Result<(&'static str, Value)> {
        Ok(match self {
            Self::Messages { mailbox, folder } => {
                let mut args = json!({ "user": mailbox, "page_size": PAGE });
                if let Some(folder) = folder {
                    args["folder"] = folder.into();
                }
                ("msgraph_delta_messages", args)
            }
            Self::Folders { mailbox } => ("msgraph_delta_folders", json!({ "user": mailbox, "page_size": PAGE })),
            Self::Events { mailbox } => {
                let mut args = json!({ "user": mailbox, "page_size": PAGE });
                if is_first {
                    let day = |days: i64| {
                        let at = now.checked_add(SignedDuration::from_hours(24 * days)).and_then(|at| at.round(jiff::Unit::Second));
                        at.map(|at| at.to_string()).map_err(|error| Error::internal("the span of a calendar is out of range").with_source(error))
                    };
                    (args["start"], args["end"]) = (day(-DAYS.0)?.into(), day(DAYS.1)?.into());
                }
                ("msgraph_delta_calendar_view", args)
            }
            Self::DriveItems { drive } => ("msgraph_delta_drive", json!({ "drive_id": drive, "top": PAGE })),
            Self::ListItems { site, list } => ("msgraph_delta_list_items", json!({ "site_id": site, "list_id": list, "top": PAGE })),
            Self::ChannelMessages { team, channel } => {
                ("msgraph_delta_channel_messages", json!({ "team_id": team, "channel_id": channel, "top": CHANNEL_PAGE }))
            }
        })
    }
}

fn unknown(stream: &str) -> Error {
    Error::unsupported(format!(
        "`{}` is not a stream of msgraph; accepted: messages, messages:FOLDER, messages:MAILBOX/FOLDER, folders, folders:MAILBOX, events, \
         events:MAILBOX, drive_items:DRIVE, list_items:SITE/LIST, channel_messages:TEAM/CHANNEL",
        connector_core::redact::printable(stream, 60)
    ))
}

#[async_trait]
impl NativeDelta for GraphDelta {
    async fn changes(&self, engine: &Engine, cx: &CallCx, stream: &str, cursor: Option<Cursor>) -> Result<DeltaPage> {
        let source = Source::of(stream)?;
        let now = Timestamp::try_from(engine.clock().wall()).map_err(|error| Error::internal("the clock is out of range").with_source(error))?;
        let (operation, args) = source.call(now, cursor.is_none())?;
        // The engine's cursors are a page count and the link; a round that starts from a stored link is on its first page.
        let from = cursor.as_ref().map(|link| Cursor::new(format!("1~{}", link.as_str())));
        let page = engine.call_inner(cx, operation, args, from).await?.body.to_value()?;
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

/// One change. Mail and appointments that are gone carry `@removed` (also when they only left the folder or the span), items of drives and
/// lists `deleted`, messages of channels `deletedDateTime`.
fn change(item: &Value) -> Result<Option<Change>> {
    let Some(key) = text(item, "id").map(str::to_owned) else { return Ok(None) };
    if ["@removed", "deleted", "deletedDateTime"].iter().any(|mark| item.get(mark).is_some_and(|mark| !mark.is_null())) {
        return Ok(Some(Change::Delete { key }));
    }
    let record = serde_json::to_vec(item).map_err(|error| Error::internal("a change cannot be written as JSON").with_source(error))?;
    Ok(Some(Change::Upsert { key, record: Bytes::from(record) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_names_say_whose_and_where() {
        let messages = |mailbox, folder| Ok(Source::Messages { mailbox, folder });
        for (stream, source) in [
            ("messages", messages(None, None)),
            ("messages:archive", messages(None, Some("archive"))),
            ("messages:sales@contoso.com/inbox", messages(Some("sales@contoso.com"), Some("inbox"))),
            ("folders:sales@contoso.com", Ok(Source::Folders { mailbox: Some("sales@contoso.com") })),
            ("events", Ok(Source::Events { mailbox: None })),
            ("drive_items:b!desk", Ok(Source::DriveItems { drive: "b!desk" })),
            ("list_items:h,1,2/l", Ok(Source::ListItems { site: "h,1,2", list: "l" })),
            ("channel_messages:t/19:ops@thread.tacv2", Ok(Source::ChannelMessages { team: "t", channel: "19:ops@thread.tacv2" })),
        ] {
            assert_eq!(Source::of(stream).map_err(|error| error.kind()), source, "{stream}");
        }
        for wrong in ["contacts", "messages:", "messages:/inbox", "folders:", "events:", "drive_items", "list_items:x", "channel_messages:t/", ""] {
            assert_eq!(Source::of(wrong).unwrap_err().kind(), connector_core::ErrorKind::Unsupported, "{wrong}");
        }
    }

    #[test]
    fn a_calendar_is_followed_from_a_month_back_to_a_year_ahead_and_the_links_carry_that() {
        let now: Timestamp = "2026-11-21T00:00:00Z".parse().unwrap();
        let (_, first) = Source::Events { mailbox: None }.call(now, true).unwrap();
        assert_eq!((first["start"].as_str(), first["end"].as_str()), (Some("2026-10-22T00:00:00Z"), Some("2027-11-21T00:00:00Z")));
        let (_, later) = Source::Events { mailbox: None }.call(now, false).unwrap();
        assert!(later.get("start").is_none());
    }

    #[test]
    fn what_is_gone_is_told_by_three_marks() {
        for gone in [
            json!({ "id": "1", "@removed": { "reason": "deleted" } }),
            json!({ "id": "1", "deleted": { "state": "deleted" } }),
            json!({ "id": "1", "deletedDateTime": "2026-11-21T00:00:00Z" }),
        ] {
            assert_eq!(change(&gone).unwrap(), Some(Change::Delete { key: "1".into() }));
        }
        assert!(matches!(change(&json!({ "id": "1", "deletedDateTime": null })).unwrap(), Some(Change::Upsert { .. })));
    }
}
