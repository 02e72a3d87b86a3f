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
    detect::has_weights_name,
    glance::find_networks,
    identify_set,
    layout::{Origin, base_folder},
    search::{PartSources, Search, Wanted},
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

/// SDXL's VAE and that of 1.x and 2.x have the same shapes, and names tell them apart.
const VAE: Wanted = Wanted {
    name: "vae",
    title: "the VAE",
    likely: &["mse", "sd"],
    unlikely: &["xl", "sdxl", "approx", "taesd"],
};

const VAE_XL: Wanted = Wanted {
    name: "vae",
    title: "the VAE",
    likely: &["xl", "sdxl"],
    unlikely: &["mse", "ema", "sd15", "sd1", "anime", "approx", "taesd"],
};

const CLIP: Wanted = Wanted {
    name: "text_encoder",
    title: "the CLIP text encoder",
    likely: &["clip_l", "clip_h"],
    unlikely: &["sd3", "hunyuan"],
};

const CLIP_XL: Wanted = Wanted {
    name: "text_encoder",
    title: "the CLIP-L text encoder",
    likely: &["clip_l"],
    unlikely: &["sd3", "hunyuan"],
};

const CLIP_XL_2: Wanted = Wanted {
    name: "text_encoder_2",
    title: "the OpenCLIP text encoder with its projection",
    likely: &["clip_g", "bigg"],
    unlikely: &["sd3"],
};

/// A VAE whose latents the UNet takes, scaled as its kind's are.
fn choose_vae(network: &Network, unet: &UnetConfig) -> Option<VaeConfig> {
    match network {
        Network::KlVae(config) if config.latent_channels == unet.out_channels => {
            let scaling_factor = match unet.added_dim {
                Some(_) => SCALE_XL,
                None => config.scaling_factor,
            };
            Some(VaeConfig {
                scaling_factor,
                ..config.clone()
            })
        }
        _ => None,
    }
}

/// A CLIP text encoder and the width of its projection, where it has one.
fn choose_clip(
    network: &Network,
    is_wanted: impl Fn(&ClipConfig, bool) -> bool,
) -> Option<(ClipConfig, Option<usize>)> {
    match network {
        Network::Clip { config, projection } if is_wanted(config, projection.is_some()) => {
            Some((config.clone(), *projection))
        }
        _ => None,
    }
}

fn projected((config, projection): (ClipConfig, Option<usize>)) -> ProjectedClip {
    ProjectedClip {
        projection: projection.unwrap_or(config.hidden),
        config,
    }
}

/// Whether a network may stand for a part.
pub(crate) fn takes(parts: &SdParts, part: &str, network: &Network) -> bool {
    match (part, &parts.clip, &parts.clip_2) {
        ("vae", ..) => choose_vae(network, &parts.unet).is_some(),
        ("text_encoder", Some(clip), _) => {
            choose_clip(network, |config, _| config.hidden == clip.hidden).is_some()
        }
        ("text_encoder_2", _, Some(clip)) => choose_clip(network, |config, has| {
            has && config.hidden == clip.config.hidden
        })
        .is_some(),
        _ => false,
    }
}

/// Puts chosen files in the places of a folder's parts.
pub(super) fn replace_chosen(
    root: &Path,
    parts: &mut SdParts,
    origins: &mut [Origin; 6],
    sources: &PartSources,
) -> Result<()> {
    let search = Search {
        folder: root,
        same: None,
        sources,
    };
    if let Some((origin, vae)) =
        search.find_chosen(&VAE, &|network| choose_vae(network, &parts.unet))?
    {
        (origins[Component::Vae as usize], parts.vae) = (origin, vae);
    }
    if let Some(clip) = &mut parts.clip
        && let Some((origin, found)) = search.find_chosen(&CLIP, &|network| {
            choose_clip(network, |config, _| config.hidden == clip.hidden)
        })?
    {
        (origins[Component::TextEncoder as usize], *clip) = (origin, found.0);
    }
    if let Some(clip) = &mut parts.clip_2
        && let Some((origin, found)) = search.find_chosen(&CLIP_XL_2, &|network| {
            choose_clip(network, |config, has| {
                has && config.hidden == clip.config.hidden
            })
        })?
    {
        (origins[Component::TextEncoder2 as usize], *clip) = (origin, projected(found));
    }
    Ok(())
}

/// Reads what a file says.
pub(super) fn read(file: &Path, sources: &PartSources) -> Result<Found> {
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
    let search = Search {
        folder,
        same: Some(&set),
        sources,
    };
    let wanted = if is_xl { &VAE_XL } else { &VAE };
    let (vae_origin, vae) = search.find(wanted, VaeConfig::read, |network| {
        choose_vae(network, &unet)
    })?;
    let vae = told(folder, "vae", VaeConfig::read)?.unwrap_or(vae);
    let clip = |wanted: &Wanted, is_wanted: &dyn Fn(&ClipConfig, bool) -> bool| {
        search.find(wanted, read_clip, |network| choose_clip(network, is_wanted))
    };
    // XL's first text encoder is OpenAI's, its second one OpenCLIP's with a projection; the others
    // have one encoder of the UNet's width.
    let (first_origin, first) = match (is_xl, is_refiner) {
        (true, true) => (Origin::Absent, None),
        (true, false) => {
            // The narrower one of the two.
            let is_wanted = |config: &ClipConfig, _| 2 * config.hidden < unet.cross_attention_dim;
            let (origin, (config, _)) = clip(&CLIP_XL, &is_wanted)?;
            (origin, Some(config))
        }
        (false, _) => {
            let is_wanted = |config: &ClipConfig, _| config.hidden == unet.cross_attention_dim;
            let (origin, (config, _)) = clip(&CLIP, &is_wanted)?;
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
            let (origin, (config, projection)) = clip(&CLIP_XL_2, &is_wanted)?;
            let config = told(folder, "text_encoder_2", ClipConfig::read)?.unwrap_or(config);
            (origin, Some(projected((config, projection))))
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
