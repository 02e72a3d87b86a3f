//! WebP chunks: <https://developers.google.com/speed/webp/docs/riff_container>.

use super::{exif, le32, xmp};
use crate::error::{Error, Result};

const EXIF_FLAG: u8 = 0x08;
const XMP_FLAG: u8 = 0x04;
const ALPHA_FLAG: u8 = 0x10;

/// One chunk of the file.
pub(crate) struct Chunk<'a> {
    pub kind: [u8; 4],
    pub data: &'a [u8],
}

/// The chunks in file order; ends at the first one that is cut off.
pub(crate) fn chunks(webp: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    let mut at = 12_usize;
    std::iter::from_fn(move || {
        let length = usize::try_from(le32(webp, at.checked_add(4)?)?).ok()?;
        let start = at.checked_add(8)?;
        let data = webp.get(start..start.checked_add(length)?)?;
        let kind = webp[at..at + 4].try_into().ok()?;
        at = start + length + length % 2;
        Some(Chunk { kind, data })
    })
}

/// Width and height: of the canvas where there is one, else of the only picture.
pub(crate) fn size(webp: &[u8]) -> Option<(u32, u32)> {
    let first = chunks(webp).next()?;
    let data = first.data;
    match &first.kind {
        b"VP8X" => Some((1 + le24(data, 4)?, 1 + le24(data, 7)?)),
        b"VP8 " => {
            (data.get(3..6)? == [0x9D, 0x01, 0x2A]).then_some(())?;
            let side = |at: usize| {
                Some(u32::from(u16::from_le_bytes([*data.get(at)?, *data.get(at + 1)?])) & 0x3FFF)
            };
            Some((side(6)?, side(8)?))
        }
        b"VP8L" => {
            (*data.first()? == 0x2F).then_some(())?;
            let bits = le32(data, 1)?;
            Some(((bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1))
        }
        _ => None,
    }
}

fn le24(bytes: &[u8], at: usize) -> Option<u32> {
    let three = bytes.get(at..at + 3)?;
    Some(u32::from_le_bytes([three[0], three[1], three[2], 0]))
}

fn push_chunk(out: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    out.extend(kind);
    out.extend((data.len() as u32).to_le_bytes());
    out.extend(data);
    if data.len() % 2 == 1 {
        out.push(0);
    }
}

/// Puts a file together: an extended header with the flags that belong to its chunks, the chunks,
/// and then EXIF and XMP.
fn assemble(webp: &[u8], exif: Option<&[u8]>, xmp: Option<&[u8]>) -> Result<Vec<u8>> {
    let (width, height) =
        size(webp).ok_or_else(|| Error::damaged("the WebP header has no size"))?;
    let mut flags = 0;
    let mut body = Vec::with_capacity(webp.len());
    let mut has_picture = false;
    for chunk in chunks(webp) {
        match &chunk.kind {
            b"VP8X" => flags = chunk.data.first().copied().unwrap_or(0) & !(EXIF_FLAG | XMP_FLAG),
            b"EXIF" | b"XMP " => {}
            kind => {
                if kind == b"VP8L" && le32(chunk.data, 1).is_some_and(|bits| bits >> 28 & 1 == 1) {
                    flags |= ALPHA_FLAG;
                }
                has_picture |= matches!(kind, b"VP8 " | b"VP8L" | b"ANMF");
                let is_known = matches!(
                    kind,
                    b"VP8 " | b"VP8L" | b"ANMF" | b"ANIM" | b"ALPH" | b"ICCP"
                );
                if is_known {
                    push_chunk(&mut body, kind, chunk.data);
                }
            }
        }
    }
    if !has_picture {
        return Err(Error::damaged("the WebP has no picture data"));
    }
    flags |= if exif.is_some() { EXIF_FLAG } else { 0 };
    flags |= if xmp.is_some() { XMP_FLAG } else { 0 };
    let mut out = Vec::with_capacity(body.len() + 4096);
    out.extend(b"RIFF\0\0\0\0WEBP");
    // A plain file stays plain; an extended header is there when something needs it.
    if flags != 0 {
        let mut header = vec![flags, 0, 0, 0];
        header.extend(&(width - 1).to_le_bytes()[..3]);
        header.extend(&(height - 1).to_le_bytes()[..3]);
        push_chunk(&mut out, b"VP8X", &header);
    }
    out.extend(body);
    if let Some(exif) = exif {
        push_chunk(&mut out, b"EXIF", exif);
    }
    if let Some(xmp) = xmp {
        push_chunk(&mut out, b"XMP ", xmp);
    }
    let length =
        u32::try_from(out.len() - 8).map_err(|_| Error::damaged("the WebP is too long"))?;
    out[4..8].copy_from_slice(&length.to_le_bytes());
    Ok(out)
}

/// The WebP with an EXIF block and an XMP packet behind its picture, the rest as it was.
pub(crate) fn insert(webp: &[u8], exif: Option<&[u8]>, recipe: &str) -> Result<Vec<u8>> {
    assemble(webp, exif, Some(xmp::write(recipe).as_bytes()))
}

/// How the camera was held, 2 to 8; None: upright, or it does not tell.
pub(crate) fn orientation(webp: &[u8]) -> Option<u16> {
    let exif = chunks(webp).find(|chunk| &chunk.kind == b"EXIF")?;
    exif::orientation(exif.data)
}

/// The WebP without EXIF, XMP, unknown chunks and anything behind its end. The colour profile and
/// the orientation stay.
pub(crate) fn strip(webp: &[u8]) -> Result<Vec<u8>> {
    let orientation = orientation(webp).map(exif::write_orientation);
    assemble(webp, orientation.as_deref(), None)
}
