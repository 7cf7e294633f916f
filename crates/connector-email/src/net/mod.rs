//! Below the protocols: where a connection goes, its socket, its TLS.

pub(crate) mod socket;
pub(crate) mod tls;

pub(crate) use socket::{Dial, Socket};
