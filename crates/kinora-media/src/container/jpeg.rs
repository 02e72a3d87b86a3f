//! JPEG segments: ITU-T T.81, annex B. Segments are walked up to the first scan; the coded data
//! behind it is carried along as it is.

use super::{exif, xmp};
use crate::error::{Error, Result};

/// The most that one segment holds behind its two length bytes.
pub(crate) const MAX_SEGMENT: usize = 65_533;

const SOS: u8 = 0xDA;
const EOI: u8 = 0xD9;
pub(crate) const APP1: u8 = 0xE1;
pub(crate) const COM: u8 = 0xFE;

/// One segment in front of the first scan.
pub(crate) struct Segment<'a> {
    pub marker: u8,
    pub data: &'a [u8],
    /// Marker, length and data as they stand in the file.
    whole: &'a [u8],
    /// Where it starts in the file.
    start: usize,
}

/// The segments behind the start-of-image marker, the first scan's header included; ends there, or
/// where the file is cut off.
pub(crate) fn segments(jpeg: &[u8]) -> impl Iterator<Item = Segment<'_>> {
    let mut at = 2;
    let mut is_over = false;
    std::iter::from_fn(move || {
        if is_over {
            return None;
        }
        if *jpeg.get(at)? != 0xFF {
            return None;
        }
        // Any number of fill bytes may stand in front of a marker.
        while *jpeg.get(at + 1)? == 0xFF {
            at += 1;
        }
        let marker = jpeg[at + 1];
        let length = usize::from(u16::from_be_bytes([*jpeg.get(at + 2)?, *jpeg.get(at + 3)?]));
        let end = at + 2 + length;
        if length < 2 || marker == 0 || marker == EOI {
            return None;
        }
        let whole = jpeg.get(at..end)?;
        let start = at;
        at = end;
        is_over = marker == SOS;
        Some(Segment {
            marker,
            data: &whole[4..],
            whole,
            start,
        })
    })
}

/// Width and height from the frame header.
pub(crate) fn size(jpeg: &[u8]) -> Option<(u32, u32)> {
    segments(jpeg).find_map(|segment| {
        let is_frame =
            matches!(segment.marker, 0xC0..=0xCF if ![0xC4, 0xC8, 0xCC].contains(&segment.marker));
        let data = is_frame.then_some(segment.data)?;
        let at = |index: usize| Some(u32::from(*data.get(index)?));
        Some((at(3)? << 8 | at(4)?, at(1)? << 8 | at(2)?))
    })
}

fn push_segment(out: &mut Vec<u8>, marker: u8, parts: &[&[u8]]) {
    let length = 2 + parts.iter().map(|part| part.len()).sum::<usize>();
    let length = u16::try_from(length).expect("callers keep to MAX_SEGMENT");
    out.extend([0xFF, marker]);
    out.extend(length.to_be_bytes());
    for part in parts {
        out.extend(*part);
    }
}

/// The JPEG with an EXIF block (when it fits into a segment) and an XMP packet (of any length)
/// behind its JFIF header, the rest as it was.
pub(crate) fn insert(jpeg: &[u8], exif: Option<&[u8]>, recipe: &str) -> Vec<u8> {
    let body = segments(jpeg)
        .take_while(|segment| segment.marker == 0xE0)
        .last()
        .map_or(2, |jfif| jfif.start + jfif.whole.len());
    let mut out = Vec::with_capacity(jpeg.len() + recipe.len() + 4096);
    out.extend(&jpeg[..body]);
    if let Some(exif) = exif.filter(|exif| exif.len() + exif::PREFIX.len() <= MAX_SEGMENT) {
        push_segment(&mut out, APP1, &[exif::PREFIX, exif]);
    }
    let packet = xmp::write(recipe);
    if packet.len() + xmp::PREFIX.len() <= MAX_SEGMENT {
        push_segment(&mut out, APP1, &[xmp::PREFIX, packet.as_bytes()]);
    } else {
        let guid = xmp::guid(packet.as_bytes());
        push_segment(
            &mut out,
            APP1,
            &[xmp::PREFIX, xmp::write_pointer(&guid).as_bytes()],
        );
        let total = (packet.len() as u32).to_be_bytes();
        let room = MAX_SEGMENT - xmp::EXTENSION_PREFIX.len() - guid.len() - 8;
        for (index, part) in packet.as_bytes().chunks(room).enumerate() {
            let offset = ((index * room) as u32).to_be_bytes();
            let header = [xmp::EXTENSION_PREFIX, guid.as_bytes(), &total, &offset].concat();
            push_segment(&mut out, APP1, &[&header, part]);
        }
    }
    out.extend(&jpeg[body..]);
    out
}

