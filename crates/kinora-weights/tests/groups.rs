//! Weights whose scales are those of groups (nvfp4, mxfp8) and of rows (int8), as ComfyUI's package
//! quantises them: the numbers that it makes of them, bit for bit.

mod common;

use std::path::{Path, PathBuf};

use common::{join, write};
use kinora_weights::{Dtype, Error, QuantFormat, WeightSet, glance, identify};
use serde_json::{Map, Value, json};

fn recorded() -> WeightSet {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/groups.safetensors");
    WeightSet::open_file(&path).unwrap()
}

#[test]
fn every_number_is_the_one_that_comfyui_makes_of_it() {
    let set = recorded();
    let mut formats = Vec::new();
    let weights: Vec<String> = set
        .tensors()
        .filter_map(|(name, _)| Some(name.strip_suffix(".weight")?.to_owned()))
        .collect();
    assert_eq!(weights.len(), 9);
    for layer in weights {
        let name = format!("{layer}.weight");
        let view = set.get(&name).unwrap();
        let format = view.scaling.as_ref().unwrap().format.clone();
        let theirs = set.read_f32(&format!("{layer}.expected")).unwrap();
        let shape = set.shape(&format!("{layer}.expected")).unwrap();
        let stored = set.read_stored(&name).unwrap();
        assert_eq!(stored.shape, view.shape);
        if layer.ends_with("padded") {
            // 40 × 72 in whole groups.
            let padded = match format {
                QuantFormat::Nvfp4 => [48, 80],
                _ => [64, 96],
            };
            assert_eq!(
                (stored.shape.as_slice(), shape),
                (&padded[..], &[40, 72][..])
            );
        }
        let ours = stored.cropped(shape[0], shape[1]).unwrap().to_f32();
        // -0 and 0 are the same number.
        assert!(ours == theirs, "{layer}");
        formats.push((layer, format));
    }
    let of = |name: &str| {
        formats
            .iter()
            .find(|(layer, _)| layer == name)
            .unwrap()
            .1
            .clone()
    };
    assert_eq!(of("nvfp4.tiles"), QuantFormat::Nvfp4);
    assert_eq!(of("mxfp8.tiles"), QuantFormat::Mxfp8);
    assert_eq!(of("int8_rows.small"), QuantFormat::Int8);
    assert_eq!(set.get("nvfp4.tiles.weight").unwrap().dtype, Dtype::F4E2M1);
    // Half a byte for each number, and one for each sixteen.
    let view = set.get("nvfp4.tiles.weight").unwrap();
    assert_eq!(view.kept_bytes(), 144 * 160 / 2 + 144 * 160 / 16);
}

#[test]
fn what_is_cut_between_two_numbers_of_a_byte_is_not_cut() {
    let set = recorded();
    let stored = set.read_stored("nvfp4.padded.weight").unwrap();
    assert!(stored.clone().cropped(40, 71).is_none());
    assert!(stored.clone().cropped(50, 72).is_none());
    assert!(stored.clone().cropped(40, 90).is_none());
    assert_eq!(stored.cropped(40, 70).unwrap().to_f32().len(), 40 * 70);
}

/// A tensor: name, format, shape.
type Stored<'a> = (&'a str, &'a str, &'a [usize]);

/// Writes a file of zeros with notes for its layers.
fn file(path: &Path, notes: Value, tensors: &[Stored]) {
    let mut header = Map::new();
    let mut end = 0;
    for (name, dtype, shape) in tensors {
        let size = if *dtype == "F32" { 4 } else { 1 };
        let begin = end;
        end += size * shape.iter().product::<usize>();
        let entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": [begin, end] });
        header.insert((*name).into(), entry);
    }
    let note = json!({ "layers": notes }).to_string();
    header.insert(
        "__metadata__".into(),
        json!({ "_quantization_metadata": note }),
    );
    write(
        path,
        join(&Value::Object(header).to_string(), &vec![0; end]),
    );
}

