//! Clips read back: what they are, single pictures, the texts inside. Files come from anywhere, so
//! each is opened only as the container that its first bytes announce, with known codecs, within a
//! size and a time.

use std::{
    fs::File,
    io::{self, BufReader, Cursor, Read, Seek, SeekFrom},
    ops::ControlFlow,
    path::Path,
    time::{Duration, Instant},
};

use ffmpeg_next::{
    self as ffmpeg, Dictionary, Packet, codec, color, format, frame, media, software::scaling,
};
use image::{AnimationDecoder, ImageDecoder, codecs::webp::WebPDecoder};
use kinora_core::{ClipFormat, ClipInfo, FrameRate};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{archive, check_size, quiet};
use crate::{
    container::{ebml, gif, mp4, webp},
    decode::{Picture, decode},
    error::{Error, Result},
    metadata::RECIPE_KEYWORD,
};

/// The most pictures of a clip.
pub const MAX_FRAMES: u64 = 200_000;
/// How long one question to a file may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most packets of a file that are looked at.
const MAX_PACKETS: u64 = 4 * MAX_FRAMES;
/// The longest animated WebP, and the longest picture or text in an archive, in bytes.
const MAX_BYTES: u64 = 512 << 20;
/// What Kinora writes, and what cameras and other programs commonly do. FFmpeg has hundreds more.
const CODECS: &str = "h264,hevc,libdav1d,libaom-av1,av1,vp8,vp9,libvpx,libvpx-vp9,mpeg4,prores,mjpeg,\
png,gif,aac,opus,libopus,vorbis,mp3,mp3float,flac,alac,ac3,pcm_s16le,pcm_s24le,pcm_f32le";

/// What a clip's file says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClipProbe {
    /// File format; for foreign codecs the container's usual one.
    pub format: ClipFormat,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Everything else.
    pub clip: ClipInfo,
}

/// The format that a clip's first bytes (64 are enough) announce. Which codec is inside an MP4 they
/// do not tell.
pub fn detect_clip(start: &[u8]) -> Option<ClipFormat> {
    let is_animated_webp = || {
        let is_webp = start.starts_with(b"RIFF") && start.get(8..16) == Some(b"WEBPVP8X");
        is_webp && start.get(20).is_some_and(|flags| flags & 0x02 != 0)
    };
    if mp4::is_mp4(start) {
        Some(ClipFormat::Mp4)
    } else if ebml::is_ebml(start) {
        Some(ClipFormat::Webm)
    } else if gif::is_gif(start) {
        Some(ClipFormat::Gif)
    } else if start.starts_with(b"PK\x03\x04") {
        Some(ClipFormat::Frames)
    } else {
        is_animated_webp().then_some(ClipFormat::AnimatedWebp)
    }
}

/// Says what a clip is, without decoding it.
///
/// # Errors
/// `Read` for what the disk says, `UnsupportedFile`, `Damaged`, `TooLarge`.
pub fn probe_clip(path: &Path) -> Result<ClipProbe> {
    let (mut file, format) = open(path)?;
    match format {
        ClipFormat::AnimatedWebp => {
            probe_webp(&mut BufReader::new(file)).map_err(read_error(path))?
        }
        ClipFormat::Frames => {
            let clip = archive_info(path, &mut file)?;
            let first = decode(&archive_frame(path, &mut file, 0)?)?;
            Ok(ClipProbe {
                format,
                width: first.width,
                height: first.height,
                clip,
            })
        }
        _ => Movie::open(file, format)?.probe(),
    }
}

/// The first picture.
///
/// # Errors
/// As [`frame_at`].
pub fn poster(path: &Path) -> Result<Picture> {
    frame_at(path, 0)
}

/// The picture at an index, counted from zero. Every picture before it is decoded too: clips are
/// short, and what a seek would land on is the container's guess.
///
/// # Errors
/// `Read` for what the disk says, `UnsupportedFile`, `TooLarge`, and `Damaged`: also for a clip
/// that has no such picture.
pub fn frame_at(path: &Path, index: u64) -> Result<Picture> {
    let mut found = None;
    visit_frames(path, index, &mut |picture| {
        found = Some(picture);
        ControlFlow::Break(())
    })?;
    found.ok_or_else(|| no_frame(index))
}

