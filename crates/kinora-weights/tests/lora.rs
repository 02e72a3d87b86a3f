//! Adapters: every layout arrives at the layers and numbers that the reference's own converters
//! give (tools/goldens/record_lora.py), and the report tells what became of every tensor.

mod common;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use common::{
    recorded::{Manifests, crc, read, unfold},
    write_sparse,
};
use kinora_core::Expert;
use kinora_weights::{
    Error, Network, Part, TensorView, WeightSet, identify, identify_set,
    lora::{Factor, LoraComponent, LoraFile, LoraTargets, Patch, PatchKind},
};
use serde::Deserialize;
use serde_json::{Value, json};

/// Name, shape, numbers.
type Tensor = (String, Vec<usize>, Vec<f32>);

fn write_f32(path: &Path, metadata: Option<Value>, tensors: &[Tensor]) -> PathBuf {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, shape, numbers) in tensors {
        let begin = data.len();
        data.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        let entry = json!({ "dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()] });
        header.insert(name.clone(), entry);
    }
    if let Some(metadata) = metadata {
        header.insert("__metadata__".into(), metadata);
    }
    common::write(
        path,
        common::join(&Value::Object(header).to_string(), &data),
    )
}

fn tensor(name: &str, shape: &[usize]) -> Tensor {
    let start = crc(name.as_bytes());
    let len = shape.iter().product::<usize>();
    let number = |index: usize| {
        let value = (index as u32).wrapping_mul(2654435761).wrapping_add(start);
        f32::from((value >> 16) as u16 as i16)
    };
    (
        name.to_owned(),
        shape.to_vec(),
        (0..len).map(number).collect(),
    )
}

fn scalar(name: &str, value: f32) -> Tensor {
    (name.to_owned(), vec![], vec![value])
}

/// A full-size network under canonical names, without its numbers.
fn open_network(folder: &Path, manifests: &Manifests, name: &str) -> (Network, WeightSet) {
    let path = folder.join(format!("{name}.safetensors"));
    write_sparse(
        &path,
        unfold(&manifests.networks[name]).into_iter().collect(),
    );
    let set = WeightSet::open_file(&path).unwrap();
    let part = identify_set(&set).unwrap().parts.remove(0);
    let opened = part.open(&set).unwrap();
    (part.network, opened.set)
}

fn targets_of(folder: &Path, manifests: &Manifests, name: &str) -> LoraTargets {
    let mut targets = LoraTargets::new();
    let (network, set) = open_network(folder, manifests, name);
    targets.add_denoiser(&network, &set);
    let mut add = |component, name: &str| {
        let set = open_network(folder, manifests, name).1;
        targets.add_component(component, &set);
    };
    if name.starts_with("sd") || name.starts_with("flux") {
        add(LoraComponent::TextEncoder, "clip_l");
    }
    if name.starts_with("sdxl") {
        add(LoraComponent::TextEncoder2, "clip_g");
    }
    if name == "ltx2" {
        add(LoraComponent::Connectors, "ltx2_connectors");
    }
    targets
}

#[derive(Deserialize)]
struct Case {
    network: String,
    stored: BTreeMap<String, Vec<usize>>,
    /// Component, module, piece, shape, CRC-32.
    expected: Vec<(String, String, String, Vec<usize>, u32)>,
}

fn component(name: &str) -> LoraComponent {
    match name {
        "denoiser" => LoraComponent::Denoiser,
        "text_encoder" => LoraComponent::TextEncoder,
        "text_encoder_2" => LoraComponent::TextEncoder2,
        "connectors" => LoraComponent::Connectors,
        other => panic!("{other}"),
    }
}

/// The tensor of a patch that is called a piece in the record.
fn piece<'a>(
    patches: &'a [Patch],
    component: LoraComponent,
    module: &str,
    piece: &str,
) -> &'a TensorView {
    let ending = if piece == "bias" { "bias" } else { "weight" };
    let name = format!("{module}.{ending}");
    let patch = patches
        .iter()
        .find(|patch| patch.component == component && patch.tensor == name)
        .unwrap_or_else(|| panic!("nothing changes {component:?} {name}"));
    assert_eq!((patch.part, patch.scale), (Part::Whole, 1.0), "{name}");
    match (&patch.kind, piece) {
        (PatchKind::Lora { down, .. }, "down") => down,
        (PatchKind::Lora { up, .. }, "up") => up,
        (PatchKind::Diff(view), "bias") | (PatchKind::Set(view), "set") => view,
        (kind, piece) => panic!("{name}: {piece} of {kind:?}"),
    }
}

