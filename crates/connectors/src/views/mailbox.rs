//! The view `mailbox`: messages, folders, sending and sorting.

use async_trait::async_trait;
use connector_core::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Listing, Page, Source, View};

const VIEW: &str = "mailbox";

/// A message.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct MailMessage {
    /// Its id in the mailbox.
    pub id: String,
    /// The conversation it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<String>,
    /// Its Message-ID header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// The subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Who wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Address>,
    /// Who it is to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<Address>,
    /// Who gets a copy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cc: Vec<Address>,
    /// How it begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preview: Option<String>,
    /// What it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// What the body is: text or html.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// When it arrived, RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_at: Option<String>,
    /// When it was sent, RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<String>,
    /// Whether somebody read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<bool>,
    /// Whether it was not sent yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft: Option<bool>,
    /// Categories or labels.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// The folder's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// Whether there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attachments: Option<bool>,
    /// Its page in the vendor's program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What the vendor says besides, under its own names.
    pub custom: Map<String, Value>,
    /// Where it came from.
    pub source: Source,
}

/// A name and an address.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Address {
    /// The name shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// A folder.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Folder {
    /// Its id.
    pub id: String,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How many messages nobody read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread: Option<i64>,
    /// How many messages there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<i64>,
    /// What the vendor says besides, under its own names.
    pub custom: Map<String, Value>,
    /// Where it came from.
    pub source: Source,
}

/// What became of a message.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct MailReceipt {
    /// Its id, if the vendor tells it. It may be another one than before: moving can change it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The conversation it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<String>,
    /// Its Message-ID header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// What the vendor says besides, under its own names.
    pub custom: Map<String, Value>,
    /// Where it came from.
    pub source: Source,
}

/// A message to be sent or kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Draft {
    /// Who it is to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<String>,
    /// Who gets a copy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cc: Vec<String>,
    /// Who gets a copy unseen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bcc: Vec<String>,
    /// The subject.
    pub subject: String,
    /// What it says, as plain text.
    pub body: String,
    /// The same as HTML, where the vendor takes both.
    pub html: Option<String>,
}

/// E-mail, whoever keeps it.
///
/// Every method fails with [`connector_core::ErrorKind::Unsupported`], naming who can, if the connector does not do it or has no place for an
/// argument; otherwise with whatever the connector reports.
#[async_trait]
pub trait Mailbox: std::fmt::Debug + Send + Sync {
    /// Lists the messages of a folder; of the inbox if none is named.
    async fn list_messages(&self, folder: Option<&str>, listing: Listing) -> Result<Page<MailMessage>>;
    /// Lists the messages of a folder that nobody read, not older than `since` (RFC 3339).
    async fn list_unread(&self, folder: Option<&str>, since: Option<&str>, listing: Listing) -> Result<Page<MailMessage>>;
    /// Searches messages by a text.
    async fn search(&self, query: &str, listing: Listing) -> Result<Page<MailMessage>>;
    /// Gets one message with its body.
    async fn get_message(&self, id: &str) -> Result<MailMessage>;
    /// Lists the folders.
    async fn list_folders(&self, listing: Listing) -> Result<Page<Folder>>;
    /// Sends a message.
    async fn send(&self, message: Draft) -> Result<MailReceipt>;
    /// Answers the sender of a message within its conversation, in plain text.
    async fn reply(&self, id: &str, body: &str) -> Result<MailReceipt>;
    /// Answers the sender of a message and everybody it was to.
    async fn reply_all(&self, id: &str, body: &str) -> Result<MailReceipt>;
    /// Writes a message without sending it.
    async fn draft(&self, message: Draft) -> Result<MailReceipt>;
    /// Puts labels on a message; those it has stay.
    async fn label(&self, id: &str, labels: &[&str]) -> Result<MailReceipt>;
    /// Takes labels off a message.
    async fn unlabel(&self, id: &str, labels: &[&str]) -> Result<MailReceipt>;
    /// Says that a message was read.
    async fn mark_read(&self, id: &str) -> Result<MailReceipt>;
    /// Says that a message was not read.
    async fn mark_unread(&self, id: &str) -> Result<MailReceipt>;
    /// Puts a message into another folder.
    async fn move_message(&self, id: &str, folder: &str) -> Result<MailReceipt>;
}

#[async_trait]
impl Mailbox for View {
    async fn list_messages(&self, folder: Option<&str>, listing: Listing) -> Result<Page<MailMessage>> {
        self.page(VIEW, "list_messages", json!({ "folder": folder }), &listing).await
    }

    async fn list_unread(&self, folder: Option<&str>, since: Option<&str>, listing: Listing) -> Result<Page<MailMessage>> {
        self.page(VIEW, "list_unread", json!({ "folder": folder, "since": since }), &listing).await
    }

    async fn search(&self, query: &str, listing: Listing) -> Result<Page<MailMessage>> {
        self.page(VIEW, "search", json!({ "query": query }), &listing).await
    }

    async fn get_message(&self, id: &str) -> Result<MailMessage> {
        self.one(VIEW, "get_message", json!({ "id": id })).await
    }

    async fn list_folders(&self, listing: Listing) -> Result<Page<Folder>> {
        self.page(VIEW, "list_folders", Map::new(), &listing).await
    }

    async fn send(&self, message: Draft) -> Result<MailReceipt> {
        self.one(VIEW, "send", message).await
    }

    async fn reply(&self, id: &str, body: &str) -> Result<MailReceipt> {
        self.one(VIEW, "reply", json!({ "id": id, "body": body })).await
    }

    async fn reply_all(&self, id: &str, body: &str) -> Result<MailReceipt> {
        self.one(VIEW, "reply_all", json!({ "id": id, "body": body })).await
    }

    async fn draft(&self, message: Draft) -> Result<MailReceipt> {
        self.one(VIEW, "draft", message).await
    }

    async fn label(&self, id: &str, labels: &[&str]) -> Result<MailReceipt> {
        self.one(VIEW, "label", json!({ "id": id, "labels": labels })).await
    }

    async fn unlabel(&self, id: &str, labels: &[&str]) -> Result<MailReceipt> {
        self.one(VIEW, "unlabel", json!({ "id": id, "labels": labels })).await
    }

    async fn mark_read(&self, id: &str) -> Result<MailReceipt> {
        self.one(VIEW, "mark_read", json!({ "id": id })).await
    }

    async fn mark_unread(&self, id: &str) -> Result<MailReceipt> {
        self.one(VIEW, "mark_unread", json!({ "id": id })).await
    }

    async fn move_message(&self, id: &str, folder: &str) -> Result<MailReceipt> {
        self.one(VIEW, "move", json!({ "id": id, "folder": folder })).await
    }
}
