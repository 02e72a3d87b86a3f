//! The columns of a list: which headings are known, and what their cells may hold.

use std::{borrow::Cow, collections::BTreeMap};

use kinora_core::{
    ImageRequest, LoraRequest, ModelId, PictureRef, Priority, Request, Rng, Sampler, Schedule, Seed,
};

/// What a column sets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Column {
    /// The prompt.
    Prompt,
    /// The negative prompt.
    Negative,
    /// The naming template of the row's files.
    Output,
    /// A member of the request.
    Setting(Setting),
    /// A word to put into prompts and names, as `{name}`.
    Variable(String),
    /// A remark.
    Comment,
}

/// A member of the request that a column can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Setting {
    /// Model.
    Model,
    /// Files for its parts: `vae=ae-tuned, text_encoder_2=t5xxl`.
    Components,
    /// Seed; `random` and `-1` are none.
    Seed,
    /// Pixels.
    Width,
    /// Pixels.
    Height,
    /// Both, as `320x192`.
    Size,
    /// Denoising steps.
    Steps,
    /// Distilled guidance.
    Guidance,
    /// Classifier-free guidance.
    TrueCfg,
    /// How far steps may differ for most of an earlier one to be reused.
    StepCache,
    /// Pictures.
    Copies,
    /// Who goes first.
    Priority,
    /// File format.
    Format,
    /// Generator of the noise.
    Rng,
    /// Picture to start from.
    Image,
    /// A picture besides the first, by its number: 2 is the second.
    MoreImage(u8),
    /// How much the picture of that number counts.
    MoreStrength(u8),
    /// What of it is painted anew.
    Mask,
    /// How far the result may move away from it.
    Strength,
    /// Picture that a clip ends with.
    EndImage,
    /// LoRA names with weights, and the expert where a model has two: `style:0.8, ink:1:high`.
    Lora,
    /// Frames of a clip.
    Frames,
    /// Its length in seconds, instead.
    Seconds,
    /// Frames in a second.
    Fps,
    /// Whether a clip has sound.
    Sound,
    /// Frames of the windows that a clip goes through.
    ContextFrames,
    /// Frames that neighbouring windows share.
    ContextOverlap,
    /// Whether frames are decoded in tiles although the whole would fit.
    VaeTiling,
    /// Step rule.
    Sampler,
    /// Spacing of the noise levels.
    Schedule,
}

/// What a cell for the file format may hold.
const FORMATS: &str =
    "png, jpeg or webp; for clips mp4, mp4_h265, mp4_av1, webm, gif, animated_webp or frames";

/// Headings as they are written in files, the usual one of each column first.
const KNOWN: [(&str, Column); 40] = [
    ("prompt", Column::Prompt),
    ("negative", Column::Negative),
    ("negative_prompt", Column::Negative),
    ("model", Column::Setting(Setting::Model)),
    ("components", Column::Setting(Setting::Components)),
    ("component", Column::Setting(Setting::Components)),
    ("seed", Column::Setting(Setting::Seed)),
    ("width", Column::Setting(Setting::Width)),
    ("height", Column::Setting(Setting::Height)),
    ("size", Column::Setting(Setting::Size)),
    ("steps", Column::Setting(Setting::Steps)),
    ("guidance", Column::Setting(Setting::Guidance)),
    ("guidance_scale", Column::Setting(Setting::Guidance)),
    ("true_cfg", Column::Setting(Setting::TrueCfg)),
    ("step_cache", Column::Setting(Setting::StepCache)),
    ("copies", Column::Setting(Setting::Copies)),
    ("priority", Column::Setting(Setting::Priority)),
    ("format", Column::Setting(Setting::Format)),
    ("rng", Column::Setting(Setting::Rng)),
    ("image", Column::Setting(Setting::Image)),
    ("picture", Column::Setting(Setting::Image)),
    ("mask", Column::Setting(Setting::Mask)),
    ("strength", Column::Setting(Setting::Strength)),
    ("end_image", Column::Setting(Setting::EndImage)),
    ("lora", Column::Setting(Setting::Lora)),
    ("loras", Column::Setting(Setting::Lora)),
    ("frames", Column::Setting(Setting::Frames)),
    ("seconds", Column::Setting(Setting::Seconds)),
    ("fps", Column::Setting(Setting::Fps)),
    ("sound", Column::Setting(Setting::Sound)),
    ("context_frames", Column::Setting(Setting::ContextFrames)),
    ("context_overlap", Column::Setting(Setting::ContextOverlap)),
    ("vae_tiling", Column::Setting(Setting::VaeTiling)),
    ("sampler", Column::Setting(Setting::Sampler)),
    ("schedule", Column::Setting(Setting::Schedule)),
    ("scheduler", Column::Setting(Setting::Schedule)),
    ("output", Column::Output),
    ("output_name", Column::Output),
    ("name", Column::Output),
    ("comment", Column::Comment),
];

