//! Adding and taking off categories without losing others. A PATCH replaces the whole list, so this reads, changes, and writes only if the
//! message is still the one it read. <https://learn.microsoft.com/graph/api/message-update>

use std::time::Duration;

use async_trait::async_trait;
use connector_core::{CallCx, ErrorKind, OpCall, OpReply, Result};
use connector_manifest::{Engine, NativeOperation};
use serde::Deserialize;
use serde_json::json;

use super::args::{arguments, mailbox, pause, text};

/// How often a message that others change meanwhile is read again.
const TRIES: u32 = 5;

/// The native operations.
#[derive(Debug)]
pub(crate) enum Categories {
    /// `msgraph_add_categories`.
    Add,
    /// `msgraph_remove_categories`.
    Remove,
}

#[derive(Deserialize)]
struct Args {
    user: Option<String>,
    message_id: String,
    categories: Vec<String>,
}

impl Categories {
    /// The list it shall be; `None` if it is that already. Outlook compares categories without case.
    fn change(&self, have: &[String], named: &[String]) -> Option<Vec<String>> {
        let holds = |list: &[String], one: &str| list.iter().any(|known| known.to_lowercase() == one.to_lowercase());
        let mut want = have.to_vec();
        match self {
            Self::Add => {
                for one in named {
                    if !holds(&want, one) {
                        want.push(one.clone());
                    }
                }
            }
            Self::Remove => want.retain(|one| !holds(named, one)),
        }
        (want != have).then_some(want)
    }
}

#[async_trait]
impl NativeOperation for Categories {
    async fn call(&self, engine: &Engine, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let args: Args = arguments(&call)?;
        let user = mailbox(cx, args.user.as_deref())?;
        let mut tries = 0;
        loop {
            tries += 1;
            let read = json!({ "user": user, "message_id": args.message_id, "select": ["id", "categories"] });
            let message = engine.call_value(cx, "msgraph_get_message", read).await?;
            let have: Vec<String> =
                message["categories"].as_array().into_iter().flatten().filter_map(|one| one.as_str().map(str::to_owned)).collect();
            let Some(want) = self.change(&have, &args.categories) else { return OpReply::from_value(message, call.decode) };
            let write = json!({ "user": user, "message_id": args.message_id, "categories": want, "if_match": text(&message, "@odata.etag") });
            match engine.call_value(cx, "msgraph_set_categories", write).await {
                Ok(message) => return OpReply::from_value(message, call.decode),
                Err(error) if error.kind() == ErrorKind::Conflict && tries < TRIES => {
                    pause(cx, Duration::from_millis(100 * u64::from(tries))).await?
                }
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_changes() {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let have = list(&["Gold", "Ticketed"]);
        assert_eq!(Categories::Add.change(&have, &list(&["ticketed"])), None);
        assert_eq!(Categories::Add.change(&have, &list(&["New", "NEW"])), Some(list(&["Gold", "Ticketed", "New"])));
        assert_eq!(Categories::Remove.change(&have, &list(&["GOLD", "x"])), Some(list(&["Ticketed"])));
        assert_eq!(Categories::Remove.change(&have, &list(&["x"])), None);
    }
}