/// Hands out the pictures of a clip in order, from an index on, until there are no more or `take`
/// has seen enough. One picture is in memory at a time.
///
/// # Errors
/// `Read` for what the disk says, `UnsupportedFile`, `TooLarge`, and `Damaged`.
pub fn visit_frames(
    path: &Path,
    first: u64,
    take: &mut dyn FnMut(Picture) -> ControlFlow<()>,
) -> Result<()> {
    let (mut file, format) = open(path)?;
    match format {
        ClipFormat::AnimatedWebp => visit_webp(file, first, take),
        ClipFormat::Frames => {
            let frames = archive_info(path, &mut file)?.frames.min(MAX_FRAMES);
            for index in first..frames {
                let picture = decode(&archive_frame(path, &mut file, index)?)?;
                if take(picture).is_break() {
                    break;
                }
            }
            Ok(())
        }
        _ => Movie::open(file, format)?.visit(first, take),
    }
}

/// What a clip's file carries as text.
pub(crate) struct ClipTexts {
    /// Keyword and content, under Kinora's own names where they are Kinora's.
    pub texts: Vec<(String, String)>,
    /// Which kind of block they stood in.
    pub place: &'static str,
}

/// The texts of a clip; None: it is no clip.
pub(crate) fn texts<R: Read + Seek>(file: &mut R) -> io::Result<Option<ClipTexts>> {
    let mut start = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.by_ref().take(64).read_to_end(&mut start)?;
    file.seek(SeekFrom::Start(0))?;
    let Some(format) = detect_clip(&start) else {
        return Ok(None);
    };
    let (texts, place) = match format {
        ClipFormat::Mp4 | ClipFormat::Mp4H265 | ClipFormat::Mp4Av1 => {
            (mp4::texts(file)?, "MP4 tag")
        }
        ClipFormat::Webm => (ebml::texts(file)?, "WebM tag"),
        ClipFormat::Gif => {
            let comments = gif::comments(&mut BufReader::new(file))?;
            let key = |text: &str| match text.starts_with("{\"recipe\":") {
                true => RECIPE_KEYWORD,
                false => "comment",
            };
            let texts = comments.into_iter();
            let texts = texts.map(|text| (key(&text).to_owned(), text)).collect();
            (texts, "GIF comment")
        }
        ClipFormat::Frames => match archive_texts(file)? {
            Some(texts) => (texts, "ZIP entry"),
            None => return Ok(None),
        },
        // Its chunks are a still WebP's.
        ClipFormat::AnimatedWebp => return Ok(None),
    };
    Ok(Some(ClipTexts { texts, place }))
}

fn open(path: &Path) -> Result<(File, ClipFormat)> {
    quiet();
    let read = || {
        let mut file = File::open(path)?;
        let mut start = Vec::new();
        file.by_ref().take(64).read_to_end(&mut start)?;
        file.seek(SeekFrom::Start(0))?;
        Ok((file, start))
    };
    let (file, start) = read().map_err(read_error(path))?;
    let format = detect_clip(&start).ok_or(Error::UnsupportedFile)?;
    Ok((file, format))
}

fn read_error(path: &Path) -> impl Fn(io::Error) -> Error {
    move |source| Error::Read {
        path: path.to_owned(),
        source,
    }
}

fn no_frame(index: u64) -> Error {
    Error::damaged(format!("the clip has no picture {index}"))
}

/// A clip that FFmpeg reads.
struct Movie {
    format: ClipFormat,
    input: format::context::Input,
    /// The pictures' track.
    track: usize,
    deadline: Instant,
}

impl Movie {
    fn open(file: File, format: ClipFormat) -> Result<Self> {
        let deadline = Instant::now() + PATIENCE;
        let container = match format {
            ClipFormat::Webm => "matroska",
            ClipFormat::Gif => "gif",
            _ => "mov",
        };
        let mut options = Dictionary::new();
        options.set("format_whitelist", container);
        options.set("codec_whitelist", CODECS);
        options.set("max_streams", "32");
        // Through an open file and not by name: nothing in it can make FFmpeg open another.
        let io = format::context::StreamIo::from_read_seek(file).map_err(damaged)?;
        let is_late = move || Instant::now() > deadline;
        let input = format::input_from_stream_with_interrupt(io, None, Some(options), is_late)
            .map_err(damaged)?;
        let track = input
            .streams()
            .best(media::Type::Video)
            .ok_or_else(|| Error::damaged("it has no pictures"))?
            .index();
        Ok(Self {
            format,
            input,
            track,
            deadline,
        })
    }

