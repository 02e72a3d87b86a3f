//! Clips: moving pictures with or without sound, written as they are decoded, and read back.
//!
//! - [`ClipWriter`] takes RGB pictures one by one and leaves a file that carries its recipe.
//! - [`FrameSpool`] keeps decoded pictures on disk, so that a killed job goes on where it was.
//! - [`probe_clip`], [`poster`] and [`frame_at`] read a clip's facts and single pictures of it.
//!
//! **Equal pictures make equal files** on one build: nothing of the machine, the time or the number
//! of processors goes into the bytes. Files of another FFmpeg version may differ, as its encoders do.
//!
//! | format | recipe | settings for other programs |
//! |---|---|---|
//! | MP4 | tag `kinora` (`moov/udta/meta`, QuickTime keys) | tag `parameters` |
//! | WebM | tag `KINORA` | tag `PARAMETERS` |
//! | GIF | second comment block, JSON | first comment block |
//! | animated WebP | XMP | EXIF `UserComment` |
//! | PNG frames | `recipe.json` in the archive | `parameters.txt` |
//!
//! Memory stays at a few pictures whatever the length: the encoders hold their look-ahead, GIF keeps
//! its pictures on disk.

mod animated_webp;
mod archive;
mod gif;
mod read;
mod spool;
mod stream;
mod yuv;

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Once,
};

use kinora_core::{Artifact, AssetKind, ClipFormat, ClipInfo, FrameRate, Recipe};
use sha2::{Digest, Sha256};

pub use animated_webp::encode_animation;
pub use read::{ClipProbe, MAX_FRAMES, detect_clip, frame_at, poster, probe_clip, visit_frames};
pub(crate) use read::{ClipTexts, texts};
pub use spool::FrameSpool;

use crate::{
    decode::MAX_PIXELS,
    error::{Error, Result},
    metadata::{RECIPE_KEYWORD, recipe_json, write_infotext},
};

/// The quality of clips where nothing else is asked, of 100.
pub const CLIP_QUALITY: u8 = 90;

/// The sound that goes with a clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoundSpec {
    /// Samples per second and channel, from 8000 to 192000. What the codec cannot take is
    /// resampled to 48000.
    pub rate: u32,
    /// One or two.
    pub channels: u16,
}

/// What a clip is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipSpec {
    /// Pixels. Formats with colour at half resolution (MP4, WebM) round an odd side up.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Pictures per second, up to 240.
    pub rate: FrameRate,
    /// File format.
    pub format: ClipFormat,
    /// 1 to 100; 90 ([`CLIP_QUALITY`]) is where a difference is no longer seen. GIF and PNG frames
    /// have no such choice.
    pub quality: u8,
    /// Sound to come; None: a silent clip. Only for formats that can have sound.
    pub sound: Option<SoundSpec>,
    /// How the clip was made; goes into the file.
    pub recipe: Recipe,
}

impl ClipSpec {
    fn check(&self) -> Result<()> {
        check_size(self.width, self.height)?;
        let longest = match self.format {
            ClipFormat::AnimatedWebp | ClipFormat::Mp4 | ClipFormat::Webm => 16_383,
            ClipFormat::Mp4H265 | ClipFormat::Mp4Av1 => 8_192,
            ClipFormat::Gif => 65_535,
            ClipFormat::Frames => u32::MAX,
        };
        let shortest = match self.format {
            // What x265 and SVT-AV1 can cut into blocks.
            ClipFormat::Mp4H265 | ClipFormat::Mp4Av1 => 64,
            _ => 1,
        };
        let sides = [self.width, self.height];
        if sides.iter().any(|side| *side > longest || *side < shortest) {
            return Err(self.refused(&format!(
                "the format's sides go from {shortest} to {longest}"
            )));
        }
        let FrameRate {
            numerator,
            denominator,
        } = self.rate;
        let is_sane =
            (1..=1_000_000).contains(&numerator) && (1..=1_000_000).contains(&denominator);
        if !is_sane || !(0.1..=240.0).contains(&self.rate.per_second()) {
            return Err(self.refused(&format!(
                "{} pictures per second are not between 0.1 and 240",
                self.rate
            )));
        }
        let Some(sound) = &self.sound else {
            return Ok(());
        };
        if !self.format.can_have_sound() {
            return Err(self.refused("the format has no sound"));
        }
        if !(8_000..=192_000).contains(&sound.rate) || !(1..=2).contains(&sound.channels) {
            return Err(self.refused(&format!(
                "sound of {} channels at {} Hz is not one or two channels at 8000 to 192000 Hz",
                sound.channels, sound.rate
            )));
        }
        Ok(())
    }

    fn refused(&self, what: &str) -> Error {
        Error::EncodeClip {
            width: self.width,
            height: self.height,
            format: self.format,
            what: what.to_owned(),
        }
    }

