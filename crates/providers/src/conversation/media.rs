//! Pictures and documents, as far as a target takes them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use polyphony_domain::content::{Media, MediaSource, Part, Role};
use uuid::Uuid;

use super::{Losses, Target};
use crate::{Loss, LossKind};

/// Documents that a target takes besides text, which every one takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Files {
    /// None.
    No,
    /// PDF, inline.
    Pdf,
    /// PDF, inline or by address.
    PdfOrUrl,
    /// Anything, inline or by address.
    Any,
}

impl Files {
    fn takes(self, media: &Media) -> bool {
        let (pdf, url) = (media.media_type == "application/pdf", matches!(media.source, MediaSource::Url(_)));
        match self {
            Self::No => false,
            Self::Pdf => pdf && !url,
            Self::PdfOrUrl => pdf || url,
            Self::Any => true,
        }
    }
}

/// What stands for something that is left out: the model is told too, or the words about it would puzzle it.
pub(crate) fn left_out(what: &str) -> Part {
    Part::text(format!("[A {what} was left out here.]"))
}

/// The part as the target takes it.
pub(super) fn fit(
    part: &Part,
    role: Role,
    message_id: Option<Uuid>,
    target: &Target<'_>,
    losses: &mut Losses,
) -> Option<Part> {
    let (kind, what, media) = match part {
        Part::Image { media } => (LossKind::Image, "picture", media),
        Part::File { media, .. } => (LossKind::File, "document", media),
        _ => return Some(part.clone()),
    };
    let mut lost = |why: &str| {
        losses.say(Loss::within(message_id, kind, format!("a {what}: {why}")));
        Some(left_out(what))
    };
    if matches!(media.source, MediaSource::Stored(_)) {
        return lost("its bytes are not at hand");
    }
    if role != Role::User {
        return lost("only a person's messages may have it");
    }
    if let Part::File { name, media } = part
        && let Some(text) = text_of(media)
    {
        losses.say(Loss::within(message_id, kind, "a document: given as text"));
        return Some(Part::text(format!("[Document {}]\n{text}\n[End of the document]", name.as_str())));
    }
    let taken = match part {
        Part::Image { .. } => match media.source {
            // What an address leads to is known to the provider alone.
            MediaSource::Url(_) => !target.images.is_empty(),
            _ => target.images.contains(&media.media_type.as_str()),
        },
        _ => target.files.takes(media),
    };
    if taken { Some(part.clone()) } else { lost("the provider doesn't take its form") }
}

/// The text of a document that is text.
fn text_of(media: &Media) -> Option<String> {
    const TEXTS: [&str; 7] = [
        "application/json",
        "application/xml",
        "application/x-yaml",
        "application/yaml",
        "application/toml",
        "application/javascript",
        "application/sql",
    ];
    let media_type = media.media_type.split(';').next().unwrap_or_default().trim();
    let MediaSource::Inline(bytes) = &media.source else { return None };
    if !media_type.starts_with("text/") && !TEXTS.contains(&media_type) {
        return None;
    }
    String::from_utf8(STANDARD.decode(bytes.as_str()).ok()?).ok()
}

pub(super) fn is_erased(media: &Media) -> bool {
    match &media.source {
        MediaSource::Inline(text) | MediaSource::Url(text) => text.is_erased(),
        MediaSource::Stored(_) => false,
    }
}

/// The address of media: its own, or one that holds the bytes.
pub(crate) fn data_url(media: &Media) -> String {
    match &media.source {
        MediaSource::Inline(bytes) => format!("data:{};base64,{}", media.media_type, bytes.as_str()),
        MediaSource::Url(url) => url.as_str().to_owned(),
        MediaSource::Stored(_) => String::new(),
    }
}
