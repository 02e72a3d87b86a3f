//! Clips in MP4 and WebM: FFmpeg's encoders and containers, fed picture by picture.
//!
//! | format | pictures | sound |
//! |---|---|---|
//! | MP4 | H.264 (x264), H.265 (x265, `hvc1`), AV1 (SVT-AV1) | AAC |
//! | WebM | VP9 (libvpx) | Opus |
//!
//! Everything that could make two files of equal pictures differ is pinned: thread counts, the
//! encoders' version strings, times, random ids.

use std::{collections::VecDeque, path::Path};

use ffmpeg_next::{
    self as ffmpeg, ChannelLayout, Dictionary, Packet, Rational, codec, color, encoder,
    format::{self, Pixel, Sample, sample},
    frame, software,
};
use kinora_core::ClipFormat;

use super::{ClipSpec, SoundSpec, yuv};
use crate::error::{Error, Result};

/// Encoding threads. Part of the result: x264 splits its rate control between them.
const THREADS: usize = 8;

/// What an encoder is called, and the options that make it good and repeatable.
struct Recipe {
    encoder: &'static str,
    options: Vec<(&'static str, String)>,
}

/// The encoder of a format at a quality of 1 to 100. The quality steps are those of each encoder's
/// constant-quality scale; 90 is where a difference is no longer seen.
fn recipe(format: ClipFormat, quality: u8) -> Recipe {
    let lost = 100 - i32::from(quality.clamp(1, 100));
    let crf = |best: i32, worst: i32| (best + lost * 3 / 5).min(worst).to_string();
    match format {
        ClipFormat::Mp4H265 => Recipe {
            encoder: "libx265",
            options: vec![
                ("preset", "medium".to_owned()),
                ("crf", crf(11, 51)),
                // info=0: no version string in the stream. Frame threads change the bits.
                (
                    "x265-params",
                    "log-level=none:info=0:frame-threads=2".to_owned(),
                ),
            ],
        },
        ClipFormat::Mp4Av1 => Recipe {
            encoder: "libsvtav1",
            options: vec![("preset", "6".to_owned()), ("crf", crf(16, 63))],
        },
        ClipFormat::Webm => Recipe {
            encoder: "libvpx-vp9",
            options: vec![
                ("deadline", "good".to_owned()),
                ("cpu-used", "2".to_owned()),
                ("crf", crf(14, 63)),
                ("tile-columns", "2".to_owned()),
                ("auto-alt-ref", "1".to_owned()),
                ("lag-in-frames", "25".to_owned()),
            ],
        },
        _ => Recipe {
            encoder: "libx264",
            options: vec![
                ("preset", "medium".to_owned()),
                ("crf", crf(11, 51)),
                // x264's macroblock tree reads memory that nobody wrote once there are B-frames
                // (seen with core 164: MALLOC_PERTURB_ changes the stream), so that equal pictures
                // gave unequal files.
                ("x264-params", "mbtree=0".to_owned()),
            ],
        },
    }
}

/// A clip being written by FFmpeg.
pub(super) struct Stream {
    spec: ClipSpec,
    path: std::path::PathBuf,
    output: format::context::Output,
    video: encoder::video::Encoder,
    /// Index and time base of the container's track.
    video_track: (usize, Rational),
    sound: Option<Sound>,
    frames: u64,
}

impl Stream {
    pub(super) fn create(path: &Path, spec: &ClipSpec, tags: &[(&str, String)]) -> Result<Self> {
        let fail = |error| spec.failed(path, error);
        let container = match spec.format {
            ClipFormat::Webm => "webm",
            _ => "mp4",
        };
        // FFmpeg takes a name with a colon for a protocol.
        let url = path
            .to_str()
            .filter(|path| !path.contains('\0'))
            .map(|path| format!("file:{path}"))
            .ok_or_else(|| spec.refused("the file's path is not valid UTF-8"))?;
        let mut output = format::output_as(&url, container).map_err(fail)?;
        // SAFETY: the context was just allocated and belongs to `output`. The flag keeps random ids
        // and version strings out of the file.
        unsafe {
            (*output.as_mut_ptr()).flags |= ffmpeg::ffi::AVFMT_FLAG_BITEXACT;
        }
        let video = open_video(spec, path)?;
        let mut track = output.add_stream_with(&video).map_err(fail)?;
        let rate = rate_of(spec);
        track.set_time_base(rate.invert());
        track.set_avg_frame_rate(rate);
        track.set_rate(rate);
        let video_index = track.index();
        let mut sound = match &spec.sound {
            None => None,
            Some(sound) => {
                let sound = Sound::open(spec, path, *sound)?;
                let mut track = output.add_stream_with(&sound.encoder).map_err(fail)?;
                track.set_time_base(sound.time_base());
                Some(sound)
            }
        };
        let mut metadata = Dictionary::new();
        for (key, value) in tags {
            // The tags are C strings.
            metadata.set(key, &value.replace('\0', " "));
        }
        output.set_metadata(metadata);
        let mut options = Dictionary::new();
        match spec.format {
            // The index in front, so that a player can begin at once; tags under names of our own.
            ClipFormat::Webm => options.set("cues_to_front", "1"),
            _ => options.set("movflags", "+faststart+use_metadata_tags"),
        }
        output.write_header_with(options).map_err(fail)?;
        let base_of = |index: usize| {
            let track = output.stream(index);
            track.map_or(Rational(1, 1000), |track| track.time_base())
        };
        let video_track = (video_index, base_of(video_index));
        if let Some(sound) = &mut sound {
            sound.track = (video_index + 1, base_of(video_index + 1));
        }
        Ok(Self {
            spec: spec.clone(),
            path: path.to_owned(),
            output,
            video,
            video_track,
            sound,
            frames: 0,
        })
    }

