//! Stable Diffusion in one file, as A1111, ComfyUI and most publishers keep it: a UNet, nearly always
//! with its text encoders and its VAE.
//!
//! A header tells the networks; what it does not tell is what every published model of the kind has
//! (the noise schedule), or stands in the file's name and notes (what it predicts, how it was
//! sped up). A configuration beside the file counts more: `scheduler/scheduler_config.json`,
//! `unet/config.json` and so on.

use std::path::{Path, PathBuf};

use kinora_core::Family;
use serde_json::{Map, Value, json};

use super::{Found, ProjectedClip, SdParts, read_scheduler};
use crate::{
    Base, ClipConfig, Component, Error, FilePart, Network, Prediction, Release, Result, UnetConfig,
    VaeConfig, WeightSet,
    detect::{find_networks, find_part, has_weights_name},
    identify_set,
    layout::{Origin, base_folder},
    shards::list_files,
};

/// SDXL's VAE scales its latents by this (`vae/config.json` of the published base).
const SCALE_XL: f64 = 0.13025;

/// The UNet's file: the one that was named, or the only one of a folder. None: there is no such file.
pub(crate) fn find_file(root: &Path) -> Result<Option<PathBuf>> {
    if root.is_file() {
        let parts = find_networks(&WeightSet::open_file(root)?)?;
        return Ok(find_unet(parts).map(|_| root.to_owned()));
    }
    let mut found = Vec::new();
    for name in list_files(root)? {
        let path = root.join(&name);
        if has_weights_name(&name)
            && let Ok(set) = WeightSet::open_file(&path)
            && find_unet(find_networks(&set)?).is_some()
        {
            found.push(path);
        }
    }
    match found.len() {
        0 => Ok(None),
        1 => Ok(Some(found.remove(0))),
        _ => Err(Error::unknown_layout(
            root,
            "there are several checkpoints in it; name one of the files instead of the folder",
        )),
    }
}

fn find_unet(parts: Vec<FilePart>) -> Option<(FilePart, UnetConfig)> {
    parts.into_iter().find_map(|part| match &part.network {
        Network::Unet(config) => {
            let config = config.clone();
            Some((part, config))
        }
        _ => None,
    })
}

/// Reads what a file says.
pub(super) fn read(file: &Path) -> Result<Found> {
    let folder = base_folder(file);
    let set = WeightSet::open_file(file)?;
    let identity = identify_set(&set)?;
    let Some((part, unet)) = find_unet(identity.parts) else {
        return Err(Error::unknown_layout(
            file,
            "its tensors have none of the names that Stable Diffusion uses",
        ));
    };
    let Some(release) = identity.release else {
        return Err(Error::unknown_layout(file, "it is of no known release"));
    };
    let unet = told(folder, "unet", UnetConfig::read)?.unwrap_or(unet);
    let is_xl = unet.added_dim.is_some();
    let is_refiner = is_xl && release.base == Base::SdxlRefiner;
    let (vae_origin, vae) = find_part(
        folder,
        &set,
        (Component::Vae.as_str(), Component::Vae.title()),
        VaeConfig::read,
        |network| match network {
            Network::KlVae(config) if config.latent_channels == unet.out_channels => {
                let scaling_factor = match is_xl {
                    true => SCALE_XL,
                    false => config.scaling_factor,
                };
                Some(VaeConfig {
                    scaling_factor,
                    ..config.clone()
                })
            }
            _ => None,
        },
    )?;
    let vae = told(folder, "vae", VaeConfig::read)?.unwrap_or(vae);
    let clip = |component: Component,
                title: &str,
                is_wanted: &dyn Fn(&ClipConfig, bool) -> bool| {
        find_part(
            folder,
            &set,
            (component.as_str(), title),
            read_clip,
            |network| match network {
                Network::Clip { config, projection } if is_wanted(config, projection.is_some()) => {
                    Some((config.clone(), *projection))
                }
                _ => None,
            },
        )
    };
    // XL's first text encoder is OpenAI's, its second one OpenCLIP's with a projection; the others
    // have one encoder of the UNet's width.
    let (first_origin, first) = match (is_xl, is_refiner) {
        (true, true) => (Origin::Absent, None),
        (true, false) => {
            // The narrower one of the two.
            let is_wanted = |config: &ClipConfig, _| 2 * config.hidden < unet.cross_attention_dim;
            let (origin, (config, _)) = clip(
                Component::TextEncoder,
                "the CLIP-L text encoder",
                &is_wanted,
            )?;
            (origin, Some(config))
        }
        (false, _) => {
            let is_wanted = |config: &ClipConfig, _| config.hidden == unet.cross_attention_dim;
            let (origin, (config, _)) =
                clip(Component::TextEncoder, "the CLIP text encoder", &is_wanted)?;
            (origin, Some(config))
        }
    };
    let first = match told(folder, "text_encoder", ClipConfig::read)? {
        Some(told) if first.is_some() => Some(told),
        _ => first,
    };
    let (second_origin, clip_2) = match is_xl {
        false => (Origin::Absent, None),
        true => {
            let rest = unet.cross_attention_dim - first.as_ref().map_or(0, |clip| clip.hidden);
            let is_wanted =
                |config: &ClipConfig, has_projection| has_projection && config.hidden == rest;
            let title = "the OpenCLIP text encoder with its projection";
            let (origin, (config, projection)) = clip(Component::TextEncoder2, title, &is_wanted)?;
            let config = told(folder, "text_encoder_2", ClipConfig::read)?.unwrap_or(config);
            let clip = ProjectedClip {
                projection: projection.unwrap_or(config.hidden),
                config,
            };
            (origin, Some(clip))
        }
    };
    let scheduler = match folder.join("scheduler").join("scheduler_config.json") {
        path if path.is_file() => read_scheduler(&path)?,
        _ => describe_schedule(&release),
    };
    let origin = Origin::File {
        file: file.to_owned(),
        part,
    };
    Ok(Found {
        parts: SdParts {
            unet,
            vae,
            clip: first,
            clip_2,
            scheduler,
            // As the pipelines of the reference library do unless they are told otherwise.
            zeroes_empty_negative: is_xl && !is_refiner,
            takes_aesthetic_score: is_refiner,
        },
        origins: [
            origin,
            vae_origin,
            first_origin,
            second_origin,
            Origin::Absent,
            Origin::Absent,
        ],
        family: match release.base {
            Base::Sd2 => Family::Sd2,
            Base::Sdxl | Base::SdxlRefiner => Family::Sdxl,
            _ => Family::Sd1,
        },
    })
}

