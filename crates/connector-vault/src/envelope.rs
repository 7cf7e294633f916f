//! The envelope: one sealed value with its wrapped data key, in bytes.
//!
//! ```text
//! magic "CNV" 3 · format 1 · length of key id 1 · key id · length of wrapped key 2 · wrapped key · nonce 12 · length of ciphertext 4 · ciphertext with tag
//! ```
//!
//! Owns the format and what it is bound to. Lengths are big-endian and all are checked; there is nothing after the ciphertext. Refuses to
//! know where envelopes are kept and which keys there are.

use connector_core::{Error, Result};
use zeroize::Zeroizing;

use crate::{
    aead::{self, NONCE, TAG},
    key::{Binding, DataKey, MasterKey},
};

/// What an envelope starts with.
const MAGIC: &[u8; 3] = b"CNV";
/// The format this code writes, and the only one it reads.
const FORMAT: u8 = 1;
/// The longest key id.
pub(crate) const MAX_KEY_ID: usize = 32;
/// The longest wrapped data key. A key service that answers with more is not one.
pub(crate) const MAX_WRAPPED: usize = 4096;
/// The longest plaintext.
pub(crate) const MAX_PLAIN: usize = 1 << 20;

/// A parsed envelope. Holds nothing secret: everything in it is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope<'a> {
    key_id: &'a str,
    wrapped: &'a [u8],
    nonce: &'a [u8; NONCE],
    ciphertext: &'a [u8],
}

fn damaged(what: &str) -> Error {
    Error::invalid(format!("the envelope is damaged: {what}"))
}

/// Takes the first `len` bytes off.
fn take<'a>(rest: &mut &'a [u8], len: usize, what: &str) -> Result<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(len).ok_or_else(|| damaged(&format!("it ends inside the {what}")))?;
    *rest = left;
    Ok(taken)
}

fn array<'a, const N: usize>(rest: &mut &'a [u8], what: &str) -> Result<&'a [u8; N]> {
    let (taken, left) = rest.split_first_chunk::<N>().ok_or_else(|| damaged(&format!("it ends inside the {what}")))?;
    *rest = left;
    Ok(taken)
}