    pub(super) fn push(&mut self, rgb: &[u8]) -> Result<()> {
        let (width, height) = (self.video.width(), self.video.height());
        // A picture of its own each time: the encoder keeps those that it refers to.
        let mut picture = frame::Video::new(Pixel::YUV420P, width, height);
        let strides = [0, 1, 2].map(|plane| picture.stride(plane));
        let mut planes = [0, 1, 2].map(|plane| vec![0; picture.data(plane).len()]);
        let [luma, blue, red] = &mut planes;
        yuv::from_rgb(
            rgb,
            self.spec.width as usize,
            self.spec.height as usize,
            [(luma, strides[0]), (blue, strides[1]), (red, strides[2])],
        );
        for (index, plane) in planes.iter().enumerate() {
            picture.data_mut(index).copy_from_slice(plane);
        }
        picture.set_color_space(color::Space::BT709);
        picture.set_color_range(color::Range::MPEG);
        picture.set_color_primaries(color::Primaries::BT709);
        picture.set_color_transfer_characteristic(color::TransferCharacteristic::BT709);
        picture.set_pts(i64::try_from(self.frames).ok());
        self.frames += 1;
        let sent = self.video.send_frame(&picture);
        sent.and_then(|()| self.drain_video())
            .map_err(|error| self.failed(error))?;
        self.write_sound()
    }

    pub(super) fn push_sound(&mut self, samples: &[f32]) -> Result<()> {
        if let Some(sound) = &mut self.sound {
            sound.waiting.extend(samples);
        }
        self.write_sound()
    }

    pub(super) fn finish(mut self) -> Result<()> {
        let sent = self.video.send_eof();
        sent.and_then(|()| self.drain_video())
            .map_err(|error| self.failed(error))?;
        self.write_sound()?;
        if let Some(sound) = &mut self.sound {
            let ended = sound.finish(&mut self.output);
            ended.map_err(|error| self.failed(error))?;
        }
        let ended = self.output.write_trailer();
        ended.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: ffmpeg::Error) -> Error {
        self.spec.failed(&self.path, error)
    }

    /// Writes what the encoder has ready.
    fn drain_video(&mut self) -> std::result::Result<(), ffmpeg::Error> {
        let base = rate_of(&self.spec).invert();
        let (index, track_base) = self.video_track;
        let mut packet = Packet::empty();
        while is_ready(self.video.receive_packet(&mut packet))? {
            packet.set_stream(index);
            // Encoders leave it out; the last picture would last no time at all.
            packet.set_duration(1);
            packet.rescale_ts(base, track_base);
            packet.write_interleaved(&mut self.output)?;
        }
        Ok(())
    }

