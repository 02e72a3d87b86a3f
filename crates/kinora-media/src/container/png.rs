//! PNG chunks: <https://www.w3.org/TR/png-3/>. Checksums are written, and not checked: a reader of
//! settings gains nothing from refusing a file that a download has scratched.

use flate2::Crc;

use super::be32;
use crate::error::{Error, Result};

/// The first eight bytes of every PNG.
pub(crate) const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// One chunk of the file.
pub(crate) struct Chunk<'a> {
    pub kind: [u8; 4],
    pub data: &'a [u8],
    /// Length field, kind, data and checksum as they stand in the file.
    pub whole: &'a [u8],
}

/// The chunks in file order; ends at the first one that is cut off.
pub(crate) fn chunks(png: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    let mut at = SIGNATURE.len();
    std::iter::from_fn(move || {
        let length = usize::try_from(be32(png, at)?).ok()?;
        let end = at.checked_add(12)?.checked_add(length)?;
        let whole = png.get(at..end)?;
        at = end;
        Some(Chunk {
            kind: whole[4..8].try_into().ok()?,
            data: &whole[8..8 + length],
            whole,
        })
    })
}

/// Width and height from the header chunk.
pub(crate) fn size(png: &[u8]) -> Option<(u32, u32)> {
    let header = chunks(png).next().filter(|chunk| &chunk.kind == b"IHDR")?;
    Some((be32(header.data, 0)?, be32(header.data, 4)?))
}

/// Adds one chunk to a file under construction. `data` stays far below the 2 GiB that a chunk holds.
fn push_chunk(out: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    let length = u32::try_from(data.len()).expect("a chunk's data is made here and small");
    out.extend(length.to_be_bytes());
    let start = out.len();
    out.extend(kind);
    out.extend(data);
    let mut crc = Crc::new();
    crc.update(&out[start..]);
    out.extend(crc.sum().to_be_bytes());
}

/// The PNG with texts right behind its header, the rest as it was. ASCII goes into `tEXt`, which
/// every reader knows; other text into `iTXt`, uncompressed UTF-8.
pub(crate) fn insert_texts(png: &[u8], texts: &[(&str, &str)]) -> Result<Vec<u8>> {
    let header = chunks(png)
        .next()
        .filter(|chunk| &chunk.kind == b"IHDR")
        .ok_or_else(|| Error::damaged("the PNG header is missing"))?;
    let body = SIGNATURE.len() + header.whole.len();
    let mut out =
        Vec::with_capacity(png.len() + texts.iter().map(|t| t.1.len() + 64).sum::<usize>());
    out.extend(&png[..body]);
    for (keyword, text) in texts {
        // A NUL would end the text early for readers; the format has no way to write one.
        let text = text.replace('\0', "");
        let mut data = keyword.as_bytes().to_vec();
        if text.is_ascii() {
            data.push(0);
            data.extend(text.as_bytes());
            push_chunk(&mut out, b"tEXt", &data);
        } else {
            // No compression, no language tag, no translated keyword.
            data.extend([0, 0, 0, 0, 0]);
            data.extend(text.as_bytes());
            push_chunk(&mut out, b"iTXt", &data);
        }
    }
    out.extend(&png[body..]);
    Ok(out)
}

/// How the camera was held, 2 to 8; None: upright, or it does not tell.
pub(crate) fn orientation(png: &[u8]) -> Option<u16> {
    let exif = chunks(png).find(|chunk| &chunk.kind == b"eXIf")?;
    super::exif::orientation(exif.data)
}

/// The PNG without texts and EXIF. What decides how pixels look (palette, transparency, colour
/// profile, gamma, animation) stays.
pub(crate) fn strip(png: &[u8]) -> Result<Vec<u8>> {
    const KEPT: [&[u8; 4]; 14] = [
        b"cHRM", b"gAMA", b"iCCP", b"sBIT", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"bKGD", b"tRNS",
        b"pHYs", b"acTL", b"fcTL", b"fdAT",
    ];
    let mut out = Vec::with_capacity(png.len());
    out.extend(SIGNATURE);
    for chunk in chunks(png) {
        let is_critical = chunk.kind[0].is_ascii_uppercase();
        if is_critical || KEPT.contains(&&chunk.kind) {
            out.extend(chunk.whole);
        }
        if &chunk.kind == b"eXIf"
            && let Some(orientation) = super::exif::orientation(chunk.data)
        {
            push_chunk(
                &mut out,
                b"eXIf",
                &super::exif::write_orientation(orientation),
            );
        }
        if &chunk.kind == b"IEND" {
            return Ok(out);
        }
    }
    Err(Error::damaged("the PNG ends before its last chunk"))
}