    fn probe(mut self) -> Result<ClipProbe> {
        let has_sound = self.input.streams().best(media::Type::Audio).is_some();
        let stream = self.stream()?;
        let parameters = stream.parameters();
        let codec = parameters.id().name().to_owned();
        let (width, height) = size_of(&parameters)?;
        let rates = [stream.avg_frame_rate(), stream.rate()];
        let base = stream.time_base();
        let duration = stream.duration();
        let counted = u64::try_from(stream.frames()).unwrap_or(0);
        drop(parameters);
        let frames = match counted {
            0 => self.count()?,
            counted => counted.min(MAX_FRAMES),
        };
        let rate = rates
            .into_iter()
            .find(|rate| rate.numerator() > 0 && rate.denominator() > 0)
            .map(|rate| FrameRate {
                numerator: rate.numerator() as u32,
                denominator: rate.denominator() as u32,
            })
            .unwrap_or(FrameRate::whole(1));
        let duration_ms = if duration > 0 && base.numerator() > 0 && base.denominator() > 0 {
            let exact = i128::from(duration) * 1000 * i128::from(base.numerator());
            let divisor = i128::from(base.denominator());
            u64::try_from((exact + divisor / 2) / divisor).unwrap_or(u64::MAX)
        } else {
            rate.milliseconds(frames)
        };
        let format = match (self.format, codec.as_str()) {
            (ClipFormat::Mp4, "hevc") => ClipFormat::Mp4H265,
            (ClipFormat::Mp4, "av1") => ClipFormat::Mp4Av1,
            (format, _) => format,
        };
        let rate = match format {
            ClipFormat::Gif => rate_by_time(frames, duration_ms, 10),
            _ => rate,
        };
        Ok(ClipProbe {
            format,
            width,
            height,
            clip: ClipInfo {
                frames,
                rate,
                duration_ms,
                has_sound,
                codec,
            },
        })
    }

    fn stream(&self) -> Result<format::stream::Stream<'_>> {
        let stream = self.input.stream(self.track);
        stream.ok_or_else(|| Error::damaged("it has no pictures"))
    }

    /// The next packet of the pictures' track; None at the end.
    fn next_packet(&mut self, looked_at: &mut u64) -> Result<Option<Packet>> {
        let mut packet = Packet::empty();
        loop {
            *looked_at += 1;
            if *looked_at > MAX_PACKETS || Instant::now() > self.deadline {
                return Err(Error::damaged(
                    "it takes longer to read than any clip should",
                ));
            }
            match packet.read(&mut self.input) {
                Ok(()) if packet.stream() == self.track => return Ok(Some(packet)),
                // One broken packet is not the end of the file.
                Ok(()) | Err(ffmpeg::Error::InvalidData) => {}
                Err(ffmpeg::Error::Eof) => return Ok(None),
                Err(error) => return Err(damaged(error)),
            }
        }
    }

    fn count(&mut self) -> Result<u64> {
        let (mut frames, mut looked_at) = (0, 0);
        while self.next_packet(&mut looked_at)?.is_some() {
            frames += 1;
        }
        Ok(frames)
    }

    fn visit(mut self, first: u64, take: &mut dyn FnMut(Picture) -> ControlFlow<()>) -> Result<()> {
        let stream = self.stream()?;
        let parameters = stream.parameters();
        let base = stream.time_base();
        size_of(&parameters)?;
        let mut context = codec::Context::from_parameters(parameters).map_err(damaged)?;
        // SAFETY: the context was just made and belongs to `context`; it is not opened yet. A
        // stream may change its size after its header.
        unsafe {
            (*context.as_mut_ptr()).max_pixels = crate::decode::MAX_PIXELS as i64;
        }
        context.set_threading(codec::threading::Config::count(2));
        let mut decoder = context.decoder();
        decoder.set_packet_time_base(base);
        let mut decoder = decoder.video().map_err(damaged)?;
        let (mut seen, mut looked_at) = (0, 0);
        let mut picture = frame::Video::empty();
        loop {
            let packet = self.next_packet(&mut looked_at)?;
            let is_end = packet.is_none();
            match packet {
                // What cannot be decoded is skipped, as players do.
                Some(packet) => drop(decoder.send_packet(&packet)),
                None => drop(decoder.send_eof()),
            }
            while decoder.receive_frame(&mut picture).is_ok() {
                if seen >= first && take(to_rgb(&picture)?).is_break() {
                    return Ok(());
                }
                seen += 1;
            }
            if is_end || seen >= MAX_FRAMES {
                return Ok(());
            }
        }
    }
}

