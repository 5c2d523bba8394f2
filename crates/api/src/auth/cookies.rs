//! The two cookies of the web page: the refresh token, and the mark of a browser that has signed in before.
//!
//! Both are out of reach of scripts, go nowhere but to this very host over TLS, and with no request that another site
//! caused. API clients need neither.

use axum::http::{HeaderMap, HeaderValue, header};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use polyphony_platform::{secrets::Pepper, vault};

use crate::error::ApiError;

/// The refresh token. The prefix makes browsers insist on `Secure`, on `Path=/` and on this very host.
const REFRESH: &str = "__Host-polyphony-refresh";
/// The mark of a known browser.
const DEVICE: &str = "__Host-polyphony-device";
/// Label of the marks' authentication.
const DEVICE_LABEL: &str = "device-cookie";
/// How long a browser stays known.
const DEVICE_SECONDS: u64 = 365 * 86_400;

fn set(headers: &mut HeaderMap, name: &str, value: &str, seconds: u64) {
    let cookie = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; Secure; SameSite=Strict");
    if let Ok(mut cookie) = HeaderValue::from_str(&cookie) {
        cookie.set_sensitive(true);
        headers.append(header::SET_COOKIE, cookie);
    }
}

fn get(headers: &HeaderMap, name: &str) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(given, _)| *given == name).map(|(_, value)| value.to_owned())
}

/// Hands out a refresh token.
pub fn set_refresh(headers: &mut HeaderMap, token: &str, seconds: u64) {
    set(headers, REFRESH, token, seconds);
}

/// Takes the refresh token back, if the caller has one.
pub fn clear_refresh(request: &HeaderMap, response: &mut HeaderMap) {
    if get(request, REFRESH).is_some() {
        set(response, REFRESH, "", 0);
    }
}

/// The refresh token that a browser sends.
///
/// # Errors
/// `FORBIDDEN` when the browser says that another site made it send this. `SameSite` holds such cookies back anyway;
/// this is the second lock.
pub fn refresh(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let site = headers.get("sec-fetch-site").and_then(|site| site.to_str().ok());
    if site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return Err(ApiError::forbidden("another site asked for this"));
    }
    Ok(get(headers, REFRESH).filter(|token| !token.is_empty()))
}

fn mark(pepper: &Pepper, email_index: &[u8; 32], id: &str) -> String {
    let text = format!("{}.{id}", hex::encode(email_index));
    URL_SAFE_NO_PAD.encode(pepper.blind_index(DEVICE_LABEL, &text))
}

/// Marks a browser as known to an account.
pub fn set_device(headers: &mut HeaderMap, pepper: &Pepper, email_index: &[u8; 32]) {
    let id = vault::random_token("");
    let value = format!("{id}.{}", mark(pepper, email_index, &id));
    set(headers, DEVICE, &value, DEVICE_SECONDS);
}

/// The hash of the id of a browser that is known to this account.
pub fn device(headers: &HeaderMap, pepper: &Pepper, email_index: &[u8; 32]) -> Option<[u8; 32]> {
    let value = get(headers, DEVICE)?;
    let (id, given) = value.split_once('.')?;
    // Hashes are compared, not the marks: how long it takes tells nothing of them.
    let is_ours = vault::token_hash(given) == vault::token_hash(&mark(pepper, email_index, id));
    is_ours.then(|| vault::token_hash(id))
}

#[cfg(test)]
mod tests {
    use polyphony_platform::secrets::Secrets;

    use super::*;

    fn sent_back(response: &HeaderMap) -> HeaderMap {
        let mut request = HeaderMap::new();
        for cookie in response.get_all(header::SET_COOKIE) {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            request.append(header::COOKIE, HeaderValue::from_str(&format!("a=b; {pair}")).unwrap());
        }
        request
    }

    #[test]
    fn a_refresh_cookie_is_for_this_host_and_no_script() {
        let mut response = HeaderMap::new();
        set_refresh(&mut response, "rt_1", 60);
        let cookie = response[header::SET_COOKIE].to_str().unwrap().to_owned();
        assert_eq!(cookie, "__Host-polyphony-refresh=rt_1; Path=/; Max-Age=60; HttpOnly; Secure; SameSite=Strict");
        let mut request = sent_back(&response);
        assert_eq!(refresh(&request).unwrap().as_deref(), Some("rt_1"));
        request.insert("sec-fetch-site", HeaderValue::from_static("cross-site"));
        assert!(refresh(&request).is_err());
    }

    #[test]
    fn a_browser_is_known_to_its_own_account_only() {
        let pepper = Secrets::parse(&Secrets::generate_toml()).unwrap().pepper;
        let mut response = HeaderMap::new();
        set_device(&mut response, &pepper, &[1; 32]);
        let request = sent_back(&response);
        assert!(device(&request, &pepper, &[1; 32]).is_some());
        assert!(device(&request, &pepper, &[2; 32]).is_none());
        let mut forged = HeaderMap::new();
        forged.insert(header::COOKIE, HeaderValue::from_str(&format!("{DEVICE}=AAAA.AAAA")).unwrap());
        assert!(device(&forged, &pepper, &[1; 32]).is_none());
    }
}