/// Headings that are known, for suggestions.
pub fn known_headings() -> impl Iterator<Item = &'static str> {
    let numbered = ["image_2", "strength_2"];
    KNOWN.iter().map(|(heading, _)| *heading).chain(numbered)
}

/// The setting of a heading with a number behind it: `image_2` to `image_9`, `strength_2` and so on.
fn numbered(heading: &str) -> Option<Setting> {
    let (word, number) = heading.rsplit_once('_')?;
    let number = match number.as_bytes() {
        [digit @ b'2'..=b'9'] => digit - b'0',
        _ => return None,
    };
    match word {
        "image" | "picture" => Some(Setting::MoreImage(number)),
        "strength" => Some(Setting::MoreStrength(number)),
        _ => None,
    }
}

/// A heading in its plain form: small letters, `_` between words, without braces.
pub fn normalize(heading: &str) -> String {
    let heading = heading.trim().trim_matches(['{', '}']).trim();
    heading
        .chars()
        .flat_map(char::to_lowercase)
        .map(|letter| {
            if matches!(letter, ' ' | '-') {
                '_'
            } else {
                letter
            }
        })
        .collect()
}

impl Column {
    /// The column of a heading.
    pub fn from_heading(heading: &str) -> Self {
        if heading.trim_start().starts_with('#') {
            return Column::Comment;
        }
        let name = normalize(heading);
        let known = KNOWN.iter().find(|(known, _)| *known == name);
        match known {
            Some((_, column)) => column.clone(),
            None => numbered(&name).map_or(Column::Variable(name), Column::Setting),
        }
    }

    /// Whether the heading is one of the known ones.
    pub fn is_known(&self) -> bool {
        !matches!(self, Column::Variable(_))
    }

    /// Whether cells may hold several values, separated by `|`.
    pub fn has_values(&self) -> bool {
        matches!(self, Column::Setting(_) | Column::Variable(_))
    }

    /// Whether a problem with this member of a request is this column's.
    pub fn is_about(&self, field: &str) -> bool {
        match self {
            Column::Prompt => field == "prompt",
            Column::Negative => field == "negative_prompt",
            Column::Output => field == "output_name",
            Column::Setting(Setting::Size) => matches!(field, "width" | "height"),
            Column::Setting(Setting::Lora) => field.starts_with("loras"),
            Column::Setting(Setting::Components) => field.starts_with("components"),
            // That the model makes no clips is told at the first column of one.
            Column::Setting(setting) if field == "video" => setting.field().starts_with("video."),
            // That there are too many pictures is told at the first of them.
            Column::Setting(setting @ Setting::MoreImage(number)) => {
                setting.field() == field || (*number == 2 && field == "more_images")
            }
            Column::Setting(setting) => setting.field() == field,
            Column::Variable(_) | Column::Comment => false,
        }
    }
}

