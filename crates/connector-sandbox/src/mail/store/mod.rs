//! The accounts and their mailboxes. It knows UIDs, flags, modification sequences and what vanished; it refuses to speak a protocol. In the
//! Gmail mode a label is a mailbox and a labelled message is a copy in it: copies share their octets, their flags and their Gmail ids.

mod account;
mod mailbox;

pub(crate) use account::{Account, Change};
pub(crate) use mailbox::{Mailbox, Message};

use std::collections::BTreeMap;

/// All accounts.
#[derive(Debug, Default)]
pub(crate) struct Store {
    accounts: BTreeMap<String, Account>,
}

impl Store {
    pub(crate) fn add(&mut self, address: &str, account: Account) {
        self.accounts.insert(address.to_owned(), account);
    }

    pub(crate) fn account(&self, address: &str) -> Option<&Account> {
        self.accounts.get(address)
    }

    pub(crate) fn account_mut(&mut self, address: &str) -> Option<&mut Account> {
        self.accounts.get_mut(address)
    }
}