    /// What FFmpeg said, told apart: the disk, or the encoder.
    fn failed(&self, path: &Path, error: ffmpeg_next::Error) -> Error {
        use io::ErrorKind as Kind;
        if let ffmpeg_next::Error::Other { errno } = error {
            let source = io::Error::from_raw_os_error(errno);
            // Encoders too answer with a system's number, "invalid argument" above all.
            if !matches!(source.kind(), Kind::InvalidInput | Kind::OutOfMemory) {
                return Error::Write {
                    path: path.to_owned(),
                    source,
                };
            }
        }
        self.refused(&error.to_string())
    }
}

/// Whether a clip, or the file that its pictures wait in, may have this size.
fn check_size(width: u32, height: u32) -> Result<()> {
    if width == 0 || height == 0 || u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(Error::TooLarge {
            width,
            height,
            limit: MAX_PIXELS / 1_000_000,
        });
    }
    Ok(())
}

/// FFmpeg says what is wrong by what it returns; what it prints is for its own program's users.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| ffmpeg_next::log::set_level(ffmpeg_next::log::Level::Quiet));
}

enum Sink {
    Stream(Box<stream::Stream>),
    Gif(Box<gif::Gif>),
    AnimatedWebp(Box<animated_webp::AnimatedWebp>),
    Archive(Box<archive::Archive>),
}

/// A clip being written: pictures go in one by one, sound in pieces of any length, and
/// [`ClipWriter::finish`] makes it a whole file. Dropped before that, it leaves no file.
///
/// ```no_run
/// # fn demo(spec: kinora_media::ClipSpec, pictures: Vec<Vec<u8>>) -> kinora_media::Result<()> {
/// let mut clip = kinora_media::ClipWriter::create("clip.part".as_ref(), &spec)?;
/// for rgb in &pictures {
///     clip.push(rgb)?;
/// }
/// let artifact = clip.finish()?;
/// # Ok(()) }
/// ```
pub struct ClipWriter {
    spec: ClipSpec,
    path: PathBuf,
    /// None once it is finished or has failed.
    sink: Option<Sink>,
    frames: u64,
    sound_samples: u64,
    is_finished: bool,
}

impl ClipWriter {
    /// Begins a clip at `path`, whose folder exists. The name needs no ending; it must be UTF-8.
    ///
    /// # Errors
    /// `TooLarge` and `EncodeClip` for what the format cannot hold, `Write` for what the disk says.
    pub fn create(path: &Path, spec: &ClipSpec) -> Result<Self> {
        quiet();
        spec.check()?;
        let infotext = write_infotext(&spec.recipe);
        let recipe = recipe_json(&spec.recipe);
        // From here on there may be a file.
        let mut writer = Self {
            spec: spec.clone(),
            path: path.to_owned(),
            sink: None,
            frames: 0,
            sound_samples: 0,
            is_finished: false,
        };
        writer.sink = Some(match spec.format {
            ClipFormat::Gif => {
                let comments = vec![infotext, recipe];
                Sink::Gif(Box::new(gif::Gif::create(path, spec, comments)?))
            }
            ClipFormat::AnimatedWebp => {
                let webp = animated_webp::AnimatedWebp::create(path, spec, &infotext, recipe)?;
                Sink::AnimatedWebp(Box::new(webp))
            }
            ClipFormat::Frames => {
                let mut archive = archive::Archive::create(path, spec)?;
                archive.add(archive::RECIPE_ENTRY.to_owned(), recipe.as_bytes())?;
                archive.add(archive::SETTINGS_ENTRY.to_owned(), infotext.as_bytes())?;
                Sink::Archive(Box::new(archive))
            }
            ClipFormat::Mp4 | ClipFormat::Mp4H265 | ClipFormat::Mp4Av1 | ClipFormat::Webm => {
                let tags = [("parameters", infotext), (RECIPE_KEYWORD, recipe)];
                Sink::Stream(Box::new(stream::Stream::create(path, spec, &tags)?))
            }
        });
        Ok(writer)
    }

    /// Appends a picture: RGB, height × width × 3 bytes.
    ///
    /// # Errors
    /// `FrameLength` for another number of bytes; what the encoder or the disk says, after which
    /// the clip cannot be finished.
    pub fn push(&mut self, rgb: &[u8]) -> Result<()> {
        let expected = self.spec.width as usize * self.spec.height as usize * 3;
        if rgb.len() != expected {
            return Err(Error::FrameLength {
                found: rgb.len(),
                expected,
            });
        }
        if self.frames == MAX_FRAMES {
            return Err(self
                .spec
                .refused(&format!("clips end at {MAX_FRAMES} pictures")));
        }
        self.with_sink(|sink| match sink {
            Sink::Stream(stream) => stream.push(rgb),
            Sink::Gif(gif) => gif.push(rgb),
            Sink::AnimatedWebp(webp) => webp.push(rgb),
            Sink::Archive(archive) => archive.push(rgb),
        })?;
        self.frames += 1;
        Ok(())
    }

