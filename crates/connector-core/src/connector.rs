//! The one door: [`Connector::call`], what goes in and what comes out.

use std::{
    any::Any,
    fmt::Debug,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

pub use crate::args::Args;
use crate::{
    context::CallCx,
    delta::DeltaSource,
    error::{Error, ErrorKind, Result},
    rotation::Rotator,
    spec::ConnectorSpec,
    webhook::WebhookVerifier,
};

/// The code for one external system. Built-in, custom and wrapped connectors all look like this.
///
/// No method has a default: a wrapper must forward every one, and forgetting it does not compile.
#[async_trait]
pub trait Connector: Debug + Send + Sync + 'static {
    /// What it is and can do.
    fn spec(&self) -> &Arc<ConnectorSpec>;

    /// Carries out one operation.
    async fn call(&self, cx: &CallCx, call: OpCall) -> Result<OpReply>;

    /// Tells it that a connection starts, is checked or ends.
    async fn lifecycle(&self, cx: &CallCx, event: Lifecycle) -> Result<()>;

    /// How its webhooks are verified; `None` means it cannot receive any.
    fn webhook(&self) -> Option<&dyn WebhookVerifier>;

    /// How its streams are followed; `None` means it has none.
    fn delta(&self) -> Option<&dyn DeltaSource>;

    /// How its credential is replaced through the vendor's API; `None` means a person has to do it at the vendor.
    fn rotator(&self) -> Option<&dyn Rotator>;
}

/// What happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lifecycle {
    /// It was configured and is about to be used.
    Connect,
    /// Make the cheapest call that proves the credential and the network.
    Check,
    /// It is being removed.
    Disconnect,
}

/// Where a listing goes on. Opaque: pass it back, never look inside.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(Arc<str>);

impl Cursor {
    /// Wraps the text of a cursor.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text, to be stored or sent back.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A hash of the vendor's own mark, by which a listing that goes in circles is noticed. The page count the engine puts before `~` is left out.
    pub(crate) fn mark(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.0.split_once('~').map_or(&*self.0, |(_, mark)| mark).hash(&mut hasher);
        hasher.finish()
    }
}

impl Debug for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cursor({} bytes)", self.0.len())
    }
}

/// One call of one operation.
#[derive(Debug, Clone)]
pub struct OpCall {
    /// The operation's name.
    pub operation: Arc<str>,
    /// Its arguments.
    pub args: Args,
    /// Where to go on in a listing.
    pub cursor: Option<Cursor>,
    /// How to read the reply while it can still be retried; `None` leaves it as bytes.
    pub decode: Option<Decode>,
}

impl OpCall {
    /// A call whose reply stays bytes until somebody asks.
    pub fn new(operation: impl Into<Arc<str>>, args: impl Into<Args>) -> Self {
        Self { operation: operation.into(), args: args.into(), cursor: None, decode: None }
    }

    /// Goes on from this cursor.
    #[must_use]
    pub fn with_cursor(mut self, cursor: Option<Cursor>) -> Self {
        self.cursor = cursor;
        self
    }

    /// Reads the reply as `T`. An unreadable reply is then a protocol failure inside the retry loop, not after it.
    #[must_use]
    pub fn decoding<T: DeserializeOwned + Send + 'static>(mut self) -> Self {
        self.decode = Some(Decode::of::<T>());
        self
    }

    /// Leaves the reply as the text the vendor sent: see [`Decode::unread`].
    #[must_use]
    pub fn unread(mut self) -> Self {
        self.decode = Some(Decode::unread());
        self
    }
}

/// Reads a reply into one type, chosen by the caller and carried through the layers as plain function pointers.
#[derive(Clone, Copy)]
pub struct Decode {
    from_slice: fn(&[u8]) -> serde_json::Result<Decoded>,
    from_value: fn(Value) -> serde_json::Result<Decoded>,
    unread: bool,
}

type Decoded = Box<dyn Any + Send>;

