//! What a picture or a clip shall look like, alone or for the rows of a list.

use std::path::PathBuf;

use clap::{Args, ValueEnum, builder::PossibleValuesParser};

/// What a picture may be told; shared by `generate` and, as defaults, by `bulk`.
#[derive(Clone, Debug, Default, Args)]
pub struct Look {
    /// Model; `kinora models list` shows them
    #[arg(short, long, value_name = "ID")]
    pub model: Option<String>,
    /// What to keep away from
    #[arg(short, long, value_name = "TEXT")]
    pub negative: Option<String>,
    /// One picture for each combination of the prompt's choices; without, each picture draws its own
    /// words
    #[arg(long)]
    pub combinations: bool,
    /// Take prompts as they are written: no choices, no tags
    #[arg(long, conflicts_with = "combinations")]
    pub plain: bool,
    /// Size in pixels
    #[arg(short, long, value_name = "WxH", value_parser = parse_size)]
    pub size: Option<(u32, u32)>,
    /// Denoising steps
    #[arg(long, value_name = "N")]
    pub steps: Option<u32>,
    /// Distilled guidance, for models that have it
    #[arg(long, value_name = "X")]
    pub guidance: Option<f32>,
    /// Classifier-free guidance against the negative prompt
    #[arg(long, value_name = "X")]
    pub true_cfg: Option<f32>,
    /// Reuse most of an earlier step where the first block differs by no more than this share: 0.05
    /// changes little, 0.2 saves much
    #[arg(long, value_name = "X")]
    pub step_cache: Option<f32>,
    /// Seed; random when left out
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Pictures of each prompt
    #[arg(short, long, value_name = "N")]
    pub copies: Option<u32>,
    /// Which of PyTorch's generators the noise equals
    #[arg(long, value_parser = PossibleValuesParser::new(["cpu", "cuda"]))]
    pub rng: Option<String>,
    /// Picture to start from, to edit, to vary, or to begin a clip with: a file, or `asset:` with an
    /// id; several are possible where a model takes several
    #[arg(short, long, value_name = "PICTURE", help_heading = "Pictures")]
    pub image: Vec<String>,
    /// What of that picture is painted anew: white is, black stays
    #[arg(long, value_name = "PICTURE", help_heading = "Pictures")]
    pub mask: Option<String>,
    /// How far it may move away from that picture, above 0 up to 1; of variations, how much the
    /// picture counts: one for all, or one for each in their order
    #[arg(
        long,
        value_name = "X",
        allow_negative_numbers = true,
        help_heading = "Pictures"
    )]
    pub strength: Vec<f32>,
    /// LoRA by its name in the folder `loras`, with a weight behind a colon; several are possible.
    /// For one of two networks (Wan 2.2) `:high` or `:low` follows
    #[arg(long, value_name = "NAME[:WEIGHT][:EXPERT]", help_heading = "Pictures")]
    pub lora: Vec<String>,
    /// File to take for a part of the model instead of its own, such as `vae=ae.safetensors`; several
    /// are possible. `kinora models components` lists parts and files
    #[arg(long, value_name = "PART=FILE", help_heading = "Pictures")]
    pub component: Vec<String>,
    /// Frames of a clip
    #[arg(long, value_name = "N", help_heading = "Clips")]
    pub frames: Option<u32>,
    /// Length of a clip in seconds, instead of frames
    #[arg(
        long,
        value_name = "X",
        conflicts_with = "frames",
        help_heading = "Clips"
    )]
    pub seconds: Option<f32>,
    /// Frames in a second
    #[arg(long, value_name = "N", help_heading = "Clips")]
    pub fps: Option<u32>,
    /// Picture that the clip ends with
    #[arg(long, value_name = "PICTURE", help_heading = "Clips")]
    pub end_image: Option<String>,
    /// Guidance of the second of two experts
    #[arg(long, value_name = "X", help_heading = "Clips")]
    pub cfg_2: Option<f32>,
    /// Share of the steps that the second of two experts takes, 0 to 1
    #[arg(long, value_name = "X", help_heading = "Clips")]
    pub low_share: Option<f32>,
    /// Noise level below which the second of two experts takes over, 0 to 1, instead of a share
    #[arg(
        long,
        value_name = "X",
        conflicts_with = "low_share",
        help_heading = "Clips"
    )]
    pub boundary: Option<f32>,
    /// How far the times are shifted towards noise
    #[arg(long, value_name = "X", help_heading = "Clips")]
    pub shift: Option<f32>,
    /// Frames that the network sees at once: a longer clip goes through it in overlapping windows
    #[arg(long, value_name = "N", help_heading = "Clips")]
    pub context_frames: Option<u32>,
    /// Frames that neighbouring windows share
    #[arg(
        long,
        value_name = "N",
        requires = "context_frames",
        help_heading = "Clips"
    )]
    pub context_overlap: Option<u32>,
    /// Frames go through the VAE in tiles, however much memory there is
    #[arg(long, help_heading = "Clips")]
    pub vae_tiling: bool,
    /// Leave out the sound that the model makes with the pictures
    #[arg(long, help_heading = "Clips")]
    pub no_sound: bool,
    /// Step rule; `kinora models show ID` lists them
    #[arg(long, value_name = "NAME")]
    pub sampler: Option<String>,
    /// Spacing of the noise levels
    #[arg(long, value_name = "NAME")]
    pub schedule: Option<String>,
    /// File format: a picture's or a clip's
    #[arg(long, value_parser = PossibleValuesParser::new([
        "png", "jpeg", "webp", "mp4", "mp4_h265", "mp4_av1", "webm", "gif", "animated_webp", "frames",
    ]))]
    pub format: Option<String>,
    /// Naming template, such as `{date}_{seed}_{prompt}`
    #[arg(short, long, value_name = "TEMPLATE")]
    pub output: Option<String>,
    /// Session that the results belong to
    #[arg(long, value_name = "ID")]
    pub session: Option<String>,
    /// Before or after other work
    #[arg(long, value_parser = PossibleValuesParser::new(["bulk", "interactive", "urgent"]))]
    pub priority: Option<String>,
}