#[test]
fn every_layout_arrives_where_the_references_converters_bring_it() {
    let folder = tempfile::tempdir().unwrap();
    let manifests: Manifests = read("manifests.json.gz");
    let cases: BTreeMap<String, Case> = read("loras.json.gz");
    let mut reports = String::new();
    let mut known: BTreeMap<String, LoraTargets> = BTreeMap::new();
    for (title, case) in &cases {
        let targets = known
            .entry(case.network.clone())
            .or_insert_with(|| targets_of(folder.path(), &manifests, &case.network));
        // An alpha is the rank, so that it changes nothing.
        let tensors: Vec<Tensor> = case
            .stored
            .iter()
            .map(|(name, shape)| match name.ends_with(".alpha") {
                true => scalar(name, 5.0),
                false => tensor(name, shape),
            })
            .collect();
        let path = write_f32(&folder.path().join("lora.safetensors"), None, &tensors);
        let file = LoraFile::open(&path).unwrap();
        let binding = file
            .bind(targets)
            .unwrap_or_else(|error| panic!("{title}: {error}"));
        for (name, module, kind, shape, crc_32) in &case.expected {
            let view = piece(&binding.patches, component(name), module, kind);
            let numbers = file.set().read_view(view).unwrap();
            assert_eq!(
                view.shape.iter().product::<usize>(),
                shape.iter().product::<usize>(),
                "{title} {module}"
            );
            assert_eq!(crc(&numbers), *crc_32, "{title}: {kind} of {module}");
        }
        // Nothing is made up either: every factor, bias and replacement was expected.
        let made: usize = binding
            .patches
            .iter()
            .map(|patch| {
                if matches!(patch.kind, PatchKind::Lora { .. }) {
                    2
                } else {
                    1
                }
            })
            .sum();
        assert_eq!(made, case.expected.len(), "{title}");
        let report = binding.report;
        assert_eq!(
            report.applied,
            case.stored.len(),
            "{title}: {:?}",
            report.unmatched
        );
        let grown: Vec<_> = binding
            .patches
            .iter()
            .filter_map(|patch| patch.grown_columns)
            .collect();
        writeln!(
            reports,
            "{title}: {} of {} tensors, {} changes, ranks {:?}, {:?}, for {:?}, {:?}, columns grown {grown:?}",
            report.applied,
            report.keys,
            binding.patches.len(),
            report.ranks,
            report.kinds,
            report.base.map(|base| base.title()),
            file.components(),
        )
        .unwrap();
        assert!(
            identify(&path).unwrap_err().to_string().contains("LoRA"),
            "{title}"
        );
    }
    insta::assert_snapshot!(reports);
}

struct Bench {
    folder: tempfile::TempDir,
    targets: LoraTargets,
}

impl Bench {
    fn new(network: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let targets = targets_of(folder.path(), &read("manifests.json.gz"), network);
        Self { folder, targets }
    }

    fn file(&self, metadata: Option<Value>, tensors: &[Tensor]) -> LoraFile {
        let path = self.folder.path().join("lora.safetensors");
        LoraFile::open(&write_f32(&path, metadata, tensors)).unwrap()
    }

    fn patches(&self, tensors: &[Tensor]) -> Vec<Patch> {
        let binding = self.file(None, tensors).bind(&self.targets).unwrap();
        assert_eq!(
            binding.report.applied,
            tensors.len(),
            "{:?}",
            binding.report
        );
        binding.patches
    }
}

#[test]
fn alpha_is_divided_by_the_rank_wherever_it_is_written() {
    let bench = Bench::new("wan21_t2v_1b");
    let pair = |layer: &str| {
        [
            tensor(&format!("{layer}.lora_A.weight"), &[4, 1536]),
            tensor(&format!("{layer}.lora_B.weight"), &[1536, 4]),
        ]
    };
    let layer = "transformer.blocks.0.attn1.to_q";
    let mut tensors = pair(layer).to_vec();
    assert_eq!(bench.patches(&tensors)[0].scale, 1.0);
    tensors.push(scalar(&format!("{layer}.alpha"), 1.0));
    assert_eq!(bench.patches(&tensors)[0].scale, 0.25);
    // The second factor's bias is scaled with it, a difference never is.
    tensors.push(tensor(&format!("{layer}.lora_B.bias"), &[1536]));
    tensors.push(tensor("transformer.blocks.0.attn1.norm_q.diff", &[1536]));
    let patches = bench.patches(&tensors);
    let scales: Vec<_> = patches
        .iter()
        .map(|patch| (patch.tensor.as_str(), patch.scale))
        .collect();
    assert_eq!(
        scales,
        [
            ("blocks.0.attn1.norm_q.weight", 1.0),
            ("blocks.0.attn1.to_q.bias", 0.25),
            ("blocks.0.attn1.to_q.weight", 0.25)
        ]
    );
    tensors.truncate(3);

    let other = "transformer.blocks.1.attn1.to_q";
    let tensors = [pair(layer), pair(other)].concat();
    let metadata = json!({ "lora_adapter_metadata": json!({
        "transformer.r": 4,
        "transformer.lora_alpha": 8,
        "transformer.alpha_pattern": { "blocks.1.attn1.to_q": 2 },
    }).to_string() });
    let binding = bench
        .file(Some(metadata), &tensors)
        .bind(&bench.targets)
        .unwrap();
    let scales: Vec<f64> = binding.patches.iter().map(|patch| patch.scale).collect();
    assert_eq!(scales, [2.0, 0.5]);

    for wrong in [f32::NAN, f32::INFINITY] {
        let mut tensors = pair(layer).to_vec();
        tensors.push(scalar(&format!("{layer}.alpha"), wrong));
        let error = bench.file(None, &tensors).bind(&bench.targets).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
    }
}