impl Decode {
    /// Reads into `T`.
    pub fn of<T: DeserializeOwned + Send + 'static>() -> Self {
        Self {
            from_slice: |bytes| Ok(Box::new(serde_json::from_slice::<T>(if bytes.is_empty() { b"null" } else { bytes })?)),
            from_value: |value| Ok(Box::new(serde_json::from_value::<T>(value)?)),
            unread: false,
        }
    }

    /// Reads nothing: the reply stays the text the vendor sent, not even checked to be JSON. For callers who pass records on, and check
    /// the text when they split it.
    pub fn unread() -> Self {
        Self { unread: true, ..Self::of::<serde::de::IgnoredAny>() }
    }

    /// Whether the text is to be left alone.
    pub fn is_unread(self) -> bool {
        self.unread
    }

    /// Reads JSON text; no bytes at all read as `null`.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`], without echoing the value (serde's own messages quote it).
    pub fn slice(self, bytes: &[u8]) -> Result<Decoded> {
        (self.from_slice)(bytes).map_err(|error| json_error(&error))
    }

    /// Reads an already parsed tree.
    ///
    /// # Errors
    /// As [`Decode::slice`].
    pub fn value(self, value: Value) -> Result<Decoded> {
        (self.from_value)(value).map_err(|error| json_error(&error))
    }
}

impl Debug for Decode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decode")
    }
}

/// A JSON error as ours: position and category, never the value that serde quotes.
pub fn json_error(error: &serde_json::Error) -> Error {
    let what = match error.classify() {
        serde_json::error::Category::Eof => "the vendor's answer ends in the middle of its JSON",
        serde_json::error::Category::Syntax => "the vendor's answer is not JSON",
        serde_json::error::Category::Data => "the vendor's answer does not have the documented shape",
        serde_json::error::Category::Io => "the vendor's answer could not be read",
    };
    Error::protocol(what).with_context("line", error.line().to_string()).with_context("column", error.column().to_string())
}

/// The body of a reply: bytes as they came, or a tree the engine had to build.
#[derive(Debug, Clone, Default)]
pub enum ReplyBody {
    /// Nothing.
    #[default]
    Empty,
    /// JSON text as the vendor sent it.
    Json(Bytes),
    /// A tree made by a `response_map`, a selection or a native operation.
    Value(Value),
    /// Something that is not JSON, such as a MIME message or a file, with its content type.
    Raw {
        /// The bytes.
        bytes: Bytes,
        /// The content type the vendor named.
        content_type: Arc<str>,
    },
}

impl ReplyBody {
    /// The body as a tree. Raw bytes become `{"content_type": .., "base64": ..}`, empty becomes `null`.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] if the bytes are not JSON.
    pub fn to_value(&self) -> Result<Value> {
        match self {
            Self::Empty => Ok(Value::Null),
            Self::Json(bytes) => serde_json::from_slice(bytes).map_err(|error| json_error(&error)),
            Self::Value(value) => Ok(value.clone()),
            Self::Raw { bytes, content_type } => {
                use base64::Engine as _;
                let text = base64::engine::general_purpose::STANDARD.encode(bytes);
                Ok(serde_json::json!({ "content_type": &**content_type, "base64": text }))
            }
        }
    }

    /// The body as text, for a cache or a queue.
    ///
    /// # Errors
    /// As [`ReplyBody::to_value`].
    pub fn to_json_bytes(&self) -> Result<Bytes> {
        match self {
            Self::Json(bytes) => Ok(bytes.clone()),
            other => {
                let value = other.to_value()?;
                serde_json::to_vec(&value)
                    .map(Bytes::from)
                    .map_err(|error| Error::internal("a reply could not be written as JSON").with_source(error))
            }
        }
    }
}

/// Bytes that are not JSON, such as a MIME message or a file: the output of operations that return `raw`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawContent {
    /// The content type the vendor named.
    pub content_type: String,
    /// The bytes.
    pub bytes: Bytes,
}