/// `kinora generate`
#[derive(Debug, Args)]
pub struct Generate {
    /// What to paint; `-` reads it from standard input. May be left out where pictures say enough
    #[arg(required_unless_present = "image")]
    pub prompt: Option<String>,
    /// How
    #[command(flatten)]
    pub look: Look,
    /// Queue it and return at once
    #[arg(long)]
    pub detach: bool,
    /// Say what would be done, how long it takes and what it needs, and do nothing
    #[arg(long, conflicts_with = "detach")]
    pub dry_run: bool,
}

/// `kinora video`
#[derive(Debug, Args)]
pub struct Video {
    /// What happens in it; `-` reads it from standard input. May be left out where a picture is given
    #[arg(required_unless_present_any = ["image", "full"])]
    pub prompt: Option<String>,
    /// How
    #[command(flatten)]
    pub look: Look,
    /// A small and fast try first, to be made full with --full
    #[arg(long)]
    pub draft: bool,
    /// Make these drafts full: same words, picture and seed, all the pixels, steps and frames
    #[arg(long, value_name = "ASSET", num_args = 1.., conflicts_with_all = ["prompt", "draft", "image", "dry_run"])]
    pub full: Vec<String>,
    /// Queue it and return at once
    #[arg(long)]
    pub detach: bool,
    /// Say what would be done, how long it takes and what it needs, and do nothing
    #[arg(long, conflicts_with = "detach")]
    pub dry_run: bool,
}

/// How the columns of a list combine.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Combine {
    /// Every value of one column with every value of the others
    Product,
    /// First with first, second with second
    Zip,
}

/// What a list is written in.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ListFormat {
    /// One prompt a line
    Lines,
    /// Comma-separated, with a heading
    Csv,
    /// Tab-separated, with a heading
    Tsv,
    /// One JSON object a line
    Jsonl,
}

/// `kinora bulk`
#[derive(Debug, Args)]
pub struct Bulk {
    /// The list; `-` reads it from standard input
    pub file: PathBuf,
    /// What holds for rows that do not say otherwise
    #[command(flatten)]
    pub look: Look,
    /// What the list is written in; recognised when left out
    #[arg(long, value_enum)]
    pub list_format: Option<ListFormat>,
    /// How cells with several values combine
    #[arg(long, value_enum)]
    pub combine: Option<Combine>,
    /// Name of the batch; the file's name when left out
    #[arg(long)]
    pub name: Option<String>,
    /// Queue it and return at once
    #[arg(long)]
    pub detach: bool,
    /// Check every row, say how long it takes and what it needs, and do nothing
    #[arg(long, conflicts_with = "detach")]
    pub dry_run: bool,
    /// Make a contact sheet in the end
    #[arg(long, conflicts_with = "detach")]
    pub contact_sheet: bool,
    /// Write a results table beside it (row, file, seed, time)
    #[arg(long, conflicts_with = "detach")]
    pub table: bool,
}

/// Reads `256x256`.
fn parse_size(text: &str) -> Result<(u32, u32), String> {
    let (width, height) = text
        .split_once(['x', 'X', '×'])
        .ok_or("write it as WIDTHxHEIGHT, such as 256x256")?;
    let number = |text: &str| {
        text.trim()
            .parse()
            .map_err(|_| format!("`{text}` is not a number of pixels"))
    };
    Ok((number(width)?, number(height)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!(parse_size("320x192"), Ok((320, 192)));
        assert_eq!(parse_size("320×192"), Ok((320, 192)));
        assert!(parse_size("320").is_err());
        assert!(parse_size("ax3").is_err());
    }
}
