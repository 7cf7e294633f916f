//! Message authentication codes: computing them over pieces, reading them, comparing them in constant time.

use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use connector_manifest::model::{MacAlgorithm, MacEncoding};
use hmac::{Hmac, KeyInit as _, Mac as _};
use subtle::{Choice, ConstantTimeEq as _};

/// How many signatures of one delivery are tried.
pub const MAX_SIGNATURES: usize = 10;
/// A longer signature header is not read at all.
pub(crate) const MAX_HEADER: usize = 4096;

/// Standard alphabet, with or without padding.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&base64::alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// The code over the pieces, one after the other.
pub(crate) fn compute(algorithm: MacAlgorithm, key: &[u8], pieces: &[&[u8]]) -> Vec<u8> {
    macro_rules! mac {
        ($digest:ty) => {{
            let mut mac = Hmac::<$digest>::new_from_slice(key).expect("HMAC takes keys of any length");
            pieces.iter().for_each(|piece| mac.update(piece));
            mac.finalize().into_bytes().to_vec()
        }};
    }
    match algorithm {
        MacAlgorithm::HmacSha1 => mac!(sha1::Sha1),
        MacAlgorithm::HmacSha256 => mac!(sha2::Sha256),
        MacAlgorithm::HmacSha512 => mac!(sha2::Sha512),
    }
}

/// Reads a signature; `None` if it is not written that way.
pub(crate) fn decode(encoding: MacEncoding, text: &str) -> Option<Vec<u8>> {
    match encoding {
        MacEncoding::Hex => hex::decode(text).ok(),
        MacEncoding::Base64 => BASE64.decode(text).ok(),
    }
}

/// Whether any of the signatures is any of the codes. Looks at all of them, whatever it finds.
pub(crate) fn any_equal(signatures: &[Vec<u8>], codes: &[Vec<u8>]) -> bool {
    let mut found = Choice::from(0);
    for signature in signatures {
        for code in codes {
            found |= signature.ct_eq(code);
        }
    }
    found.into()
}
