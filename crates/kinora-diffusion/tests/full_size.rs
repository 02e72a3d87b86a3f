//! What the loaders ask of the published checkpoints is what the reference library's classes hold:
//! the same names, the same shapes, nothing missing and nothing left over.

use std::{collections::BTreeMap, fs::File, path::Path};

use flate2::read::GzDecoder;
use kinora_diffusion::{
    denoisers::{FluxDenoiser, UnetDenoiser},
    layers::Weights,
    text::{ClipEncoder, T5Encoder},
    vae::KlVae,
    vision::{ReduxEmbedder, SiglipVision},
};
use kinora_weights::{
    ClipConfig, FluxConfig, ReduxConfig, SiglipConfig, T5Config, TextActivation, UnetConfig,
    VaeConfig,
};

type Table = BTreeMap<String, Vec<usize>>;

fn reference(network: &str) -> Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/goldens/shapes.json");
    let json = std::fs::read(path).unwrap();
    let mut tables: BTreeMap<String, Table> = serde_json::from_slice(&json).unwrap();
    tables.remove(network).unwrap()
}

fn check(network: &str, survey: &Weights, reference: Table) {
    let asked = survey.asked();
    let table: Table = asked.iter().cloned().collect();
    assert_eq!(
        asked.len(),
        table.len(),
        "{network}: a tensor is read twice"
    );
    for (name, shape) in &reference {
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
fn flux_transformers() {
    for (network, has_guidance, tensors) in
        [("flux_schnell", false, 1156), ("flux_dev", true, 1160)]
    {
        let survey = Weights::survey();
        let config = FluxConfig {
            has_guidance,
            ..FluxConfig::default()
        };
        let mut share = 0.0;
        FluxDenoiser::load(&survey, &config, &mut |part| share = part).unwrap();
        assert_eq!(share, 1.0);
        let reference = reference(network);
        assert_eq!(reference.len(), tensors);
        check(network, &survey, reference);
    }
}

#[test]
fn the_vae() {
    let survey = Weights::survey();
    let config = VaeConfig {
        latent_channels: 16,
        block_out_channels: vec![128, 256, 512, 512],
        layers_per_block: 2,
        has_quant_conv: false,
        has_post_quant_conv: false,
        ..VaeConfig::default()
    };
    KlVae::load(&survey, &config).unwrap();
    check("vae", &survey, reference("vae"));
}

#[test]
fn text_encoders() {
    let survey = Weights::survey();
    let config = ClipConfig {
        hidden: 768,
        intermediate: 3072,
        layers: 12,
        heads: 12,
        ..ClipConfig::default()
    };
    ClipEncoder::load(&survey, &config).unwrap();
    // Older files say `text_model.` in front of every name; the weights crate takes it away.
    let names = reference("clip_l").into_iter().map(|(name, shape)| {
        let plain = name.strip_prefix("text_model.").unwrap_or(&name);
        (plain.to_owned(), shape)
    });
    check("clip_l", &survey, names.collect());

    let survey = Weights::survey();
    let config = T5Config {
        vocab: 32128,
        hidden: 4096,
        head_dim: 64,
        intermediate: 10240,
        layers: 24,
        heads: 64,
        feed_forward_proj: "gated-gelu".into(),
        ..T5Config::default()
    };
    T5Encoder::load(&survey, &config).unwrap();
    let mut names = reference("t5_xxl");
    // The same tensor under a second name.
    names.remove("encoder.embed_tokens.weight");
    check("t5_xxl", &survey, names);
}

/// Name with its first number as {}, shape, the numbers.
type Folded = (String, Vec<usize>, Vec<usize>);

#[derive(serde::Deserialize)]
struct Manifests {
    networks: BTreeMap<String, Vec<Folded>>,
}

/// State dicts of the reference's classes, as `kinora-weights` keeps them for its own tests.
fn manifest(network: &str) -> Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../kinora-weights/tests/data/manifests.json.gz");
    let file = GzDecoder::new(File::open(path).unwrap());
    let mut manifests: Manifests = serde_json::from_reader(file).unwrap();
    let mut table = Table::new();
    for (pattern, shape, numbers) in manifests.networks.remove(network).unwrap() {
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

/// What Redux adds to its base: SigLIP's vision side but for its pooling head, and the projection.
#[test]
fn the_parts_of_redux() {
    let survey = Weights::survey();
    SiglipVision::load(&survey, &SiglipConfig::so400m()).unwrap();
    let mut names = manifest("siglip_so400m");
    assert_eq!(names.len(), 448);
    let head: Vec<String> = names
        .keys()
        .filter(|name| name.starts_with("head."))
        .cloned()
        .collect();
    for name in &head {
        names.remove(name);
    }
    assert_eq!(head.len(), 11);
    check("siglip_so400m", &survey, names);

    let survey = Weights::survey();
    ReduxEmbedder::load(&survey, &ReduxConfig::default()).unwrap();
    check("flux_redux", &survey, manifest("flux_redux"));
}

/// A UNet's published `config.json`, as far as it differs from the library's defaults.
fn unet(json: &str) -> UnetConfig {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    std::fs::write(&path, json).unwrap();
    UnetConfig::read(&path).unwrap()
}

const SD15: &str = r#"{"attention_head_dim": 8, "cross_attention_dim": 768}"#;
const SD2: &str = r#"{"attention_head_dim": [5, 10, 20, 20], "cross_attention_dim": 1024,
    "use_linear_projection": true}"#;
const SDXL: &str = r#"{"attention_head_dim": [5, 10, 20], "cross_attention_dim": 2048,
    "block_out_channels": [320, 640, 1280], "transformer_layers_per_block": [1, 2, 10],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816, "use_linear_projection": true}"#;
const REFINER: &str = r#"{"attention_head_dim": [6, 12, 24, 24], "cross_attention_dim": 1280,
    "block_out_channels": [384, 768, 1536, 1536], "transformer_layers_per_block": 4,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D",
        "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2560, "use_linear_projection": true}"#;

#[test]
fn unets_of_every_release() {
    for (network, json, in_channels, tensors) in [
        ("sd15", SD15, 4, 686),
        ("sd15_inpaint", SD15, 9, 686),
        ("sd21", SD2, 4, 686),
        ("sd2_inpaint", SD2, 9, 686),
        ("sdxl", SDXL, 4, 1680),
        ("sdxl_inpaint", SDXL, 9, 1680),
        ("sdxl_refiner", REFINER, 4, 1220),
    ] {
        let config = UnetConfig {
            in_channels,
            ..unet(json)
        };
        let survey = Weights::survey();
        let mut share = 0.0;
        UnetDenoiser::load(&survey, &config, &mut |part| {
            assert!(part > share, "{network}: {part} after {share}");
            share = part;
        })
        .unwrap();
        assert_eq!(share, 1.0, "{network}");
        let reference = manifest(network);
        assert_eq!(reference.len(), tensors, "{network}");
        check(network, &survey, reference);
    }
}

#[test]
fn the_text_encoders_and_the_vae_of_stable_diffusion() {
    let survey = Weights::survey();
    let config = ClipConfig {
        hidden: 1024,
        intermediate: 4096,
        layers: 23,
        heads: 16,
        activation: TextActivation::Gelu,
        ..ClipConfig::default()
    };
    ClipEncoder::load(&survey, &config).unwrap();
    check("clip_h", &survey, manifest("clip_h"));

    let survey = Weights::survey();
    let config = ClipConfig {
        hidden: 1280,
        intermediate: 5120,
        layers: 32,
        heads: 20,
        ..config
    };
    ClipEncoder::load_projected(&survey, &config, 1280).unwrap();
    check("clip_g", &survey, manifest("clip_g"));

    let survey = Weights::survey();
    let config = VaeConfig {
        block_out_channels: vec![128, 256, 512, 512],
        layers_per_block: 2,
        ..VaeConfig::default()
    };
    KlVae::load(&survey, &config).unwrap();
    check("vae_sd", &survey, manifest("vae_sd"));
}
