//! Clips as animated WebP: every picture is encoded on its own and written as it comes, cut to the
//! part that changed. <https://developers.google.com/speed/webp/docs/riff_container>.

use std::{
    fs::File,
    io::{self, BufWriter, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use kinora_core::{ClipFormat, FrameRate};

use super::ClipSpec;
use crate::{
    container::{exif, webp, xmp},
    error::{Error, Result},
};

/// EXIF, XMP and animation.
const FLAGS: u8 = 0x08 | 0x04 | 0x02;
/// "Do not blend": what is drawn replaces what was there.
const REPLACE: u8 = 0x02;

/// An animated WebP being written.
pub(super) struct AnimatedWebp {
    spec: ClipSpec,
    path: PathBuf,
    file: BufWriter<File>,
    /// Bytes in the file.
    length: u64,
    /// The picture before.
    before: Vec<u8>,
    frames: u64,
    exif: Vec<u8>,
    recipe: String,
}

impl AnimatedWebp {
    pub(super) fn create(
        path: &Path,
        spec: &ClipSpec,
        infotext: &str,
        recipe: String,
    ) -> Result<Self> {
        let exif = exif::write(&format!("Kinora {}", spec.recipe.kinora), infotext);
        let file = File::create(path).map_err(|source| Error::Write {
            path: path.to_owned(),
            source,
        })?;
        let mut webp = Self {
            spec: spec.clone(),
            path: path.to_owned(),
            file: BufWriter::with_capacity(1 << 20, file),
            length: 0,
            before: Vec::new(),
            frames: 0,
            exif,
            recipe,
        };
        let mut header = vec![FLAGS, 0, 0, 0];
        header.extend(le24(spec.width - 1));
        header.extend(le24(spec.height - 1));
        // Background: opaque white. Repeats: for ever.
        let animation = [255, 255, 255, 255, 0, 0];
        let begun = webp
            .write(b"RIFF\0\0\0\0WEBP")
            .and_then(|()| webp.chunk(b"VP8X", &[&header]))
            .and_then(|()| webp.chunk(b"ANIM", &[&animation]));
        begun.map_err(|source| webp.wrong(source))?;
        Ok(webp)
    }

    pub(super) fn push(&mut self, rgb: &[u8]) -> Result<()> {
        let (width, height) = (self.spec.width, self.spec.height);
        let part = changed_part(&self.before, rgb, width as usize, height as usize);
        let pixels = part.cut(rgb, width as usize);
        let (part_width, part_height) = (part.width as u32, part.height as u32);
        let encoded = ::webp::Encoder::from_rgb(&pixels, part_width, part_height)
            .encode_simple(false, f32::from(self.spec.quality))
            .map_err(|error| self.spec.refused(&format!("{error:?}")))?;
        let picture = webp::chunks(&encoded)
            .find(|chunk| &chunk.kind == b"VP8 ")
            .ok_or_else(|| self.spec.refused("the encoder gave no picture"))?;
        let rate = self.spec.rate;
        let lasts = rate.milliseconds(self.frames + 1) - rate.milliseconds(self.frames);
        let mut head = Vec::with_capacity(24);
        head.extend(le24(part.x as u32 / 2));
        head.extend(le24(part.y as u32 / 2));
        head.extend(le24(part_width - 1));
        head.extend(le24(part_height - 1));
        head.extend(le24(lasts.min(0xFF_FFFF) as u32));
        head.push(REPLACE);
        head.extend(b"VP8 ");
        head.extend((picture.data.len() as u32).to_le_bytes());
        let padding: &[u8] = if picture.data.len() % 2 == 1 {
            &[0]
        } else {
            &[]
        };
        let written = self.chunk(b"ANMF", &[&head, picture.data, padding]);
        written.map_err(|source| self.wrong(source))?;
        self.frames += 1;
        self.before.clear();
        self.before.extend(rgb);
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<()> {
        let (exif, packet) = (std::mem::take(&mut self.exif), xmp::write(&self.recipe));
        let written = self
            .chunk(b"EXIF", &[&exif])
            .and_then(|()| self.chunk(b"XMP ", &[packet.as_bytes()]));
        written.map_err(|source| self.wrong(source))?;
        let length = u32::try_from(self.length - 8)
            .map_err(|_| self.spec.refused("the format's files end at 4 GiB"))?;
        let mut patch = || {
            self.file.seek(SeekFrom::Start(4))?;
            self.file.write_all(&length.to_le_bytes())?;
            self.file.flush()
        };
        patch().map_err(|source| self.wrong(source))
    }

    fn chunk(&mut self, kind: &[u8; 4], parts: &[&[u8]]) -> io::Result<()> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        self.write(kind)?;
        self.write(&(length as u32).to_le_bytes())?;
        for part in parts {
            self.write(part)?;
        }
        if length % 2 == 1 {
            self.write(&[0])?;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.length += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    fn wrong(&self, source: io::Error) -> Error {
        Error::Write {
            path: self.path.clone(),
            source,
        }
    }
}

/// A short animation in memory, repeated for ever, without any texts: what a preview is. Pictures are
/// RGB of `width` × `height` pixels, `rate` of them a second.
///
/// # Errors
/// `EncodeClip` for no pictures, a size that the format does not have, or pictures of another size.
pub fn encode_animation(
    pictures: &[&[u8]],
    (width, height): (u32, u32),
    rate: FrameRate,
    quality: u8,
) -> Result<Vec<u8>> {
    let refused = |what: &str| Error::EncodeClip {
        width,
        height,
        format: ClipFormat::AnimatedWebp,
        what: what.to_owned(),
    };
    if !(1..=16_383).contains(&width) || !(1..=16_383).contains(&height) {
        return Err(refused("the format's sides go from 1 to 16383"));
    }
    let bytes = width as usize * height as usize * 3;
    if pictures.is_empty() || pictures.iter().any(|rgb| rgb.len() != bytes) {
        return Err(refused("the pictures have another size"));
    }
    let mut file = b"RIFF\0\0\0\0WEBP".to_vec();
    let mut header = vec![0x02, 0, 0, 0];
    header.extend(le24(width - 1));
    header.extend(le24(height - 1));
    append_chunk(&mut file, b"VP8X", &header);
    append_chunk(&mut file, b"ANIM", &[255, 255, 255, 255, 0, 0]);
    for (index, rgb) in (0_u64..).zip(pictures) {
        let encoded = ::webp::Encoder::from_rgb(rgb, width, height)
            .encode_simple(false, f32::from(quality))
            .map_err(|error| refused(&format!("{error:?}")))?;
        let picture = webp::chunks(&encoded)
            .find(|chunk| &chunk.kind == b"VP8 ")
            .ok_or_else(|| refused("the encoder gave no picture"))?;
        let lasts = rate.milliseconds(index + 1) - rate.milliseconds(index);
        let mut part = vec![0; 6];
        part.extend(le24(width - 1));
        part.extend(le24(height - 1));
        part.extend(le24(lasts.min(0xFF_FFFF) as u32));
        part.push(REPLACE);
        append_chunk(&mut part, b"VP8 ", picture.data);
        append_chunk(&mut file, b"ANMF", &part);
    }
    let length =
        u32::try_from(file.len() - 8).map_err(|_| refused("the format's files end at 4 GiB"))?;
    file[4..8].copy_from_slice(&length.to_le_bytes());
    Ok(file)
}

fn append_chunk(file: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    file.extend(kind);
    file.extend((data.len() as u32).to_le_bytes());
    file.extend(data);
    file.resize(file.len().next_multiple_of(2), 0);
}

fn le24(value: u32) -> [u8; 3] {
    let bytes = value.to_le_bytes();
    [bytes[0], bytes[1], bytes[2]]
}

/// A rectangle, in pixels; its corner is at even places, as the format wants.
#[derive(Debug, PartialEq, Eq)]
struct Part {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

impl Part {
    fn cut(&self, rgb: &[u8], width: usize) -> Vec<u8> {
        let rows = rgb.chunks_exact(width * 3).skip(self.y).take(self.height);
        rows.flat_map(|row| &row[self.x * 3..(self.x + self.width) * 3])
            .copied()
            .collect()
    }
}

/// The smallest part that holds every change; all of it for the first picture, a corner where
/// nothing changed.
fn changed_part(before: &[u8], now: &[u8], width: usize, height: usize) -> Part {
    if before.len() != now.len() {
        return Part {
            x: 0,
            y: 0,
            width,
            height,
        };
    }
    let (mut left, mut right, mut top, mut bottom) = (width, 0, height, 0);
    let rows = before
        .chunks_exact(width * 3)
        .zip(now.chunks_exact(width * 3));
    for (y, (a, b)) in rows.enumerate() {
        if a == b {
            continue;
        }
        top = top.min(y);
        bottom = y;
        let pixels = || a.chunks_exact(3).zip(b.chunks_exact(3));
        if let Some(x) = pixels().position(|(a, b)| a != b) {
            left = left.min(x);
        }
        if let Some(x) = pixels().rposition(|(a, b)| a != b) {
            right = right.max(x);
        }
    }
    if top == height {
        (left, top) = (0, 0);
    }
    let (x, y) = (left & !1, top & !1);
    Part {
        x,
        y,
        width: right + 1 - x,
        height: bottom + 1 - y,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preview_moves() {
        let dark = vec![10; 5 * 3 * 3];
        let light = vec![240; 5 * 3 * 3];
        let rate = FrameRate::whole(4);
        let file = encode_animation(&[&dark, &light, &dark], (5, 3), rate, 80).unwrap();
        let path = tempfile::tempdir().unwrap().keep().join("preview.webp");
        std::fs::write(&path, &file).unwrap();
        let probe = crate::probe_clip(&path).unwrap();
        assert_eq!((probe.width, probe.height, probe.clip.frames), (5, 3, 3));
        assert_eq!(probe.clip.duration_ms, 750);
        let second = crate::frame_at(&path, 1).unwrap();
        assert!(second.rgb.iter().all(|value| *value > 220));
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();

        assert!(encode_animation(&[], (5, 3), rate, 80).is_err());
        assert!(encode_animation(&[&dark], (5, 4), rate, 80).is_err());
        assert!(encode_animation(&[&[]], (0, 4), rate, 80).is_err());
    }

    #[test]
    fn only_what_changed_is_encoded() {
        let before = vec![9; 8 * 6 * 3];
        let whole = Part {
            x: 0,
            y: 0,
            width: 8,
            height: 6,
        };
        assert_eq!(changed_part(&[], &before, 8, 6), whole);
        let corner = Part {
            width: 1,
            height: 1,
            ..whole
        };
        assert_eq!(changed_part(&before, &before, 8, 6), corner);
        let mut now = before.clone();
        now[(3 * 8 + 5) * 3] = 1;
        now[(4 * 8 + 3) * 3 + 2] = 1;
        let part = changed_part(&before, &now, 8, 6);
        let wanted = Part {
            x: 2,
            y: 2,
            width: 4,
            height: 3,
        };
        assert_eq!(part, wanted);
        assert_eq!(part.cut(&now, 8).len(), 4 * 3 * 3);
    }
}
