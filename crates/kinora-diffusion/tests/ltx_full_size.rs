//! What the loaders of LTX's networks ask at full size is what the reference library's classes
//! hold: the same names, the same shapes, nothing missing and nothing left over.

use std::{collections::BTreeMap, fs::File, path::Path};

use flate2::read::GzDecoder;
use kinora_diffusion::{
    denoisers::{Ltx2Denoiser, LtxDenoiser},
    layers::Weights,
    text::{GemmaEncoder, Ltx2Connectors, T5Encoder},
    vae::{LtxAudioVae, LtxVae, Vocoder},
};
use kinora_weights::{
    GemmaConfig, Ltx2AudioVaeConfig, Ltx2ConnectorsConfig, Ltx2VocoderConfig, LtxAudioConfig,
    LtxConfig, LtxRope, LtxVaeConfig, T5Config, maps::ltx_vae::LtxVaeRelease,
};
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

fn check(network: &str, survey: &Weights) {
    let reference = reference(network);
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
fn transformers_of_ltx_video() {
    let small = LtxConfig {
        in_channels: 128,
        heads: 32,
        head_dim: 64,
        layers: 28,
        cross_attention_dim: 2048,
        caption_channels: Some(4096),
        rope: LtxRope::default(),
        audio: None,
    };
    let large = LtxConfig {
        head_dim: 128,
        layers: 48,
        cross_attention_dim: 4096,
        ..small.clone()
    };
    for (network, config) in [("ltx_2b", small), ("ltx_13b", large)] {
        let survey = Weights::survey();
        let mut share = 0.0;
        LtxDenoiser::load(&survey, &config, &mut |part| share = part).unwrap();
        assert_eq!(share, 1.0);
        check(network, &survey);
    }
}

#[test]
fn vaes() {
    for (network, release) in [
        ("vae_ltx", LtxVaeRelease::V090),
        ("vae_ltx_091", LtxVaeRelease::V091),
        ("vae_ltx_095", LtxVaeRelease::V095),
        ("vae_ltx2", LtxVaeRelease::Two),
    ] {
        let survey = Weights::survey();
        let config = LtxVaeConfig::published(release);
        assert_eq!((config.scale(), config.time_scale()), (32, 8));
        LtxVae::load(&survey, &config).unwrap();
        check(network, &survey);
    }
}

#[test]
fn text_encoder_of_ltx_video() {
    let survey = Weights::survey();
    let config = T5Config {
        hidden: 4096,
        intermediate: 10240,
        layers: 24,
        heads: 64,
        feed_forward_proj: "gated-gelu".into(),
        ..T5Config::default()
    };
    T5Encoder::load(&survey, &config).unwrap();
    check("t5_xxl", &survey);
}

#[test]
fn transformers_of_ltx_2() {
    for (network, is_23) in [("ltx2", false), ("ltx23", true)] {
        let config = LtxConfig {
            in_channels: 128,
            heads: 32,
            head_dim: 128,
            layers: 48,
            cross_attention_dim: 4096,
            caption_channels: (!is_23).then_some(3840),
            rope: LtxRope {
                is_split: true,
                is_double: true,
            },
            audio: Some(LtxAudioConfig {
                in_channels: 128,
                heads: 32,
                head_dim: 64,
                cross_attention_dim: 2048,
                is_gated: is_23,
                is_modulated: is_23,
                gate_time_scale: 1.0,
                sample_rate: 16000,
                hop: 160,
                scale: 4,
            }),
        };
        let survey = Weights::survey();
        let mut share = 0.0;
        Ltx2Denoiser::load(&survey, &config, &mut |part| share = part).unwrap();
        assert_eq!(share, 1.0);
        check(network, &survey);
    }
}

#[test]
fn text_side_of_ltx_2() {
    let survey = Weights::survey();
    let config = GemmaConfig {
        vocab: 262_208,
        hidden: 3840,
        intermediate: 15360,
        layers: 48,
        head_dim: 256,
        heads: 16,
        key_value_heads: 8,
        norm_eps: 1e-6,
        query_scale: 256.0,
        window: 1024,
        sees_all: GemmaConfig::published_pattern(48),
        rope_theta: 1_000_000.0,
        rope_factor: 8.0,
        rope_local_theta: 10_000.0,
    };
    GemmaEncoder::load(&survey, &config, &mut |_| {}).unwrap();
    check("gemma3_12b", &survey);

    for (network, is_23) in [("ltx2_connectors", false), ("ltx23_connectors", true)] {
        let survey = Weights::survey();
        let config = Ltx2ConnectorsConfig::published(is_23);
        Ltx2Connectors::load(&survey, &config).unwrap();
        check(network, &survey);
    }
}

#[test]
fn sound_of_ltx_2() {
    let survey = Weights::survey();
    LtxAudioVae::load(&survey, &Ltx2AudioVaeConfig::default()).unwrap();
    check("vae_ltx2_audio", &survey);
    for (network, has_second_stage) in [("ltx2_vocoder", false), ("ltx23_vocoder", true)] {
        let survey = Weights::survey();
        let config = Ltx2VocoderConfig::published(has_second_stage);
        Vocoder::load(&survey, &config).unwrap();
        check(network, &survey);
    }
}