    /// Writes sound as far as there are pictures: what is longer than the clip is never heard.
    fn write_sound(&mut self) -> Result<()> {
        let Some(sound) = &mut self.sound else {
            return Ok(());
        };
        let rate = self.spec.rate;
        let until =
            u128::from(self.frames) * u128::from(sound.spec.rate) * u128::from(rate.denominator)
                / u128::from(rate.numerator);
        let until = u64::try_from(until).unwrap_or(u64::MAX);
        let written = sound.write_until(until, &mut self.output);
        written.map_err(|error| self.failed(error))
    }
}

fn rate_of(spec: &ClipSpec) -> Rational {
    // Checked with the rest of the spec: both are small.
    Rational(spec.rate.numerator as i32, spec.rate.denominator as i32)
}

/// Whether a codec had something; wanting more input and being through are no errors.
fn is_ready(
    outcome: std::result::Result<(), ffmpeg::Error>,
) -> std::result::Result<bool, ffmpeg::Error> {
    match outcome {
        Ok(()) => Ok(true),
        Err(ffmpeg::Error::Eof) => Ok(false),
        Err(ffmpeg::Error::Other { errno }) if errno == ffmpeg::error::EAGAIN => Ok(false),
        Err(error) => Err(error),
    }
}

fn find_encoder(spec: &ClipSpec, name: &str) -> Result<ffmpeg::Codec> {
    encoder::find_by_name(name)
        .ok_or_else(|| spec.refused(&format!("this system's FFmpeg has no {name}")))
}

fn open_video(spec: &ClipSpec, path: &Path) -> Result<encoder::video::Encoder> {
    let fail = |error| spec.failed(path, error);
    let recipe = recipe(spec.format, spec.quality);
    let codec = find_encoder(spec, recipe.encoder)?;
    let context = codec::Context::new_with_codec(codec);
    let mut video = context.encoder().video().map_err(fail)?;
    video.set_width(spec.width.next_multiple_of(2));
    video.set_height(spec.height.next_multiple_of(2));
    video.set_format(Pixel::YUV420P);
    video.set_aspect_ratio(Rational(1, 1));
    let rate = rate_of(spec);
    video.set_time_base(rate.invert());
    video.set_frame_rate(Some(rate));
    // A whole picture every second: players jump from one to the next when scrubbing.
    video.set_gop((spec.rate.per_second().ceil() as u32).clamp(1, 250));
    // Quality decides, not a rate; libvpx has one unless told otherwise.
    video.set_bit_rate(0);
    video.set_colorspace(color::Space::BT709);
    video.set_color_range(color::Range::MPEG);
    video.set_color_primaries(color::Primaries::BT709);
    video.set_color_transfer_characteristic(color::TransferCharacteristic::BT709);
    video.set_threading(codec::threading::Config::count(THREADS));
    // Open groups of pictures begin with one that players cannot start from: Chromium waits for ever
    // when it is to jump there.
    video
        .set_flags(codec::Flags::GLOBAL_HEADER | codec::Flags::BITEXACT | codec::Flags::CLOSED_GOP);
    if spec.format == ClipFormat::Mp4H265 {
        // SAFETY: the context is `video`'s own and not opened yet. `hvc1` is the tag that Apple's
        // players ask for; the muxer's own choice is `hev1`.
        unsafe {
            (*video.as_mut_ptr()).codec_tag = u32::from_le_bytes(*b"hvc1");
        }
    }
    let mut options = Dictionary::new();
    for (key, value) in &recipe.options {
        options.set(key, value);
    }
    video.open_as_with(codec, options).map_err(fail)
}

/// The sound track.
struct Sound {
    spec: SoundSpec,
    encoder: encoder::audio::Encoder,
    /// Index and time base of the container's track.
    track: (usize, Rational),
    resampler: software::resampling::Context,
    /// Interleaved samples that wait for their pictures.
    waiting: VecDeque<f32>,
    /// Samples per channel that went on to the resampler.
    taken: u64,
    /// Resampled, by channel, waiting to fill the encoder's frame.
    ready: Vec<VecDeque<f32>>,
    /// Samples per channel that went to the encoder.
    encoded: i64,
}

/// Samples per channel that are resampled at a time.
const CHUNK: usize = 4096;

impl Sound {
    fn open(spec: &ClipSpec, path: &Path, sound: SoundSpec) -> Result<Self> {
        let fail = |error| spec.failed(path, error);
        let (name, rates, bits): (_, &[u32], _) = match spec.format {
            ClipFormat::Webm => ("libopus", &[48_000, 24_000, 16_000, 12_000, 8_000], 80_000),
            _ => (
                "aac",
                &[
                    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000,
                    11_025, 8_000,
                ],
                96_000,
            ),
        };
        // A rate that the codec has stays; any other becomes 48 kHz.
        let rate = if rates.contains(&sound.rate) {
            sound.rate
        } else {
            48_000
        };
        let layout = ChannelLayout::default(i32::from(sound.channels));
        let codec = find_encoder(spec, name)?;
        let context = codec::Context::new_with_codec(codec);
        let mut audio = context.encoder().audio().map_err(fail)?;
        let sample = match spec.format {
            ClipFormat::Webm => Sample::F32(sample::Type::Packed),
            _ => Sample::F32(sample::Type::Planar),
        };
        audio.set_rate(rate as i32);
        audio.set_format(sample);
        audio.set_channel_layout(layout);
        audio.set_time_base(Rational(1, rate as i32));
        audio.set_bit_rate(bits * usize::from(sound.channels));
        audio.set_threading(codec::threading::Config::count(1));
        audio.set_flags(codec::Flags::GLOBAL_HEADER | codec::Flags::BITEXACT);
        let encoder = audio.open_as(codec).map_err(fail)?;
        let resampler = software::resampling::Context::get(
            Sample::F32(sample::Type::Packed),
            layout,
            sound.rate,
            Sample::F32(sample::Type::Planar),
            layout,
            rate,
        )
        .map_err(fail)?;
        Ok(Self {
            spec: sound,
            encoder,
            track: (0, Rational(1, rate as i32)),
            resampler,
            waiting: VecDeque::new(),
            taken: 0,
            ready: vec![VecDeque::new(); usize::from(sound.channels)],
            encoded: 0,
        })
    }