impl Setting {
    /// The member of the request.
    pub fn field(self) -> Cow<'static, str> {
        let name = match self {
            Setting::MoreImage(number) => {
                return format!("more_images[{}].image", place_of(number)).into();
            }
            Setting::MoreStrength(number) => {
                return format!("more_images[{}].strength", place_of(number)).into();
            }
            Setting::Model => "model",
            Setting::Components => "components",
            Setting::Seed => "seed",
            Setting::Width | Setting::Size => "width",
            Setting::Height => "height",
            Setting::Steps => "steps",
            Setting::Guidance => "guidance",
            Setting::TrueCfg => "true_cfg",
            Setting::StepCache => "step_cache",
            Setting::Copies => "copies",
            Setting::Priority => "priority",
            Setting::Format => "format",
            Setting::Rng => "rng",
            Setting::Image => "image",
            Setting::Mask => "mask",
            Setting::Strength => "strength",
            Setting::EndImage => "video.end_image",
            Setting::Lora => "loras",
            Setting::Frames => "video.frames",
            Setting::Seconds => "video.seconds",
            Setting::Fps => "video.fps",
            Setting::Sound => "video.sound",
            Setting::ContextFrames => "video.context_frames",
            Setting::ContextOverlap => "video.context_overlap",
            Setting::VaeTiling => "video.vae_tiling",
            Setting::Sampler => "sampler",
            Setting::Schedule => "schedule",
        };
        name.into()
    }

    /// Which columns of a row are read before others, whatever their order in the list: pictures by
    /// their numbers, then how much each counts.
    pub fn turn(self) -> u8 {
        match self {
            Setting::MoreImage(number) => number,
            Setting::MoreStrength(number) => 10 + number,
            _ => 0,
        }
    }

    /// Whether its cells name pictures.
    pub fn is_picture(self) -> bool {
        matches!(
            self,
            Setting::Image | Setting::MoreImage(_) | Setting::Mask | Setting::EndImage
        )
    }

    /// Puts a cell's text into a request; an empty one changes nothing.
    ///
    /// # Errors
    /// What the cell should hold instead, or what it lacks beside it.
    pub fn apply(self, text: &str, request: &mut Request) -> Result<(), BadCell> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(());
        }
        const WHOLE: &str = "a whole number";
        let word = text.to_lowercase();
        match self {
            Setting::Model => request.model = Some(ModelId::new(text)),
            Setting::Components => request.components = parse_components(text)?,
            Setting::Seed => {
                request.seed = match word.as_str() {
                    "random" | "-1" => None,
                    digits => Some(Seed(parse_whole(digits).ok_or(
                        "a whole number from 0 to 18446744073709551615, or the word random",
                    )?)),
                }
            }
            Setting::MoreImage(number) => {
                let image = parse_picture(text)?;
                let count = request.more_images.len();
                match request.more_images.get_mut(place_of(number)) {
                    Some(more) => more.image = image,
                    None if count == place_of(number) => request.more_images.push(ImageRequest {
                        image,
                        strength: None,
                    }),
                    None => return Err(BadCell::Alone),
                }
            }
            Setting::MoreStrength(number) => {
                let strength = parse_real(text).ok_or("a number")?;
                let more = request.more_images.get_mut(place_of(number));
                more.ok_or(BadCell::Alone)?.strength = Some(strength);
            }
            Setting::Width => request.width = Some(parse_u32(text).ok_or(WHOLE)?),
            Setting::Height => request.height = Some(parse_u32(text).ok_or(WHOLE)?),
            Setting::Size => {
                let (width, height) = word
                    .split_once(['x', '×', '*'])
                    .and_then(|(width, height)| Some((parse_u32(width)?, parse_u32(height)?)))
                    .ok_or("a size such as 1024x768")?;
                request.width = Some(width);
                request.height = Some(height);
            }
            Setting::Image => request.image = Some(parse_picture(text)?),
            Setting::Mask => request.mask = Some(parse_picture(text)?),
            Setting::EndImage => request.video.end_image = Some(parse_picture(text)?),
            Setting::Strength => request.strength = Some(parse_real(text).ok_or("a number")?),
            Setting::Lora => request.loras = parse_loras(text)?,
            Setting::Frames => request.video.frames = Some(parse_u32(text).ok_or(WHOLE)?),
            Setting::Seconds => request.video.seconds = Some(parse_real(text).ok_or("a number")?),
            Setting::Fps => request.video.fps = Some(parse_u32(text).ok_or(WHOLE)?),
            Setting::ContextFrames => {
                request.video.context_frames = Some(parse_u32(text).ok_or(WHOLE)?)
            }
            Setting::ContextOverlap => {
                request.video.context_overlap = Some(parse_u32(text).ok_or(WHOLE)?)
            }
            Setting::Sound => request.video.sound = Some(parse_yes(&word).ok_or("yes or no")?),
            Setting::VaeTiling => {
                request.video.vae_tiling = Some(parse_yes(&word).ok_or("yes or no")?)
            }
            Setting::Sampler => {
                let (sampler, schedule) =
                    Sampler::from_name(text).ok_or("the name of a sampler, such as euler")?;
                request.sampler = Some(sampler);
                request.schedule = schedule.or(request.schedule);
            }
            Setting::Schedule => {
                let schedule = Schedule::from_name(text);
                request.schedule = Some(schedule.ok_or("the name of a schedule, such as karras")?);
            }
            Setting::Steps => request.steps = Some(parse_u32(text).ok_or(WHOLE)?),
            Setting::Guidance => request.guidance = Some(parse_real(text).ok_or("a number")?),
            Setting::TrueCfg => request.true_cfg = Some(parse_real(text).ok_or("a number")?),
            Setting::StepCache => request.step_cache = Some(parse_real(text).ok_or("a number")?),
            Setting::Copies => request.copies = Some(parse_u32(text).ok_or(WHOLE)?),
            Setting::Priority => {
                request.priority = Some(match word.as_str() {
                    "bulk" | "low" => Priority::Bulk,
                    "interactive" | "normal" => Priority::Interactive,
                    "urgent" | "high" => Priority::Urgent,
                    _ => return Err("bulk, interactive or urgent".into()),
                })
            }
            Setting::Format => {
                // The names on the wire, and the endings that people know them by.
                let word = match word.as_str() {
                    "jpg" => "jpeg",
                    "h264" => "mp4",
                    "h265" | "hevc" => "mp4_h265",
                    "av1" => "mp4_av1",
                    other => other,
                };
                let format = serde_json::from_value(word.into());
                request.format = Some(format.map_err(|_| FORMATS)?);
            }
            Setting::Rng => {
                request.rng = Some(match word.as_str() {
                    "cpu" => Rng::Cpu,
                    "cuda" | "gpu" => Rng::Cuda,
                    _ => return Err("cpu or cuda".into()),
                })
            }
        }
        Ok(())
    }
}

