//! What an app alone may never do: refused before a request is sent, with the permission a signed-in person would need.
//!
//! Graph answers such calls with 403 and a text that names neither (<https://learn.microsoft.com/graph/permissions-reference>). Whether a
//! connection acts for a person is said by its setting `access`, because access tokens are not for clients to read.

use connector_core::{CallCx, Error, ErrorKind, Result};

/// The operations and the delegated permission each takes; Graph supports no application permission for any of them.
const FOR_PEOPLE: [(&str, &str); 12] = [
    ("msgraph_find_meeting_times", "Calendars.Read.Shared"),
    ("msgraph_post_channel_message", "ChannelMessage.Send"),
    ("msgraph_post_channel_reply", "ChannelMessage.Send"),
    ("msgraph_send_channel_message", "ChannelMessage.Send"),
    ("msgraph_set_channel_reaction", "ChannelMessage.Send"),
    ("msgraph_unset_channel_reaction", "ChannelMessage.Send"),
    ("msgraph_soft_delete_channel_message", "ChannelMessage.ReadWrite"),
    ("msgraph_undo_delete_channel_message", "ChannelMessage.ReadWrite"),
    ("msgraph_post_chat_message", "ChatMessage.Send"),
    ("msgraph_send_chat_message", "ChatMessage.Send"),
    ("msgraph_set_chat_reaction", "ChatMessage.Send"),
    ("msgraph_unset_chat_reaction", "ChatMessage.Send"),
];

/// Whether the connection acts for a signed-in person.
pub(crate) fn is_delegated(cx: &CallCx) -> bool {
    let setting = |name: &str| cx.connection.setting(name);
    setting("access") == Some("delegated") || setting("auth") == Some("authorization_code")
}

/// Refuses what an app alone may never do.
pub(crate) fn guard(cx: &CallCx, operation: &str) -> Result<()> {
    let Some((_, permission)) = FOR_PEOPLE.iter().find(|(name, _)| *name == operation) else { return Ok(()) };
    if is_delegated(cx) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Forbidden,
        format!(
            "`{operation}` takes a signed-in person with {permission}; Graph has no application permission for it. Nothing was sent. Use a connection that a \
             person signed in to, with `access: delegated`"
        ),
    )
    .with_context("delegated_permission", *permission))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use connector_core::Connection;

    use super::*;

    fn cx(setting: Option<(&str, &str)>) -> CallCx {
        let mut connection = Connection::new("msgraph", "https://graph.example/v1.0").unwrap();
        if let Some((name, value)) = setting {
            connection = connection.with_setting(name, value);
        }
        CallCx::new(Arc::new(connection))
    }

    #[test]
    fn an_app_alone_is_told_which_permission_a_person_would_need() {
        let error = guard(&cx(None), "msgraph_send_chat_message").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Forbidden);
        assert!(error.message().contains("ChatMessage.Send") && error.message().contains("access: delegated"), "{error}");
        assert!(guard(&cx(None), "msgraph_list_chats").is_ok());
    }

    #[test]
    fn a_signed_in_person_may() {
        for setting in [("access", "delegated"), ("auth", "authorization_code")] {
            assert!(guard(&cx(Some(setting)), "msgraph_send_chat_message").is_ok(), "{setting:?}");
        }
        assert!(guard(&cx(Some(("access", "app"))), "msgraph_send_chat_message").is_err());
    }

    #[test]
    fn every_guarded_operation_exists() {
        let manifest = crate::manifest();
        for (name, _) in FOR_PEOPLE {
            assert!(manifest.tools.iter().any(|tool| tool.name == name), "{name}");
        }
    }
}
