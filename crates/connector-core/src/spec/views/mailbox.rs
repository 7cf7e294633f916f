//! The view `mailbox`: messages, folders, sending and sorting.

use super::{
    Gives, LIMIT, View, ViewField,
    ViewKind::{Flag, Integer, Record, Records, Text, Texts, Time},
    ViewModel, ViewOp, may, must,
};
use crate::spec::Effect::{Read, Write};

const WHICH: ViewField = must("id", Text, "The message's id, as other operations give it.");
const FOLDER: ViewField = may("folder", Text, "A folder's id or name, as the vendor has it; the inbox if not said.");
const BODY: ViewField = must("body", Text, "What it says, as plain text.");
const HTML: ViewField = may("html", Text, "The same as HTML, where the vendor takes both.");
const TO: &str = "E-mail addresses.";

const MESSAGE: ViewModel = ViewModel {
    name: "Message",
    doc: "A message.",
    fields: &[
        must("id", Text, "Its id in the mailbox."),
        may("thread_id", Text, "The conversation it belongs to."),
        may("message_id", Text, "Its Message-ID header."),
        may("subject", Text, "The subject."),
        may("from", Record("Address"), "Who wrote it."),
        may("to", Records("Address"), "Who it is to."),
        may("cc", Records("Address"), "Who gets a copy."),
        may("preview", Text, "How it begins."),
        may("body", Text, "What it says."),
        may("format", Text, "What the body is: text or html."),
        may("received_at", Time, "When it arrived."),
        may("sent_at", Time, "When it was sent."),
        may("read", Flag, "Whether somebody read it."),
        may("draft", Flag, "Whether it was not sent yet."),
        may("labels", Texts, "Categories or labels."),
        may("folder", Text, "The folder's id."),
        may("attachments", Flag, "Whether there are any."),
        may("url", Text, "Its page in the vendor's program."),
    ],
};

const ADDRESS: ViewModel = ViewModel {
    name: "Address",
    doc: "A name and an address.",
    fields: &[may("name", Text, "The name shown."), may("address", Text, "The address.")],
};

const FOLDER_MODEL: ViewModel = ViewModel {
    name: "Folder",
    doc: "A folder.",
    fields: &[
        must("id", Text, "Its id."),
        may("name", Text, "Its name."),
        may("unread", Integer, "How many messages nobody read."),
        may("total", Integer, "How many messages there are."),
    ],
};

const RECEIPT: ViewModel = ViewModel {
    name: "Receipt",
    doc: "What became of a message.",
    fields: &[
        may("id", Text, "Its id, if the vendor tells it. It may be another one than before: moving can change it."),
        may("thread_id", Text, "The conversation it belongs to."),
        may("message_id", Text, "Its Message-ID header."),
    ],
};

/// The vocabulary.
pub(super) static MAILBOX: View = View {
    id: "mailbox",
    doc: "E-mail: reading, answering, sorting.",
    models: &[MESSAGE, ADDRESS, FOLDER_MODEL, RECEIPT],
    operations: &[
        ViewOp {
            name: "list_messages",
            doc: "List the messages of a folder.",
            effect: Read,
            params: &[FOLDER, LIMIT],
            gives: Gives::Many("Message"),
        },
        ViewOp {
            name: "list_unread",
            doc: "List the messages of a folder that nobody read.",
            effect: Read,
            params: &[FOLDER, may("since", Time, "Not older than this."), LIMIT],
            gives: Gives::Many("Message"),
        },
        ViewOp {
            name: "search",
            doc: "Search messages by a text.",
            effect: Read,
            params: &[must("query", Text, "The text to look for."), LIMIT],
            gives: Gives::Many("Message"),
        },
        ViewOp { name: "get_message", doc: "Get one message with its body.", effect: Read, params: &[WHICH], gives: Gives::One("Message") },
        ViewOp { name: "list_folders", doc: "List the folders.", effect: Read, params: &[LIMIT], gives: Gives::Many("Folder") },
        ViewOp {
            name: "send",
            doc: "Send a message.",
            effect: Write,
            params: &[must("to", Texts, TO), may("cc", Texts, TO), may("bcc", Texts, TO), must("subject", Text, "The subject."), BODY, HTML],
            gives: Gives::One("Receipt"),
        },
        ViewOp {
            name: "reply",
            doc: "Answer the sender of a message, within its conversation.",
            effect: Write,
            params: &[WHICH, BODY, HTML],
            gives: Gives::One("Receipt"),
        },
        ViewOp {
            name: "reply_all",
            doc: "Answer the sender of a message and everybody it was to, within its conversation.",
            effect: Write,
            params: &[WHICH, BODY, HTML],
            gives: Gives::One("Receipt"),
        },
        ViewOp {
            name: "draft",
            doc: "Write a message without sending it.",
            effect: Write,
            params: &[may("to", Texts, TO), may("cc", Texts, TO), must("subject", Text, "The subject."), BODY, HTML],
            gives: Gives::One("Receipt"),
        },
        ViewOp {
            name: "label",
            doc: "Put categories or labels on a message; those it has stay.",
            effect: Write,
            params: &[WHICH, must("labels", Texts, "The labels.")],
            gives: Gives::One("Receipt"),
        },
        ViewOp {
            name: "unlabel",
            doc: "Take categories or labels off a message.",
            effect: Write,
            params: &[WHICH, must("labels", Texts, "The labels.")],
            gives: Gives::One("Receipt"),
        },
        ViewOp { name: "mark_read", doc: "Say that a message was read.", effect: Write, params: &[WHICH], gives: Gives::One("Receipt") },
        ViewOp { name: "mark_unread", doc: "Say that a message was not read.", effect: Write, params: &[WHICH], gives: Gives::One("Receipt") },
        ViewOp {
            name: "move",
            doc: "Put a message into another folder.",
            effect: Write,
            params: &[WHICH, must("folder", Text, "The folder's id or name, as the vendor has it.")],
            gives: Gives::One("Receipt"),
        },
    ],
};
