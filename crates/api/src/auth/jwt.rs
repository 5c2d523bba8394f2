//! Access tokens: HS256 and nothing else, every claim required, keys by id from the ring.

use chrono::Utc;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use polyphony_domain::ids::{AccountId, DeviceId};
use polyphony_platform::secrets::JwtRing;
use serde::{Deserialize, Serialize};

use crate::error::ApiError;

const ISSUER: &str = "polyphony";
const AUDIENCE: &str = "polyphony-api";
/// Marks the token's use, so that no other signed thing passes for one.
const TYPE: &str = "at+jwt";

/// How far the clocks of nodes may be apart.
const LEEWAY_SECONDS: u64 = 5;

/// What a token says.
#[derive(Debug, Serialize, Deserialize)]
pub struct Claims {
    pub sub: AccountId,
    pub sid: DeviceId,
    iat: i64,
    exp: i64,
    iss: String,
    aud: String,
}

/// Why a token doesn't count.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    Expired,
    Invalid,
}

/// Issues a token; returns it with its life in seconds.
pub fn issue(ring: &JwtRing, account: AccountId, device: DeviceId, minutes: u32) -> Result<(String, i64), ApiError> {
    let (kid, key) = ring.signing();
    let life = i64::from(minutes) * 60;
    let now = Utc::now().timestamp();
    let claims =
        Claims { sub: account, sid: device, iat: now, exp: now + life, iss: ISSUER.into(), aud: AUDIENCE.into() };
    let header = Header { kid: Some(kid), typ: Some(TYPE.into()), ..Header::new(Algorithm::HS256) };
    let token = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(key)).map_err(ApiError::internal)?;
    Ok((token, life))
}

/// Checks a token.
pub fn verify(ring: &JwtRing, token: &str) -> Result<Claims, Refused> {
    let header = jsonwebtoken::decode_header(token).map_err(|_| Refused::Invalid)?;
    if header.typ.as_deref() != Some(TYPE) {
        return Err(Refused::Invalid);
    }
    let key = header.kid.as_deref().and_then(|kid| ring.verifying(kid)).ok_or(Refused::Invalid)?;
    let mut validation = Validation::new(Algorithm::HS256);
    validation.leeway = LEEWAY_SECONDS;
    // We issue none, but a token with one means it.
    validation.validate_nbf = true;
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    validation.set_required_spec_claims(&["exp", "sub", "iss", "aud"]);
    jsonwebtoken::decode::<Claims>(token, &DecodingKey::from_secret(key), &validation)
        .map(|decoded| decoded.claims)
        .map_err(|error| if *error.kind() == ErrorKind::ExpiredSignature { Refused::Expired } else { Refused::Invalid })
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use polyphony_platform::secrets::Secrets;
    use serde_json::{Value, json};

    use super::*;

    fn forge(ring: &JwtRing, algorithm: Algorithm, change: impl FnOnce(&mut Header, &mut Value)) -> String {
        let (kid, key) = ring.signing();
        let mut header = Header { kid: Some(kid), typ: Some(TYPE.into()), ..Header::new(algorithm) };
        let now = Utc::now().timestamp();
        let mut claims = json!({
            "sub": AccountId::default(), "sid": DeviceId::default(), "iat": now, "exp": now + 60, "iss": ISSUER, "aud": AUDIENCE,
        });
        change(&mut header, &mut claims);
        jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(key)).unwrap()
    }

    #[test]
    fn only_an_unchanged_token_counts() {
        let ring = Secrets::parse(&Secrets::generate_toml()).unwrap().jwt;
        let (token, _) = issue(&ring, AccountId::default(), DeviceId::default(), 15).unwrap();
        assert!(verify(&ring, &token).is_ok());
        assert!(verify(&ring, &forge(&ring, Algorithm::HS256, |_, _| {})).is_ok());
        let other = Secrets::parse(&Secrets::generate_toml()).unwrap().jwt;
        let mut wrong = vec![issue(&other, AccountId::default(), DeviceId::default(), 15).unwrap().0];
        wrong.push(forge(&ring, Algorithm::HS384, |_, _| {}));
        wrong.push(forge(&ring, Algorithm::HS256, |header, _| header.kid = Some("../../dev/null".into())));
        wrong.push(forge(&ring, Algorithm::HS256, |header, _| header.kid = None));
        wrong.push(forge(&ring, Algorithm::HS256, |header, _| header.typ = Some("JWT".into())));
        for (claim, value) in [
            ("exp", json!("9999999999")),
            ("exp", Value::Null),
            ("aud", json!("other")),
            ("iss", json!("other")),
            ("sub", json!(7)),
            ("sid", Value::Null),
            ("iat", json!("1")),
            ("nbf", json!("0")),
            ("nbf", json!(Utc::now().timestamp() + 3_600)),
            ("exp", json!(9_999_999_999.5)),
            ("exp", json!(-1)),
            ("aud", Value::Null),
            ("iss", json!(["polyphony", "other"])),
        ] {
            wrong.push(forge(&ring, Algorithm::HS256, |_, claims| claims[claim] = value));
        }
        let unsigned = token.rsplit_once('.').unwrap().0.to_owned() + ".";
        wrong.push(unsigned);
        wrong.push("eyJhbGciOiJub25lIn0.e30.".into());
        for claim in ["exp", "iat", "sub", "sid", "aud", "iss"] {
            wrong.push(forge(&ring, Algorithm::HS256, |_, claims| drop(claims.as_object_mut().unwrap().remove(claim))));
        }
        for algorithm in ["none", "None", "nOnE", "RS256", "HS512", "ES256"] {
            let header = json!({"alg": algorithm, "typ": TYPE, "kid": ring.signing().0});
            let header = URL_SAFE_NO_PAD.encode(header.to_string());
            let (_, rest) = token.split_once('.').unwrap();
            let (claims, signature) = rest.split_once('.').unwrap();
            wrong.extend([format!("{header}.{claims}."), format!("{header}.{claims}.{signature}")]);
        }
        for token in wrong {
            assert!(verify(&ring, &token).is_err(), "{token}");
        }
        let late = forge(&ring, Algorithm::HS256, |_, claims| claims["exp"] = json!(1));
        assert_eq!(verify(&ring, &late).err(), Some(Refused::Expired));
    }
}