/// A configuration beside the file.
fn told<T>(folder: &Path, part: &str, read: impl Fn(&Path) -> Result<T>) -> Result<Option<T>> {
    let path = folder.join(part).join("config.json");
    path.is_file().then(|| read(&path)).transpose()
}

fn read_clip(path: &Path) -> Result<(ClipConfig, Option<usize>)> {
    let fields: Map<String, Value> = crate::json::read_config(path)?;
    let projection = fields.get("projection_dim").and_then(Value::as_u64);
    let projection = projection.and_then(|width| usize::try_from(width).ok());
    Ok((ClipConfig::read(path)?, projection))
}

/// The schedule that a release was trained with, as the configurations of the published folders
/// describe it. Turbo and lightning begin at the last time and step evenly to the first.
fn describe_schedule(release: &Release) -> String {
    let variant = release.variants.first().copied().unwrap_or_default();
    let (class, spacing) = match (release.base, variant) {
        (Base::Sdxl, "turbo") => ("EulerAncestralDiscreteScheduler", "trailing"),
        (Base::Sdxl, "lightning" | "hyper") | (Base::Sd2, "turbo") => {
            ("EulerDiscreteScheduler", "trailing")
        }
        (_, "lcm") => ("LCMScheduler", "leading"),
        // Trained from pure noise, it begins at the last time, which the other spacing leaves out.
        _ if release.has_zero_terminal_snr => ("EulerDiscreteScheduler", "trailing"),
        (Base::Sdxl | Base::SdxlRefiner, _) => ("EulerDiscreteScheduler", "leading"),
        _ => ("PNDMScheduler", "leading"),
    };
    // SD 2.1 at 768 is the only one of its kind that its header does not tell; its name mostly does.
    let is_velocity = release.prediction == Some(Prediction::Velocity);
    let mut fields = json!({
        "_class_name": class,
        "num_train_timesteps": 1000,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "prediction_type": if is_velocity { "v_prediction" } else { "epsilon" },
        "timestep_spacing": spacing,
        "steps_offset": 1,
    });
    if release.has_zero_terminal_snr {
        fields["rescale_betas_zero_snr"] = json!(true);
    }
    if class == "PNDMScheduler" {
        fields["skip_prk_steps"] = json!(true);
        fields["set_alpha_to_one"] = json!(false);
    }
    fields.to_string()
}
