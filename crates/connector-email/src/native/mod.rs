//! The operations of the manifest: what each does with sessions and messages.

mod drafts;
mod folders;
mod marking;
mod moving;
mod reading;
mod sending;
mod show;
mod targets;
mod verify;

use std::sync::Arc;

use async_trait::async_trait;
use connector_core::{CallCx, Error, OpCall, OpReply, Result, connector::ItemError};
use connector_manifest::{
    Engine, Hooks, NativeOperation,
    engine::{Authorization, RenderedRequest},
};
use lettre::message::Mailbox;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    imap::{
        mailbox::Folder,
        names::Purpose,
        pool::{Lease, Pool},
        session::Session,
    },
    mail::address,
    settings::Settings,
};

/// The operations by the names the manifest gives them.
const OPERATIONS: [(&str, Operation); 42] = [
    ("list_folders", Operation::ListFolders),
    ("create_folder", Operation::CreateFolder),
    ("rename_folder", Operation::RenameFolder),
    ("delete_folder", Operation::DeleteFolder),
    ("folder_status", Operation::FolderStatus),
    ("get_quota", Operation::Quota),
    ("read_inbox", Operation::ReadInbox),
    ("list_messages", Operation::ListMessages),
    ("search", Operation::Search),
    ("get_message", Operation::GetMessage),
    ("get_headers", Operation::GetHeaders),
    ("get_raw_message", Operation::GetRaw),
    ("list_attachments", Operation::ListAttachments),
    ("get_attachment", Operation::GetAttachment),
    ("get_thread", Operation::GetThread),
    ("find_message", Operation::FindMessage),
    ("set_flags", Operation::SetFlags),
    ("mark_read", Operation::Mark("+", "\\Seen")),
    ("mark_unread", Operation::Mark("-", "\\Seen")),
    ("star", Operation::Mark("+", "\\Flagged")),
    ("unstar", Operation::Mark("-", "\\Flagged")),
    ("label", Operation::Label(true)),
    ("unlabel", Operation::Label(false)),
    ("list_labels", Operation::ListLabels),
    ("move", Operation::Move),
    ("copy", Operation::Copy),
    ("archive", Operation::MoveTo(Purpose::Archive)),
    ("trash", Operation::MoveTo(Purpose::Trash)),
    ("report_spam", Operation::MoveTo(Purpose::Junk)),
    ("not_spam", Operation::MoveTo(Purpose::Inbox)),
    ("delete", Operation::Delete),
    ("send", Operation::Send),
    ("reply", Operation::Reply(false)),
    ("reply_all", Operation::Reply(true)),
    ("forward", Operation::Forward),
    ("draft", Operation::Draft),
    ("update_draft", Operation::UpdateDraft),
    ("send_draft", Operation::SendDraft),
    ("delete_draft", Operation::DeleteDraft),
    ("list_drafts", Operation::ListDrafts),
    ("verify", Operation::Verify),
    ("server_info", Operation::ServerInfo),
];

#[derive(Debug, Clone, Copy)]
enum Operation {
    ListFolders,
    CreateFolder,
    RenameFolder,
    DeleteFolder,
    FolderStatus,
    Quota,
    ReadInbox,
    ListMessages,
    Search,
    GetMessage,
    GetHeaders,
    GetRaw,
    ListAttachments,
    GetAttachment,
    GetThread,
    FindMessage,
    SetFlags,
    Mark(&'static str, &'static str),
    Label(bool),
    ListLabels,
    Move,
    Copy,
    MoveTo(Purpose),
    Delete,
    Send,
    Reply(bool),
    Forward,
    Draft,
    UpdateDraft,
    SendDraft,
    DeleteDraft,
    ListDrafts,
    Verify,
    ServerInfo,
}

/// An operation over the sessions that all of them share.
#[derive(Debug)]
struct Native {
    operation: Operation,
    pool: Arc<Pool>,
}

/// The hooks over one pool.
pub(crate) fn hooks(pool: &Arc<Pool>) -> Hooks {
    OPERATIONS.into_iter().fold(Hooks::new(), |hooks, (name, operation)| hooks.native(name, Native { operation, pool: pool.clone() }))
}

/// What an operation gives.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    value: Value,
    partial: Vec<ItemError>,
    reconciled: bool,
}

impl From<Value> for Outcome {
    fn from(value: Value) -> Self {
        Self { value, ..Self::default() }
    }
}