/// Why a cell cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadCell {
    /// It should hold this.
    Expected(&'static str),
    /// It is about a picture of a number, and the row has none before it.
    Alone,
}

impl From<&'static str> for BadCell {
    fn from(expected: &'static str) -> Self {
        Self::Expected(expected)
    }
}

impl BadCell {
    /// What is wrong with a cell of this text.
    pub fn message(self, text: &str) -> String {
        match self {
            Self::Expected(expected) => format!("\"{text}\" is not {expected}"),
            Self::Alone => format!("\"{text}\" has no picture before it"),
        }
    }

    /// What to do about it.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Expected(_) => "Correct the cell, or leave it empty for the default.",
            Self::Alone => {
                "Pictures are counted without gaps: image, image_2, image_3; strength_2 belongs to \
                 image_2."
            }
        }
    }
}

/// The place of a picture's number among those besides the first.
fn place_of(number: u8) -> usize {
    usize::from(number.saturating_sub(2))
}

/// A small word for yes or no.
fn parse_yes(word: &str) -> Option<bool> {
    match word {
        "yes" | "on" | "true" | "1" => Some(true),
        "no" | "off" | "false" | "0" => Some(false),
        _ => None,
    }
}

/// Parts with their files behind equals signs, separated by commas: `vae=ae, text_encoder=clip_l`.
fn parse_components(text: &str) -> Result<BTreeMap<String, String>, &'static str> {
    let reason = "parts of a model with files, such as vae=ae.safetensors";
    let mut components = BTreeMap::new();
    for item in text.split([',', ';']).map(str::trim) {
        if item.is_empty() {
            continue;
        }
        let (part, file) = item.split_once('=').ok_or(reason)?;
        let (part, file) = (part.trim(), file.trim());
        if part.is_empty() || file.is_empty() {
            return Err(reason);
        }
        components.insert(part.to_owned(), file.to_owned());
    }
    Ok(components)
}

fn parse_picture(text: &str) -> Result<PictureRef, &'static str> {
    let reason = "the name of a picture that came with the list, or asset: with an id";
    text.parse().map_err(|_| reason)
}

/// Names with weights behind colons, separated by commas: `style:0.8, ink:0.5:high`.
fn parse_loras(text: &str) -> Result<Vec<LoraRequest>, &'static str> {
    let reason = "names of LoRA files with weights, such as style:0.8 or style:0.8:high";
    text.split([',', ';'])
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().map_err(|_| reason))
        .collect()
}

