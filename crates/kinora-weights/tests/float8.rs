//! 8-bit floats: every byte as PyTorch reads it, and the scales of ComfyUI's quantised files.

mod common;

use std::path::{Path, PathBuf};

use common::join;
use kinora_weights::{Dtype, Error, QuantFormat, WeightSet};
use serde_json::{Map, Value, json};

#[test]
fn every_byte_is_the_number_that_pytorch_makes_of_it() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/float8.safetensors");
    let set = WeightSet::open_file(&path).unwrap();
    for (name, dtype, nans) in [
        ("float8_e4m3fn", Dtype::F8E4M3, 2),
        ("float8_e5m2", Dtype::F8E5M2, 6),
        ("float8_e8m0fnu", Dtype::F8E8M0, 1),
    ] {
        assert_eq!(set.get(name).unwrap().dtype, dtype);
        let ours = set.read_f32(name).unwrap();
        let theirs = set.read_f32(&format!("{name}.expected")).unwrap();
        assert_eq!((ours.len(), theirs.len()), (256, 256));
        for (byte, (our, their)) in ours.iter().zip(&theirs).enumerate() {
            let is_same = our.to_bits() == their.to_bits() || our.is_nan() && their.is_nan();
            assert!(is_same, "{name} {byte:#x}: {our} {their}");
        }
        assert_eq!(ours.iter().filter(|number| number.is_nan()).count(), nans);
    }
}

/// A tensor: name, format, shape, bytes.
type Stored<'a> = (&'a str, &'a str, &'a [usize], Vec<u8>);

fn file(folder: &Path, metadata: Option<Value>, tensors: &[Stored]) -> PathBuf {
    named_file(&folder.join("x.safetensors"), metadata, tensors)
}

fn named_file(path: &Path, metadata: Option<Value>, tensors: &[Stored]) -> PathBuf {
    let mut header = Map::new();
    let mut data = Vec::new();
    for (name, dtype, shape, bytes) in tensors {
        let begin = data.len();
        data.extend(bytes);
        header.insert(
            (*name).into(),
            json!({ "dtype": dtype, "shape": shape, "data_offsets": [begin, data.len()] }),
        );
    }
    if let Some(metadata) = metadata {
        header.insert("__metadata__".into(), metadata);
    }
    common::write(path, join(&Value::Object(header).to_string(), &data))
}