impl<'a> Envelope<'a> {
    /// Reads an envelope.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Invalid`] with the part that is wrong, if it is cut, too long, of another format or not an envelope at all.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut rest = bytes;
        if array::<3>(&mut rest, "first bytes")? != MAGIC {
            return Err(damaged("it does not start like one"));
        }
        let [format] = array(&mut rest, "format")?;
        if *format != FORMAT {
            return Err(damaged(&format!("format {format} is not known, only {FORMAT}; a newer version may have written it")));
        }
        let [len] = array(&mut rest, "length of the key id")?;
        if !(1..=MAX_KEY_ID).contains(&usize::from(*len)) {
            return Err(damaged("the key id has an impossible length"));
        }
        let key_id = take(&mut rest, usize::from(*len), "key id")?;
        let key_id = std::str::from_utf8(key_id).ok().filter(|id| is_key_id(id)).ok_or_else(|| damaged("the key id is not one"))?;
        let len = usize::from(u16::from_be_bytes(*array(&mut rest, "length of the wrapped key")?));
        if !(1..=MAX_WRAPPED).contains(&len) {
            return Err(damaged("the wrapped key has an impossible length"));
        }
        let wrapped = take(&mut rest, len, "wrapped key")?;
        let nonce = array(&mut rest, "nonce")?;
        let len = u32::from_be_bytes(*array(&mut rest, "length of the ciphertext")?) as usize;
        if !(TAG..=MAX_PLAIN + TAG).contains(&len) {
            return Err(damaged("the ciphertext has an impossible length"));
        }
        let ciphertext = take(&mut rest, len, "ciphertext")?;
        if !rest.is_empty() {
            return Err(damaged("something follows the ciphertext"));
        }
        Ok(Self { key_id, wrapped, nonce, ciphertext })
    }

    /// The envelope as bytes, as [`Envelope::parse`] reads them.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MAGIC.len() + 8 + NONCE + self.key_id.len() + self.wrapped.len() + self.ciphertext.len());
        out.extend_from_slice(MAGIC);
        out.push(FORMAT);
        // `seal` and `parse` are the only ways to make one, and both hold the lengths to these types.
        out.push(u8::try_from(self.key_id.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(self.key_id.as_bytes());
        out.extend_from_slice(&u16::try_from(self.wrapped.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend_from_slice(self.wrapped);
        out.extend_from_slice(self.nonce);
        out.extend_from_slice(&u32::try_from(self.ciphertext.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(self.ciphertext);
        out
    }

    /// The id of the master key it is sealed under.
    pub fn key_id(&self) -> &'a str {
        self.key_id
    }

    /// Opens it with the master key it names.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Invalid`] if it is not the envelope that was sealed for exactly this binding; whatever
    /// [`MasterKey::unwrap`] reports.
    pub async fn open(&self, key: &dyn MasterKey, binding: &Binding<'_>) -> Result<Zeroizing<Vec<u8>>> {
        if binding.key_id != self.key_id || key.id() != self.key_id {
            return Err(damaged("it names another master key"));
        }
        let data = key.unwrap(self.wrapped, binding).await?;
        aead::open(&data, self.nonce, &binding.associated(PAYLOAD), self.ciphertext)
            .ok_or_else(|| damaged("its ciphertext, or what it is bound to (tenant, credential, field, version, key), was changed"))
    }

    /// Seals `plain` under a data key of its own, wrapped by `key`, and gives the envelope's bytes.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Invalid`] if `plain` is longer than 1 MiB; whatever [`MasterKey::wrap`] reports.
    pub async fn seal(key: &dyn MasterKey, binding: &Binding<'_>, plain: &[u8]) -> Result<Vec<u8>> {
        if binding.key_id != key.id() || !is_key_id(binding.key_id) {
            return Err(Error::internal("an envelope must be bound to the id of its master key"));
        }
        if plain.len() > MAX_PLAIN {
            return Err(Error::invalid(format!("too long to be sealed: {} bytes, at most {MAX_PLAIN}", plain.len())));
        }
        let data: DataKey = aead::random()?;
        let wrapped = key.wrap(&data, binding).await?;
        if wrapped.is_empty() || wrapped.len() > MAX_WRAPPED {
            return Err(Error::protocol(format!("the master key `{}` answered with a wrapped key of {} bytes", key.id(), wrapped.len())));
        }
        let nonce = aead::random()?;
        let ciphertext = aead::seal(&data, &nonce, &binding.associated(PAYLOAD), plain)?;
        Ok(Envelope { key_id: binding.key_id, wrapped: &wrapped, nonce: &nonce, ciphertext: &ciphertext }.to_bytes())
    }
}

/// Tags the associated data of payloads.
const PAYLOAD: &str = "connectors vault payload v1";
/// Tags the associated data of wrapped data keys.
pub(crate) const DATA_KEY: &str = "connectors vault data key v1";

/// Whether this can be a master key's id: `[a-z0-9_-]{1,32}`.
pub(crate) fn is_key_id(id: &str) -> bool {
    (1..=MAX_KEY_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'))
}

impl Binding<'_> {
    /// The binding as associated data: each part after its length, so that no two bindings give the same bytes.
    pub(crate) fn associated(&self, tag: &str) -> Vec<u8> {
        let version = self.version.to_be_bytes();
        let parts =
            [tag.as_bytes(), self.tenant.as_str().as_bytes(), self.credential.as_bytes(), self.field.as_bytes(), &version, self.key_id.as_bytes()];
        let mut out = Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum());
        for part in parts {
            out.extend_from_slice(&(part.len() as u64).to_be_bytes());
            out.extend_from_slice(part);
        }
        out
    }
}
