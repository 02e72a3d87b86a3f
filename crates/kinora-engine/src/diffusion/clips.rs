//! Plans of clips as the pipelines take them, with what each family's authors publish where a plan
//! has no say.

use kinora_core::{Mode, Plan, VideoPlan};
use kinora_diffusion::{
    Error, Result,
    pipelines::{Context, Ltx2Guidance, Ltx2Params, LtxParams, RgbImage, Switch, VideoParams},
    vision::crop::fill,
};
use kinora_weights::{ltx::LtxParts, ltx2::Ltx2Parts};

use crate::sources;

/// Noise that LTX-Video's decoder takes away, and how much of it is put in: the authors'
/// configurations of every release (`decode_timestep`, `decode_noise_scale`).
const LTX_DECODING: (f32, f32) = (0.05, 0.025);

/// Every plan as a job.
pub(super) fn each<T>(plans: &[&Plan], to_job: impl Fn(&Plan) -> Result<T>) -> Result<Vec<T>> {
    plans.iter().map(|plan| to_job(plan)).collect()
}

fn video_of(plan: &Plan) -> Result<VideoPlan> {
    plan.video
        .filter(|_| plan.mode.is_video())
        .ok_or_else(|| Error::BadRequest("a clip was asked for with a picture's plan".to_owned()))
}

/// The pictures that a clip begins and ends with, in its size.
fn ends(plan: &Plan) -> Result<[Option<RgbImage>; 2]> {
    let frame = |picture| fill(&sources::read(picture)?, plan.size.width, plan.size.height);
    let source = plan
        .source
        .as_ref()
        .filter(|_| plan.mode == Mode::ImageToVideo);
    let last = source.and_then(|source| source.end_image.as_ref());
    Ok([
        source.map(|source| frame(&source.image)).transpose()?,
        last.map(frame).transpose()?,
    ])
}

/// A clip of Wan.
pub(super) fn wan(plan: &Plan) -> Result<VideoParams> {
    let video = video_of(plan)?;
    let [first_frame, last_frame] = ends(plan)?;
    Ok(VideoParams {
        prompt: plan.prompt.clone(),
        negative_prompt: plan.negative_prompt.clone(),
        width: plan.size.width,
        height: plan.size.height,
        frames: video.frames,
        steps: plan.steps,
        guidance: plan.true_cfg.unwrap_or(1.0),
        guidance_2: video.cfg_2,
        switch: match (video.low_share, video.boundary) {
            (Some(share), _) => Switch::LowShare(share.into()),
            (None, Some(level)) => Switch::Boundary(level.into()),
            (None, None) => Switch::Model,
        },
        step_cache: plan.step_cache.unwrap_or(0.0),
        shift: video.shift.map(f64::from),
        sampler: Some((plan.sampler, plan.schedule)),
        seed: plan.seed.0,
        rng: plan.rng,
        text_tokens: plan.text_tokens as usize,
        first_frame,
        last_frame,
        latents: None,
        context: (video.context_frames.zip(video.context_overlap))
            .map(|(frames, overlap)| Context { frames, overlap }),
        vae_tiling: video.vae_tiling,
    })
}

/// A clip of LTX-Video.
pub(super) fn ltx(plan: &Plan, parts: &LtxParts) -> Result<LtxParams> {
    let video = video_of(plan)?;
    let [first_frame, _] = ends(plan)?;
    // The scales of the 13B model are made for a result that keeps its contrast.
    let guidance_rescale = match parts.is_13b() {
        true => 0.7,
        false => 0.0,
    };
    Ok(LtxParams {
        prompt: plan.prompt.clone(),
        negative_prompt: plan.negative_prompt.clone(),
        width: plan.size.width,
        height: plan.size.height,
        frames: video.frames,
        frame_rate: video.fps.into(),
        steps: plan.steps,
        guidance: plan.true_cfg.unwrap_or(1.0),
        guidance_rescale,
        sampler: Some((plan.sampler, plan.schedule)),
        step_cache: plan.step_cache.unwrap_or(0.0),
        shift: video.shift.map(f64::from),
        decode_time: LTX_DECODING.0,
        decode_noise: Some(LTX_DECODING.1),
        seed: plan.seed.0,
        rng: plan.rng,
        text_tokens: plan.text_tokens as usize,
        first_frame,
        vae_tiling: video.vae_tiling,
        latents: None,
    })
}

/// A clip of LTX-2. With a scale the picture is led by it, and both picture and sound by what the
/// authors publish besides: away from blind tokens, away from streams on their own, at an even
/// contrast; without one nothing is led, as distilled weights want it.
pub(super) fn ltx2(plan: &Plan, parts: &Ltx2Parts) -> Result<Ltx2Params> {
    /// The authors' scale of the sound.
    const SOUND: f32 = 7.0;
    let video = video_of(plan)?;
    let [first_frame, _] = ends(plan)?;
    let lead = |scale: f32| match plan.true_cfg {
        Some(_) => Ltx2Guidance {
            text: scale,
            blind: 1.0,
            alone: 3.0,
            rescale: 0.7,
        },
        None => Ltx2Guidance::text(1.0),
    };
    // One block in the middle, another one in 2.3; there are 48.
    let blind_block = match parts.is_23() {
        true => 28,
        false => 29,
    };
    Ok(Ltx2Params {
        prompt: plan.prompt.clone(),
        negative_prompt: plan.negative_prompt.clone(),
        width: plan.size.width,
        height: plan.size.height,
        frames: video.frames,
        frame_rate: video.fps.into(),
        steps: plan.steps,
        guidance: lead(plan.true_cfg.unwrap_or(1.0)),
        audio_guidance: lead(SOUND),
        blind_blocks: vec![blind_block.min(parts.transformer.layers.saturating_sub(1))],
        is_crossed: None,
        sampler: Some((plan.sampler, plan.schedule)),
        step_cache: plan.step_cache.unwrap_or(0.0),
        shift: video.shift.map(f64::from),
        seed: plan.seed.0,
        rng: plan.rng,
        text_tokens: plan.text_tokens as usize,
        has_sound: video.sound == Some(true),
        first_frame,
        vae_tiling: video.vae_tiling,
        latents: None,
        audio_latents: None,
    })
}
