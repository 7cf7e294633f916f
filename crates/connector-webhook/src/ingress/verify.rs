//! What is looked at before and while the proof is checked: size, headers, encoding, and who gets which refusal.

use connector_core::{
    error::{Error, ErrorKind},
    webhook::RawWebhook,
};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

use super::{IngressLimits, Outcome};

/// Whether the delivery is too big or packed, before anything is computed over it.
pub(super) fn admissible(request: &RawWebhook<'_>, limits: &IngressLimits) -> Result<(), Outcome> {
    if request.body.len() > limits.body {
        return Err(Outcome::TooLarge);
    }
    let bytes: usize = request.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if request.headers.len() > limits.headers || bytes > limits.header_bytes {
        return Err(Outcome::HeadersTooLarge);
    }
    // A packed body could be a bomb, and the signature is over the packed bytes at some vendors and the unpacked ones at others.
    if request.headers.get_all(CONTENT_ENCODING).iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Outcome::Encoded);
    }
    Ok(())
}

/// Whether the body says that it is JSON or of one of these kinds, or says nothing.
pub(super) fn is_read(request: &RawWebhook<'_>, besides: &[&str]) -> bool {
    let Some(value) = request.headers.get(CONTENT_TYPE) else { return true };
    let Ok(text) = value.to_str() else { return false };
    let kind = text.split(';').next().unwrap_or_default().trim();
    let is = |known: &str| kind.eq_ignore_ascii_case(known);
    let tree = || {
        let (start, end) = ("application/", "+json");
        kind.len() > start.len() + end.len()
            && kind.get(..start.len()).is_some_and(|text| text.eq_ignore_ascii_case(start))
            && kind.get(kind.len() - end.len()..).is_some_and(|text| text.eq_ignore_ascii_case(end))
    };
    is("application/json") || is("text/json") || tree() || besides.iter().any(|known| is(known))
}

/// What a failed verification means for the sender.
pub(super) fn refused(error: &Error) -> Outcome {
    match error.kind() {
        ErrorKind::Denied => match error.context_value("reason") {
            Some("missing") => Outcome::MissingProof,
            Some("malformed") => Outcome::MalformedProof,
            Some("stale") => Outcome::Stale,
            _ => Outcome::WrongProof,
        },
        ErrorKind::Invalid | ErrorKind::Protocol => Outcome::Invalid,
        // Ours to repair; the vendor should keep the event and try again.
        _ => Outcome::Misconfigured,
    }
}