impl<'de> Deserialize<'de> for RawContent {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        use base64::Engine as _;
        #[derive(Deserialize)]
        struct Written {
            content_type: String,
            base64: String,
        }
        let written = Written::deserialize(deserializer)?;
        let bytes = base64::engine::general_purpose::STANDARD.decode(written.base64).map_err(serde::de::Error::custom)?;
        Ok(Self { content_type: written.content_type, bytes: bytes.into() })
    }
}

/// One item of a batch that failed; the others stand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ItemError {
    /// Its position in the input, where the vendor's answer allows to tell.
    pub index: Option<usize>,
    /// Its key or id, where the vendor's answer names it.
    pub key: Option<String>,
    /// The class of the failure.
    pub kind: ErrorKind,
    /// What happened, without the vendor's free text where that may hold personal data.
    pub message: String,
    /// The vendor's code.
    pub vendor_code: Option<String>,
    /// Whether this item may be sent again.
    pub retryable: bool,
}

/// Facts about how a reply came to be.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReplyMeta {
    /// The vendor's HTTP status, 0 for native operations.
    pub status: u16,
    /// The vendor's request id.
    pub request_id: Option<Arc<str>>,
    /// How often the operation was sent (1 = at once).
    pub attempts: u32,
    /// How long the call waited for limits and backoff.
    pub waited: Duration,
    /// The reply came from the cache.
    pub cached: bool,
    /// The reply is one of a batch call.
    pub batched: bool,
    /// The write turned out to have happened already; the reply is what a lookup found.
    pub reconciled: bool,
    /// Calls left in the vendor's window, if it said so.
    pub remaining: Option<u64>,
    /// The reply answers `none_on`: the thing does not exist, and that is an answer.
    pub absent: bool,
}

/// What an operation gave.
#[derive(Debug, Default)]
pub struct OpReply {
    /// The body.
    pub body: ReplyBody,
    /// Where the listing goes on.
    pub next: Option<Cursor>,
    /// The items that failed, for batch operations.
    pub partial: Vec<ItemError>,
    /// How it came to be.
    pub meta: ReplyMeta,
    decoded: Option<Decoded>,
}

impl OpReply {
    /// A reply with this body.
    pub fn new(body: ReplyBody) -> Self {
        Self { body, ..Self::default() }
    }

    /// A reply of a native operation: a tree, read at once into what the caller wants.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] if the tree does not have the shape the caller wants.
    pub fn from_value(value: Value, decode: Option<Decode>) -> Result<Self> {
        let decoded = decode.map(|decode| decode.value(value.clone())).transpose()?;
        Ok(Self { body: ReplyBody::Value(value), decoded, meta: ReplyMeta { attempts: 1, ..ReplyMeta::default() }, ..Self::default() })
    }

    /// Keeps what [`OpCall::decode`] made of the body.
    #[must_use]
    pub fn with_decoded(mut self, decoded: Option<Decoded>) -> Self {
        self.decoded = decoded;
        self
    }

    /// The output as `T`: what was decoded on the way, or the body read now.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] if the body does not have the shape of `T`.
    pub fn into_output<T: DeserializeOwned + Send + 'static>(self) -> Result<T> {
        if let Some(decoded) = self.decoded
            && let Ok(output) = decoded.downcast::<T>()
        {
            return Ok(*output);
        }
        match self.body {
            ReplyBody::Json(bytes) => serde_json::from_slice(&bytes).map_err(|error| json_error(&error)),
            ReplyBody::Value(value) => serde_json::from_value(value).map_err(|error| json_error(&error)),
            other => serde_json::from_value(other.to_value()?).map_err(|error| json_error(&error)),
        }
    }

    /// An error of kind [`ErrorKind::Partial`] that lists the failed items, if there are any.
    pub fn partial_error(&self) -> Option<Error> {
        let first = self.partial.first()?;
        Some(
            Error::new(ErrorKind::Partial, format!("{} item(s) of the batch failed, the first with: {}", self.partial.len(), first.message))
                .with_context("failed", self.partial.len().to_string()),
        )
    }
}
