//! The view `chat`: channels and what is said in them.

use async_trait::async_trait;
use connector_core::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Listing, Page, Source, View};

const VIEW: &str = "chat";

/// A channel.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Channel {
    /// Its id.
    pub id: String,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What is talked about now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whether only its members see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private: Option<bool>,
    /// Whether nothing can be said in it any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archived: Option<bool>,
    /// How many people are in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub members: Option<i64>,
    /// When it was made, RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// What the vendor says besides, under its own names.
    pub custom: Map<String, Value>,
    /// Where it came from.
    pub source: Source,
}

/// Something that was said.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ChatMessage {
    /// Its id within its channel.
    pub id: String,
    /// The channel's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// The id of the message whose thread it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<String>,
    /// What was said, in the vendor's markup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Who said it; absent for what programs said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author_id: Option<String>,
    /// When, RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<String>,
    /// How many answers its thread has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replies: Option<i64>,
    /// What the vendor says besides, under its own names.
    pub custom: Map<String, Value>,
    /// Where it came from.
    pub source: Source,
}

/// What became of a message.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ChatReceipt {
    /// The message's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The channel's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// What the vendor says besides, under its own names.
    pub custom: Map<String, Value>,
    /// Where it came from.
    pub source: Source,
}

/// Channels and messages, whoever carries them.
///
/// Every method fails with [`connector_core::ErrorKind::Unsupported`], naming who can, if the connector does not do it or has no place for an
/// argument; otherwise with whatever the connector reports.
#[async_trait]
pub trait Chat: std::fmt::Debug + Send + Sync {
    /// Lists channels.
    async fn list_channels(&self, listing: Listing) -> Result<Page<Channel>>;
    /// Finds a channel by its name, without `#`.
    async fn find_channel(&self, name: &str) -> Result<Option<Channel>>;
    /// Gets a channel by id.
    async fn get_channel(&self, id: &str) -> Result<Channel>;
    /// Reads what was said in a channel, newest first.
    async fn read_channel(&self, channel: &str, listing: Listing) -> Result<Page<ChatMessage>>;
    /// Reads the answers to a message. Some vendors give the message itself first.
    async fn read_thread(&self, channel: &str, id: &str, listing: Listing) -> Result<Page<ChatMessage>>;
    /// Says something in a channel.
    async fn send_message(&self, channel: &str, text: &str) -> Result<ChatReceipt>;
    /// Answers a message in its thread.
    async fn reply_to(&self, channel: &str, id: &str, text: &str) -> Result<ChatReceipt>;
    /// Puts a reaction on a message.
    async fn react(&self, channel: &str, id: &str, reaction: &str) -> Result<ChatReceipt>;
}

#[async_trait]
impl Chat for View {
    async fn list_channels(&self, listing: Listing) -> Result<Page<Channel>> {
        self.page(VIEW, "list_channels", Map::new(), &listing).await
    }

    async fn find_channel(&self, name: &str) -> Result<Option<Channel>> {
        self.one(VIEW, "find_channel", json!({ "name": name })).await
    }

    async fn get_channel(&self, id: &str) -> Result<Channel> {
        self.one(VIEW, "get_channel", json!({ "id": id })).await
    }

    async fn read_channel(&self, channel: &str, listing: Listing) -> Result<Page<ChatMessage>> {
        self.page(VIEW, "read_channel", json!({ "channel": channel }), &listing).await
    }

    async fn read_thread(&self, channel: &str, id: &str, listing: Listing) -> Result<Page<ChatMessage>> {
        self.page(VIEW, "read_thread", json!({ "channel": channel, "id": id }), &listing).await
    }

    async fn send_message(&self, channel: &str, text: &str) -> Result<ChatReceipt> {
        self.one(VIEW, "send_message", json!({ "channel": channel, "text": text })).await
    }

    async fn reply_to(&self, channel: &str, id: &str, text: &str) -> Result<ChatReceipt> {
        self.one(VIEW, "reply", json!({ "channel": channel, "id": id, "text": text })).await
    }

    async fn react(&self, channel: &str, id: &str, reaction: &str) -> Result<ChatReceipt> {
        self.one(VIEW, "react", json!({ "channel": channel, "id": id, "reaction": reaction })).await
    }
}