    fn time_base(&self) -> Rational {
        Rational(1, self.resampler.output().rate as i32)
    }

    /// Encodes samples up to a place, counted per channel from the beginning.
    fn write_until(
        &mut self,
        until: u64,
        output: &mut format::context::Output,
    ) -> std::result::Result<(), ffmpeg::Error> {
        let channels = usize::from(self.spec.channels);
        loop {
            let room = usize::try_from(until.saturating_sub(self.taken)).unwrap_or(usize::MAX);
            let count = room.min(self.waiting.len() / channels).min(CHUNK);
            if count == 0 {
                return Ok(());
            }
            let from = *self.resampler.input();
            let mut input = frame::Audio::new(from.format, count, from.channel_layout);
            input.set_rate(from.rate);
            // Interleaved: the plane is counted in samples of one channel by the type below.
            let bytes = input.data_mut(0);
            let samples = self.waiting.drain(..count * channels);
            for (sample, bytes) in samples.zip(bytes.chunks_exact_mut(4)) {
                // Encoders do not take what is no number, nor what is louder than full scale.
                let sample = if sample.is_finite() { sample } else { 0.0 };
                bytes.copy_from_slice(&sample.clamp(-1.0, 1.0).to_ne_bytes());
            }
            self.taken += count as u64;
            let mut out = self.resampled(count);
            self.resampler.run(&input, &mut out)?;
            self.take(&out);
            self.encode(false, output)?;
        }
    }

    /// An empty frame with room for what `count` samples become.
    fn resampled(&self, count: usize) -> frame::Audio {
        let (from, to) = (self.resampler.input(), self.resampler.output());
        let room = count as u64 * u64::from(to.rate) / u64::from(from.rate.max(1)) + 256;
        let mut out = frame::Audio::new(to.format, room as usize, to.channel_layout);
        out.set_rate(to.rate);
        out
    }

    fn take(&mut self, out: &frame::Audio) {
        if out.samples() == 0 {
            return;
        }
        for (channel, ready) in self.ready.iter_mut().enumerate() {
            ready.extend(out.plane::<f32>(channel));
        }
    }

    /// Sends whole frames to the encoder, and at the end the last, shorter one.
    fn encode(
        &mut self,
        is_end: bool,
        output: &mut format::context::Output,
    ) -> std::result::Result<(), ffmpeg::Error> {
        let full = (self.encoder.frame_size() as usize).max(1);
        loop {
            let count = self.ready[0].len().min(full);
            if count == 0 || (count < full && !is_end) {
                return Ok(());
            }
            let to = *self.resampler.output();
            let mut frame = frame::Audio::new(self.encoder.format(), count, to.channel_layout);
            frame.set_rate(to.rate);
            if frame.is_planar() {
                for (channel, ready) in self.ready.iter_mut().enumerate() {
                    let plane = frame.plane_mut::<f32>(channel);
                    for (out, sample) in plane.iter_mut().zip(ready.drain(..count)) {
                        *out = sample;
                    }
                }
            } else {
                let channels = self.ready.len();
                let bytes = frame.data_mut(0);
                for (channel, ready) in self.ready.iter_mut().enumerate() {
                    let slots = bytes.chunks_exact_mut(4).skip(channel).step_by(channels);
                    for (slot, sample) in slots.zip(ready.drain(..count)) {
                        slot.copy_from_slice(&sample.to_ne_bytes());
                    }
                }
            }
            frame.set_pts(Some(self.encoded));
            self.encoded += count as i64;
            self.encoder.send_frame(&frame)?;
            self.drain(output)?;
        }
    }

    fn drain(
        &mut self,
        output: &mut format::context::Output,
    ) -> std::result::Result<(), ffmpeg::Error> {
        let (index, track_base) = self.track;
        let base = self.time_base();
        let mut packet = Packet::empty();
        while is_ready(self.encoder.receive_packet(&mut packet))? {
            packet.set_stream(index);
            packet.rescale_ts(base, track_base);
            packet.write_interleaved(output)?;
        }
        Ok(())
    }

    fn finish(
        &mut self,
        output: &mut format::context::Output,
    ) -> std::result::Result<(), ffmpeg::Error> {
        // What the resampler still holds.
        loop {
            let mut out = self.resampled(CHUNK);
            self.resampler.flush(&mut out)?;
            if out.samples() == 0 {
                break;
            }
            self.take(&out);
        }
        self.encode(true, output)?;
        self.encoder.send_eof()?;
        self.drain(output)
    }
}
