//! The bitmap font of captions: Spleen 8×16, a PSF version 1 file, read at first use.

use std::{collections::HashMap, sync::LazyLock};

use spleen_font::FONT_8X16;

pub(crate) const GLYPH_WIDTH: u32 = 8;
pub(crate) const GLYPH_HEIGHT: u32 = 16;

/// Rows from top to bottom, the leftmost pixel in the highest bit.
pub(crate) type Glyph = [u8; GLYPH_HEIGHT as usize];

/// What stands for characters that the font lacks: a box.
const MISSING: Glyph = [
    0, 0, 0, 0x7E, 0x42, 0x42, 0x42, 0x42, 0x42, 0x42, 0x42, 0x42, 0x7E, 0, 0, 0,
];

/// The picture of a character.
pub(crate) fn glyph(c: char) -> Glyph {
    static GLYPHS: LazyLock<HashMap<char, Glyph>> =
        LazyLock::new(|| read(FONT_8X16).unwrap_or_default());
    GLYPHS.get(&c).copied().unwrap_or(MISSING)
}

/// Reads a PSF1 file: magic `36 04`, mode, bytes per glyph; 256 or 512 glyphs; then for each glyph its
/// characters in UTF-16, `FFFE` before sequences (which are left out) and `FFFF` at the end.
fn read(font: &[u8]) -> Option<HashMap<char, Glyph>> {
    let [0x36, 0x04, mode, 16, body @ ..] = font else {
        return None;
    };
    let count = if mode & 1 == 0 { 256 } else { 512 };
    let (bitmaps, table) = body.split_at_checked(count * GLYPH_HEIGHT as usize)?;
    let mut units = table
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let mut glyphs = HashMap::with_capacity(1024);
    for bitmap in bitmaps.chunks_exact(GLYPH_HEIGHT as usize) {
        let characters = units.by_ref().take_while(|unit| *unit != 0xFFFF);
        let mut is_sequence = false;
        for unit in characters {
            is_sequence |= unit == 0xFFFE;
            if let Some(c) = char::from_u32(u32::from(unit)).filter(|_| !is_sequence) {
                glyphs.insert(c, bitmap.try_into().ok()?);
            }
        }
    }
    Some(glyphs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_font_has_what_captions_are_written_in() {
        let glyphs = read(FONT_8X16).unwrap();
        let text = ('!'..='~').chain("äöüßéèñçåøÄÖÜ€".chars());
        let mut seen = std::collections::HashSet::new();
        for c in text {
            assert!(glyphs.contains_key(&c), "{c}");
            assert!(seen.insert(glyphs[&c]), "{c} looks like another character");
        }
        assert_eq!(glyph(' '), [0; 16]);
        assert_eq!(glyph('猫'), MISSING);
        // The bar of a T is its widest row.
        let widths = glyph('T').map(u8::count_ones);
        assert_eq!(widths.iter().max(), widths.iter().find(|width| **width > 0));
    }
}
