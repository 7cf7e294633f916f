//! The marked secrets, one of each kind, and every form in which each might turn up somewhere.
//!
//! Half of them look like tokens (long, letters and digits), half like what people choose (short, letters only): a search for
//! things that look like keys finds only the first.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The shortest text that is looked for.
const SHORTEST: usize = 8;
/// How long a piece of a secret must be to count as a part of it.
const PART: usize = 12;

/// A kind of secret, as the table shows it.
pub(crate) type Kind = &'static str;

/// Where a needle was found.
#[derive(Debug, Clone)]
pub(crate) struct Hit {
    pub(crate) kind: Kind,
    pub(crate) form: &'static str,
    pub(crate) count: usize,
    /// What stands around the first one; the needle itself is not shown.
    pub(crate) around: String,
}

/// All that is looked for.
#[derive(Debug, Default)]
pub(crate) struct Needles {
    list: Vec<Needle>,
    /// Needles by their first eight bytes.
    by_start: HashMap<[u8; SHORTEST], Vec<usize>>,
    /// One bit for each hash of eight bytes that a needle starts with: most places are dismissed by it.
    filter: Vec<u64>,
    kinds: BTreeSet<Kind>,
}

#[derive(Debug)]
struct Needle {
    kind: Kind,
    form: &'static str,
    bytes: Vec<u8>,
}

const FILTER_BITS: usize = 1 << 16;