fn floats(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// 1, 2, 0.5, −448 in E4M3.
const NUMBERS: [u8; 4] = [0x38, 0x40, 0x30, 0xfe];

#[test]
fn the_old_marker_and_its_scales() {
    let folder = tempfile::tempdir().unwrap();
    for (marker, is_full_precision) in [(&[0][..], false), (&[2][..], true)] {
        let bytes = vec![0; marker.iter().product()];
        let path = file(
            folder.path(),
            None,
            &[
                ("model.scaled_fp8", "F8_E4M3", marker, bytes),
                ("model.a.weight", "F8_E4M3", &[2, 2], NUMBERS.to_vec()),
                ("model.a.scale_weight", "F32", &[1], floats(&[0.5])),
                ("model.a.scale_input", "F32", &[1], floats(&[3.0])),
                ("model.a.bias", "F32", &[2], floats(&[1.0, 2.0])),
                ("model.b.weight", "F8_E4M3", &[2, 2], NUMBERS.to_vec()),
            ],
        );
        let set = WeightSet::open_file(&path).unwrap();
        let names: Vec<_> = set.tensors().map(|(name, _)| name).collect();
        assert_eq!(names, ["model.a.bias", "model.a.weight", "model.b.weight"]);
        assert_eq!(
            set.read_f32("model.a.weight").unwrap(),
            [0.5, 1.0, 0.25, -224.0]
        );
        assert_eq!(
            set.read_f32("model.b.weight").unwrap(),
            [1.0, 2.0, 0.5, -448.0]
        );
        assert_eq!(set.read("model.a.weight").unwrap(), NUMBERS);
        let scaling = set.get("model.a.weight").unwrap().scaling.clone().unwrap();
        assert_eq!(scaling.format, QuantFormat::Fp8);
        assert_eq!(scaling.is_full_precision, is_full_precision);
        let input = scaling.input_scale.as_ref().unwrap();
        assert_eq!(set.read_view(input).unwrap(), floats(&[3.0]));
        assert!(set.get("model.b.weight").unwrap().scaling.is_none());
    }
}

#[test]
fn notes_of_layers_in_tensors_and_in_the_header() {
    let folder = tempfile::tempdir().unwrap();
    let note = |text: &str| text.as_bytes().to_vec();
    let fp8 = br#"{"format": "float8_e4m3fn", "full_precision_matrix_mult": true}"#;
    let five = r#"{"format":"float8_e5m2"}"#;
    let path = file(
        folder.path(),
        None,
        &[
            ("a.weight", "F8_E4M3", &[2, 2], NUMBERS.to_vec()),
            ("a.weight_scale", "F32", &[], floats(&[2.0])),
            ("a.comfy_quant", "U8", &[fp8.len()], fp8.to_vec()),
            // Rows with a scale each, in a container of plain bytes.
            ("b.weight", "U8", &[2, 2], vec![0x3c, 0x40, 0x3c, 0xc0]),
            ("b.weight_scale", "F32", &[2, 1], floats(&[2.0, 10.0])),
            ("b.comfy_quant", "U8", &[five.len()], note(five)),
        ],
    );
    let set = WeightSet::open_file(&path).unwrap();
    assert_eq!(set.tensors().count(), 2);
    assert_eq!(set.read_f32("a.weight").unwrap(), [2.0, 4.0, 1.0, -896.0]);
    assert_eq!(set.get("b.weight").unwrap().dtype, Dtype::F8E5M2);
    assert_eq!(set.read_f32("b.weight").unwrap(), [2.0, 4.0, 10.0, -20.0]);
    assert!(
        set.get("a.weight")
            .unwrap()
            .scaling
            .as_ref()
            .unwrap()
            .is_full_precision
    );

    let layers = json!({ "format_version": "1.0", "layers": {
        "a": { "format": "float8_e4m3fn" },
        "b": { "format": "nvfp4" },
        "c": { "format": "int8_blockwise", "group_size": 128 },
    }});
    let path = file(
        folder.path(),
        Some(json!({ "_quantization_metadata": layers.to_string() })),
        &[
            // The notes leave the model's prefix out.
            (
                "model.diffusion_model.a.weight",
                "F8_E4M3",
                &[4, 1],
                NUMBERS.to_vec(),
            ),
            (
                "model.diffusion_model.a.weight_scale",
                "F32",
                &[],
                floats(&[4.0]),
            ),
            (
                "model.diffusion_model.a.input_scale",
                "F32",
                &[],
                floats(&[1.0]),
            ),
            ("model.diffusion_model.b.weight", "U8", &[2, 8], vec![0; 16]),
            (
                "model.diffusion_model.b.weight_scale",
                "F8_E4M3",
                &[2, 1],
                vec![0; 2],
            ),
            (
                "model.diffusion_model.b.weight_scale_2",
                "F32",
                &[],
                floats(&[1.0]),
            ),
            ("model.diffusion_model.c.weight", "I8", &[2], vec![0; 2]),
            (
                "model.diffusion_model.c.weight_scale",
                "F32",
                &[1],
                floats(&[1.0]),
            ),
        ],
    );
    let set = WeightSet::open_file(&path).unwrap();
    assert_eq!(set.tensors().count(), 3);
    let name = |layer: &str| format!("model.diffusion_model.{layer}.weight");
    assert_eq!(set.read_f32(&name("a")).unwrap(), [4.0, 8.0, 2.0, -1792.0]);
    for (layer, format) in [
        (
            "b",
            QuantFormat::Other("nvfp4 with scales in another order than ComfyUI's".into()),
        ),
        ("c", QuantFormat::Other("int8_blockwise".into())),
    ] {
        let scaling = set.get(&name(layer)).unwrap().scaling.clone().unwrap();
        assert_eq!(scaling.format, format);
        let error = set.read_f32(&name(layer)).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains(format.as_str()), "{error}");
    }
    let second = set
        .get(&name("b"))
        .unwrap()
        .scaling
        .as_ref()
        .unwrap()
        .scale_2
        .clone();
    assert!(second.is_some());
}

#[test]
fn notes_that_make_no_sense_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let weight = ("a.weight", "F8_E4M3", &[4][..], NUMBERS.to_vec());
    let long = vec![b' '; 5000];
    for (metadata, note) in [
        (Some(json!({ "_quantization_metadata": "{" })), None),
        (
            Some(json!({ "_quantization_metadata": "{\"layers\": 3}" })),
            None,
        ),
        (
            None,
            Some(("a.comfy_quant", "U8", &[3][..], b"{]}".to_vec())),
        ),
        (
            None,
            Some(("a.comfy_quant", "F32", &[1][..], b"null".to_vec())),
        ),
        (None, Some(("a.comfy_quant", "U8", &[5000][..], long))),
    ] {
        let mut tensors = vec![weight.clone()];
        tensors.extend(note);
        let path = file(folder.path(), metadata, &tensors);
        let error = WeightSet::open_file(&path).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
    }
}

#[test]
fn a_scale_in_another_shard_is_no_loss_unnoticed() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let weight = ("a.weight", "F8_E4M3", &[4][..], NUMBERS.to_vec());
    let scale = ("a.weight_scale", "F32", &[][..], floats(&[2.0]));
    let write_index = |scale_file: &str| {
        let map = json!({ "a.weight": "m-1.safetensors", "a.weight_scale": scale_file });
        common::write(
            &root.join("model.safetensors.index.json"),
            json!({ "weight_map": map }).to_string(),
        );
    };
    let both = [weight.clone(), scale.clone()];
    named_file(&root.join("m-1.safetensors"), None, &both);
    write_index("m-1.safetensors");
    let set = WeightSet::open_folder(root).unwrap();
    assert_eq!(set.read_f32("a.weight").unwrap(), [2.0, 4.0, 1.0, -896.0]);

    named_file(&root.join("m-1.safetensors"), None, &[weight]);
    named_file(&root.join("m-2.safetensors"), None, &[scale]);
    write_index("m-2.safetensors");
    let error = WeightSet::open_folder(root).unwrap_err();
    assert!(error.to_string().contains("another shard"), "{error}");
}