#[test]
fn relatives_of_lora_are_taken_apart() {
    let bench = Bench::new("flux_dev");
    let layer = "lycoris_transformer_blocks_0_attn_to_q";
    let loha = [
        tensor(&format!("{layer}.hada_w1_a"), &[3072, 2]),
        tensor(&format!("{layer}.hada_w1_b"), &[2, 3072]),
        tensor(&format!("{layer}.hada_w2_a"), &[3072, 2]),
        tensor(&format!("{layer}.hada_w2_b"), &[2, 3072]),
        scalar(&format!("{layer}.alpha"), 1.0),
    ];
    let patches = bench.patches(&loha);
    assert!(
        matches!(&patches[..], [Patch { kind: PatchKind::Loha { cores: None, .. }, scale: 0.5, part: Part::Whole, tensor, .. }] if tensor == "transformer_blocks.0.attn.to_q.weight")
    );

    // On a fused layer the parts of the product are cut after it was taken.
    let layer = "lora_unet_double_blocks_0_img_attn_qkv";
    let lokr = [
        tensor(&format!("{layer}.lokr_w1"), &[4, 4]),
        tensor(&format!("{layer}.lokr_w2_a"), &[2304, 8]),
        tensor(&format!("{layer}.lokr_w2_b"), &[8, 768]),
        scalar(&format!("{layer}.alpha"), 8.0),
    ];
    let patches = bench.patches(&lokr);
    let parts: Vec<_> = patches
        .iter()
        .map(|patch| (patch.tensor.as_str(), patch.part))
        .collect();
    let rows = |start| Part::Rows {
        start,
        len: 1,
        of: 3,
    };
    assert_eq!(
        parts,
        [
            ("transformer_blocks.0.attn.to_k.weight", rows(1)),
            ("transformer_blocks.0.attn.to_q.weight", rows(0)),
            ("transformer_blocks.0.attn.to_v.weight", rows(2)),
        ]
    );
    assert!(matches!(
        &patches[0].kind,
        PatchKind::Lokr {
            w1: Factor::Full(_),
            w2: Factor::Product(..),
            core: None
        }
    ));

    // DoRA: lengths of rows are cut like the rows.
    let dora = [
        tensor(&format!("{layer}.lora_down.weight"), &[2, 3072]),
        tensor(&format!("{layer}.lora_up.weight"), &[9216, 2]),
        tensor(&format!("{layer}.dora_scale"), &[9216, 1]),
    ];
    let file = bench.file(None, &dora);
    let binding = file.bind(&bench.targets).unwrap();
    for (at, patch) in [
        (1, &binding.patches[0]),
        (0, &binding.patches[1]),
        (2, &binding.patches[2]),
    ] {
        let view = patch.dora_scale.as_ref().unwrap();
        let numbers: Vec<u8> = dora[2].2[at * 3072..][..3072]
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        assert_eq!(file.set().read_view(view).unwrap(), numbers);
    }

    // Differences and replacements of norms, under either name.
    let norms = [
        tensor(
            "diffusion_model.double_blocks.0.img_attn.norm.query_norm.diff",
            &[128],
        ),
        tensor(
            "transformer.transformer_blocks.1.attn.norm_k.set_weight",
            &[128],
        ),
        tensor("diffusion_model.final_layer.linear.diff_b", &[64]),
    ];
    let kinds: Vec<_> = bench
        .patches(&norms)
        .iter()
        .map(|patch| format!("{} {}", patch.tensor, patch.kind.title()))
        .collect();
    assert_eq!(
        kinds,
        [
            "proj_out.bias difference",
            "transformer_blocks.0.attn.norm_q.weight difference",
            "transformer_blocks.1.attn.norm_k.weight replacement"
        ]
    );

    // A convolution with a core.
    let bench = Bench::new("sdxl");
    let layer = "lora_unet_input_blocks_4_0_in_layers_2";
    let core = [
        tensor(&format!("{layer}.lora_down.weight"), &[4, 320, 1, 1]),
        tensor(&format!("{layer}.lora_mid.weight"), &[4, 4, 3, 3]),
        tensor(&format!("{layer}.lora_up.weight"), &[640, 4, 1, 1]),
    ];
    assert!(
        matches!(&bench.patches(&core)[..], [Patch { kind: PatchKind::Lora { mid: Some(_), .. }, tensor, .. }] if tensor == "down_blocks.1.resnets.0.conv1.weight")
    );
}

