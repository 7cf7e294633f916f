//! Names of mailboxes: modified UTF-7 (RFC 3501 §5.1.3), and which folder serves which purpose (RFC 6154).

use base64::{
    Engine as _,
    alphabet::IMAP_MUTF7,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &IMAP_MUTF7,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

/// A name as a server of IMAP4rev1 writes it. `INBOX` is spelt one way.
pub(crate) fn encode(name: &str) -> String {
    if name.eq_ignore_ascii_case("INBOX") {
        return "INBOX".to_owned();
    }
    let mut out = String::with_capacity(name.len());
    let mut shifted: Vec<u8> = Vec::new();
    let flush = |shifted: &mut Vec<u8>, out: &mut String| {
        if !shifted.is_empty() {
            out.push('&');
            out.push_str(&ENGINE.encode(&*shifted));
            out.push('-');
            shifted.clear();
        }
    };
    for c in name.chars() {
        if matches!(c, ' '..='~') {
            flush(&mut shifted, &mut out);
            out.push(c);
            if c == '&' {
                out.push('-');
            }
        } else {
            shifted.extend(c.encode_utf16(&mut [0; 2]).iter().flat_map(|unit| unit.to_be_bytes()));
        }
    }
    flush(&mut shifted, &mut out);
    out
}

/// A name as people read it. What is not modified UTF-7 (a server of IMAP4rev2 sends UTF-8) stays as it is.
pub(crate) fn decode(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let Some((shifted, next)) = after.split_once('-') else { return name.to_owned() };
        if shifted.is_empty() {
            out.push('&');
        } else {
            let units: Option<Vec<u16>> =
                ENGINE.decode(shifted).ok().map(|bytes| bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect());
            match units.and_then(|units| String::from_utf16(&units).ok()) {
                Some(text) => out.push_str(&text),
                None => return name.to_owned(),
            }
        }
        rest = next;
    }
    out.push_str(rest);
    out
}

/// What a folder is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    Inbox,
    All,
    Archive,
    Drafts,
    Flagged,
    Important,
    Junk,
    Sent,
    Trash,
}

impl Purpose {
    /// As the API writes it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Inbox => "inbox",
            Self::All => "all",
            Self::Archive => "archive",
            Self::Drafts => "drafts",
            Self::Flagged => "flagged",
            Self::Important => "important",
            Self::Junk => "junk",
            Self::Sent => "sent",
            Self::Trash => "trash",
        }
    }

    /// By its attribute.
    pub(crate) fn of_attribute(attribute: &str) -> Option<Self> {
        let all = [Self::All, Self::Archive, Self::Drafts, Self::Flagged, Self::Important, Self::Junk, Self::Sent, Self::Trash];
        let word = attribute.strip_prefix('\\')?;
        all.into_iter().find(|purpose| purpose.word().eq_ignore_ascii_case(word))
    }

    /// By its name, where the server gives no attributes.
    pub(crate) fn of_name(last: &str) -> Option<Self> {
        Some(match last.to_ascii_lowercase().as_str() {
            "archive" | "archives" => Self::Archive,
            "drafts" => Self::Drafts,
            "junk" | "spam" | "junk e-mail" | "bulk mail" => Self::Junk,
            "sent" | "sent items" | "sent messages" | "sent mail" => Self::Sent,
            "trash" | "deleted items" | "deleted messages" => Self::Trash,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_examples_of_the_rfc_hold() {
        // RFC 3501 §5.1.3.
        assert_eq!(decode("~peter/mail/&U,BTFw-/&ZeVnLIqe-"), "~peter/mail/\u{53f0}\u{5317}/\u{65e5}\u{672c}\u{8a9e}");
        assert_eq!(encode("~peter/mail/\u{53f0}\u{5317}/\u{65e5}\u{672c}\u{8a9e}"), "~peter/mail/&U,BTFw-/&ZeVnLIqe-");
        assert_eq!((encode("Q&A"), decode("Q&-A")), ("Q&-A".to_owned(), "Q&A".to_owned()));
        assert_eq!(encode("inbox"), "INBOX");
        for odd in ["a&b", "&!!-", "Entw\u{fc}rfe"] {
            assert_eq!(decode(odd), odd);
        }
    }

    proptest! {
        #[test]
        fn names_survive(name in any::<String>()) {
            prop_assume!(!name.eq_ignore_ascii_case("inbox"));
            let encoded = encode(&name);
            prop_assert!(encoded.is_ascii());
            prop_assert_eq!(decode(&encoded), name);
        }
    }
}
