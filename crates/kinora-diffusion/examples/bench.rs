//! Times the pipeline on a model folder, for comparison with the reference library:
//!
//! - `bench stages MODEL WIDTH HEIGHT STEPS TOKENS ROUNDS`: one denoiser forward, one VAE decode and
//!   one whole picture, warm; the best of ROUNDS in milliseconds as one line of JSON, on the clock
//!   and in processor time.
//! - `bench picture MODEL WIDTH HEIGHT STEPS TOKENS FILE`: one picture into a PNG file, to be timed
//!   from outside, from the start of the process.

mod timing;

use std::{error::Error, fs::File, path::Path};

use candle_core::{DType, Device, Tensor};
use kinora_core::{Rng, Stage};
use kinora_diffusion::{
    denoisers::{FluxDenoiser, FluxInput},
    layers::Weights,
    pipelines::{
        Checkpoint, FluxOptions, ImageParams, Pipeline, RgbImage, RunLimits, RunWatch, SdOptions,
    },
    vae::{KlVae, Tiling},
};
use kinora_weights::{Component, ModelLayout};

use timing::best;

const PROMPT: &str = "a lighthouse on a cliff at sunset, calm sea, two birds";

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let usage = "usage: bench stages|picture MODEL WIDTH HEIGHT STEPS TOKENS ROUNDS|FILE";
    let [_, mode, model, width, height, steps, tokens, last] = args.as_slice() else {
        return Err(usage.into());
    };
    let layout = kinora_weights::detect(Path::new(model))?;
    let params = ImageParams {
        prompt: PROMPT.into(),
        negative_prompt: String::new(),
        width: width.parse()?,
        height: height.parse()?,
        steps: steps.parse()?,
        guidance: Some(3.5),
        true_cfg: None,
        seed: 1,
        rng: Rng::Cpu,
        text_tokens: tokens.parse()?,
        latents: None,
        sampler: None,
        source: None,
        sd: SdOptions::default(),
        flux: FluxOptions::default(),
    };
    match mode.as_str() {
        "stages" => time_stages(&layout, &params, last.parse()?),
        "picture" => make_picture(&layout, &params, Path::new(last)),
        _ => Err(usage.into()),
    }
}

fn open(layout: &ModelLayout) -> Result<Pipeline, Box<dyn Error>> {
    Ok(Pipeline::open(
        layout,
        &Device::Cpu,
        DType::F32,
        &mut |_| {},
    )?)
}

fn time_stages(
    layout: &ModelLayout,
    params: &ImageParams,
    rounds: usize,
) -> Result<(), Box<dyn Error>> {
    let parts = layout.flux().ok_or("not a FLUX.1 model")?;
    let weights = |component| -> Result<Weights, Box<dyn Error>> {
        Ok(Weights::new(
            layout.open(component)?,
            &Device::Cpu,
            DType::F32,
        ))
    };
    let denoiser = FluxDenoiser::load(
        &weights(Component::Transformer)?,
        &parts.transformer,
        &mut |_| {},
    )?;
    let vae = KlVae::load(&weights(Component::Vae)?, &parts.vae)?;
    let step = 2 * parts.vae.scale();
    let (rows, columns) = (params.height as usize / step, params.width as usize / step);
    let random = |shape: &[usize]| Tensor::randn(0f32, 1f32, shape, &Device::Cpu);
    let latents = random(&[1, rows * columns, parts.transformer.in_channels])?;
    let text = random(&[1, params.text_tokens, parts.transformer.joint_dim])?;
    let pooled = random(&[1, parts.transformer.pooled_dim])?;
    let rope = denoiser.positions(params.text_tokens, rows, columns, &Device::Cpu)?;
    let forward = best(rounds, || {
        denoiser.forward(&FluxInput {
            latents: &latents,
            text: &text,
            pooled: &pooled,
            timestep: 500.0,
            guidance: &[3.5],
            rope: &rope,
        })
    })?;
    let latents = random(&[1, parts.vae.latent_channels, 2 * rows, 2 * columns])?;
    let decode = best(rounds, || vae.decode(&latents, Tiling::Whole))?;
    let mut pipeline = open(layout)?;
    let picture = best(rounds, || {
        let mut watch = Keep::default();
        pipeline.run(std::slice::from_ref(params), RunLimits::NONE, &mut watch)
    })?;
    let entries = [
        ("forward", forward),
        ("decode", decode),
        ("picture", picture),
    ]
    .map(|(what, (wall, busy))| format!("\"{what}_ms\":{wall:.3},\"{what}_cpu_ms\":{busy:.3}"));
    println!("{{{}}}", entries.join(","));
    Ok(())
}

fn make_picture(
    layout: &ModelLayout,
    params: &ImageParams,
    file: &Path,
) -> Result<(), Box<dyn Error>> {
    let mut watch = Keep::default();
    open(layout)?.run(std::slice::from_ref(params), RunLimits::NONE, &mut watch)?;
    let picture = watch.0.ok_or("the run made no picture")?;
    let mut encoder = png::Encoder::new(File::create(file)?, picture.width, picture.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header()?.write_image_data(&picture.rgb)?;
    Ok(())
}

/// Keeps the picture.
#[derive(Default)]
struct Keep(Option<RgbImage>);

impl RunWatch for Keep {
    fn stage(&mut self, _: usize, _: Stage, _: u32, _: u32) {}

    fn is_cancelled(&mut self, _: usize) -> bool {
        false
    }

    fn resume(&mut self, _: usize) -> Option<Checkpoint> {
        None
    }

    fn wants_checkpoint(&mut self, _: usize) -> bool {
        false
    }

    fn checkpoint(&mut self, _: usize, _: &Checkpoint) -> kinora_diffusion::Result<()> {
        Ok(())
    }

    fn wants_preview(&mut self, _: usize) -> bool {
        false
    }

    fn preview(&mut self, _: usize, _: RgbImage) {}

    fn image(&mut self, _: usize, picture: RgbImage) -> kinora_diffusion::Result<()> {
        self.0 = Some(picture);
        Ok(())
    }
}
