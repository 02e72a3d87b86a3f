//! Layouts: the same numbers under every naming give the same canonical tensors.

mod common;

use std::{collections::BTreeMap, fs, path::Path};

use common::{
    Tensors, bfl_transformer, clip, encode, ldm_vae, prefixed, t5, write, write_folders,
    write_tokenizers,
};
use kinora_weights::{Component, Error, ModelLayout, WeightSet, detect};
use serde_json::json;

/// Everything that a set holds.
fn read_all(set: &WeightSet) -> Tensors {
    set.tensors()
        .map(|(name, view)| {
            (
                name.to_owned(),
                (view.shape.clone(), set.read(name).unwrap()),
            )
        })
        .collect()
}

fn open_all(layout: &ModelLayout) -> BTreeMap<&'static str, Tensors> {
    Component::CORE
        .into_iter()
        .map(|component| {
            (
                component.as_str(),
                read_all(&layout.open(component).unwrap()),
            )
        })
        .collect()
}

/// A model in the authors' files, one per component.
fn write_bfl(root: &Path, has_guidance: bool) {
    write(
        &root.join("flux1.safetensors"),
        encode(&bfl_transformer(has_guidance)),
    );
    write(&root.join("ae.safetensors"), encode(&ldm_vae()));
    write(&root.join("clip_l.safetensors"), encode(&clip()));
    write(&root.join("t5xxl_fp16.safetensors"), encode(&t5()));
    write_tokenizers(root);
}

#[test]
fn the_same_numbers_come_out_of_every_layout() {
    for has_guidance in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write_bfl(&root.join("bfl"), has_guidance);
        let bfl = detect(&root.join("bfl")).unwrap();
        assert_eq!(bfl.variant, if has_guidance { "dev" } else { "schnell" });
        let canonical = open_all(&bfl);

        // What came out is written as the reference library does, and must be read the same.
        let reference = root.join("reference");
        let [transformer, vae, clip_tensors, t5_tensors] =
            Component::CORE.map(|component| &canonical[component.as_str()]);
        write_folders(
            &reference,
            [transformer, vae, clip_tensors, t5_tensors],
            has_guidance,
        );
        let layout = detect(&reference).unwrap();
        assert_eq!(open_all(&layout), canonical);
        assert_eq!(layout.variant, bfl.variant);
        assert_eq!(layout.component_bytes, bfl.component_bytes);
        assert_eq!(layout.flux().unwrap().scheduler.is_dynamic, has_guidance);
        assert_eq!(layout.flux().unwrap().vae, bfl.flux().unwrap().vae);
        assert_eq!(layout.flux().unwrap().t5, bfl.flux().unwrap().t5);
        assert_eq!(layout.flux().unwrap().clip, bfl.flux().unwrap().clip);

        // One file with everything in it.
        let mut all = prefixed(bfl_transformer(has_guidance), "model.diffusion_model.");
        all.extend(prefixed(ldm_vae(), "vae."));
        all.extend(prefixed(clip(), "text_encoders.clip_l.transformer."));
        all.extend(prefixed(t5(), "text_encoders.t5xxl.transformer."));
        let file = write(&root.join("single/all.safetensors"), encode(&all));
        write_tokenizers(&root.join("single"));
        let single = detect(&file).unwrap();
        assert_eq!(open_all(&single), canonical);
        assert_eq!(single.weights.len(), 1);
        assert_eq!(single.weight_path(&single.weights[0]), file);
    }
}

