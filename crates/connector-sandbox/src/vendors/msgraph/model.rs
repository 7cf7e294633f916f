//! Mailboxes, folders and messages as the fake keeps them, and the rules of their ids. It refuses to render JSON and to talk HTTP.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Folders every mailbox has: well-known name, display name.
const WELL_KNOWN: [(&str, &str); 10] = [
    ("msgfolderroot", "Top of Information Store"),
    ("inbox", "Inbox"),
    ("drafts", "Drafts"),
    ("sentitems", "Sent Items"),
    ("deleteditems", "Deleted Items"),
    ("junkemail", "Junk Email"),
    ("archive", "Archive"),
    ("outbox", "Outbox"),
    ("conversationhistory", "Conversation History"),
    ("recoverableitemsdeletions", "Deletions"),
];

/// One mailbox.
#[derive(Debug)]
pub(super) struct Mailbox {
    pub(super) address: String,
    pub(super) user_id: String,
    pub(super) folders: Vec<Folder>,
    pub(super) messages: BTreeMap<u64, Message>,
    /// Ids a caller may use now; a default id goes away when its message moves.
    ids: HashMap<String, u64>,
    pub(super) log: Vec<Change>,
    pub(super) folder_log: Vec<(u64, String, bool)>,
    pub(super) seq: u64,
    next_key: u64,
    /// Raised to make every delta cursor handed out before stale.
    pub(super) delta_epoch: u64,
    pub(super) categories: Vec<Value>,
}

/// One mail folder.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) parent: String,
    pub(super) well_known: Option<&'static str>,
    /// Listed only with `includeHiddenFolders`.
    pub(super) hidden: bool,
}

/// What happened to a message in a folder, for delta.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) seq: u64,
    pub(super) folder: String,
    pub(super) key: u64,
    /// The default id at that time.
    pub(super) id: String,
    pub(super) kind: ChangeKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChangeKind {
    Created,
    Updated,
    Deleted,
    MovedOut,
}

/// Why a message exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Inbound,
    New,
    Reply,
    Forward { parent: String },
}

/// One message.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) key: u64,
    pub(super) generation: u32,
    pub(super) version: u64,
    pub(super) folder: String,
    pub(super) created: Timestamp,
    pub(super) modified: Timestamp,
    pub(super) received: Timestamp,
    pub(super) sent: Timestamp,
    pub(super) subject: String,
    pub(super) html: bool,
    pub(super) content: String,
    pub(super) from: Option<Value>,
    pub(super) sender: Option<Value>,
    pub(super) to: Vec<Value>,
    pub(super) cc: Vec<Value>,
    pub(super) bcc: Vec<Value>,
    pub(super) reply_to: Vec<Value>,
    pub(super) conversation: String,
    pub(super) hide_conversation: bool,
    pub(super) message_id: String,
    pub(super) in_reply_to: Option<String>,
    pub(super) references: Vec<String>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) extended: Vec<(String, String)>,
    pub(super) importance: String,
    pub(super) inference: String,
    pub(super) is_read: bool,
    pub(super) is_draft: bool,
    pub(super) categories: Vec<String>,
    pub(super) flag: String,
    pub(super) attachments: Vec<Attachment>,
    pub(super) next_attachment: u32,
    pub(super) mime: Option<Bytes>,
    pub(super) origin: Origin,
}

impl Message {
    /// An empty message; the caller fills in what it knows.
    pub(super) fn blank(now: Timestamp, origin: Origin) -> Self {
        Self {
            key: 0,
            generation: 0,
            version: 0,
            folder: String::new(),
            created: now,
            modified: now,
            received: now,
            sent: now,
            subject: String::new(),
            html: false,
            content: String::new(),
            from: None,
            sender: None,
            to: Vec::new(),
            cc: Vec::new(),
            bcc: Vec::new(),
            reply_to: Vec::new(),
            conversation: String::new(),
            hide_conversation: false,
            message_id: String::new(),
            in_reply_to: None,
            references: Vec::new(),
            headers: Vec::new(),
            extended: Vec::new(),
            importance: "normal".into(),
            inference: "focused".into(),
            is_read: false,
            is_draft: false,
            categories: Vec::new(),
            flag: "notFlagged".into(),
            attachments: Vec::new(),
            next_attachment: 0,
            mime: None,
            origin,
        }
    }