fn damaged(error: ffmpeg::Error) -> Error {
    Error::damaged(error.to_string())
}

fn size_of(parameters: &codec::Parameters) -> Result<(u32, u32)> {
    // SAFETY: the pointer is that of a living `Parameters`.
    let (width, height) = unsafe {
        let raw = parameters.as_ptr();
        ((*raw).width, (*raw).height)
    };
    let side = |side: i32| u32::try_from(side).unwrap_or(0);
    let (width, height) = (side(width), side(height));
    if width == 0 || height == 0 {
        return Err(Error::damaged("its header tells a size of zero"));
    }
    check_size(width, height)?;
    Ok((width, height))
}

/// A decoded picture as RGB, by the colour matrix that it names.
fn to_rgb(picture: &frame::Video) -> Result<Picture> {
    let (width, height) = (picture.width(), picture.height());
    check_size(width, height)?;
    let mut scaler = scaling::Context::get(
        picture.format(),
        width,
        height,
        format::Pixel::RGB24,
        width,
        height,
        scaling::Flags::BICUBIC
            | scaling::Flags::ACCURATE_RND
            | scaling::Flags::FULL_CHR_H_INT
            | scaling::Flags::BITEXACT,
    )
    .map_err(damaged)?;
    let matrix = match picture.color_space() {
        color::Space::BT709 => ffmpeg::ffi::SWS_CS_ITU709,
        color::Space::BT2020NCL | color::Space::BT2020CL => ffmpeg::ffi::SWS_CS_BT2020,
        // What is not said follows the size, as players guess.
        color::Space::Unspecified if height >= 720 => ffmpeg::ffi::SWS_CS_ITU709,
        _ => ffmpeg::ffi::SWS_CS_ITU601,
    };
    let is_full = i32::from(picture.color_range() == color::Range::JPEG);
    // SAFETY: the scaler is alive, and the tables are FFmpeg's own constants. Contrast and
    // saturation of 1.0 are 1 << 16.
    unsafe {
        let table = ffmpeg::ffi::sws_getCoefficients(matrix);
        let output = ffmpeg::ffi::sws_getCoefficients(ffmpeg::ffi::SWS_CS_ITU709);
        let scaler = scaler.as_mut_ptr();
        ffmpeg::ffi::sws_setColorspaceDetails(
            scaler,
            table,
            is_full,
            output,
            1,
            0,
            1 << 16,
            1 << 16,
        );
    }
    let mut rgb = frame::Video::empty();
    scaler.run(picture, &mut rgb).map_err(damaged)?;
    let row = width as usize * 3;
    let lines = rgb.data(0).chunks(rgb.stride(0)).take(height as usize);
    Ok(Picture {
        width,
        height,
        rgb: lines.flat_map(|line| &line[..row]).copied().collect(),
    })
}

/// Walks the chunks of an animated WebP.
fn probe_webp<R: Read + Seek>(file: &mut R) -> io::Result<Result<ClipProbe>> {
    let mut head = [0; 30];
    file.read_exact(&mut head)?;
    let Some((width, height)) = webp::size(&head) else {
        return Ok(Err(Error::damaged("the WebP header has no size")));
    };
    let end = file.seek(SeekFrom::End(0))?;
    let (mut at, mut frames, mut duration_ms) = (12_u64, 0_u64, 0_u64);
    while end.saturating_sub(at) >= 8 && frames < MAX_FRAMES {
        file.seek(SeekFrom::Start(at))?;
        let mut chunk = [0; 8];
        file.read_exact(&mut chunk)?;
        let length = u64::from(u32::from_le_bytes([chunk[4], chunk[5], chunk[6], chunk[7]]));
        if &chunk[..4] == b"ANMF" && length >= 16 && end - at >= 24 {
            let mut picture = [0; 16];
            file.read_exact(&mut picture)?;
            frames += 1;
            let lasts = [picture[12], picture[13], picture[14], 0];
            duration_ms += u64::from(u32::from_le_bytes(lasts));
        }
        at += 8 + length + length % 2;
    }
    if frames == 0 {
        return Ok(Err(Error::damaged("the WebP has no pictures")));
    }
    let rate = rate_by_time(frames, duration_ms, 1);
    Ok(Ok(ClipProbe {
        format: ClipFormat::AnimatedWebp,
        width,
        height,
        clip: ClipInfo {
            frames,
            rate,
            duration_ms,
            has_sound: false,
            codec: "webp".to_owned(),
        },
    }))
}