/// A whole number, also as spreadsheets write it: `4.0`, `4,0`.
fn parse_whole(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = match text.split_once(['.', ',']) {
        Some((digits, zeros)) if !zeros.is_empty() && zeros.bytes().all(|b| b == b'0') => digits,
        Some(_) => return None,
        None => text,
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

fn parse_u32(text: &str) -> Option<u32> {
    parse_whole(text)?.try_into().ok()
}

/// A finite number with a point or a comma.
fn parse_real(text: &str) -> Option<f32> {
    let text = text.replace(',', ".");
    text.parse().ok().filter(|number: &f32| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_are_known_however_they_are_written() {
        for heading in ["prompt", " Prompt ", "PROMPT"] {
            assert_eq!(Column::from_heading(heading), Column::Prompt);
        }
        assert_eq!(Column::from_heading("Negative Prompt"), Column::Negative);
        assert_eq!(
            Column::from_heading("true-cfg"),
            Column::Setting(Setting::TrueCfg)
        );
        assert_eq!(
            Column::from_heading("{Hair color}"),
            Column::Variable("hair_color".to_owned())
        );
        assert_eq!(Column::from_heading("# remarks"), Column::Comment);
        assert_eq!(
            Column::from_heading("Image 3"),
            Column::Setting(Setting::MoreImage(3))
        );
        for variable in ["image_1", "image_10", "image_02", "seed_2", "_2"] {
            assert!(!Column::from_heading(variable).is_known(), "{variable}");
        }
    }

    #[test]
    fn cells_set_members_or_say_what_they_should_hold() {
        let mut request = Request::default();
        let mut apply = |setting: Setting, text: &str| setting.apply(text, &mut request);
        for (setting, text) in [
            (Setting::Width, "512"),
            (Setting::Height, "768.0"),
            (Setting::Steps, " 4 "),
            (Setting::Guidance, "3,5"),
            (Setting::Seed, "18446744073709551615"),
            (Setting::Priority, "High"),
            (Setting::Format, "JPG"),
            (Setting::Copies, ""),
        ] {
            assert_eq!(apply(setting, text), Ok(()), "{text}");
        }
        for (setting, text) in [
            (Setting::Width, "wide"),
            (Setting::Width, "-5"),
            (Setting::Width, "5.5"),
            (Setting::Height, "4294967296"),
            (Setting::Seed, "18446744073709551616"),
            (Setting::Seed, "+1"),
            (Setting::Guidance, "nan"),
            (Setting::Guidance, "inf"),
            (Setting::Size, "512"),
            (Setting::Size, "ax5"),
            (Setting::Priority, "soon"),
            (Setting::Format, "bmp"),
            (Setting::Sound, "loud"),
        ] {
            assert!(apply(setting, text).is_err(), "{text}");
        }
        assert_eq!((request.width, request.height), (Some(512), Some(768)));
        assert_eq!(request.guidance, Some(3.5));
        assert_eq!(request.copies, None);
        Setting::Size.apply("320×192", &mut request).unwrap();
        assert_eq!((request.width, request.height), (Some(320), Some(192)));
        Setting::Seed.apply("random", &mut request).unwrap();
        assert_eq!(request.seed, None);
        for (text, sound) in [("No", false), ("yes", true), ("off", false), ("1", true)] {
            Setting::Sound.apply(text, &mut request).unwrap();
            assert_eq!(request.video.sound, Some(sound));
        }
    }

    #[test]
    fn pictures_are_counted_without_gaps() {
        let picture = format!("input:{}", "a".repeat(64));
        let mut request = Request::default();
        let alone = Err(BadCell::Alone);
        assert_eq!(Setting::MoreImage(3).apply(&picture, &mut request), alone);
        assert_eq!(Setting::MoreStrength(2).apply("0.5", &mut request), alone);
        Setting::MoreImage(2).apply(&picture, &mut request).unwrap();
        Setting::MoreStrength(2).apply("0,5", &mut request).unwrap();
        Setting::MoreImage(3).apply(&picture, &mut request).unwrap();
        let strengths: Vec<_> = (request.more_images.iter())
            .map(|more| more.strength)
            .collect();
        assert_eq!(strengths, [Some(0.5), None]);
    }

    #[test]
    fn parts_are_written_with_their_files() {
        let mut request = Request::default();
        Setting::Components
            .apply("vae=a/ae.sft; text_encoder_2 = t5xxl,", &mut request)
            .unwrap();
        let files: Vec<_> = (request.components.iter())
            .map(|(part, file)| (part.as_str(), file.as_str()))
            .collect();
        assert_eq!(files, [("text_encoder_2", "t5xxl"), ("vae", "a/ae.sft")]);
        for text in ["ae.safetensors", "vae=", "=ae"] {
            assert!(Setting::Components.apply(text, &mut request).is_err());
        }
    }
}
