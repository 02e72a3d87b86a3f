//! Writes the tiny model of a recorded case as the files that people have, and runs it.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use candle_core::{DType, Device};
use kinora_core::{Rng, Stage};
use kinora_diffusion::{
    Result,
    pipelines::{Checkpoint, FluxOptions, ImageParams, Pipeline, RgbImage, RunLimits, RunWatch},
};
use kinora_weights::{Component, Dtype, FluxConfig, Part, WeightSet, detect, maps};
use serde_json::{Map, Value, json};

/// A tensor for a file.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl Tensor {
    pub fn f32(shape: &[usize], numbers: &[f32]) -> Self {
        Self {
            dtype: Dtype::F32,
            shape: shape.to_vec(),
            bytes: numbers.iter().flat_map(|n| n.to_le_bytes()).collect(),
        }
    }

    pub fn numbers(&self) -> Vec<f32> {
        let mut numbers = vec![0.0; self.dtype.elements_of(self.bytes.len())];
        kinora_weights::decode::decode(self.dtype, &self.bytes, &mut numbers);
        numbers
    }
}

pub type Tensors = BTreeMap<String, Tensor>;

pub fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/goldens/cases")
}

pub fn read(set: &WeightSet) -> Tensors {
    set.tensors()
        .map(|(name, view)| {
            let tensor = Tensor {
                dtype: view.dtype,
                shape: view.shape.clone(),
                bytes: set.read(name).unwrap(),
            };
            (name.to_owned(), tensor)
        })
        .collect()
}

pub fn write_safetensors(path: &Path, tensors: &Tensors, metadata: Value) {
    let mut header = Map::new();
    let mut body: Vec<u8> = Vec::new();
    for (name, tensor) in tensors {
        let start = body.len();
        body.extend(&tensor.bytes);
        let entry = json!({
            "dtype": tensor.dtype.as_str(), "shape": tensor.shape,
            "data_offsets": [start, body.len()],
        });
        header.insert(name.clone(), entry);
    }
    if metadata.is_object() {
        header.insert("__metadata__".into(), metadata);
    }
    let header = Value::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(body);
    fs::write(path, file).unwrap();
}

/// Number of a format in a GGUF file.
fn ggml(dtype: Dtype) -> u32 {
    match dtype {
        Dtype::F32 => 0,
        Dtype::F16 => 1,
        Dtype::Q8_0 => 8,
        Dtype::Bf16 => 30,
        other => panic!("{other}"),
    }
}

/// `architecture` as ComfyUI's converters write it; None as sd.cpp does.
pub fn write_gguf(path: &Path, tensors: &Tensors, architecture: Option<&str>) {
    let text = |file: &mut Vec<u8>, text: &str| {
        file.extend((text.len() as u64).to_le_bytes());
        file.extend(text.as_bytes());
    };
    let mut file = b"GGUF".to_vec();
    file.extend(3u32.to_le_bytes());
    file.extend((tensors.len() as u64).to_le_bytes());
    file.extend(u64::from(architecture.is_some()).to_le_bytes());
    if let Some(architecture) = architecture {
        text(&mut file, "general.architecture");
        file.extend(8u32.to_le_bytes());
        text(&mut file, architecture);
    }
    let mut body: Vec<u8> = Vec::new();
    for (name, tensor) in tensors {
        body.resize(body.len().next_multiple_of(32), 0);
        text(&mut file, name);
        file.extend((tensor.shape.len() as u32).to_le_bytes());
        for size in tensor.shape.iter().rev() {
            file.extend((*size as u64).to_le_bytes());
        }
        file.extend(ggml(tensor.dtype).to_le_bytes());
        file.extend((body.len() as u64).to_le_bytes());
        body.extend(&tensor.bytes);
    }
    file.resize(file.len().next_multiple_of(32), 0);
    file.extend(body);
    fs::write(path, file).unwrap();
}

/// A transformer under the names of its authors.
pub fn to_bfl(canonical: &Tensors, config: &FluxConfig) -> Tensors {
    let map = maps::flux::transformer(config.layers, config.single_layers);
    to_original(canonical, &map)
}