#[test]
fn what_is_not_applied_is_told() {
    let bench = Bench::new("wan22_i2v_a14b");
    let tensors = [
        tensor("blocks.0.self_attn.q.lora_A.weight", &[4, 5120]),
        tensor("blocks.0.self_attn.q.lora_B.weight", &[5120, 4]),
        // Wan 2.1's picture attention, which 2.2 does without.
        tensor("blocks.0.cross_attn.k_img.lora_A.weight", &[4, 5120]),
        tensor("blocks.0.cross_attn.k_img.lora_B.weight", &[5120, 4]),
        tensor("img_emb.proj.1.lora_A.weight", &[4, 1280]),
        tensor("img_emb.proj.1.lora_B.weight", &[1280, 4]),
        tensor("blocks.0.self_attn.k.lora_A.weight", &[4, 1536]),
        tensor("blocks.0.self_attn.k.lora_B.weight", &[1536, 4]),
        tensor("blocks.0.self_attn.v.lora_A.weight", &[4, 5120]),
        tensor("blocks.0.self_attn.o.oft_blocks", &[4, 4, 4]),
        tensor("blocks.1.self_attn.o.oft_R.weight", &[4, 6]),
        tensor("blocks.1.self_attn.q.a1.weight", &[5120, 4]),
        tensor("blocks.1.self_attn.q.a2.weight", &[4, 5120]),
        tensor("blocks.99.self_attn.q.lora_A.weight", &[4, 5120]),
        tensor("something.else", &[4]),
        tensor(
            "text_encoder.encoder.block.0.layer.0.SelfAttention.q.lora_A.weight",
            &[4, 4],
        ),
    ];
    let report = bench
        .file(None, &tensors)
        .bind(&bench.targets)
        .unwrap()
        .report;
    insta::assert_debug_snapshot!(report);
    assert_eq!(
        report.applied + report.unmatched.len() + report.ignored.len(),
        report.keys
    );
}

#[test]
fn one_that_fits_nothing_is_refused_with_words() {
    let bench = Bench::new("flux_dev");
    let layer = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k";
    let tensors = [
        tensor(&format!("{layer}.lora_down.weight"), &[4, 2048]),
        tensor(&format!("{layer}.lora_up.weight"), &[640, 4]),
    ];
    let error = bench.file(None, &tensors).bind(&bench.targets).unwrap_err();
    let path = bench.folder.path().to_str().unwrap().to_owned();
    insta::assert_snapshot!(error.to_string().replace(&path, ""), @"read /lora.safetensors: none of its 2 tensors fits this model; by its names it was made for SDXL (lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight: the model has no such layer)");

    let model = bench.folder.path().join("clip_l.safetensors");
    let error = LoraFile::open(&model).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    let pickle = common::write(
        &bench.folder.path().join("lora.safetensors"),
        b"PK\x03\x04....archive/data.pkl",
    );
    let error = LoraFile::open(&pickle).unwrap_err();
    assert!(error.to_string().contains("pickle"), "{error}");
}

#[test]
fn the_name_tells_the_expert() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = [tensor("blocks.0.self_attn.q.lora_A.weight", &[4, 5120])];
    for (name, expert) in [
        ("Wan2.2-I2V-HIGH_noise.safetensors", Some(Expert::High)),
        ("sunset_lownoise.safetensors", Some(Expert::Low)),
        ("wan22_sunset_high_v2.safetensors", Some(Expert::High)),
        ("wan22_sunset_high_contrast.safetensors", None),
        ("high_noise_and_low_noise.safetensors", None),
        ("sunset.safetensors", None),
    ] {
        let path = write_f32(&folder.path().join(name), None, &tensors);
        assert_eq!(LoraFile::open(&path).unwrap().expert(), expert, "{name}");
        fs::remove_file(path).unwrap();
    }
}
