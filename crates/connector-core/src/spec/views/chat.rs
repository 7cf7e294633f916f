//! The view `chat`: channels and what is said in them.

use super::{
    Gives, LIMIT, View, ViewField,
    ViewKind::{Flag, Integer, Text, Time},
    ViewModel, ViewOp, may, must,
};
use crate::spec::Effect::{Read, Write};

const CHANNEL: ViewField = must("channel", Text, "The channel's id.");
const TEAM: ViewField = may("team", Text, "The team the channel is in, where the vendor keeps channels in teams.");
const MESSAGE: ViewField = must("id", Text, "The message's id, as other operations give it.");

const CHANNEL_MODEL: ViewModel = ViewModel {
    name: "Channel",
    doc: "A channel.",
    fields: &[
        must("id", Text, "Its id."),
        may("name", Text, "Its name."),
        may("topic", Text, "What is talked about now."),
        may("description", Text, "What it is for."),
        may("private", Flag, "Whether only its members see it."),
        may("archived", Flag, "Whether nothing can be said in it any more."),
        may("members", Integer, "How many people are in it."),
        may("created_at", Time, "When it was made."),
    ],
};

const MESSAGE_MODEL: ViewModel = ViewModel {
    name: "Message",
    doc: "Something that was said.",
    fields: &[
        must("id", Text, "Its id within its channel."),
        may("channel", Text, "The channel's id."),
        may("thread_id", Text, "The id of the message whose thread it belongs to."),
        may("text", Text, "What was said, in the vendor's markup."),
        may("author_id", Text, "Who said it; absent for what programs said."),
        may("sent_at", Time, "When."),
        may("replies", Integer, "How many answers its thread has."),
    ],
};

const RECEIPT: ViewModel = ViewModel {
    name: "Receipt",
    doc: "What became of a message.",
    fields: &[may("id", Text, "The message's id."), may("channel", Text, "The channel's id.")],
};

/// The vocabulary.
pub(super) static CHAT: View = View {
    id: "chat",
    doc: "Channels and messages.",
    models: &[CHANNEL_MODEL, MESSAGE_MODEL, RECEIPT],
    operations: &[
        ViewOp { name: "list_channels", doc: "List channels.", effect: Read, params: &[TEAM, LIMIT], gives: Gives::Many("Channel") },
        ViewOp {
            name: "find_channel",
            doc: "Find a channel by its name; null if there is none.",
            effect: Read,
            params: &[TEAM, must("name", Text, "The name, without #.")],
            gives: Gives::Maybe("Channel"),
        },
        ViewOp {
            name: "get_channel",
            doc: "Get a channel by id.",
            effect: Read,
            params: &[TEAM, must("id", Text, "The channel's id.")],
            gives: Gives::One("Channel"),
        },
        ViewOp {
            name: "read_channel",
            doc: "Read what was said in a channel, newest first.",
            effect: Read,
            params: &[TEAM, CHANNEL, LIMIT],
            gives: Gives::Many("Message"),
        },
        ViewOp {
            name: "read_thread",
            doc: "Read the answers to a message. Some vendors give the message itself first.",
            effect: Read,
            params: &[TEAM, CHANNEL, MESSAGE, LIMIT],
            gives: Gives::Many("Message"),
        },
        ViewOp {
            name: "send_message",
            doc: "Say something in a channel.",
            effect: Write,
            params: &[TEAM, CHANNEL, must("text", Text, "What to say, in the vendor's markup.")],
            gives: Gives::One("Receipt"),
        },
        ViewOp {
            name: "reply",
            doc: "Answer a message in its thread.",
            effect: Write,
            params: &[TEAM, CHANNEL, MESSAGE, must("text", Text, "The answer, in the vendor's markup.")],
            gives: Gives::One("Receipt"),
        },
        ViewOp {
            name: "react",
            doc: "Put a reaction on a message.",
            effect: Write,
            params: &[TEAM, CHANNEL, MESSAGE, must("reaction", Text, "The emoji as the vendor takes it: thumbsup, or the character itself.")],
            gives: Gives::One("Receipt"),
        },
    ],
};