#[test]
fn fused_tensors_are_cut_and_the_last_modulation_is_turned() {
    let folder = tempfile::tempdir().unwrap();
    write_bfl(folder.path(), true);
    let stored = bfl_transformer(true);
    let set = detect(folder.path())
        .unwrap()
        .open(Component::Transformer)
        .unwrap();
    let rows = |name: &str, from: usize, to: usize| {
        let (shape, bytes) = &stored[name];
        let row = bytes.len() / shape[0];
        bytes[from * row..to * row].to_vec()
    };
    let hidden = common::HIDDEN;
    for (name, fused, from, to) in [
        (
            "transformer_blocks.1.attn.to_k.weight",
            "double_blocks.1.img_attn.qkv.weight",
            1,
            2,
        ),
        (
            "transformer_blocks.0.attn.add_v_proj.bias",
            "double_blocks.0.txt_attn.qkv.bias",
            2,
            3,
        ),
        (
            "single_transformer_blocks.0.attn.to_q.weight",
            "single_blocks.0.linear1.weight",
            0,
            1,
        ),
        (
            "single_transformer_blocks.0.proj_mlp.weight",
            "single_blocks.0.linear1.weight",
            3,
            7,
        ),
    ] {
        assert_eq!(
            set.read(name).unwrap(),
            rows(fused, from * hidden, to * hidden),
            "{name}"
        );
    }
    let fused = "final_layer.adaLN_modulation.1.weight";
    let mut turned = rows(fused, hidden, 2 * hidden);
    turned.extend(rows(fused, 0, hidden));
    assert_eq!(set.read("norm_out.linear.weight").unwrap(), turned);
    let vae = detect(folder.path()).unwrap().open(Component::Vae).unwrap();
    assert_eq!(
        vae.get("decoder.mid_block.attentions.0.to_q.weight")
            .unwrap()
            .shape,
        [64, 64]
    );
    assert_eq!(
        vae.read("decoder.up_blocks.0.resnets.1.conv1.weight")
            .unwrap(),
        ldm_vae()["decoder.up.1.block.1.conv1.weight"].1
    );
    // No stored tensor is left over: 32 of the encoder's and the decoder's middle, and so on.
    assert_eq!(vae.tensors().count(), ldm_vae().len());
    assert_eq!(
        set.total_bytes(),
        stored
            .values()
            .map(|(_, bytes)| bytes.len() as u64)
            .sum::<u64>()
    );
}

