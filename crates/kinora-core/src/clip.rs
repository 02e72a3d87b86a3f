//! Clips: moving pictures, with or without sound, as files.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A clip's file format: container, codec and all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClipFormat {
    /// MP4 with H.264 and AAC. Plays everywhere.
    #[default]
    Mp4,
    /// MP4 with H.265 (HEVC, tagged `hvc1`) and AAC. Smaller; plays where the system has a decoder.
    #[serde(rename = "mp4_h265")]
    Mp4H265,
    /// MP4 with AV1 and AAC. Smallest; free of licence fees.
    #[serde(rename = "mp4_av1")]
    Mp4Av1,
    /// WebM with VP9 and Opus.
    Webm,
    /// Animated GIF: 256 colours, no sound.
    Gif,
    /// Animated WebP, no sound. Not called `webp`, which is the still picture's name.
    AnimatedWebp,
    /// Every frame as a PNG, lossless, in one ZIP archive, without sound. An archive and not a
    /// folder: a result is one file that can be hashed, moved, shown, trashed and downloaded whole.
    Frames,
}

impl ClipFormat {
    /// All of them, the most useful first.
    pub const ALL: [ClipFormat; 7] = [
        ClipFormat::Mp4,
        ClipFormat::Mp4H265,
        ClipFormat::Mp4Av1,
        ClipFormat::Webm,
        ClipFormat::Gif,
        ClipFormat::AnimatedWebp,
        ClipFormat::Frames,
    ];

    /// The ending of file names, without a dot.
    pub fn extension(self) -> &'static str {
        match self {
            ClipFormat::Mp4 | ClipFormat::Mp4H265 | ClipFormat::Mp4Av1 => "mp4",
            ClipFormat::Webm => "webm",
            ClipFormat::Gif => "gif",
            ClipFormat::AnimatedWebp => "webp",
            ClipFormat::Frames => "zip",
        }
    }

    /// The media type.
    pub fn media_type(self) -> &'static str {
        match self {
            ClipFormat::Mp4 | ClipFormat::Mp4H265 | ClipFormat::Mp4Av1 => "video/mp4",
            ClipFormat::Webm => "video/webm",
            ClipFormat::Gif => "image/gif",
            ClipFormat::AnimatedWebp => "image/webp",
            ClipFormat::Frames => "application/zip",
        }
    }

    /// Whether the format can carry sound.
    pub fn can_have_sound(self) -> bool {
        match self {
            ClipFormat::Mp4 | ClipFormat::Mp4H265 | ClipFormat::Mp4Av1 | ClipFormat::Webm => true,
            ClipFormat::Gif | ClipFormat::AnimatedWebp | ClipFormat::Frames => false,
        }
    }
}

/// Pictures per second as a fraction: 30000/1001 is not 29.97.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct FrameRate {
    /// Pictures …
    pub numerator: u32,
    /// … in this many seconds. Not zero.
    pub denominator: u32,
}

impl FrameRate {
    /// A whole number of pictures per second.
    pub const fn whole(per_second: u32) -> Self {
        Self {
            numerator: per_second,
            denominator: 1,
        }
    }

    /// The fraction that is meant by a decimal number: 29.97 is 30000/1001. None: not between one
    /// picture in a hundred seconds and a thousand in one.
    pub fn from_f64(per_second: f64) -> Option<Self> {
        if !(0.01..=1000.0).contains(&per_second) {
            return None;
        }
        let nearest = per_second.round();
        if nearest >= 1.0 && (per_second - nearest).abs() < 1e-6 {
            return Some(Self::whole(nearest as u32));
        }
        let broadcast = nearest * 1000.0 / 1001.0;
        if nearest >= 1.0 && (per_second - broadcast).abs() < 0.005 {
            return Some(Self {
                numerator: nearest as u32 * 1000,
                denominator: 1001,
            });
        }
        Some(Self {
            numerator: (per_second * 1000.0).round() as u32,
            denominator: 1000,
        })
    }

    /// Pictures per second.
    pub fn per_second(self) -> f64 {
        f64::from(self.numerator) / f64::from(self.denominator.max(1))
    }

    /// How long that many pictures last, in milliseconds, rounded.
    pub fn milliseconds(self, frames: u64) -> u64 {
        let numerator = u128::from(self.numerator.max(1));
        let exact = u128::from(frames) * 1000 * u128::from(self.denominator);
        u64::try_from((exact + numerator / 2) / numerator).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for FrameRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.denominator {
            1 => write!(f, "{}", self.numerator),
            denominator => write!(f, "{}/{denominator}", self.numerator),
        }
    }
}

/// What a clip is, beyond the size of its pictures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClipInfo {
    /// Pictures.
    pub frames: u64,
    /// Pictures per second.
    pub rate: FrameRate,
    /// How long it plays, in milliseconds.
    pub duration_ms: u64,
    /// Whether it has a sound track.
    pub has_sound: bool,
    /// The pictures' codec: `h264`, `hevc`, `av1`, `vp9`, `gif`, `webp`, `png`.
    pub codec: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_rate_is_the_fraction_that_was_meant() {
        let rate = |x: f64| FrameRate::from_f64(x).map(|rate| rate.to_string());
        assert_eq!(rate(16.0).as_deref(), Some("16"));
        assert_eq!(rate(23.976).as_deref(), Some("24000/1001"));
        assert_eq!(rate(29.97).as_deref(), Some("30000/1001"));
        assert_eq!(rate(12.5).as_deref(), Some("12500/1000"));
        assert_eq!(rate(0.5).as_deref(), Some("500/1000"));
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY, 1001.0] {
            assert_eq!(rate(wrong), None);
        }
    }

    #[test]
    fn a_duration_is_exact_to_the_millisecond() {
        assert_eq!(FrameRate::whole(16).milliseconds(81), 5063);
        assert_eq!(FrameRate::from_f64(29.97).unwrap().milliseconds(30), 1001);
        assert_eq!(FrameRate::whole(24).milliseconds(u64::MAX), u64::MAX);
    }

    #[test]
    fn a_format_is_told_apart_from_a_still_picture_by_its_name() {
        for format in ClipFormat::ALL {
            let name = serde_json::to_string(&format).unwrap();
            assert!(serde_json::from_str::<crate::ImageFormat>(&name).is_err());
        }
    }
}
