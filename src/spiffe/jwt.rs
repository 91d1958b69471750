//! Whether a JWT-SVID is to be believed: who signed it, for whom, until when, and who its subject is. `ring` checks the
//! signature; nothing here asks anybody.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, EcdsaVerificationAlgorithm, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384,
    RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use spiffe::{JwtBundle, SpiffeId};

/// Why a token proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("it is no JWT-SVID: {0}")]
    Malformed(&'static str),
    #[error("its subject is of another trust domain")]
    ForeignTrustDomain,
    #[error("the trust domain has no key of its key id")]
    UnknownKey,
    #[error("its signature is not that of the trust domain")]
    Signature,
    #[error("it is for somebody else")]
    Audience,
    #[error("it has expired, or does not count yet")]
    Time,
}

/// No other fields: what a critical one would ask for is not known here.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: String,
    #[serde(default)]
    typ: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    aud: Audience,
    exp: f64,
    #[serde(default)]
    nbf: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// A key of a bundle.
#[derive(Deserialize)]
#[serde(tag = "kty")]
enum Key {
    #[serde(rename = "EC")]
    Ec { crv: String, x: String, y: String },
    #[serde(rename = "RSA")]
    Rsa { n: String, e: String },
}

enum Algorithm {
    Ec(&'static str, &'static EcdsaVerificationAlgorithm),
    Rsa(&'static RsaParameters),
}

/// The algorithms of the standard that `ring` has; ES512 it has not.
fn algorithm(name: &str) -> Option<Algorithm> {
    Some(match name {
        "ES256" => Algorithm::Ec("P-256", &ECDSA_P256_SHA256_FIXED),
        "ES384" => Algorithm::Ec("P-384", &ECDSA_P384_SHA384_FIXED),
        "RS256" => Algorithm::Rsa(&RSA_PKCS1_2048_8192_SHA256),
        "RS384" => Algorithm::Rsa(&RSA_PKCS1_2048_8192_SHA384),
        "RS512" => Algorithm::Rsa(&RSA_PKCS1_2048_8192_SHA512),
        "PS256" => Algorithm::Rsa(&RSA_PSS_2048_8192_SHA256),
        "PS384" => Algorithm::Rsa(&RSA_PSS_2048_8192_SHA384),
        "PS512" => Algorithm::Rsa(&RSA_PSS_2048_8192_SHA512),
        _ => return None,
    })
}

/// Whether it looks like a JWT at all: other bearer tokens have no such header.
pub(crate) fn is_jwt(token: &str) -> bool {
    token.split_once('.').is_some_and(|(header, _)| part::<Header>(header).is_some())
}

/// Who presents the token, at `now` in epoch seconds.
///
/// # Errors
/// Why it proves nothing.
pub(crate) fn verify(token: &str, bundle: &JwtBundle, audience: &str, now: f64) -> Result<SpiffeId, TokenError> {
    let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed("it has no signature"))?;
    let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed("it has no claims"))?;
    let header: Header = part(header).ok_or(TokenError::Malformed("its header is not one"))?;
    if header.typ.is_some_and(|typ| typ != "JWT" && typ != "JOSE") {
        return Err(TokenError::Malformed("its type is another one"));
    }
    let claims: Claims = part(claims).ok_or(TokenError::Malformed("sub, aud or exp is missing"))?;
    let subject = SpiffeId::new(&claims.sub).map_err(|_| TokenError::Malformed("its subject is no SPIFFE id"))?;
    if !subject.is_member_of(bundle.trust_domain()) {
        return Err(TokenError::ForeignTrustDomain);
    }
    let key = bundle.find_jwt_authority(&header.kid).ok_or(TokenError::UnknownKey)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::Signature)?;
    if !is_signed(&header.alg, key.jwk_json(), signed.as_bytes(), &signature) {
        return Err(TokenError::Signature);
    }
    let meant = match &claims.aud {
        Audience::One(one) => one == audience,
        Audience::Several(several) => several.iter().any(|one| one == audience),
    };
    if !meant {
        return Err(TokenError::Audience);
    }
    // A number that is none compares to nothing.
    let counts = now < claims.exp && claims.nbf.is_none_or(|from| from <= now);
    if counts { Ok(subject) } else { Err(TokenError::Time) }
}

fn part<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

/// The algorithm must be one of the key's kind: a key is never taken for one of another kind.
fn is_signed(name: &str, key: &[u8], signed: &[u8], signature: &[u8]) -> bool {
    let Ok(key) = serde_json::from_slice::<Key>(key) else { return false };
    let decoded = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
    match (algorithm(name), key) {
        (Some(Algorithm::Ec(curve, algorithm)), Key::Ec { crv, x, y }) if crv == curve => {
            let (Some(x), Some(y)) = (decoded(&x), decoded(&y)) else { return false };
            // An uncompressed point.
            let point = [&[4], &*x, &*y].concat();
            UnparsedPublicKey::new(algorithm, point).verify(signed, signature).is_ok()
        }
        (Some(Algorithm::Rsa(parameters)), Key::Rsa { n, e }) => {
            let (Some(n), Some(e)) = (decoded(&n), decoded(&e)) else { return false };
            RsaPublicKeyComponents { n, e }.verify(parameters, signed, signature).is_ok()
        }
        _ => false,
    }
}

#[cfg(all(test, feature = "dev-stack"))]
mod tests {
    use serde_json::{Value, json};
    use spiffe::JwtBundle;