    /// The weak entity tag.
    pub(super) fn etag(&self) -> String {
        format!("W/\"{}\"", self.change_key())
    }

    /// The `changeKey`, which the etag carries too.
    pub(super) fn change_key(&self) -> String {
        format!("CQAAAB{:08x}", self.version)
    }

    /// Adds an attachment and returns its id.
    pub(super) fn attach(&mut self, mut attachment: Attachment, now: Timestamp) -> String {
        self.next_attachment += 1;
        attachment.id = format!("AAMkATT{:x}-{}", self.key, self.next_attachment);
        attachment.modified = now;
        let id = attachment.id.clone();
        self.attachments.push(attachment);
        self.mime = None;
        id
    }
}

/// A file or message attached to a message.
#[derive(Clone, Debug)]
pub(super) struct Attachment {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) content_type: String,
    pub(super) inline: bool,
    pub(super) content_id: Option<String>,
    pub(super) bytes: Bytes,
    /// An attached message rather than a file.
    pub(super) item: bool,
    pub(super) modified: Timestamp,
}

impl Mailbox {
    pub(super) fn new(address: &str, number: usize) -> Self {
        let user_id = format!("87d349ed-44d7-43e1-9a83-{number:012x}");
        let mut mailbox = Self {
            address: address.to_owned(),
            user_id,
            folders: Vec::new(),
            messages: BTreeMap::new(),
            ids: HashMap::new(),
            log: Vec::new(),
            folder_log: Vec::new(),
            seq: 0,
            next_key: 0,
            delta_epoch: 0,
            categories: Vec::new(),
        };
        for (well_known, name) in WELL_KNOWN {
            mailbox.add_folder(name, mailbox.folder_id(well_known).unwrap_or_default().as_str(), Some(well_known));
        }
        let root = mailbox.folders[0].id.clone();
        for folder in &mut mailbox.folders {
            folder.parent.clone_from(&root);
        }
        mailbox
    }

    /// Makes a folder below `parent` and returns its id.
    pub(super) fn add_folder(&mut self, name: &str, parent: &str, well_known: Option<&'static str>) -> String {
        let id = format!("AAMkAGfolder{}", URL_SAFE_NO_PAD.encode(format!("{}:{}", self.user_id, self.seq)));
        let hidden = well_known == Some("recoverableitemsdeletions");
        self.folders.push(Folder { id: id.clone(), name: name.to_owned(), parent: parent.to_owned(), well_known, hidden });
        self.folder_changed(&id, false);
        id
    }

    /// Notes that a folder changed or went away, for delta.
    pub(super) fn folder_changed(&mut self, id: &str, removed: bool) {
        self.seq += 1;
        self.folder_log.push((self.seq, id.to_owned(), removed));
    }

    /// Resolves a folder id or a well-known name.
    pub(super) fn folder_id(&self, name: &str) -> Option<String> {
        let lower = name.to_ascii_lowercase();
        self.folders.iter().find(|f| f.id == name || f.well_known == Some(lower.as_str())).map(|f| f.id.clone())
    }

    /// The id of a folder that every mailbox has.
    pub(super) fn well_known(&self, name: &str) -> String {
        self.folder_id(name).unwrap_or_default()
    }

    /// The default id of a message, which changes when it moves.
    pub(super) fn default_id(&self, message: &Message) -> String {
        let suffix = if message.generation == 0 { String::new() } else { format!(".{}", message.generation) };
        format!("AAMkAG{}=", URL_SAFE_NO_PAD.encode(format!("{}/{}{suffix}", self.user_id, message.key)))
    }

