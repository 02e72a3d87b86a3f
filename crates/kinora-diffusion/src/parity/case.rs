//! A recorded case: what was called with what, and the tensors of every stage.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use candle_core::{DType, Device, Tensor};
use kinora_core::Rng;
use kinora_weights::{Dtype, WeightSet, read_file_bounded};
use serde::Deserialize;

use super::{
    Target, pack,
    pictures::{read_mask, read_rgb},
};
use crate::{
    Error, Result,
    layers::TensorSource,
    pipelines::{FluxOptions, ImageParams, LikeImage, SdOptions, SourceImage},
    vision::resample::{Filter, resize},
};

/// Pipelines of FLUX.1 that are known here.
const FLUX_PIPELINES: [&str; 7] = [
    "FluxPipeline",
    "FluxImg2ImgPipeline",
    "FluxInpaintPipeline",
    "FluxKontextPipeline",
    "FluxFillPipeline",
    "FluxControlPipeline",
    "FluxPriorReduxPipeline",
];

/// Far above any case description.
const MAX_JSON: u64 = 16 << 20;

pub(super) struct Case {
    pub(super) path: PathBuf,
    /// What it is computed on and in.
    pub(super) target: Target,
    pub(super) description: Description,
    golden: WeightSet,
}

#[derive(Deserialize)]
pub(super) struct Description {
    pub(super) pipeline: String,
    pub(super) inputs: Inputs,
    /// Tensors that are stored once under another name.
    #[serde(default)]
    aliases: HashMap<String, String>,
}

#[derive(Deserialize)]
pub(super) struct Inputs {
    /// Left out when pictures say enough.
    #[serde(default)]
    pub prompt: Texts,
    #[serde(default)]
    pub negative_prompt: Option<Texts>,
    /// Left out when a picture tells them.
    #[serde(default)]
    pub height: u32,
    #[serde(default)]
    pub width: u32,
    pub num_inference_steps: u32,
    #[serde(default)]
    pub guidance_scale: Option<f32>,
    // Of clips.
    pub guidance_scale_2: Option<f32>,
    pub num_frames: Option<u32>,
    pub last_image: Option<ImageInput>,
    pub frame_rate: Option<f64>,
    pub decode_timestep: Option<f32>,
    pub decode_noise_scale: Option<f32>,
    // Of clips with sound.
    pub audio_guidance_scale: Option<f32>,
    pub stg_scale: Option<f32>,
    pub audio_stg_scale: Option<f32>,
    pub spatio_temporal_guidance_blocks: Option<Vec<usize>>,
    pub modality_scale: Option<f32>,
    pub audio_modality_scale: Option<f32>,
    pub audio_guidance_rescale: Option<f32>,
    pub use_cross_timestep: Option<bool>,
    #[serde(default)]
    true_cfg_scale: Option<f32>,
    #[serde(default = "default_text_tokens")]
    pub(super) max_sequence_length: usize,
    #[serde(default)]
    pub latents: Option<NamedTensor>,
    #[serde(default)]
    num_images_per_prompt: Option<u32>,
    /// Of everything that is drawn, where no noise is given.
    pub generator_seed: Option<u64>,
    pub strength: Option<f32>,
    pub image: Option<ImageInput>,
    pub mask_image: Option<String>,
    // Of FLUX.1.
    control_image: Option<String>,
    prompt_embeds_scale: Option<Scales>,
    pooled_prompt_embeds_scale: Option<Scales>,
    #[serde(default, rename = "_auto_resize")]
    takes_trained_size: Option<bool>,
    // Of Stable Diffusion.
    pub guidance_rescale: Option<f32>,
    pub clip_skip: Option<u32>,
    pub original_size: Option<(u32, u32)>,
    pub crops_coords_top_left: Option<(u32, u32)>,
    pub target_size: Option<(u32, u32)>,
    pub negative_original_size: Option<(u32, u32)>,
    pub negative_crops_coords_top_left: Option<(u32, u32)>,
    pub negative_target_size: Option<(u32, u32)>,
    pub aesthetic_score: Option<f32>,
    pub negative_aesthetic_score: Option<f32>,
    pub denoising_start: Option<f32>,
    pub denoising_end: Option<f32>,
}

