//! Tokens for OAUTHBEARER, out of a file: a JWT that something else keeps fresh (a projected service-account token, a sidecar).
//!
//! Only what the protocol needs is looked at: whose it is and how long it lasts. Whether it is good is the broker's to say.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rdkafka::client::OAuthToken;
use serde::Deserialize;

/// Largest file read, in bytes. Tokens have a few KiB.
const MAX_TOKEN_BYTES: u64 = 64 * 1024;

/// What is read of a JWT's claims (RFC 7519 §4.1). Times are seconds since the epoch, with or without a fraction.
#[derive(Default, Deserialize)]
pub(super) struct Claims {
    pub(super) sub: Option<String>,
    pub(super) exp: Option<f64>,
}

/// The token in `file`, for use at `now_ms`.
///
/// # Errors
/// When the file holds no token that lasts. The sentence never quotes the token.
pub(super) fn read(file: &Path, now_ms: i64) -> Result<OAuthToken, String> {
    let named = |what: &str| format!("KAFKA_SASL_OAUTHBEARER_TOKEN_FILE: {}: {what}", file.display());
    let size = std::fs::metadata(file).map_err(|error| named(&error.to_string()))?.len();
    if size > MAX_TOKEN_BYTES {
        return Err(named(&format!("{size} bytes are no token")));
    }
    let text = std::fs::read_to_string(file).map_err(|error| named(&error.to_string()))?;
    parse(text.trim(), now_ms).map_err(|error| named(&error))
}

fn parse(token: &str, now_ms: i64) -> Result<OAuthToken, String> {
    let claims = claims(token)?;
    let principal = claims.sub.filter(|sub| !sub.is_empty()).ok_or("the JWT has no claim sub")?;
    let expires = claims.exp.ok_or("the JWT has no claim exp, so nobody knows how long it lasts")?;
    let lifetime_ms = milliseconds(expires);
    if lifetime_ms <= now_ms {
        let ago = (now_ms - lifetime_ms) / 1000;
        return Err(format!("the JWT expired {ago} s ago; whatever writes the file has not renewed it"));
    }
    usable(token, principal, lifetime_ms)
}

/// The token, if the protocol can carry it.
pub(super) fn usable(token: &str, principal: String, lifetime_ms: i64) -> Result<OAuthToken, String> {
    if principal.contains('\0') || token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("it holds characters that no token has".to_owned());
    }
    Ok(OAuthToken { token: token.to_owned(), principal_name: principal, lifetime_ms })
}

/// The claims of a JWT.
pub(super) fn claims(token: &str) -> Result<Claims, String> {
    let mut parts = token.split('.');
    let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err("no JWT: expected three parts separated by dots".to_owned());
    };
    // The padding that some writers add is no part of the encoding.
    let claims = URL_SAFE_NO_PAD
        .decode(claims.trim_end_matches('='))
        .map_err(|_| "no JWT: its claims are not base64url".to_owned())?;
    serde_json::from_slice(&claims)
        .map_err(|error| format!("no JWT: its claims cannot be read (column {} of their JSON)", error.column()))
}

/// Seconds as milliseconds.
#[expect(clippy::cast_possible_truncation, reason = "a time beyond i64 saturates, which is far in the future")]
pub(super) fn milliseconds(seconds: f64) -> i64 {
    (seconds * 1000.0) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_773_653_400_000;

    fn jwt(claims: &str) -> String {
        format!("{}.{}.c2lnbmF0dXJl", URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256"}"#), URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn a_tokens_principal_and_end_are_read_from_its_claims() {
        let file = tempfile::NamedTempFile::new().expect("file");
        for (claims, lifetime_ms) in [
            (r#"{"sub":"worker","exp":1773657000,"aud":["kafka"]}"#, 1_773_657_000_000),
            (r#"{"exp":1773657000.5,"sub":"worker"}"#, 1_773_657_000_500),
        ] {
            std::fs::write(file.path(), jwt(claims) + "\n").expect("written");
            let token = read(file.path(), NOW_MS).expect(claims);
            assert_eq!((token.principal_name.as_str(), token.lifetime_ms), ("worker", lifetime_ms));
            assert_eq!(token.token, jwt(claims));
        }
    }

    #[test]
    fn what_is_no_usable_token_is_refused_without_quoting_it() {
        for (token, expected) in [
            ("opaque-secret".to_owned(), "three parts"),
            ("a.b.c.d".to_owned(), "three parts"),
            ("se?cret.se?cret.se?cret".to_owned(), "base64url"),
            (jwt("secret"), "claims"),
            (jwt(r#"{"sub":"secret"}"#), "no claim exp"),
            (jwt(r#"{"exp":1773657000}"#), "no claim sub"),
            (jwt(r#"{"sub":"secret","exp":1773653399}"#), "expired 1 s ago"),
            (jwt(r#"{"sub":"worker","exp":1773657000}"#) + " x", "characters"),
        ] {
            let error = parse(&token, NOW_MS).err().unwrap_or_else(|| panic!("{token} was taken"));
            assert!(error.contains(expected) && !error.contains("secret"), "{token}: {error}");
        }
        let error = read(Path::new("/no/such/token"), NOW_MS).err().expect("no file");
        assert!(error.contains("KAFKA_SASL_OAUTHBEARER_TOKEN_FILE: /no/such/token"), "{error}");
    }
}
