//! Writes tiny model files for the tests: safetensors with chosen faults, and whole FLUX.1 models
//! in both layouts from one set of numbers.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

/// Shape and bytes (bf16) by name.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<u8>)>;

/// A file from a header and the bytes after it.
pub fn join(header: &str, data: &[u8]) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(data);
    file
}

/// A correct file.
pub fn encode(tensors: &Tensors) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, (shape, bytes)) in tensors {
        let begin = data.len();
        data.extend_from_slice(bytes);
        let entry = json!({ "dtype": "BF16", "shape": shape, "data_offsets": [begin, data.len()] });
        header.insert(name.clone(), entry);
    }
    join(&Value::Object(header).to_string(), &data)
}

pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> PathBuf {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
    path.to_owned()
}

/// Adds a tensor whose bytes depend on its name, so that no two are alike.
pub fn add(tensors: &mut Tensors, name: impl Into<String>, shape: &[usize]) {
    let name = name.into();
    let len = shape.iter().product::<usize>() * 2;
    let mut state = name.bytes().fold(0x9e37_79b9_7f4a_7c15_u64, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let bytes = (0..len)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            (state >> 56) as u8
        })
        .collect();
    tensors.insert(name, (shape.to_vec(), bytes));
}

/// Names and shapes.
pub type Shapes = Vec<(String, Vec<usize>)>;

/// Writes the header of a bf16 file, and gives the file its size without its bytes.
pub fn write_sparse(path: &Path, shapes: Shapes) -> u64 {
    let mut header = serde_json::Map::new();
    let mut end = 0_u64;
    for (name, shape) in shapes {
        let begin = end;
        end += 2 * shape.iter().map(|size| *size as u64).product::<u64>();
        let entry = json!({ "dtype": "BF16", "shape": shape, "data_offsets": [begin, end] });
        header.insert(name, entry);
    }
    let header = Value::Object(header).to_string();
    let mut file = fs::File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes())
        .unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len(8 + header.len() as u64 + end).unwrap();
    end
}

/// Gives shapes their bytes.
pub fn fill(shapes: Shapes) -> Tensors {
    let mut tensors = Tensors::new();
    for (name, shape) in shapes {
        add(&mut tensors, name, &shape);
    }
    tensors
}

/// Sizes of a FLUX.1 transformer.
pub struct FluxSizes {
    pub hidden: usize,
    pub head: usize,
    pub joint: usize,
    pub pooled: usize,
    pub layers: usize,
    pub single_layers: usize,
}

/// Width of the tiny transformer: two heads of 32.
pub const HIDDEN: usize = 64;

/// Two double blocks and a single one.
pub const TINY: FluxSizes = FluxSizes {
    hidden: HIDDEN,
    head: 32,
    joint: 24,
    pooled: 64,
    layers: 2,
    single_layers: 1,
};

/// The published size.
pub const FULL: FluxSizes = FluxSizes {
    hidden: 3072,
    head: 128,
    joint: 4096,
    pooled: 768,
    layers: 19,
    single_layers: 38,
};

fn add_linear(tensors: &mut Tensors, name: &str, out: usize, input: usize) {
    add(tensors, format!("{name}.weight"), &[out, input]);
    add(tensors, format!("{name}.bias"), &[out]);
}

/// The tiny transformer under the authors' names.
pub fn bfl_transformer(has_guidance: bool) -> Tensors {
    fill(bfl_transformer_shapes(&TINY, has_guidance))
}