/// A picture's file, or latents in its place.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum ImageInput {
    File(String),
    Files(Vec<String>),
    Latents(NamedTensor),
}

/// One number for all pictures, or one for each.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Scales {
    One(f32),
    Many(Vec<f32>),
}

impl Scales {
    fn of(scales: Option<&Self>, picture: usize) -> f32 {
        match scales {
            None => 1.0,
            Some(Self::One(scale)) => *scale,
            // A case that leaves one out is broken, and NaN is refused.
            Some(Self::Many(scales)) => scales.get(picture).copied().unwrap_or(f32::NAN),
        }
    }
}

/// The reference's default.
fn default_text_tokens() -> usize {
    512
}

#[derive(Deserialize)]
pub(super) struct NamedTensor {
    pub tensor: String,
}

/// One text for all rows, or one for each.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Texts {
    One(String),
    Many(Vec<String>),
}

impl Default for Texts {
    fn default() -> Self {
        Self::One(String::new())
    }
}

impl Texts {
    pub fn list(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
    }

    pub fn of_row(&self, row: usize) -> Option<&String> {
        match self {
            Self::One(text) => Some(text),
            Self::Many(texts) => texts.get(row),
        }
    }
}

impl Case {
    pub fn open(path: &Path, target: &Target) -> Result<Self> {
        let file = path.join("case.json");
        let json = read_file_bounded(&file, MAX_JSON)?;
        let description: Description = serde_json::from_slice(&json)
            .map_err(|error| Error::bad_weights(&file, format!("it is not a case: {error}")))?;
        let name = &description.pipeline;
        let is_known = FLUX_PIPELINES.contains(&name.as_str())
            || name.starts_with("StableDiffusion")
            || kinora_weights::wan::CLASSES.contains(&name.as_str())
            || kinora_weights::ltx::CLASSES.contains(&name.as_str())
            || kinora_weights::ltx2::CLASSES.contains(&name.as_str());
        if !is_known {
            return Err(Error::bad_weights(
                &file,
                format!("{} is not known here", description.pipeline),
            ));
        }
        Ok(Self {
            path: path.to_owned(),
            target: target.clone(),
            description,
            golden: WeightSet::open_file(&path.join("golden.safetensors"))?,
        })
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The class of the reference library that was run.
    pub fn pipeline(&self) -> &str {
        &self.description.pipeline
    }

    /// What it was called with.
    pub fn inputs(&self) -> &Inputs {
        &self.description.inputs
    }

    fn stored_name<'a>(&'a self, stage: &'a str) -> Option<&'a str> {
        let alias = self.description.aliases.get(stage).map(String::as_str);
        [Some(stage), alias]
            .into_iter()
            .flatten()
            .find(|name| self.golden.has(name))
    }

    /// The recorded tensor as f32 on the processor; None when the case has no such stage.
    pub fn tensor(&self, stage: &str) -> Result<Option<Tensor>> {
        let Some(name) = self.stored_name(stage) else {
            return Ok(None);
        };
        let view = self.golden.get(name)?;
        if view.dtype == Dtype::I64 {
            let numbers = self.integers(stage)?.unwrap_or_default();
            let numbers: Vec<f32> = numbers.into_iter().map(|number| number as f32).collect();
            let shape = view.shape.as_slice();
            return Ok(Some(Tensor::from_vec(numbers, shape, &Device::Cpu)?));
        }
        Ok(Some(self.golden.tensor(name)?.to_dtype(DType::F32)?))
    }

    /// The recorded tensor as an input of a network: where and in what the case is computed.
    pub fn input(&self, stage: &str) -> Result<Option<Tensor>> {
        self.input_in(stage, self.target.dtype)
    }

    /// The same in a number format of its own.
    pub fn input_in(&self, stage: &str, dtype: DType) -> Result<Option<Tensor>> {
        let Some(tensor) = self.tensor(stage)? else {
            return Ok(None);
        };
        let tensor = tensor.to_dtype(dtype)?;
        Ok(Some(tensor.to_device(&self.target.device)?))
    }

    /// The recorded whole numbers.
    pub fn integers(&self, stage: &str) -> Result<Option<Vec<i64>>> {
        let Some(name) = self.stored_name(stage) else {
            return Ok(None);
        };
        let bytes = self.golden.read(name)?;
        match self.golden.get(name)?.dtype {
            Dtype::I64 => Ok(Some(
                bytes
                    .as_chunks::<8>()
                    .0
                    .iter()
                    .map(|bytes| i64::from_le_bytes(*bytes))
                    .collect(),
            )),
            Dtype::U8 => Ok(Some(bytes.into_iter().map(i64::from).collect())),
            other => Err(Error::bad_weights(
                &self.path,
                format!("{stage} is stored as {other}"),
            )),
        }
    }

    /// Recorded 8-bit pictures of `count` rows from `first` on, with the stage they come from:
    /// stored as such, or rounded from what the decoder gave.
    pub fn pixels(&self, first: usize, count: usize) -> Result<Option<(String, Vec<i64>)>> {
        let rows = self.description.inputs.prompt.list().len().max(1);
        let part = |all: Vec<i64>| {
            let row = all.len() / rows;
            all[first * row..(first + count).min(rows) * row].to_vec()
        };
        if let Some(all) = self.integers("out.pixels_u8")? {
            return Ok(Some(("out.pixels_u8".into(), part(all))));
        }
        let Some(decoded) = self.tensor("vae.decode0.out")? else {
            return Ok(None);
        };
        let unit = |value: f32| f64::from((value / 2.0 + 0.5).clamp(0.0, 1.0));
        let all = decoded.flatten_all()?.to_vec1::<f32>()?;
        let all = all
            .into_iter()
            .map(|value| (unit(value) * 255.0).round_ties_even() as i64);
        Ok(Some((
            "vae.decode0.out as 8 bits".into(),
            part(all.collect()),
        )))
    }

    /// The recorded call as jobs.
    pub fn jobs(&self, latent_channels: usize) -> Result<Vec<ImageParams>> {
        let inputs = &self.description.inputs;
        if inputs.num_images_per_prompt.is_some_and(|count| count != 1) {
            return Err(Error::bad_weights(
                &self.path,
                "several pictures per prompt are not known here",
            ));
        }
        let latents = match inputs.generator_seed {
            // The draws of the seed are held to the recorded ones by what becomes of them.
            Some(_) => None,
            None => Some(self.start_latents(latent_channels)?),
        };
        let (source, flux) = (self.source()?, self.flux_options()?);
        let prompts = inputs.prompt.list();
        let rows = latents.as_ref().map(|latents| latents.dim(0)).transpose()?;
        if rows.is_some_and(|rows| rows != prompts.len()) {
            return Err(Error::bad_weights(
                &self.path,
                "there is not one latent for each prompt",
            ));
        }
        prompts
            .iter()
            .enumerate()
            .map(|(row, prompt)| {
                let negative = inputs
                    .negative_prompt
                    .as_ref()
                    .and_then(|texts| texts.of_row(row));
                Ok(ImageParams {
                    prompt: prompt.clone(),
                    negative_prompt: negative.cloned().unwrap_or_default(),
                    width: inputs.width,
                    height: inputs.height,
                    steps: inputs.num_inference_steps,
                    // The reference's default.
                    guidance: Some(inputs.guidance_scale.unwrap_or(3.5)),
                    // Without a negative prompt the reference makes one call, whatever the scale.
                    true_cfg: negative.and(inputs.true_cfg_scale),
                    seed: inputs.generator_seed.unwrap_or(0),
                    rng: Rng::Cpu,
                    text_tokens: inputs.max_sequence_length,
                    latents: latents
                        .as_ref()
                        .map(|latents| latents.narrow(0, row, 1))
                        .transpose()?,
                    sampler: None,
                    source: source.clone(),
                    flux: flux.clone(),
                    sd: SdOptions::default(),
                })
            })
            .collect()
    }

    /// The picture that the run starts from, and its mask.
    fn source(&self) -> Result<Option<SourceImage>> {
        let inputs = &self.description.inputs;
        let is_seen = self.is_edit() || self.is_redux();
        let (Some(ImageInput::File(file)), false) = (&inputs.image, is_seen) else {
            return Ok(None);
        };
        let image = read_rgb(self, file)?;
        let mask = inputs.mask_image.as_ref();
        Ok(Some(SourceImage {
            image: resize(&image, inputs.width, inputs.height, Filter::Lanczos)?,
            // The reference's defaults: 0.6, and 1 for Fill.
            strength: inputs
                .strength
                .unwrap_or(if self.is_fill() { 1.0 } else { 0.6 }),
            mask: mask.map(|file| read_mask(self, file)).transpose()?,
        }))
    }

    fn flux_options(&self) -> Result<FluxOptions> {
        let inputs = &self.description.inputs;
        let read = |file: &String| read_rgb(self, file);
        let context = match &inputs.image {
            Some(ImageInput::File(file)) if self.is_edit() => Some(file),
            _ => None,
        };
        Ok(FluxOptions {
            control: inputs.control_image.as_ref().map(read).transpose()?,
            context: context.map(read).transpose()?,
            keeps_context_size: inputs.takes_trained_size == Some(false),
            step_cache: 0.0,
            likes: self.likes()?,
        })
    }

    /// The pictures that the new one shall be like.
    fn likes(&self) -> Result<Vec<LikeImage>> {
        let inputs = &self.description.inputs;
        let files = match &inputs.image {
            Some(ImageInput::File(file)) if self.is_redux() => std::slice::from_ref(file),
            Some(ImageInput::Files(files)) if self.is_redux() => files,
            _ => &[],
        };
        files
            .iter()
            .enumerate()
            .map(|(i, file)| {
                Ok(LikeImage {
                    image: read_rgb(self, file)?,
                    weight: Scales::of(inputs.prompt_embeds_scale.as_ref(), i),
                    pooled_weight: Scales::of(inputs.pooled_prompt_embeds_scale.as_ref(), i),
                })
            })
            .collect()
    }

    fn is_edit(&self) -> bool {
        self.description.pipeline == "FluxKontextPipeline"
    }

    fn is_redux(&self) -> bool {
        self.description.pipeline == "FluxPriorReduxPipeline"
    }

    fn is_fill(&self) -> bool {
        self.description.pipeline == "FluxFillPipeline"
    }

    /// Packed starting noise.
    fn start_latents(&self, latent_channels: usize) -> Result<Tensor> {
        let latents = self.noise()?;
        match latents.dims() {
            [_, channels, _, _] if *channels == latent_channels => pack(&latents),
            _ => Ok(latents),
        }
    }

    /// Starting noise: given to the call, or drawn by it.
    pub(super) fn noise(&self) -> Result<Tensor> {
        let given = self.description.inputs.latents.as_ref();
        let name = given.map_or("rng0", |latents| &latents.tensor);
        let missing = || {
            Error::bad_weights(
                &self.path,
                format!("the starting noise {name} was not recorded"),
            )
        };
        Ok(self
            .tensor(name)?
            .ok_or_else(missing)?
            .to_device(&Device::Cpu)?)
    }
}
