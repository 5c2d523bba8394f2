//! Pictures and documents as the SDKs write them.

use base64::{Engine, engine::general_purpose::STANDARD};
use polyphony_domain::content::{Media, MediaSource, Part};

use crate::error::ApiError;

/// Pictures that models see.
const PICTURES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];

/// Bytes in base64.
///
/// # Errors
/// `VALIDATION_FAILED` for what isn't base64.
pub fn inline(field: &str, media_type: &str, base64: String) -> Result<Media, ApiError> {
    match STANDARD.decode(&base64) {
        Ok(bytes) if !bytes.is_empty() => {
            Ok(Media { media_type: media_type.to_owned(), source: MediaSource::Inline(base64.into()) })
        }
        _ => Err(ApiError::invalid(field, "must hold base64")),
    }
}

/// What a `data:`, `http:` or `https:` address leads to.
///
/// # Errors
/// `VALIDATION_FAILED` for any other.
pub fn address(field: &str, address: String) -> Result<Media, ApiError> {
    if let Some(data) = address.strip_prefix("data:") {
        let Some((media_type, base64)) = data.split_once(";base64,") else {
            return Err(ApiError::invalid(field, "must be data:<type>;base64,<data>"));
        };
        return inline(field, media_type, base64.to_owned());
    }
    if !address.starts_with("https://") && !address.starts_with("http://") {
        return Err(ApiError::invalid(field, "must be a data: or https: address"));
    }
    let path = address.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    let media_type = match path.rsplit_once('.').map(|(_, ending)| ending) {
        Some("png") => "image/png",
        Some("gif") => "image/gif",
        Some("webp") => "image/webp",
        Some("pdf") => "application/pdf",
        _ => "image/jpeg",
    };
    Ok(Media { media_type: media_type.to_owned(), source: MediaSource::Url(address.into()) })
}

/// A picture.
///
/// # Errors
/// `VALIDATION_FAILED` for bytes of another type.
pub fn picture(field: &str, media: Media) -> Result<Part, ApiError> {
    if PICTURES.contains(&media.media_type.as_str()) {
        return Ok(Part::Image { media });
    }
    Err(ApiError::invalid(field, "must be a PNG, JPEG, GIF or WebP picture"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_come_as_data_or_by_address_and_nothing_else_does() {
        let data = address("url", "data:image/png;base64,aGk=".to_owned()).unwrap();
        assert_eq!(data, inline("url", "image/png", "aGk=".to_owned()).unwrap());
        assert!(picture("url", data).is_ok());
        let linked = address("url", "https://example.org/a.PNG?x=1".to_owned()).unwrap();
        assert_eq!(linked.media_type, "image/png");
        for wrong in ["data:image/png,hi", "data:image/png;base64,***", "file:///etc/passwd", "x", "data:;base64,"] {
            assert!(address("url", wrong.to_owned()).is_err(), "{wrong}");
        }
        let pdf = inline("url", "application/pdf", "aGk=".to_owned()).unwrap();
        assert!(picture("url", pdf).is_err());
    }
}