#[async_trait]
impl NativeOperation for Native {
    async fn call(&self, engine: &Engine, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let mail = Mail { engine, cx, settings: Settings::of(cx)?, pool: &self.pool, call: &call };
        let outcome = match self.operation {
            Operation::ListFolders => mail.list_folders().await,
            Operation::CreateFolder => mail.create_folder().await,
            Operation::RenameFolder => mail.rename_folder().await,
            Operation::DeleteFolder => mail.delete_folder().await,
            Operation::FolderStatus => mail.folder_status().await,
            Operation::Quota => mail.quota().await,
            Operation::ReadInbox | Operation::ListMessages | Operation::Search | Operation::ListDrafts => mail.list(self.operation).await,
            Operation::GetMessage => mail.get_message().await,
            Operation::GetHeaders => mail.get_headers().await,
            Operation::GetRaw => mail.get_raw().await,
            Operation::ListAttachments => mail.list_attachments().await,
            Operation::GetAttachment => mail.get_attachment().await,
            Operation::GetThread => mail.get_thread().await,
            Operation::FindMessage => mail.find_message().await,
            Operation::SetFlags => mail.set_flags().await,
            Operation::Mark(how, flag) => mail.mark(how, flag).await,
            Operation::Label(add) => mail.label(add).await,
            Operation::ListLabels => mail.list_labels().await,
            Operation::Move => mail.move_or_copy(true).await,
            Operation::Copy => mail.move_or_copy(false).await,
            Operation::MoveTo(purpose) => mail.move_to(purpose).await,
            Operation::Delete => mail.delete().await,
            Operation::Send => mail.send().await,
            Operation::Reply(all) => mail.reply(all).await,
            Operation::Forward => mail.forward().await,
            Operation::Draft => mail.draft().await,
            Operation::UpdateDraft => mail.update_draft().await,
            Operation::SendDraft => mail.send_draft().await,
            Operation::DeleteDraft => mail.delete_draft().await,
            Operation::Verify => mail.verify().await,
            Operation::ServerInfo => mail.server_info().await,
        }?;
        let mut reply = OpReply::from_value(outcome.value, call.decode)?;
        reply.partial = outcome.partial;
        reply.meta.reconciled = outcome.reconciled;
        Ok(reply)
    }

    fn show(&self, cx: &CallCx, call: &OpCall) -> Result<Option<RenderedRequest>> {
        self.operation.show(cx, call).map(Some)
    }
}

/// One call at work.
#[derive(Debug, Clone)]
pub(crate) struct Mail<'a> {
    engine: &'a Engine,
    cx: &'a CallCx,
    settings: Settings,
    pool: &'a Pool,
    call: &'a OpCall,
}

impl Mail<'_> {
    /// The arguments as `T`; an absent one and a null one mean the same.
    fn args<T: DeserializeOwned>(&self) -> Result<T> {
        let given = self.call.args.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.clone(), value.clone())).collect();
        serde_json::from_value(Value::Object(given))
            .map_err(|error| Error::invalid(format!("the arguments of `{}` do not fit together", self.call.operation)).with_source(error))
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.call.args.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    fn required(&self, name: &str) -> Result<&str> {
        self.text(name).ok_or_else(|| Error::invalid(format!("`{}` needs `{name}`", self.call.operation)))
    }

    fn flag(&self, name: &str) -> bool {
        self.call.args.get(name).and_then(Value::as_bool).unwrap_or_default()
    }

    /// A session.
    async fn lease(&self) -> Result<Lease> {
        self.pool.lease(self.engine, self.cx, &self.settings).await
    }

    /// Who we are: the connection's address, or the user name where that is one.
    async fn sender(&self) -> Result<Option<Mailbox>> {
        let address = match (&self.settings.address, self.engine.authorization(self.cx).await?.0) {
            (Some(address), _) => address.clone(),
            (None, Authorization::Password { username, .. }) if username.contains('@') => username,
            _ => return Ok(None),
        };
        let mut mailbox = address::mailbox(&address, "address")?;
        mailbox.name.clone_from(&self.settings.display_name);
        Ok(Some(mailbox))
    }
}

/// The folder a word means: `sent`, `drafts`, `trash`, `archive`, `junk`, `all` by their purpose, `inbox` always, anything else by its name.
async fn folder_named(session: &mut Session, name: &str) -> Result<String> {
    if name.eq_ignore_ascii_case("inbox") {
        return Ok("INBOX".to_owned());
    }
    let purposes =
        [Purpose::All, Purpose::Archive, Purpose::Drafts, Purpose::Flagged, Purpose::Important, Purpose::Junk, Purpose::Sent, Purpose::Trash];
    match purposes.into_iter().find(|purpose| purpose.word() == name) {
        Some(purpose) => folder_for(session, purpose).await,
        None => Ok(name.to_owned()),
    }
}

/// The folder with this purpose.
async fn folder_for(session: &mut Session, purpose: Purpose) -> Result<String> {
    if purpose == Purpose::Inbox {
        return Ok("INBOX".to_owned());
    }
    let folders = session.folders().await?;
    find(&folders, purpose).ok_or_else(|| {
        let message = format!("this mailbox has no folder for `{}`; create one, or name the folder", purpose.word());
        Error::new(connector_core::ErrorKind::NotFound, message)
    })
}

/// The folder with this purpose among those listed; `\All` serves where there is no archive, as on Gmail.
fn find(folders: &[Folder], purpose: Purpose) -> Option<String> {
    let of = |purpose: Purpose| folders.iter().find(|folder| folder.purpose == Some(purpose) && folder.selectable).map(|folder| folder.name.clone());
    of(purpose).or_else(|| if purpose == Purpose::Archive { of(Purpose::All) } else { None })
}