/// A transformer under the authors' names.
pub fn bfl_transformer_shapes(sizes: &FluxSizes, has_guidance: bool) -> Shapes {
    let (hidden, head) = (sizes.hidden, sizes.head);
    let mut shapes = Shapes::new();
    let mut linear = |name: String, out: usize, input: usize| {
        shapes.push((format!("{name}.weight"), vec![out, input]));
        shapes.push((format!("{name}.bias"), vec![out]));
    };
    linear("img_in".into(), hidden, 64);
    linear("txt_in".into(), hidden, sizes.joint);
    let mut embedders = vec![("time_in", 256), ("vector_in", sizes.pooled)];
    if has_guidance {
        embedders.push(("guidance_in", 256));
    }
    for (name, input) in embedders {
        linear(format!("{name}.in_layer"), hidden, input);
        linear(format!("{name}.out_layer"), hidden, hidden);
    }
    for block in 0..sizes.layers {
        for side in ["img", "txt"] {
            let name = |part: &str| format!("double_blocks.{block}.{side}_{part}");
            linear(name("mod.lin"), 6 * hidden, hidden);
            linear(name("attn.qkv"), 3 * hidden, hidden);
            linear(name("attn.proj"), hidden, hidden);
            linear(name("mlp.0"), 4 * hidden, hidden);
            linear(name("mlp.2"), hidden, 4 * hidden);
        }
    }
    for block in 0..sizes.single_layers {
        let name = |part: &str| format!("single_blocks.{block}.{part}");
        linear(name("linear1"), 7 * hidden, hidden);
        linear(name("linear2"), hidden, 5 * hidden);
        linear(name("modulation.lin"), 3 * hidden, hidden);
    }
    linear("final_layer.linear".into(), 64, hidden);
    linear("final_layer.adaLN_modulation.1".into(), 2 * hidden, hidden);
    let double = (0..sizes.layers).flat_map(|block| {
        ["img", "txt"].map(|side| format!("double_blocks.{block}.{side}_attn.norm"))
    });
    let single = (0..sizes.single_layers).map(|block| format!("single_blocks.{block}.norm"));
    for name in double.chain(single) {
        shapes.push((format!("{name}.query_norm.scale"), vec![head]));
        shapes.push((format!("{name}.key_norm.scale"), vec![head]));
    }
    shapes
}

/// The tiny VAE under the authors' names: two levels of 32 and 64, one block each (two when
/// decoding).
pub fn ldm_vae() -> Tensors {
    fill(ldm_vae_shapes(&[32, 64], 1))
}

/// A VAE of 16 channels under the authors' names.
pub fn ldm_vae_shapes(widths: &[usize], blocks: usize) -> Shapes {
    let mut shapes = Shapes::new();
    let (first, last) = (widths[0], widths[widths.len() - 1]);
    for (side, start, end, input, output) in [
        ("encoder", first, last, 3, 32),
        ("decoder", last, first, 16, 3),
    ] {
        conv(&mut shapes, format!("{side}.conv_in"), start, input, 3);
        norm(&mut shapes, format!("{side}.norm_out"), end);
        conv(&mut shapes, format!("{side}.conv_out"), output, end, 3);
        resnet(&mut shapes, format!("{side}.mid.block_1"), last, last);
        resnet(&mut shapes, format!("{side}.mid.block_2"), last, last);
        norm(&mut shapes, format!("{side}.mid.attn_1.norm"), last);
        for part in ["q", "k", "v", "proj_out"] {
            conv(
                &mut shapes,
                format!("{side}.mid.attn_1.{part}"),
                last,
                last,
                1,
            );
        }
    }
    for (level, &width) in widths.iter().enumerate() {
        let name = format!("encoder.down.{level}");
        let mut input = if level == 0 { first } else { widths[level - 1] };
        for block in 0..blocks {
            resnet(&mut shapes, format!("{name}.block.{block}"), input, width);
            input = width;
        }
        if level + 1 < widths.len() {
            conv(
                &mut shapes,
                format!("{name}.downsample.conv"),
                width,
                width,
                3,
            );
        }
        let name = format!("decoder.up.{level}");
        let mut input = *widths.get(level + 1).unwrap_or(&last);
        for block in 0..=blocks {
            resnet(&mut shapes, format!("{name}.block.{block}"), input, width);
            input = width;
        }
        if level > 0 {
            conv(
                &mut shapes,
                format!("{name}.upsample.conv"),
                width,
                width,
                3,
            );
        }
    }
    shapes
}

fn conv(shapes: &mut Shapes, name: String, out: usize, input: usize, size: usize) {
    shapes.push((format!("{name}.weight"), vec![out, input, size, size]));
    shapes.push((format!("{name}.bias"), vec![out]));
}

fn norm(shapes: &mut Shapes, name: String, channels: usize) {
    shapes.push((format!("{name}.weight"), vec![channels]));
    shapes.push((format!("{name}.bias"), vec![channels]));
}

fn resnet(shapes: &mut Shapes, name: String, input: usize, out: usize) {
    norm(shapes, format!("{name}.norm1"), input);
    conv(shapes, format!("{name}.conv1"), out, input, 3);
    norm(shapes, format!("{name}.norm2"), out);
    conv(shapes, format!("{name}.conv2"), out, out, 3);
    if input != out {
        conv(shapes, format!("{name}.nin_shortcut"), out, input, 1);
    }
}

