//! Values as text, because Upstash's commands are JSON: as they are where they are UTF-8, which most replies are, else in base64.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;

/// Bytes as text that tells what it is by its first letter.
pub(crate) fn encode(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => format!("u{text}"),
        Err(_) => format!("b{}", STANDARD_NO_PAD.encode(bytes)),
    }
}

/// The way back. `None`: it was not written by [`encode`].
pub(crate) fn decode(text: &[u8]) -> Option<Bytes> {
    match text.split_first()? {
        (b'u', text) => Some(Bytes::copy_from_slice(text)),
        (b'b', text) => STANDARD_NO_PAD.decode(text).ok().map(Bytes::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        for bytes in [&b""[..], b"{\"a\": \"\xc3\xa4\"}", b"\xff\x00\xfe", b"b", b"u"] {
            assert_eq!(decode(encode(bytes).as_bytes()).as_deref(), Some(bytes));
        }
        assert_eq!((decode(b""), decode(b"x"), decode(b"b*")), (None, None, None));
    }
}