    /// Appends sound: samples from −1 to 1, the channels interleaved, a whole number of them for
    /// each channel. The first sample belongs to the beginning of the first picture. Sound that is
    /// longer than the pictures is cut off at their end. It waits in memory until its pictures
    /// come, so long sound is best given along with them.
    ///
    /// # Errors
    /// `EncodeClip` when the clip was begun without sound; what the encoder or the disk says.
    pub fn push_sound(&mut self, interleaved: &[f32]) -> Result<()> {
        let Some(sound) = self.spec.sound else {
            return Err(self.spec.refused("the clip was begun without sound"));
        };
        let channels = usize::from(sound.channels);
        if !interleaved.len().is_multiple_of(channels) {
            return Err(self.spec.refused(&format!(
                "{} samples are not whole for {channels} channels",
                interleaved.len()
            )));
        }
        self.with_sink(|sink| match sink {
            Sink::Stream(stream) => stream.push_sound(interleaved),
            _ => Ok(()),
        })?;
        self.sound_samples += interleaved.len() as u64;
        Ok(())
    }

    fn with_sink(&mut self, work: impl FnOnce(&mut Sink) -> Result<()>) -> Result<()> {
        let Some(sink) = &mut self.sink else {
            return Err(self.spec.refused("an earlier picture could not be written"));
        };
        let outcome = work(sink);
        if outcome.is_err() {
            // An encoder that has failed is not asked again.
            self.sink = None;
        }
        outcome
    }

    /// Ends the clip and syncs the file and its folder. Naming the file for good is the caller's.
    ///
    /// # Errors
    /// `EncodeClip` for a clip without pictures; what the encoder or the disk says. No file is left
    /// then.
    pub fn finish(mut self) -> Result<Artifact> {
        let Some(sink) = self.sink.take() else {
            return Err(self.spec.refused("an earlier picture could not be written"));
        };
        if self.frames == 0 {
            return Err(self.spec.refused("a clip has at least one picture"));
        }
        let mut clip = self.info();
        let (mut width, mut height) = (self.spec.width, self.spec.height);
        match sink {
            Sink::Stream(stream) => {
                stream.finish()?;
                width = width.next_multiple_of(2);
                height = height.next_multiple_of(2);
            }
            Sink::Gif(gif) => {
                let stride = gif::stride(self.spec.rate);
                clip.frames = gif.finish()?;
                clip.rate.denominator *= stride;
            }
            Sink::AnimatedWebp(webp) => webp.finish()?,
            Sink::Archive(mut archive) => {
                let json = serde_json::to_vec(&clip).map_err(|e| Error::damaged(e.to_string()))?;
                archive.add(archive::CLIP_ENTRY.to_owned(), &json)?;
                archive.finish()?;
            }
        }
        let (bytes, sha256) = self.sync().map_err(|source| Error::Write {
            path: self.path.clone(),
            source,
        })?;
        self.is_finished = true;
        Ok(Artifact {
            kind: AssetKind::Video,
            format: self.spec.format.into(),
            width,
            height,
            bytes,
            sha256,
            clip: Some(clip),
            recipe: self.spec.recipe.clone(),
        })
    }

    fn info(&self) -> ClipInfo {
        let codec = match self.spec.format {
            ClipFormat::Mp4 => "h264",
            ClipFormat::Mp4H265 => "hevc",
            ClipFormat::Mp4Av1 => "av1",
            ClipFormat::Webm => "vp9",
            ClipFormat::Gif => "gif",
            ClipFormat::AnimatedWebp => "webp",
            ClipFormat::Frames => "png",
        };
        ClipInfo {
            frames: self.frames,
            rate: self.spec.rate,
            duration_ms: self.spec.rate.milliseconds(self.frames),
            has_sound: self.spec.sound.is_some() && self.sound_samples > 0,
            codec: codec.to_owned(),
        }
    }

    /// Onto the disk, with the length and the SHA-256.
    fn sync(&self) -> io::Result<(u64, String)> {
        let mut file = File::open(&self.path)?;
        file.sync_all()?;
        let mut digest = Sha256::new();
        let mut length = 0;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            length += count as u64;
            digest.update(&buffer[..count]);
        }
        let folder = self
            .path
            .parent()
            .filter(|path| !path.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        let digest = digest.finalize();
        Ok((length, digest.iter().map(|b| format!("{b:02x}")).collect()))
    }
}

impl Drop for ClipWriter {
    fn drop(&mut self) {
        if !self.is_finished {
            self.sink = None;
            // Best effort: there may be none.
            let _ = fs::remove_file(&self.path);
        }
    }
}
