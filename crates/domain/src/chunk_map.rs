//! The boundaries of the chunks that an answer was streamed in.
//!
//! A terminal event keeps them (about one byte a chunk), so that a finished answer can be streamed again with
//! the same numbers for ever, and a client that was cut can go on after the last number it has seen.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Which of the answer's two texts a chunk belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkKind {
    /// The answer itself.
    Text,
    /// The model's reasoning.
    Reasoning,
}

/// Kind and length in bytes of each chunk of one attempt; chunk `i` of this list has the number `i + 1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChunkMap {
    /// LEB128 of `length << 1 | kind`, one after another.
    encoded: Vec<u8>,
    count: u32,
}

impl ChunkMap {
    /// Adds the next chunk.
    pub fn push(&mut self, kind: ChunkKind, length: usize) {
        let mut value = (length as u64) << 1 | u64::from(kind == ChunkKind::Reasoning);
        while value >= 0x80 {
            self.encoded.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.encoded.push(value as u8);
        self.count += 1;
    }

    /// How many chunks there are.
    pub const fn len(&self) -> u32 {
        self.count
    }

    /// Whether nothing was streamed.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The chunks in order.
    pub fn iter(&self) -> impl Iterator<Item = (ChunkKind, usize)> + '_ {
        let mut rest = self.encoded.iter();
        std::iter::from_fn(move || {
            let mut value = 0_u64;
            for shift in (0..64).step_by(7) {
                let byte = *rest.next()?;
                value |= u64::from(byte & 0x7f) << shift;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            let kind = if value & 1 == 1 { ChunkKind::Reasoning } else { ChunkKind::Text };
            Some((kind, usize::try_from(value >> 1).unwrap_or(usize::MAX)))
        })
    }

    /// Cuts the two texts into `(number, kind, text)`; whatever the map doesn't cover (an erased or shortened
    /// text) is left out rather than cut inside a character.
    pub fn cut<'a>(
        &'a self,
        text: &'a str,
        reasoning: &'a str,
    ) -> impl Iterator<Item = (u32, ChunkKind, &'a str)> + 'a {
        let (mut text, mut reasoning) = (text, reasoning);
        self.iter().zip(1_u32..).map_while(move |((kind, length), number)| {
            let source = if kind == ChunkKind::Text { &mut text } else { &mut reasoning };
            let (head, tail) = source.split_at_checked(length)?;
            *source = tail;
            Some((number, kind, head))
        })
    }
}

impl Serialize for ChunkMap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD_NO_PAD.encode(&self.encoded))
    }
}

impl<'de> Deserialize<'de> for ChunkMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let encoded = STANDARD_NO_PAD.decode(text).map_err(de::Error::custom)?;
        let count = encoded.iter().filter(|byte| *byte & 0x80 == 0).count();
        Ok(Self { encoded, count: u32::try_from(count).map_err(de::Error::custom)? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{ChunkKind, ChunkMap};

    proptest! {
        #[test]
        fn a_map_cuts_the_texts_as_they_were_streamed(pieces in prop::collection::vec((any::<bool>(), ".{0,300}"), 0..60)) {
            let (mut map, mut text, mut reasoning) = (ChunkMap::default(), String::new(), String::new());
            for (thought, piece) in &pieces {
                let (kind, whole) = if *thought { (ChunkKind::Reasoning, &mut reasoning) } else { (ChunkKind::Text, &mut text) };
                map.push(kind, piece.len());
                whole.push_str(piece);
            }
            let stored: ChunkMap = serde_json::from_str(&serde_json::to_string(&map).unwrap()).unwrap();
            prop_assert_eq!(&stored, &map);
            let cut: Vec<(bool, String)> =
                stored.cut(&text, &reasoning).map(|(_, kind, piece)| (kind == ChunkKind::Reasoning, piece.to_owned())).collect();
            prop_assert_eq!(cut, pieces);
        }
    }

    #[test]
    fn a_text_that_is_gone_ends_the_cut_instead_of_failing() {
        let mut map = ChunkMap::default();
        map.push(ChunkKind::Text, 3);
        map.push(ChunkKind::Text, 3);
        assert_eq!(map.cut("你", "").count(), 1);
    }
}