#[test]
fn a_note_that_the_tensors_speak_against_is_refused_with_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let weight = ("a.weight", "U8", &[32, 32][..]);
    let scale = ("a.weight_scale", "F8_E4M3", &[128, 4][..]);
    let factor = ("a.weight_scale_2", "F32", &[][..]);
    let cases: [(&str, &[Stored], &str); 7] = [
        (
            "nvfp4",
            &[weight, factor],
            "without the scales of its groups",
        ),
        ("nvfp4", &[weight, scale], "without the scale of its scales"),
        (
            "nvfp4",
            &[weight, ("a.weight_scale", "F8_E4M3", &[32, 4]), factor],
            "in another order",
        ),
        (
            "nvfp4",
            &[("a.weight", "F8_E4M3", &[32, 32]), scale, factor],
            "in an unusual container",
        ),
        (
            "nvfp4",
            &[weight, scale, factor, ("a.pre_quant_scale", "F32", &[32])],
            "factors for other inputs",
        ),
        (
            "mxfp8",
            &[
                ("a.weight", "F8_E4M3", &[1024]),
                ("a.weight_scale", "U8", &[128, 4]),
            ],
            "no matrix",
        ),
        (
            "mxfp8",
            &[
                ("a.weight", "F8_E4M3", &[32, 32]),
                ("a.weight_scale", "F32", &[32, 1]),
            ],
            "without the scales of its groups",
        ),
    ];
    for (format, tensors, words) in cases {
        file(&path, json!({ "a": { "format": format } }), tensors);
        let set = WeightSet::open_file(&path).unwrap();
        let error = set.read_f32("a.weight").unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
        std::fs::remove_file(&path).unwrap();
    }
    // As it should be, its zeros are zeros; a scale that is no number is damage.
    file(
        &path,
        json!({ "a": { "format": "nvfp4" } }),
        &[weight, scale, factor],
    );
    let set = WeightSet::open_file(&path).unwrap();
    assert_eq!(set.shape("a.weight").unwrap(), [32, 64]);
    assert_eq!(set.read_f32("a.weight").unwrap(), vec![0.0; 32 * 64]);
    let mut bytes = std::fs::read(&path).unwrap();
    let last_scale = bytes.len() - 4 - 1;
    bytes[last_scale - 511] = 0x7f;
    std::fs::write(&path, bytes).unwrap();
    let error = WeightSet::open_file(&path)
        .unwrap()
        .read_f32("a.weight")
        .unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
}

/// A network with layers in a format that is not read is told so when the file is looked at.
#[test]
fn formats_that_are_not_read_are_named_with_the_layer() {
    let folder = tempfile::tempdir().unwrap();
    for (name, note, words) in [
        (
            "w4a8",
            json!({ "format": "asym_w4a8_int8" }),
            "asym_w4a8_int8",
        ),
        ("w4a4", json!({ "format": "convrot_w4a4" }), "convrot_w4a4"),
        ("awq", json!({ "format": "awq_w4a16" }), "awq_w4a16"),
        (
            "rotated",
            json!({ "format": "int8_tensorwise", "convrot": true, "convrot_groupsize": 256 }),
            "int8_tensorwise of rotated inputs (convrot)",
        ),
    ] {
        let path = folder.path().join(format!("{name}.safetensors"));
        let layer = "model.diffusion_model.double_blocks.0.img_attn.qkv";
        let (weight, scale) = (format!("{layer}.weight"), format!("{layer}.weight_scale"));
        let tensors: [Stored; 4] = [
            (&weight, "I8", &[96, 32]),
            (&scale, "F32", &[96, 1]),
            ("model.diffusion_model.img_in.weight", "F32", &[32, 64]),
            ("model.diffusion_model.txt_in.weight", "F32", &[32, 64]),
        ];
        file(&path, json!({ layer: note }), &tensors);
        let error = identify(&path).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.to_string().contains("img_attn.qkv"), "{error}");
        let kinora_weights::Glance::Refused(reason) = &*glance(&path) else {
            panic!("{:?}", glance(&path));
        };
        assert!(
            reason.contains(words) && reason.contains("get the model in"),
            "{reason}"
        );
    }
}