/// A network under the names of its authors, as far as it has the tensors.
pub fn to_original(canonical: &Tensors, map: &maps::KeyMap) -> Tensors {
    let mut bfl: BTreeMap<String, Vec<(usize, Tensor)>> = BTreeMap::new();
    let mut add = |from: String, place: usize, tensor: &Tensor| {
        bfl.entry(from).or_default().push((place, tensor.clone()));
    };
    for entry in map.modules() {
        for leaf in ["weight", "bias"] {
            let Some(tensor) = canonical.get(&format!("{}.{leaf}", entry.to)) else {
                continue;
            };
            let from = format!("{}.{leaf}", entry.from);
            match entry.part {
                Part::Rows { start, .. } => add(from, start, tensor),
                Part::SwappedHalves => {
                    let half = tensor.bytes.len() / 2;
                    let mut turned = tensor.clone();
                    turned.bytes.rotate_left(half);
                    add(from, 0, &turned);
                }
                _ => add(from, 0, tensor),
            }
        }
    }
    for entry in map.tensors() {
        if let Some(tensor) = canonical.get(&entry.to) {
            add(entry.from.clone(), 0, tensor);
        }
    }
    let join = |mut parts: Vec<(usize, Tensor)>| {
        parts.sort_by_key(|(place, _)| *place);
        let mut parts = parts.into_iter().map(|(_, tensor)| tensor);
        let mut first = parts.next().unwrap();
        for part in parts {
            first.shape[0] += part.shape[0];
            first.bytes.extend(part.bytes);
        }
        first
    };
    bfl.into_iter()
        .map(|(name, parts)| (name, join(parts)))
        .collect()
}

/// A folder with everything of a case's model but the transformer's weights.
pub fn copy_parts(model: &Path, to: &Path) {
    for part in [
        "vae",
        "text_encoder",
        "text_encoder_2",
        "tokenizer",
        "tokenizer_2",
        "scheduler",
        "transformer",
    ] {
        fs::create_dir_all(to.join(part)).unwrap();
        for entry in fs::read_dir(model.join(part)).unwrap() {
            let entry = entry.unwrap();
            if part != "transformer" || entry.file_name() == "config.json" {
                fs::copy(entry.path(), to.join(part).join(entry.file_name())).unwrap();
            }
        }
    }
}

/// The transformer of a case, under canonical names, and its numbers.
pub fn transformer(model: &Path) -> (Tensors, FluxConfig) {
    let layout = detect(model).unwrap();
    let set = layout.open(Component::Transformer).unwrap();
    let config = layout.flux().unwrap().transformer.clone();
    (read(&set), config)
}

pub fn open(root: &Path) -> Pipeline {
    let layout = detect(root).unwrap_or_else(|error| panic!("{}: {error}", root.display()));
    Pipeline::open(&layout, &Device::Cpu, DType::F32, &mut |_| {}).unwrap()
}

pub fn params(prompt: &str) -> ImageParams {
    ImageParams {
        prompt: prompt.into(),
        negative_prompt: String::new(),
        width: 64,
        height: 48,
        steps: 2,
        guidance: Some(3.5),
        true_cfg: None,
        seed: 5,
        rng: Rng::Cpu,
        text_tokens: 24,
        sampler: None,
        source: None,
        sd: Default::default(),
        latents: None,
        flux: FluxOptions::default(),
    }
}

/// The last step's latents.
pub fn run(pipeline: &mut Pipeline, params: &ImageParams) -> Vec<f32> {
    let mut last = Last::default();
    let jobs = std::slice::from_ref(params);
    pipeline.run(jobs, RunLimits::NONE, &mut last).unwrap();
    last.latents
}

/// Keeps the latents of the last step and the picture.
#[derive(Default)]
pub struct Last {
    pub latents: Vec<f32>,
    pub image: Option<RgbImage>,
}

impl RunWatch for Last {
    fn stage(&mut self, _: usize, _: Stage, _: u32, _: u32) {}

    fn is_cancelled(&mut self, _: usize) -> bool {
        false
    }

    fn resume(&mut self, _: usize) -> Option<Checkpoint> {
        None
    }

    fn wants_checkpoint(&mut self, _: usize) -> bool {
        true
    }

    fn checkpoint(&mut self, _: usize, checkpoint: &Checkpoint) -> Result<()> {
        self.latents.clone_from(&checkpoint.state.latents);
        Ok(())
    }

    fn wants_preview(&mut self, _: usize) -> bool {
        false
    }

    fn preview(&mut self, _: usize, _: RgbImage) {}

    fn image(&mut self, _: usize, picture: RgbImage) -> Result<()> {
        self.image = Some(picture);
        Ok(())
    }
}
