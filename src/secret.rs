//! Secrets: signing keys and admin tokens. Nothing here prints what it holds; an error says what is wrong with a
//! secret without repeating it.

use std::fmt;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, KeyInit};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The key sizes that Svix itself makes and accepts, in bytes (24 by default, up to 75).
const KEY_BYTES_USUAL: std::ops::RangeInclusive<usize> = 24..=75;

/// Standard alphabet; padding optional and stray trailing bits allowed, as the reference libraries accept them.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A short fingerprint of a secret: the first 4 bytes of its SHA-256. Tells which secret matched, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SecretId(pub [u8; 4]);

impl fmt::Display for SecretId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

/// Why a text is no signing secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSecret {
    /// Nothing but blanks, quotes or the prefix.
    #[error("the signing secret is empty")]
    Empty,
    /// `v1,whsec_…`: a signature's version tag in front of the secret.
    #[error("the signing secret starts with `v1,`: give it from `whsec_` on")]
    Versioned,
    /// `whsec_whsec_…`.
    #[error("the signing secret has the prefix `whsec_` twice")]
    DoublePrefix,
    /// `whsk_…` or `whpk_…`.
    #[error("this is an ed25519 key; Clerk signs with a shared secret that starts with `whsec_`")]
    Asymmetric,
    /// `-` or `_` inside.
    #[error(
        "the signing secret is in the url-safe alphabet (`-`, `_`); copy it again from Clerk's dashboard"
    )]
    UrlSafe,
    /// Anything else that base64 does not allow.
    #[error(
        "the signing secret is not base64 (stray character or cut short); copy it again from Clerk's dashboard"
    )]
    NotBase64,
}

/// What is odd about a secret that still works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OddSecret {
    /// Blanks or quotes around it were dropped.
    #[error("blanks or quotes around the signing secret were dropped")]
    Trimmed,
    /// Not a key size that Svix makes.
    #[error("the signing secret has {0} bytes; Svix makes 24 to 75")]
    Size(usize),
    /// The last base64 character carries bits that are dropped.
    #[error(
        "the last character of the signing secret has stray bits, which are dropped: was it copied whole?"
    )]
    StrayBits,
}

/// A key that Clerk signs with, or that we sign with. `Debug` shows only its fingerprint.
#[derive(Clone)]
pub struct SigningSecret {
    mac: Hmac<Sha256>,
    id: SecretId,
    text: String,
}

impl SigningSecret {
    /// Reads `whsec_…` (the prefix may be missing). Blanks and matching quotes around it are dropped, missing padding
    /// is accepted; what else is odd about it is told beside it.
    ///
    /// # Errors
    /// [`BadSecret`], which never repeats the text.
    pub fn parse(text: &str) -> Result<(Self, Vec<OddSecret>), BadSecret> {
        let bare = unquote(text);
        let mut odd = Vec::new();
        if bare != text {
            odd.push(OddSecret::Trimmed);
        }
        if bare.starts_with("v1,") {
            return Err(BadSecret::Versioned);
        }
        if bare.starts_with("whsk_") || bare.starts_with("whpk_") {
            return Err(BadSecret::Asymmetric);
        }
        let encoded = bare.strip_prefix("whsec_").unwrap_or(bare);
        if encoded.starts_with("whsec_") {
            return Err(BadSecret::DoublePrefix);
        }
        if encoded.contains(['-', '_']) {
            // A placeholder such as `whsec_your_secret` has these too, and wants another hint.
            let standard = LENIENT.decode(encoded.replace('-', "+").replace('_', "/"));
            let is_key = standard.is_ok_and(|key| KEY_BYTES_USUAL.contains(&key.len()));
            return Err(if is_key { BadSecret::UrlSafe } else { BadSecret::NotBase64 });
        }
        let key = LENIENT.decode(encoded).map_err(|_| BadSecret::NotBase64)?;
        if key.is_empty() {
            return Err(BadSecret::Empty);
        }
        if LENIENT.encode(&key).trim_end_matches('=') != encoded.trim_end_matches('=') {
            odd.push(OddSecret::StrayBits);
        }
        if !KEY_BYTES_USUAL.contains(&key.len()) {
            odd.push(OddSecret::Size(key.len()));
        }
        Ok((Self::from_key(&key), odd))
    }

    /// A secret with these key bytes.
    pub fn from_key(key: &[u8]) -> Self {
        let digest = Sha256::digest(key);
        Self {
            mac: Hmac::new_from_slice(key).expect("HMAC takes a key of any length"),
            id: SecretId([digest[0], digest[1], digest[2], digest[3]]),
            text: format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(key)),
        }
    }

    /// The fingerprint.
    pub fn id(&self) -> SecretId {
        self.id
    }

    /// A MAC keyed with this secret, its key schedule already done.
    pub fn mac(&self) -> Hmac<Sha256> {
        self.mac.clone()
    }

    /// `whsec_…` as text, for handing to another program or library. Never log it.
    pub fn expose(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningSecret({})", self.id)
    }
}

impl PartialEq for SigningSecret {
    fn eq(&self, other: &Self) -> bool {
        self.text.as_bytes().ct_eq(other.text.as_bytes()).into()
    }
}

fn unquote(text: &str) -> &str {
    let trimmed = text.trim();
    ['"', '\'']
        .iter()
        .find_map(|&quote| trimmed.strip_prefix(quote)?.strip_suffix(quote))
        .map_or(trimmed, str::trim)
}

/// An admin token itself, for the commands that talk to a relay. `Debug` shows nothing of it.
#[derive(Clone)]
pub struct AdminSecret(String);

impl AdminSecret {
    /// The token `text` is, without the blanks around it; `None` where it cannot be sent as a bearer token (RFC 6750,
    /// section 2.1).
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let is_token =
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b));
        is_token.then(|| Self(text.to_owned()))
    }

    /// The token as text, for sending it. Never log it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AdminSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminSecret(…)")
    }
}

/// An admin token, kept as its SHA-256 only.
#[derive(Clone)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// The digest of `token`.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// The digest written as 64 hex digits, in either case; `None` for anything else.
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(digest))
    }

    /// The digest's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether `token` is the one, in constant time.
    pub fn matches(&self, token: &str) -> bool {
        self.0.ct_eq(&Self::of(token).0).into()
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(…)")
    }
}
