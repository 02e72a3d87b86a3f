//! Clips of LTX whose frames go through the VAE in tiles, against the reference's own tiling
//! (tools/goldens/record_ltx_tiles.py), on the tiny models of recorded cases.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use candle_core::{DType, Device, Tensor};
use kinora_core::Rng;
use kinora_diffusion::{
    layers::Weights,
    noise::Generator,
    vae::{ClipTiles, LtxVae},
};
use kinora_weights::{
    ltx::{LtxComponent, detect_ltx},
    ltx2::{Ltx2Component, detect_ltx2},
};

/// Of frames and latents: the largest difference over the recording's standard deviation.
const GATE: f32 = 1e-3;
/// Noise that a decoder is told of.
const SHARE: f32 = 0.05;
const CASES: [&str; 3] = ["ltx_video", "ltx_video_095_heldout", "ltx2"];

fn below(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn open_vae(case: &str) -> LtxVae {
    let model = below("../../tools/goldens/cases").join(case).join("model");
    let (set, config) = match case {
        "ltx2" => {
            let layout = detect_ltx2(&model).unwrap();
            (layout.open(Ltx2Component::Vae).unwrap(), layout.parts.vae)
        }
        _ => {
            let layout = detect_ltx(&model).unwrap();
            (layout.open(LtxComponent::Vae).unwrap(), layout.parts.vae)
        }
    };
    let weights = Weights::new(set, &Device::Cpu, DType::F32);
    LtxVae::load(&weights, &config).unwrap()
}

fn recorded(case: &str) -> HashMap<String, Tensor> {
    let file = below("tests/fixtures/ltx_tiles").join(format!("{case}.safetensors"));
    candle_core::safetensors::load(file, &Device::Cpu).unwrap()
}

/// Tiles of 3 latents, 2 apart.
fn tiles(vae: &LtxVae) -> ClipTiles {
    let scale = vae.config().scale();
    vae.tiles(3 * scale, scale)
}

fn distance(ours: &Tensor, golden: &Tensor) -> f32 {
    assert_eq!(ours.dims(), golden.dims());
    let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (ours, golden) = (values(ours), values(golden));
    let mean = golden.iter().sum::<f32>() / golden.len() as f32;
    let spread = golden.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / golden.len() as f32;
    let pairs = ours.iter().zip(&golden);
    pairs.map(|(a, b)| (a - b).abs()).fold(0f32, f32::max) / spread.sqrt()
}

/// Every part of every frame in its place; each place is filled once.
fn decode(vae: &LtxVae, latents: &Tensor, tiles: ClipTiles) -> Tensor {
    let (count, _, rows, columns) = latents.dims4().unwrap();
    let scale = vae.config().scale();
    let frames = 1 + (count - 1) * vae.config().time_scale();
    let (height, width) = (rows * scale, columns * scale);
    let mut pixels = vec![f32::NAN; frames * 3 * height * width];
    let mut asked = Vec::new();
    let mut generator = Generator::new(Rng::Cpu, 7);
    let is_done = vae.decode_tiles(
        latents,
        tiles,
        (SHARE, &mut generator),
        &mut |done| {
            asked.push(done);
            true
        },
        &mut |part| {
            let [top, left] = part.place;
            for (channel, plane) in part.pixels.to_vec3::<f32>()?.iter().enumerate() {
                for (y, line) in plane.iter().enumerate() {
                    let row = (part.frame * 3 + channel) * height + top + y;
                    let place = &mut pixels[row * width + left..][..line.len()];
                    assert!(place.iter().all(|value| value.is_nan()), "filled twice");
                    place.copy_from_slice(line);
                }
            }
            Ok(())
        },
    );
    assert!(is_done.unwrap());
    let steps = tiles.count(rows, columns) * count;
    assert_eq!(asked, (0..steps).collect::<Vec<_>>());
    Tensor::from_vec(pixels, (frames, 3, height, width), &Device::Cpu).unwrap()
}

#[test]
fn tiles_of_a_clip_are_cut_and_joined_as_the_reference_does() {
    for case in CASES {
        let (vae, tensors) = (open_vae(case), recorded(case));
        let frames = decode(&vae, &tensors["latents"], tiles(&vae));
        let seen = Tensor::new(&[0u32, 6], &Device::Cpu).unwrap();
        let off = distance(&frames.index_select(&seen, 0).unwrap(), &tensors["frames"]);
        assert!(off <= GATE, "{case}: frames are off by {off}");
        let first = tensors["frames"].narrow(0, 0, 1).unwrap();
        let first = first.clamp(-1f32, 1f32).unwrap();
        let said = vae.encode_tiles(&first, tiles(&vae)).unwrap();
        let mean_off = distance(&said.mean, &tensors["mean"]);
        let variance_off = distance(&said.log_variance, &tensors["logvar"]);
        assert!(
            mean_off.max(variance_off) <= GATE,
            "{case}: latents are off by {mean_off} and {variance_off}"
        );
        println!("{case}: in tiles, frames {off:.1e}, latents {mean_off:.1e}");

        // Whoever says no is heard.
        let mut left = 3;
        let mut go_on = |_| {
            left -= 1;
            left > 0
        };
        let mut generator = Generator::new(Rng::Cpu, 7);
        let noise = (SHARE, &mut generator);
        let latents = &tensors["latents"];
        let stopped = vae.decode_tiles(latents, tiles(&vae), noise, &mut go_on, &mut |_| Ok(()));
        assert!(!stopped.unwrap());
    }
}

#[test]
fn a_tile_as_large_as_the_frame_has_the_frames_of_none() {
    for case in CASES {
        let vae = open_vae(case);
        let latents = &recorded(case)["latents"];
        let (_, _, rows, columns) = latents.dims4().unwrap();
        let scale = vae.config().scale();
        let large = vae.tiles(9 * scale, scale);
        assert!(!large.cuts(rows, columns) && tiles(&vae).cuts(rows, columns));
        let mut generator = Generator::new(Rng::Cpu, 7);
        let mut decoding = vae
            .decoding(SHARE, (rows, columns), &mut generator)
            .unwrap();
        let whole = decoding.finish(latents).unwrap();
        assert_eq!(
            distance(&decode(&vae, latents, large), &whole),
            0.0,
            "{case}"
        );
    }
}

#[test]
fn a_decoder_that_pads_by_reflection_gets_no_tile_of_a_single_row() {
    let vae = open_vae("ltx2");
    assert!(vae.config().is_decoder_mirrored);
    // Places 0, 2 and 4, of which the last would be one latent long.
    let latents = recorded("ltx2")["latents"].narrow(3, 0, 5).unwrap();
    let latents = latents.contiguous().unwrap();
    let (_, _, rows, columns) = latents.dims4().unwrap();
    assert_eq!((rows, columns), (4, 5));
    assert_eq!(tiles(&vae).count(rows, columns), 4);
    let frames = decode(&vae, &latents, tiles(&vae));
    let values = frames.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert!(values.iter().all(|value| value.is_finite()));
}
