//! The workspace as it is at the start: six people, six channels, a little talk.

use super::store::{Channel, Message, Said, Sort, Store, User};
use super::{APP, BOT, BOT_USER};
use jiff::Timestamp;
use serde_json::json;

pub(super) fn filled(now: Timestamp) -> Store {
    let mut store = Store::default();
    let people = [
        (BOT_USER, "hub", "Hub", None, false, true),
        ("U0ANN", "ann", "Ann Abel", Some("ann@acme.test"), false, false),
        ("U0BOB", "bob", "Bob Baker", Some("bob@acme.test"), false, false),
        ("U0ANA", "ana", "Ana Alves", Some("ana@acme.test"), false, false),
        ("U0OLD", "olaf", "Olaf Old", Some("olaf@acme.test"), true, false),
        ("USLACKBOT", "slackbot", "Slackbot", None, false, true),
    ];
    for (id, name, real_name, email, deleted, is_bot) in people {
        let user = User {
            id: id.to_owned(),
            name: name.to_owned(),
            real_name: real_name.to_owned(),
            email: email.map(str::to_owned),
            deleted,
            is_bot,
            status: if id == "U0ANN" { "on-call".to_owned() } else { String::new() },
        };
        store.users.insert(id.to_owned(), user);
    }
    let created = now.as_second() - 86_400;
    let all = [BOT_USER, "U0ANN", "U0BOB", "U0ANA"];
    let channels = [
        ("C0GENERAL", "general", Sort::Public, &all[..], false),
        ("C0OPS", "ops", Sort::Public, &all[..3], false),
        ("C0RANDOM", "random", Sort::Public, &all[1..], false),
        ("C0OLD", "old-project", Sort::Public, &all[..2], true),
        ("C0TEAM", "team-private", Sort::Private, &all[..2], false),
        ("C0SECRET", "secret", Sort::Private, &all[1..2], false),
    ];
    for (id, name, sort, members, archived) in channels {
        let mut channel = Channel::new(id, name, sort, "U0ANN", created);
        channel.members = members.iter().map(|id| (*id).to_owned()).collect();
        channel.archived = archived;
        if id == "C0OPS" {
            channel.topic = Said { value: "on-call: Ann".into(), creator: "U0ANN".into(), last_set: created };
        }
        store.channels.insert(id.to_owned(), channel);
    }
    let talk = [("C0GENERAL", "U0ANN", "welcome"), ("C0OPS", "U0ANN", "deploy?"), ("C0OPS", "U0BOB", "deploy done"), ("C0RANDOM", "U0ANA", "lunch?")];
    let mut at = u64::try_from(now.as_second() - 3600).unwrap_or_default() * 1_000_000;
    for (channel, user, text) in talk {
        at += 60_000_100;
        if let Some(channel) = store.channels.get_mut(channel) {
            channel.messages.insert(at, said(user, text));
        }
    }
    store
}

/// A message somebody wrote.
pub(super) fn said(user: &str, text: &str) -> Message {
    let mut body = json!({"type": "message", "user": user, "text": text, "team": super::TEAM});
    if user == BOT_USER {
        body["bot_id"] = BOT.into();
        body["app_id"] = APP.into();
    }
    Message { user: user.to_owned(), body, metadata: None, parent: None, broadcast: false, reactions: Vec::new(), only_for: None }
}
