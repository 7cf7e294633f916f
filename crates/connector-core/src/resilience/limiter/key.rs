//! What shares a quota, as a key that can be looked up without being built.

use std::{
    borrow::Borrow,
    hash::{Hash, Hasher},
};

use crate::context::{ConnectionId, TenantId};

/// Tenant, connection and value of a parameter, as far as the class tells them apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct GateKey {
    pub(super) tenant: Option<TenantId>,
    pub(super) connection: Option<ConnectionId>,
    pub(super) param: Option<Box<str>>,
}

/// The same, borrowed.
pub(super) type View<'a> = (Option<&'a str>, Option<&'a str>, Option<&'a str>);

/// A key, owned or borrowed. Both hash and compare alike, which is what lets one stand for the other in a map.
pub(super) trait Viewed {
    fn view(&self) -> View<'_>;
}

impl Viewed for GateKey {
    fn view(&self) -> View<'_> {
        (self.tenant.as_ref().map(TenantId::as_str), self.connection.as_ref().map(ConnectionId::as_str), self.param.as_deref())
    }
}

impl Viewed for View<'_> {
    fn view(&self) -> View<'_> {
        *self
    }
}

impl Hash for GateKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.view().hash(state);
    }
}

impl Hash for dyn Viewed + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.view().hash(state);
    }
}

impl PartialEq for dyn Viewed + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.view() == other.view()
    }
}

impl Eq for dyn Viewed + '_ {}

impl<'a> Borrow<dyn Viewed + 'a> for GateKey {
    fn borrow(&self) -> &(dyn Viewed + 'a) {
        self
    }
}