impl Needles {
    /// Adds a secret with all its forms.
    pub(crate) fn add(&mut self, kind: Kind, secret: &str) {
        self.kinds.insert(kind);
        let mut forms: Vec<(&'static str, Vec<u8>)> = vec![("raw", secret.into())];
        for shift in 0..3 {
            for (form, text) in [("base64", base64_inner(&STANDARD, secret, shift)), ("base64url", base64_inner(&URL_SAFE_NO_PAD, secret, shift))] {
                forms.push((form, text.into()));
            }
        }
        forms.push(("hex", hex::encode(secret).into()));
        forms.push(("hex", hex::encode_upper(secret).into()));
        for bytes in [secret.as_bytes().iter().map(|byte| format!("%{byte:02X}")).collect::<String>(), percent(secret, FORM), percent(secret, PATH)] {
            forms.push(("percent", bytes.into()));
        }
        let quoted = serde_json::Value::from(secret).to_string();
        let escaped = quoted.trim_matches('"').to_owned();
        forms.push(("json", serde_json::Value::from(escaped.clone()).to_string().trim_matches('"').into()));
        forms.push(("json", escaped.into()));
        forms.push(("debug", format!("{secret:?}").trim_matches('"').into()));
        for part in secret.as_bytes().chunks(PART).filter(|part| part.len() == PART) {
            forms.push(("part", part.into()));
        }
        for shard in secret.as_bytes().chunks(SHORTEST).filter(|shard| shard.len() == SHORTEST) {
            forms.push(("reversed", shard.iter().rev().copied().collect()));
        }
        // The first name that a form goes by is the one that is shown: most of them are the raw text for most secrets.
        let mut seen = BTreeSet::new();
        for (form, bytes) in forms {
            if bytes.len() >= SHORTEST && seen.insert(bytes.clone()) {
                self.push(Needle { kind, form, bytes });
            }
        }
    }

    fn push(&mut self, needle: Needle) {
        let Some(start) = needle.bytes.first_chunk::<SHORTEST>().copied() else { return };
        if self.filter.is_empty() {
            self.filter = vec![0; FILTER_BITS / 64];
        }
        let bit = bit(start);
        self.filter[bit / 64] |= 1 << (bit % 64);
        self.by_start.entry(start).or_default().push(self.list.len());
        self.list.push(needle);
    }

    /// The kinds, in the order of the alphabet.
    pub(crate) fn kinds(&self) -> &BTreeSet<Kind> {
        &self.kinds
    }

    /// How many texts are looked for.
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Everything of this that stands in `hay`. Where a whole secret stands, its parts are not counted again.
    pub(crate) fn find(&self, hay: &[u8]) -> Vec<Hit> {
        let mut hits: BTreeMap<(Kind, &'static str), Hit> = BTreeMap::new();
        if self.filter.is_empty() {
            return Vec::new();
        }
        let mut at = 0;
        while let Some(start) = hay.get(at..).and_then(<[u8]>::first_chunk::<SHORTEST>) {
            let bit = bit(*start);
            if self.filter[bit / 64] & (1 << (bit % 64)) != 0
                && let Some(longest) = self.longest_at(hay, at, start)
            {
                let hit = hits.entry((longest.kind, longest.form)).or_insert_with(|| Hit {
                    kind: longest.kind,
                    form: longest.form,
                    count: 0,
                    around: around(hay, at, longest.bytes.len()),
                });
                hit.count += 1;
                at += longest.bytes.len();
            } else {
                at += 1;
            }
        }
        hits.into_values().collect()
    }

    fn longest_at(&self, hay: &[u8], at: usize, start: &[u8; SHORTEST]) -> Option<&Needle> {
        let candidates = self.by_start.get(start)?.iter().map(|index| &self.list[*index]);
        candidates.filter(|needle| hay[at..].starts_with(&needle.bytes)).max_by_key(|needle| needle.bytes.len())
    }
}

fn bit(start: [u8; SHORTEST]) -> usize {
    let hash = u64::from_le_bytes(start).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    usize::try_from(hash >> 48).unwrap_or(0) % FILTER_BITS
}

fn around(hay: &[u8], at: usize, length: usize) -> String {
    const SIDE: usize = 140;
    let before = String::from_utf8_lossy(&hay[at.saturating_sub(SIDE)..at]).into_owned();
    let after = String::from_utf8_lossy(&hay[(at + length).min(hay.len())..(at + length + SIDE / 2).min(hay.len())]).into_owned();
    format!("{before}<<HERE>>{after}").chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// What an encoder makes of the secret when it stands `shift` bytes after the start of a block, without what depends on its neighbours.
fn base64_inner(engine: &impl base64::Engine, secret: &str, shift: usize) -> String {
    let padded = [vec![0; shift], secret.as_bytes().to_vec()].concat();
    let text = engine.encode(&padded);
    let text = text.trim_end_matches('=');
    let start = (shift * 8).div_ceil(6);
    let end = padded.len() * 8 / 6;
    text.get(start..end).unwrap_or_default().to_owned()
}

/// What a form leaves as it is.
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'*');
/// What a path leaves as it is.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

fn percent(text: &str, set: &'static AsciiSet) -> String {
    utf8_percent_encode(text, set).to_string()
}

/// A secret as machines make them: letters and digits.
pub(crate) fn token(prefix: &str, length: usize) -> String {
    format!("{prefix}{}", std::iter::repeat_with(fastrand::alphanumeric).take(length).collect::<String>())
}

/// A secret as people choose them: a few letters, nothing that looks like a key.
pub(crate) fn human(length: usize) -> String {
    std::iter::repeat_with(fastrand::lowercase).take(length).collect()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;

    fn found(needles: &Needles, hay: &str) -> Vec<&'static str> {
        needles.find(hay.as_bytes()).into_iter().map(|hit| hit.form).collect()
    }

    #[test]
    fn every_form_is_found_and_nothing_else() {
        let secret = r#"pa"ss/wo+rd\qzjxkwvb"#;
        let mut needles = Needles::default();
        needles.add("password", secret);
        assert_eq!(found(&needles, "nothing of the kind, at all, anywhere in this text"), Vec::<&str>::new());
        assert_eq!(found(&needles, &format!("x={secret}")), ["raw"]);
        for user in ["", "a", "ab", "abc"] {
            assert_eq!(found(&needles, &STANDARD.encode(format!("{user}{secret}:"))), ["base64"], "{user}");
        }
        assert_eq!(found(&needles, &hex::encode(secret)), ["hex"]);
        assert_eq!(found(&needles, &serde_json::to_string(secret).unwrap()), ["json"]);
        assert_eq!(found(&needles, &serde_json::to_string(&serde_json::to_string(secret).unwrap()).unwrap()), ["json"]);
        assert_eq!(found(&needles, "client_secret=pa%22ss%2Fwo%2Brd%5Cqzjxkwvb&"), ["percent"]);
        assert_eq!(found(&needles, &secret[..15]), ["part"]);
        assert_eq!(found(&needles, &secret[8..16].chars().rev().collect::<String>()), ["reversed"]);
    }
}