/// CLIP with one block of width 64.
pub fn clip() -> Tensors {
    let mut t = Tensors::new();
    let name = |part: &str| format!("text_model.{part}");
    add(&mut t, name("embeddings.token_embedding.weight"), &[40, 64]);
    add(
        &mut t,
        name("embeddings.position_embedding.weight"),
        &[77, 64],
    );
    let layer = |part: &str| format!("text_model.encoder.layers.0.{part}");
    for part in ["q_proj", "k_proj", "v_proj", "out_proj"] {
        add_linear(&mut t, &layer(&format!("self_attn.{part}")), 64, 64);
    }
    add_linear(&mut t, &layer("mlp.fc1"), 128, 64);
    add_linear(&mut t, &layer("mlp.fc2"), 64, 128);
    for norm in [
        layer("layer_norm1"),
        layer("layer_norm2"),
        name("final_layer_norm"),
    ] {
        add(&mut t, format!("{norm}.weight"), &[64]);
        add(&mut t, format!("{norm}.bias"), &[64]);
    }
    t
}

/// T5 with one block of width 24.
pub fn t5() -> Tensors {
    let mut t = Tensors::new();
    add(&mut t, "shared.weight", &[30, 24]);
    let layer = |part: &str| format!("encoder.block.0.layer.{part}.weight");
    for part in ["q", "k", "v"] {
        add(&mut t, layer(&format!("0.SelfAttention.{part}")), &[16, 24]);
    }
    add(&mut t, layer("0.SelfAttention.o"), &[24, 16]);
    add(
        &mut t,
        layer("0.SelfAttention.relative_attention_bias"),
        &[32, 4],
    );
    add(&mut t, layer("0.layer_norm"), &[24]);
    add(&mut t, layer("1.DenseReluDense.wi_0"), &[48, 24]);
    add(&mut t, layer("1.DenseReluDense.wi_1"), &[48, 24]);
    add(&mut t, layer("1.DenseReluDense.wo"), &[24, 48]);
    add(&mut t, layer("1.layer_norm"), &[24]);
    add(&mut t, "encoder.final_layer_norm.weight", &[24]);
    t
}

/// The same tensors with a prefix before every name.
pub fn prefixed(tensors: Tensors, prefix: &str) -> Tensors {
    tensors
        .into_iter()
        .map(|(name, tensor)| (format!("{prefix}{name}"), tensor))
        .collect()
}

/// Writes tokenizer files that only have to exist.
pub fn write_tokenizers(root: &Path) {
    write(&root.join("tokenizer/vocab.json"), "{}");
    write(&root.join("tokenizer/merges.txt"), "");
    write(&root.join("tokenizer_2/spiece.model"), "");
}

/// Writes a model in the layout of the reference library from given tensors.
pub fn write_folders(root: &Path, [transformer, vae, clip, t5]: [&Tensors; 4], guidance: bool) {
    let index = json!({ "_class_name": "FluxPipeline" });
    write(&root.join("model_index.json"), index.to_string());
    let config = json!({
        "num_layers": 2, "num_single_layers": 1, "num_attention_heads": 2,
        "attention_head_dim": 32, "axes_dims_rope": [4, 14, 14], "in_channels": 64,
        "joint_attention_dim": 24, "pooled_projection_dim": 64, "guidance_embeds": guidance,
    });
    write(&root.join("transformer/config.json"), config.to_string());
    let file = "diffusion_pytorch_model.safetensors";
    write(&root.join("transformer").join(file), encode(transformer));
    let config = json!({
        "latent_channels": 16, "block_out_channels": [32, 64], "layers_per_block": 1,
        "norm_num_groups": 32, "scaling_factor": 0.3611, "shift_factor": 0.1159,
        "use_quant_conv": false, "use_post_quant_conv": false,
    });
    write(&root.join("vae/config.json"), config.to_string());
    write(&root.join("vae").join(file), encode(vae));
    let config = json!({
        "vocab_size": 40, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1,
        "num_attention_heads": 1, "eos_token_id": 2,
    });
    write(&root.join("text_encoder/config.json"), config.to_string());
    write(&root.join("text_encoder/model.safetensors"), encode(clip));
    let config = json!({
        "vocab_size": 30, "d_model": 24, "d_kv": 4, "d_ff": 48, "num_layers": 1, "num_heads": 4,
        "feed_forward_proj": "gated-gelu",
    });
    write(&root.join("text_encoder_2/config.json"), config.to_string());
    write(&root.join("text_encoder_2/model.safetensors"), encode(t5));
    let config = json!({ "shift": 1.0, "use_dynamic_shifting": guidance });
    write(
        &root.join("scheduler/scheduler_config.json"),
        config.to_string(),
    );
    write_tokenizers(root);
}