    /// The immutable id, stable within the mailbox.
    pub(super) fn immutable_id(&self, key: u64) -> String {
        format!("AAkALg{}=", URL_SAFE_NO_PAD.encode(format!("{}#{key}", self.user_id)))
    }

    /// The id in the form the caller prefers.
    pub(super) fn id_of(&self, message: &Message, immutable: bool) -> String {
        if immutable { self.immutable_id(message.key) } else { self.default_id(message) }
    }

    /// Finds a message by an id of either form.
    pub(super) fn find(&self, id: &str) -> Option<&Message> {
        self.messages.get(self.ids.get(id)?)
    }

    /// The key behind an id of either form.
    pub(super) fn key_of(&self, id: &str) -> Option<u64> {
        self.ids.get(id).copied()
    }

    /// The stored message behind an `internetMessageId`.
    pub(super) fn by_message_id(&self, message_id: &str) -> Option<&Message> {
        self.messages.values().rev().find(|m| m.message_id == message_id)
    }

    /// Stores a message in a folder and returns its key.
    pub(super) fn insert(&mut self, mut message: Message, folder: String) -> u64 {
        self.next_key += 1;
        let key = self.next_key;
        message.key = key;
        message.folder = folder;
        for (n, attachment) in message.attachments.iter_mut().enumerate() {
            attachment.id = format!("AAMkATT{key:x}-{}", n + 1);
            message.next_attachment = n as u32 + 1;
        }
        if message.message_id.is_empty() {
            message.message_id = format!("<{key:x}.{}@sandbox.example>", self.user_id);
        }
        if message.conversation.is_empty() {
            message.conversation = self.conversation_for(&message, key);
        }
        self.ids.insert(self.default_id(&message), key);
        self.ids.insert(self.immutable_id(key), key);
        self.messages.insert(key, message);
        self.changed(key, ChangeKind::Created);
        key
    }

    /// A message joins the conversation of whatever it refers to, else it starts one.
    fn conversation_for(&self, message: &Message, key: u64) -> String {
        let referred = message.in_reply_to.iter().chain(message.references.iter().rev());
        for id in referred {
            if let Some(known) = self.by_message_id(id) {
                return known.conversation.clone();
            }
        }
        format!("AAQkAG{}=", URL_SAFE_NO_PAD.encode(format!("{}/conversation/{key}", self.user_id)))
    }

    /// Notes a change of a stored message: version, log.
    pub(super) fn changed(&mut self, key: u64, kind: ChangeKind) {
        self.seq += 1;
        let seq = self.seq;
        if let Some(message) = self.messages.get_mut(&key) {
            message.version += 1;
        }
        if let Some(message) = self.messages.get(&key) {
            let change = Change { seq, folder: message.folder.clone(), key, id: self.default_id(message), kind };
            self.log.push(change);
        }
    }

    /// Moves a message; its default id changes, its immutable id does not.
    pub(super) fn relocate(&mut self, key: u64, folder: String) {
        self.changed(key, ChangeKind::MovedOut);
        let Some(message) = self.messages.get(&key) else { return };
        self.ids.remove(&self.default_id(message));
        if let Some(message) = self.messages.get_mut(&key) {
            message.generation += 1;
            message.folder = folder;
        }
        if let Some(message) = self.messages.get(&key) {
            self.ids.insert(self.default_id(message), key);
        }
        self.changed(key, ChangeKind::Created);
    }

    /// Removes a message for good.
    pub(super) fn remove(&mut self, key: u64) -> Option<Message> {
        self.changed(key, ChangeKind::Deleted);
        let message = self.messages.remove(&key)?;
        self.ids.remove(&self.default_id(&message));
        self.ids.remove(&self.immutable_id(key));
        Some(message)
    }
}

/// A recipient object.
pub(super) fn recipient(name: &str, address: &str) -> Value {
    let name = if name.is_empty() { address } else { name };
    json!({"emailAddress": {"name": name, "address": address}})
}

/// The address inside a recipient object.
pub(super) fn address_of(recipient: &Value) -> &str {
    recipient["emailAddress"]["address"].as_str().unwrap_or_default()
}
