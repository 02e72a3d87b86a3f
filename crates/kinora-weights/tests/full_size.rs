//! The published files at their true sizes: every name and shape of the authors' layout arrives at
//! a name and shape of the reference library (tools/goldens/shapes.json), and none is left over.
//! The files are sparse: only their headers exist.

mod common;

use std::{collections::BTreeMap, fs, path::Path};

use common::{FULL, Shapes, bfl_transformer_shapes, ldm_vae_shapes, write_sparse};
use kinora_weights::{ClipConfig, Component, FluxConfig, T5Config, Tokenizer, detect};

type Table = BTreeMap<String, Vec<usize>>;

fn reference() -> BTreeMap<String, Table> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/goldens/shapes.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn renamed(table: &Table, prefix: &str) -> Shapes {
    table
        .iter()
        .map(|(name, shape)| (format!("{prefix}{name}"), shape.clone()))
        .collect()
}

#[test]
fn published_files_have_the_references_names_and_shapes() {
    let reference = reference();
    for (variant, has_guidance) in [("schnell", false), ("dev", true)] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let file = root.join(format!("flux1-{variant}.safetensors"));
        let bytes = write_sparse(&file, bfl_transformer_shapes(&FULL, has_guidance));
        write_sparse(
            &root.join("ae.safetensors"),
            ldm_vae_shapes(&[128, 256, 512, 512], 2),
        );
        let clip = renamed(&reference["clip_l"], "text_model.");
        write_sparse(&root.join("clip_l.safetensors"), clip);
        write_sparse(
            &root.join("t5xxl_fp16.safetensors"),
            renamed(&reference["t5_xxl"], ""),
        );

        // Published text encoders need no tokenizer beside them: it comes with the program.
        let layout = detect(root).unwrap();
        assert_eq!(layout.variant, variant);
        for tokenizer in [Tokenizer::Clip, Tokenizer::T5] {
            assert!(!layout.has_tokenizer_files(tokenizer));
        }
        assert_eq!(layout.bytes_of(Component::Transformer), bytes);
        for (component, name) in [
            (Component::Transformer, format!("flux_{variant}").as_str()),
            (Component::Vae, "vae"),
            (Component::TextEncoder, "clip_l"),
            (Component::TextEncoder2, "t5_xxl"),
        ] {
            let set = layout.open(component).unwrap();
            let ours: Table = set
                .tensors()
                .map(|(name, view)| (name.to_owned(), view.shape.clone()))
                .collect();
            assert_eq!(ours, reference[name], "{name}");
        }

        let flux = layout.flux().unwrap().clone();
        let published = FluxConfig {
            has_guidance,
            out_channels: Some(64),
            ..FluxConfig::default()
        };
        assert_eq!(flux.transformer, published);
        assert_eq!(flux.scheduler.is_dynamic, has_guidance);
        assert_eq!(
            (
                flux.vae.block_out_channels.as_slice(),
                flux.vae.layers_per_block
            ),
            (&[128, 256, 512, 512][..], 2)
        );
        assert_eq!((flux.vae.scale(), flux.vae.latent_channels), (8, 16));
        let clip = ClipConfig {
            hidden: 768,
            intermediate: 3072,
            heads: 12,
            eos_token_id: 2,
            ..ClipConfig::default()
        };
        assert_eq!(flux.clip, clip);
        let t5 = T5Config {
            hidden: 4096,
            intermediate: 10240,
            layers: 24,
            heads: 64,
            feed_forward_proj: "gated-gelu".to_owned(),
            ..T5Config::default()
        };
        assert_eq!(flux.t5, t5);
    }
}