/// A fused tensor whose parts have other sizes would be cut at the wrong places.
#[test]
fn a_fused_tensor_with_more_rows_is_refused() {
    for name in [
        "double_blocks.0.txt_attn.qkv.bias",
        "single_blocks.0.linear1.weight",
    ] {
        let folder = tempfile::tempdir().unwrap();
        write_bfl(folder.path(), false);
        let mut tensors = bfl_transformer(false);
        let mut shape = tensors[name].0.clone();
        shape[0] += 1;
        common::add(&mut tensors, name, &shape);
        write(&folder.path().join("flux1.safetensors"), encode(&tensors));
        let error = detect(folder.path()).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn a_layout_is_described_for_plans() {
    let folder = tempfile::tempdir().unwrap();
    write_bfl(folder.path(), false);
    let layout = detect(folder.path()).unwrap();
    insta::assert_debug_snapshot!((
        layout.flux().unwrap(),
        &layout.weights,
        layout.component_elements
    ));
}

#[test]
fn shards_are_joined_by_their_index() {
    let folder = tempfile::tempdir().unwrap();
    let all = t5();
    let (mut first, mut second) = (Tensors::new(), Tensors::new());
    let mut map = serde_json::Map::new();
    for (index, (name, tensor)) in all.iter().enumerate() {
        let (shard, file) = if index % 2 == 0 {
            (&mut first, "m-1.safetensors")
        } else {
            (&mut second, "m-2.safetensors")
        };
        shard.insert(name.clone(), tensor.clone());
        map.insert(name.clone(), file.into());
    }
    let root = folder.path();
    write(&root.join("m-1.safetensors"), encode(&first));
    write(&root.join("m-2.safetensors"), encode(&second));
    let index = root.join("model.safetensors.index.json");
    write(
        &index,
        json!({ "metadata": {}, "weight_map": map }).to_string(),
    );
    let set = WeightSet::open_folder(root).unwrap();
    assert_eq!(read_all(&set), all);
    assert_eq!(set.files().count(), 2);

    for bad in [
        "../m-1.safetensors",
        "/etc/passwd",
        "a/../m-1.safetensors",
        "..",
        "",
        "m-1.safetensors/",
    ] {
        let mut map = map.clone();
        map.insert("shared.weight".to_owned(), bad.into());
        write(&index, json!({ "weight_map": map }).to_string());
        let error = WeightSet::open_folder(root).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{bad}: {error}");
    }
    map.insert("more.weight".to_owned(), "m-1.safetensors".into());
    write(&index, json!({ "weight_map": map }).to_string());
    let error = WeightSet::open_folder(root).unwrap_err();
    assert!(matches!(error, Error::UnknownTensor { name, .. } if name == "more.weight"));
}

#[test]
fn what_is_wrong_with_a_model_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let mut answers = String::new();
    let mut case = |name: &str, change: &dyn Fn(&Path)| {
        let _ = fs::remove_dir_all(root);
        write_bfl(&root.join("bfl"), false);
        let canonical = open_all(&detect(&root.join("bfl")).unwrap());
        let parts = Component::CORE.map(|component| &canonical[component.as_str()]);
        write_folders(&root.join("model"), parts, false);
        let model = root.join("model");
        change(&model);
        let error = detect(&model).unwrap_err().to_string();
        answers += &format!(
            "{name}: failed to {}\n",
            error.replace(root.to_str().unwrap(), "")
        );
    };
    let set = |path: &Path, key: &str, value: serde_json::Value| {
        let mut json: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        json[key] = value;
        fs::write(path, json.to_string()).unwrap();
    };
    let transformer = |m: &Path| m.join("transformer/config.json");
    case("nothing there", &|m| fs::remove_dir_all(m).unwrap());
    case("an empty folder", &|m| {
        fs::remove_dir_all(m).unwrap();
        fs::create_dir(m).unwrap();
    });
    case("another family", &|m| {
        set(
            &m.join("model_index.json"),
            "_class_name",
            json!("MochiPipeline"),
        )
    });
    case("no VAE", &|m| fs::remove_dir_all(m.join("vae")).unwrap());
    case("no weights", &|m| {
        fs::remove_file(m.join("text_encoder/model.safetensors")).unwrap()
    });
    case("pickled weights", &|m| {
        let folder = m.join("text_encoder");
        fs::rename(
            folder.join("model.safetensors"),
            folder.join("pytorch_model.bin"),
        )
        .unwrap();
    });
    case("no tokenizer", &|m| {
        fs::remove_file(m.join("tokenizer_2/spiece.model")).unwrap()
    });
    case("no configuration", &|m| {
        fs::remove_file(transformer(m)).unwrap()
    });
    case("broken configuration", &|m| {
        fs::write(transformer(m), "{").unwrap()
    });
    case("a count of zero", &|m| {
        set(&transformer(m), "num_attention_heads", json!(0))
    });
    case("a huge count", &|m| {
        set(&transformer(m), "num_layers", json!(u64::MAX))
    });
    case("other blocks", &|m| {
        set(&transformer(m), "num_single_layers", json!(2))
    });
    case("other width", &|m| {
        set(&transformer(m), "num_attention_heads", json!(4))
    });
    case("other axes", &|m| {
        set(&transformer(m), "axes_dims_rope", json!([4, 6, 8]))
    });
    case("odd axes", &|m| {
        set(&transformer(m), "axes_dims_rope", json!([3, 15, 14]))
    });
    case("an editing model", &|m| {
        let mut tensors = Tensors::new();
        let file = m.join("transformer/diffusion_pytorch_model.safetensors");
        let old = WeightSet::open_file(&file).unwrap();
        tensors.extend(read_all(&old));
        common::add(&mut tensors, "x_embedder.weight", &[common::HIDDEN, 384]);
        fs::write(&file, encode(&tensors)).unwrap();
        set(&transformer(m), "in_channels", json!(384));
    });
    case("groups", &|m| {
        set(&m.join("vae/config.json"), "norm_num_groups", json!(24))
    });
    case("scaling", &|m| {
        set(&m.join("vae/config.json"), "scaling_factor", json!(0.0))
    });
    case("ungated T5", &|m| {
        set(
            &m.join("text_encoder_2/config.json"),
            "feed_forward_proj",
            json!("relu"),
        )
    });
    case("an unknown schedule", &|m| {
        set(
            &m.join("scheduler/scheduler_config.json"),
            "use_karras_sigmas",
            json!(true),
        );
    });
    case("text of another width", &|m| {
        let mut other = t5();
        common::add(&mut other, "shared.weight", &[30, 20]);
        fs::write(m.join("text_encoder_2/model.safetensors"), encode(&other)).unwrap();
        set(&m.join("text_encoder_2/config.json"), "d_model", json!(20));
    });
    insta::assert_snapshot!(answers);
}