/// The rate of pictures whose durations are counted in units of so many milliseconds: one that is
/// whole within half a unit was whole.
fn rate_by_time(frames: u64, duration_ms: u64, unit_ms: u64) -> FrameRate {
    let per_second = frames as f64 * 1000.0 / duration_ms.max(1) as f64;
    let whole = per_second.round();
    let exact_ms = frames as f64 * 1000.0 / whole.max(1.0);
    if whole >= 1.0 && (exact_ms - duration_ms as f64).abs() <= unit_ms as f64 / 2.0 {
        return FrameRate::whole(whole.min(1000.0) as u32);
    }
    FrameRate::from_f64(per_second.clamp(0.01, 1000.0)).unwrap_or(FrameRate::whole(1))
}

fn visit_webp(
    file: File,
    first: u64,
    take: &mut dyn FnMut(Picture) -> ControlFlow<()>,
) -> Result<()> {
    let mut bytes = Vec::new();
    let count = file.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    let count = count.map_err(|error| Error::damaged(error.to_string()))?;
    if count as u64 > MAX_BYTES {
        return Err(Error::damaged("it is longer than any clip should be"));
    }
    let wrong = |error: image::ImageError| Error::damaged(error.to_string());
    let decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(wrong)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    let deadline = Instant::now() + PATIENCE;
    for (at, picture) in decoder.into_frames().enumerate() {
        if Instant::now() > deadline {
            return Err(Error::damaged(
                "it takes longer to read than any clip should",
            ));
        }
        let picture = picture.map_err(wrong)?;
        if (at as u64) < first {
            continue;
        }
        let pixels = picture.into_buffer();
        let (width, height) = pixels.dimensions();
        let rgb = pixels.pixels().flat_map(|p| [p[0], p[1], p[2]]).collect();
        if take(Picture { width, height, rgb }).is_break() {
            break;
        }
    }
    Ok(())
}

fn archive_info(path: &Path, file: &mut File) -> Result<ClipInfo> {
    let json = archive_entry(path, file, archive::CLIP_ENTRY)?.ok_or(Error::UnsupportedFile)?;
    serde_json::from_slice(&json).map_err(|error| Error::damaged(error.to_string()))
}

fn archive_frame(path: &Path, file: &mut File, index: u64) -> Result<Vec<u8>> {
    archive_entry(path, file, &archive::frame_entry(index))?.ok_or_else(|| no_frame(index))
}

fn archive_entry(path: &Path, file: &mut File, name: &str) -> Result<Option<Vec<u8>>> {
    let entries = archive::entries(file).map_err(read_error(path))?;
    let entries = entries.ok_or(Error::UnsupportedFile)?;
    let Some(entry) = entries.iter().find(|entry| entry.name == name) else {
        return Ok(None);
    };
    let content = archive::read_entry(file, entry, MAX_BYTES).map_err(read_error(path))?;
    content
        .map(Some)
        .ok_or_else(|| Error::damaged(format!("{name} in the archive is damaged")))
}

fn archive_texts<R: Read + Seek>(file: &mut R) -> io::Result<Option<Vec<(String, String)>>> {
    let Some(entries) = archive::entries(file)? else {
        return Ok(None);
    };
    let mut texts = Vec::new();
    for (name, key) in [
        (archive::SETTINGS_ENTRY, "parameters"),
        (archive::RECIPE_ENTRY, RECIPE_KEYWORD),
    ] {
        let Some(entry) = entries.iter().find(|entry| entry.name == name) else {
            continue;
        };
        let text = archive::read_entry(file, entry, MAX_BYTES)?;
        if let Some(text) = text.and_then(|text| String::from_utf8(text).ok()) {
            texts.push((key.to_owned(), text));
        }
    }
    // A ZIP without them is somebody else's.
    Ok((!texts.is_empty()).then_some(texts))
}