    use super::*;
    use crate::test_workload_api::TrustDomain;

    const NOW: f64 = 1_000_000.0;
    const WORKER: &str = "worker-agents.td";

    fn bundle(domain: &TrustDomain) -> JwtBundle {
        let name = spiffe::TrustDomain::new("td").expect("a name");
        JwtBundle::from_jwt_authorities(name, &domain.key_set()).expect("a key set")
    }

    fn header(domain: &TrustDomain) -> Value {
        json!({ "alg": "ES256", "kid": domain.key_id() })
    }

    fn claims() -> Value {
        json!({ "sub": "spiffe://td/caller", "aud": [WORKER], "exp": 1_000_060 })
    }

    fn with(mut object: Value, field: &str, value: Value) -> Value {
        object[field] = value;
        object
    }

    #[test]
    fn inc_31_a_token_proves_its_subject_when_all_of_it_is_right() {
        let domain = TrustDomain::new("td");
        for claims in [
            claims(),
            with(claims(), "aud", json!(WORKER)),
            with(claims(), "aud", json!(["other", WORKER])),
            with(claims(), "exp", json!(1_000_000.5)),
            with(claims(), "nbf", json!(1_000_000)),
            with(claims(), "iss", json!("whoever")),
        ] {
            let token = domain.sign(&header(&domain), &claims);
            let caller = verify(&token, &bundle(&domain), WORKER, NOW).map(|id| id.to_string());
            assert_eq!(caller.as_deref(), Ok("spiffe://td/caller"), "{claims}");
            assert!(is_jwt(&token));
        }
    }

    #[test]
    fn inc_31_a_token_of_which_anything_is_wrong_proves_nothing() {
        let (domain, other) = (TrustDomain::new("td"), TrustDomain::new("td"));
        let good = domain.sign(&header(&domain), &claims());
        let (signed, signature) = good.rsplit_once('.').expect("three parts");
        let replaced = domain.sign(&header(&domain), &with(claims(), "sub", json!("spiffe://td/other")));
        let (other_signed, _) = replaced.rsplit_once('.').expect("three parts");
        let unsigned = |alg: &str| {
            let header = URL_SAFE_NO_PAD.encode(with(header(&domain), "alg", json!(alg)).to_string());
            format!("{header}.{}.", signed.split_once('.').expect("two parts").1)
        };
        let of = |field: &str, value: Value| domain.sign(&header(&domain), &with(claims(), field, value));
        let headed = |field: &str, value: Value| domain.sign(&with(header(&domain), field, value), &claims());
        for (why, token, error) in [
            ("nothing", String::new(), TokenError::Malformed("it has no signature")),
            ("a word", "token".to_owned(), TokenError::Malformed("it has no signature")),
            ("two parts", signed.to_owned(), TokenError::Malformed("it has no claims")),
            ("no base64", "%.%.%".to_owned(), TokenError::Malformed("its header is not one")),
            ("no algorithm", unsigned("none"), TokenError::Signature),
            ("an algorithm of secrets", unsigned("HS256"), TokenError::Signature),
            ("another kind of key", headed("alg", json!("RS256")), TokenError::Signature),
            ("another curve", headed("alg", json!("ES384")), TokenError::Signature),
            ("a critical header", headed("crit", json!(["exp"])), TokenError::Malformed("its header is not one")),
            ("another type", headed("typ", json!("at+jwt")), TokenError::Malformed("its type is another one")),
            ("an unknown key", headed("kid", json!("no such")), TokenError::UnknownKey),
            ("another's key under the key's id", other.sign(&header(&domain), &claims()), TokenError::Signature),
            ("another's claims", format!("{other_signed}.{signature}"), TokenError::Signature),
            ("half a signature", good[..good.len() - 20].to_owned(), TokenError::Signature),
            ("another audience", of("aud", json!(["vault.td"])), TokenError::Audience),
            ("the audience and more", of("aud", json!("worker-agents.td.evil")), TokenError::Audience),
            ("no audience", of("aud", json!([])), TokenError::Audience),
            ("an end that has come", of("exp", json!(1_000_000)), TokenError::Time),
            ("a beginning to come", of("nbf", json!(1_000_001)), TokenError::Time),
            ("no end", of("exp", Value::Null), TokenError::Malformed("sub, aud or exp is missing")),
            ("an end in words", of("exp", json!("never")), TokenError::Malformed("sub, aud or exp is missing")),
            ("a foreign subject", of("sub", json!("spiffe://other/caller")), TokenError::ForeignTrustDomain),
            ("no SPIFFE id", of("sub", json!("caller")), TokenError::Malformed("its subject is no SPIFFE id")),
        ] {
            assert_eq!(verify(&token, &bundle(&domain), WORKER, NOW), Err(error), "{why}");
        }
    }

    #[test]
    fn rsa_is_checked_as_rfc_7515_has_it() {
        // Appendix A.2.
        let key = r#"{"kty":"RSA","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}"#;
        let signed = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let signature = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
        let mut signature = URL_SAFE_NO_PAD.decode(signature).expect("base64");
        assert!(is_signed("RS256", key.as_bytes(), signed.as_bytes(), &signature));
        for other in ["RS384", "PS256", "ES256", "none"] {
            assert!(!is_signed(other, key.as_bytes(), signed.as_bytes(), &signature), "{other}");
        }
        signature[0] ^= 1;
        assert!(!is_signed("RS256", key.as_bytes(), signed.as_bytes(), &signature));
    }
}
