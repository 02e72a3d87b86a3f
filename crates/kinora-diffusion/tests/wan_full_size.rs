//! What the loaders of Wan's networks ask at full size is what the reference library's classes
//! hold: the same names, the same shapes, nothing missing and nothing left over.

use std::{collections::BTreeMap, fs::File, path::Path};

use flate2::read::GzDecoder;
use kinora_diffusion::{
    denoisers::WanDenoiser, layers::Weights, text::Umt5Encoder, vae::WanVae, vision::ClipVision,
};
use kinora_weights::{ClipVisionParts, LatentStats, T5Config, WanConfig, WanVaeConfig};
use serde::Deserialize;

type Table = BTreeMap<String, Vec<usize>>;

/// Name with its first number as {}, shape, the numbers.
type Folded = (String, Vec<usize>, Vec<usize>);

#[derive(Deserialize)]
struct Manifests {
    networks: BTreeMap<String, Vec<Folded>>,
}

fn reference(network: &str) -> Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../kinora-weights/tests/data/manifests.json.gz");
    let manifests: Manifests =
        serde_json::from_reader(GzDecoder::new(File::open(path).unwrap())).unwrap();
    let mut table = Table::new();
    for (pattern, shape, numbers) in &manifests.networks[network] {
        if numbers.is_empty() {
            table.insert(pattern.clone(), shape.clone());
        }
        for number in numbers {
            let name = pattern.replacen("{}", &number.to_string(), 1);
            table.insert(name, shape.clone());
        }
    }
    table
}

fn check(network: &str, survey: &Weights, reference: &Table) {
    let asked = survey.asked();
    let table: Table = asked.iter().cloned().collect();
    assert_eq!(
        asked.len(),
        table.len(),
        "{network}: a tensor is read twice"
    );
    for (name, shape) in reference {
        assert_eq!(table.get(name), Some(shape), "{network}: {name}");
    }
    for name in table.keys() {
        assert!(
            reference.contains_key(name),
            "{network}: {name} is not in the checkpoint"
        );
    }
}

#[test]
fn transformers() {
    let large = WanConfig::default;
    let image = || WanConfig {
        in_channels: 36,
        image_dim: Some(1280),
        ..large()
    };
    for (network, config) in [
        (
            "wan21_t2v_1b",
            WanConfig {
                heads: 12,
                layers: 30,
                ffn_dim: 8960,
                ..large()
            },
        ),
        // Both experts of 2.2 T2V-A14B are of this shape too.
        ("wan21_t2v_14b", large()),
        // 480p and 720p.
        ("wan21_i2v_14b", image()),
        (
            "wan21_flf2v_14b",
            WanConfig {
                image_positions: Some(514),
                ..image()
            },
        ),
        (
            "wan22_i2v_a14b",
            WanConfig {
                in_channels: 36,
                ..large()
            },
        ),
        (
            "wan22_ti2v_5b",
            WanConfig {
                in_channels: 48,
                out_channels: 48,
                heads: 24,
                layers: 30,
                ffn_dim: 14336,
                ..large()
            },
        ),
    ] {
        let survey = Weights::survey();
        let mut share = 0.0;
        WanDenoiser::load(&survey, &config, &mut |part| share = part).unwrap();
        assert_eq!(share, 1.0);
        check(network, &survey, &reference(network));
    }
}

#[test]
fn vaes() {
    for (network, config) in [
        ("vae_wan21", WanVaeConfig::wan21()),
        ("vae_wan22", WanVaeConfig::wan22()),
    ] {
        let survey = Weights::survey();
        WanVae::load(&survey, &config, &LatentStats::wan21()).unwrap();
        check(network, &survey, &reference(network));
    }
}

#[test]
fn encoders() {
    let survey = Weights::survey();
    let config = T5Config {
        vocab: 256_384,
        hidden: 4096,
        head_dim: 64,
        intermediate: 10240,
        layers: 24,
        heads: 64,
        feed_forward_proj: "gated-gelu".into(),
        ..T5Config::default()
    };
    Umt5Encoder::load(&survey, &config).unwrap();
    check("umt5_xxl", &survey, &reference("umt5_xxl"));

    let survey = Weights::survey();
    ClipVision::load(&survey, &ClipVisionParts::vit_h()).unwrap();
    let mut names = reference("clip_vision_h");
    // Of the class with a projection, which Wan's is not.
    names.remove("visual_projection.weight").unwrap();
    check("clip_vision_h", &survey, &names);
}