/// The XMP packets of a JPEG: the main one, and the extended one put together from its parts.
pub(crate) fn xmp_packets(jpeg: &[u8]) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    let mut extended = Vec::new();
    for segment in segments(jpeg).filter(|segment| segment.marker == APP1) {
        if let Some(packet) = segment.data.strip_prefix(xmp::PREFIX) {
            packets.push(packet.to_vec());
        } else if let Some(part) = segment.data.strip_prefix(xmp::EXTENSION_PREFIX)
            && part.len() > 40
        {
            // GUID (32), total length (4), offset (4). Parts that are not the next one in line
            // are dropped, so that what is kept is never more than what the file holds.
            let offset = super::be32(part, 36).unwrap_or(u32::MAX);
            if usize::try_from(offset) == Ok(extended.len()) {
                extended.extend(&part[40..]);
            }
        }
    }
    if !extended.is_empty() {
        packets.push(extended);
    }
    packets
}

/// How the camera was held, 2 to 8; None: upright, or it does not tell.
pub(crate) fn orientation(jpeg: &[u8]) -> Option<u16> {
    segments(jpeg)
        .filter_map(|segment| segment.data.strip_prefix(exif::PREFIX))
        .find_map(exif::orientation)
}

/// The JPEG without EXIF, XMP, comments and application data, and without anything behind its end.
/// JFIF, the colour profile, Adobe's colour transform and the orientation stay.
pub(crate) fn strip(jpeg: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(jpeg.len());
    out.extend(&jpeg[..2]);
    let mut scan = None;
    for segment in segments(jpeg) {
        let is_kept = match segment.marker {
            COM => false,
            0xE2 => segment.data.starts_with(b"ICC_PROFILE\0"),
            0xEE => segment.data.starts_with(b"Adobe"),
            0xE0 => segment.data.starts_with(b"JFIF\0"),
            0xE1..=0xEF => false,
            _ => true,
        };
        if is_kept {
            out.extend(segment.whole);
        } else if let Some(exif) = segment.data.strip_prefix(exif::PREFIX)
            && let Some(orientation) = exif::orientation(exif)
        {
            push_segment(
                &mut out,
                APP1,
                &[exif::PREFIX, &exif::write_orientation(orientation)],
            );
        }
        if segment.marker == SOS {
            scan = Some(segment.start + segment.whole.len());
        }
    }
    let scan = scan.ok_or_else(|| Error::damaged("the JPEG has no picture data"))?;
    // In coded data an 0xFF is followed by 0 or a restart marker; a real marker ends the scan, and
    // the picture ends at EOI. Tables between the scans of a progressive file contain no EOI,
    // because their lengths are skipped.
    let mut at = scan;
    while at + 1 < jpeg.len() {
        match (jpeg[at], jpeg[at + 1]) {
            (0xFF, EOI) => {
                out.extend(&jpeg[scan..at + 2]);
                return Ok(out);
            }
            (0xFF, 0 | 0x01 | 0xD0..=0xD7) => at += 2,
            (0xFF, 0xFF) => at += 1,
            (0xFF, _) => {
                let high = usize::from(jpeg.get(at + 2).copied().unwrap_or(0));
                let low = usize::from(jpeg.get(at + 3).copied().unwrap_or(0));
                at += 2 + (high << 8 | low).max(2);
            }
            _ => at += 1,
        }
    }
    Err(Error::damaged("the JPEG ends before its picture does"))
}
