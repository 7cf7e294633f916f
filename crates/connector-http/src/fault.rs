//! What went wrong on the wire, in our error classes.
//!
//! Owns the mapping of HTTP client errors. Refuses URLs: the client's errors carry the full URL, with whatever is in its query.

use std::error::Error as StdError;
use std::io;

use connector_core::{
    error::{Error, ErrorKind, Retry},
    redact::printable,
};

use crate::egress::Blocked;

/// An error of sending the request or waiting for the head of the answer.
pub(crate) fn sending(error: reqwest::Error, host: &str) -> Error {
    let error = error.without_url();
    if let Some(blocked) = find::<Blocked>(&error) {
        return blocked.clone().into_error();
    }
    if let Some(own) = find::<Error>(&error) {
        // A streamed request body failed; its own class says more than ours would.
        return own.clone();
    }
    let mapped = if error.is_connect() {
        let certificate = matches!(find::<rustls::Error>(&error), Some(rustls::Error::InvalidCertificate(_)));
        let what = if error.is_timeout() { "timed out".to_owned() } else { root_cause(&error) };
        let mapped = Error::new(ErrorKind::NotSent, format!("could not connect to the vendor: {what}"));
        // A certificate does not get better by asking again.
        if certificate { mapped.with_retry(Retry::Never) } else { mapped }
    } else if error.is_timeout() {
        Error::new(ErrorKind::Timeout, "the vendor did not answer in time")
    } else if error.is_builder() {
        Error::invalid("the request could not be built").with_retry(Retry::Never)
    } else {
        Error::new(ErrorKind::Transient, format!("the connection failed before the vendor answered: {}", root_cause(&error)))
    };
    mapped.with_context("host", printable(host, 120)).with_source(error)
}

/// An error of reading the body of an answer.
pub(crate) fn reading(error: reqwest::Error) -> Error {
    let error = error.without_url();
    if error.is_timeout() {
        return Error::new(ErrorKind::Timeout, "the vendor's answer stopped arriving").with_source(error);
    }
    let garbled = find::<io::Error>(&error).is_some_and(|io| matches!(io.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput));
    if garbled {
        return Error::protocol("the vendor's answer could not be decompressed").with_source(error);
    }
    Error::new(ErrorKind::Transient, format!("the connection failed while the vendor's answer was read: {}", root_cause(&error))).with_source(error)
}

/// The first error of this type among the causes. `io::Error` hides what it wraps from `source`, so it is opened here.
fn find<'e, T: StdError + 'static>(error: &'e (dyn StdError + 'static)) -> Option<&'e T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = wrapped(error);
    }
    None
}

fn wrapped<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

/// The innermost cause as text: "connection refused" rather than "error sending request".
fn root_cause(error: &(dyn StdError + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = wrapped(cause) {
        cause = inner;
    }
    printable(&cause.to_string(), 200)
}
