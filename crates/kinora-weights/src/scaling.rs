//! Scales of weights that were quantised for ComfyUI: which tensor belongs to which scale, and in
//! which format the numbers are. Scales travel with their tensor through every rename and slice.
//!
//! Three ways of writing it are in use: a marker `scaled_fp8` with `*.scale_weight` and
//! `*.scale_input`; a `*.comfy_quant` tensor of JSON per layer; and one JSON text
//! `_quantization_metadata` in the header, the latter two with `*.weight_scale`,
//! `*.weight_scale_2`, `*.input_scale` and `*.pre_quant_scale`.
//!
//! What a note says is held to the tensors: a format whose scales have not the sizes that it asks for
//! is one that is not known, and is refused with words when the file is looked at.

use std::{collections::BTreeMap, fs::File, os::unix::fs::FileExt};

use serde::Deserialize;

use crate::{Dtype, Error, Header, Result, TensorInfo, groups::tiled_bytes};

/// How a quantised weight is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuantFormat {
    /// E4M3 or E5M2 as the tensor's own format says, times a scale of the tensor or of each row.
    Fp8,
    /// E4M3 in groups of 32 along a row, with E8M0 scales in the tiled order of tensor cores. Rows
    /// and columns may be padded to multiples of 32.
    Mxfp8,
    /// Two E2M1 in a byte, groups of 16 with E4M3 scales in the tiled order, times one f32. Rows and
    /// columns may be padded to multiples of 16.
    Nvfp4,
    /// Whole numbers of 8 bits times a scale of the tensor or of each row.
    Int8,
    /// Any other, by its name in the file.
    Other(String),
}

impl QuantFormat {
    fn parse(name: &str) -> Self {
        match name {
            "float8_e4m3fn" | "float8_e5m2" | "float8_e4m3fn_rowwise" => Self::Fp8,
            "mxfp8" => Self::Mxfp8,
            "nvfp4" => Self::Nvfp4,
            "int8_tensorwise" => Self::Int8,
            other => Self::Other(other.to_owned()),
        }
    }

    /// Numbers that share a scale, in formats whose scales are those of groups.
    pub fn group_len(&self) -> Option<usize> {
        match self {
            Self::Mxfp8 => Some(32),
            Self::Nvfp4 => Some(16),
            Self::Fp8 | Self::Int8 | Self::Other(_) => None,
        }
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Fp8 => "scaled fp8",
            Self::Mxfp8 => "mxfp8",
            Self::Nvfp4 => "nvfp4",
            Self::Int8 => "int8",
            Self::Other(name) => name,
        }
    }
}

/// Where the scales of one stored tensor lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredScaling {
    pub format: QuantFormat,
    /// The numbers' own format, where the tensor is a mere container of bytes.
    pub dtype: Option<Dtype>,
    pub scale: Option<TensorInfo>,
    pub scale_2: Option<TensorInfo>,
    pub input_scale: Option<TensorInfo>,
    pub pre_scale: Option<TensorInfo>,
    pub is_full_precision: bool,
}

impl StoredScaling {
    /// What speaks against the note about a tensor; nothing for formats without groups.
    fn doubt(&self, weight: &TensorInfo) -> Option<&'static str> {
        let len = self.format.group_len()?;
        let dtype = self.dtype.unwrap_or(weight.dtype);
        let wanted = match self.format {
            QuantFormat::Nvfp4 => (Dtype::F4E2M1, Dtype::F8E4M3),
            _ => (Dtype::F8E4M3, Dtype::F8E8M0),
        };
        let [rows, stored_columns] = weight.shape[..] else {
            return Some("of a tensor that is no matrix");
        };
        let columns = stored_columns * dtype.block_len();
        if dtype != wanted.0 || !columns.is_multiple_of(len) {
            return Some("in an unusual container");
        }
        let scale = match &self.scale {
            Some(scale) if [wanted.1, Dtype::U8].contains(&scale.dtype) => scale,
            _ => return Some("without the scales of its groups"),
        };
        let has_factor = self.scale_2.as_ref().is_some_and(is_one_float);
        if self.format == QuantFormat::Nvfp4 && !has_factor {
            return Some("without the scale of its scales");
        }
        let columns_of = |scale: &TensorInfo| scale.shape.iter().product::<usize>();
        if (self.pre_scale.as_ref()).is_some_and(|pre| columns_of(pre) != columns) {
            return Some("with factors for other inputs");
        }
        (tiled_bytes(rows, columns / len) != Some(scale.bytes))
            .then_some("with scales in another order than ComfyUI's")
    }
}

/// Whether a tensor is one number.
fn is_one_float(info: &TensorInfo) -> bool {
    info.shape.iter().product::<usize>() == 1 && !info.dtype.is_block()
}

/// The JSON of one layer. Fields that are not listed change nothing here.
#[derive(Clone, Debug, Deserialize)]
struct LayerNote {
    format: String,
    #[serde(default)]
    full_precision_matrix_mult: bool,
    #[serde(default)]
    convrot: bool,
}

#[derive(Deserialize)]
struct FileNote {
    layers: BTreeMap<String, LayerNote>,
}

/// Endings of tensors that describe others.
const SCALE_ENDINGS: [&str; 7] = [
    ".scale_weight",
    ".scale_input",
    ".weight_scale",
    ".weight_scale_2",
    ".input_scale",
    ".pre_quant_scale",
    ".comfy_quant",
];

/// The note of one layer is some 50 bytes.
const MAX_NOTE_BYTES: usize = 4096;

/// The scales of a file's tensors, by the tensor's name, and the names of the tensors that are
/// scales or notes themselves and no part of the network.
pub(crate) struct Scalings {
    pub by_tensor: BTreeMap<String, StoredScaling>,
    pub own: Vec<String>,
}

/// Reads the notes in a header.
pub(crate) fn read_scalings(file: &File, header: &Header) -> Result<Scalings> {
    let marker = header
        .tensors
        .iter()
        .find(|(name, _)| *name == "scaled_fp8" || name.ends_with(".scaled_fp8"));
    let notes = read_notes(file, header)?;
    let mut by_tensor = BTreeMap::new();
    let mut own: Vec<String> = marker.iter().map(|(name, _)| (*name).clone()).collect();
    for (name, info) in &header.tensors {
        let Some(layer) = name.strip_suffix(".weight") else {
            continue;
        };
        let find = |ending: &str| header.tensors.get(&format!("{layer}{ending}")).cloned();
        let note = notes.get(layer);
        let scale = find(".weight_scale").or_else(|| find(".scale_weight"));
        if note.is_none() && scale.is_none() {
            continue;
        }
        let format = match note {
            Some(note) if note.convrot => {
                QuantFormat::Other(format!("{} of rotated inputs (convrot)", note.format))
            }
            Some(note) => QuantFormat::parse(&note.format),
            None => guess_format(info.dtype, find(".weight_scale_2").is_some()),
        };
        let mut scaling = StoredScaling {
            format,
            dtype: note.and_then(|note| contained_dtype(&note.format, info.dtype)),
            scale,
            scale_2: find(".weight_scale_2"),
            input_scale: find(".input_scale").or_else(|| find(".scale_input")),
            pre_scale: find(".pre_quant_scale"),
            // The old marker says it by having two elements.
            is_full_precision: note.is_some_and(|note| note.full_precision_matrix_mult)
                || marker.is_some_and(|(_, info)| info.shape.iter().product::<usize>() == 2),
        };
        if let Some(doubt) = scaling.doubt(info) {
            scaling.format = QuantFormat::Other(format!("{} {doubt}", scaling.format.as_str()));
            scaling.dtype = None;
        }
        by_tensor.insert(name.clone(), scaling);
    }
    own.extend(
        header
            .tensors
            .keys()
            .filter(|name| {
                SCALE_ENDINGS.iter().any(|ending| {
                    name.strip_suffix(ending)
                        .is_some_and(|layer| by_tensor.contains_key(&format!("{layer}.weight")))
                })
            })
            .cloned(),
    );
    Ok(Scalings { by_tensor, own })
}

/// What a container of plain bytes holds.
fn contained_dtype(format: &str, stored: Dtype) -> Option<Dtype> {
    match format {
        _ if !matches!(stored, Dtype::U8 | Dtype::I8) => None,
        "float8_e5m2" => Some(Dtype::F8E5M2),
        "float8_e4m3fn" | "float8_e4m3fn_rowwise" | "mxfp8" => Some(Dtype::F8E4M3),
        "nvfp4" => Some(Dtype::F4E2M1),
        _ => None,
    }
}

fn guess_format(dtype: Dtype, has_second: bool) -> QuantFormat {
    match dtype {
        Dtype::F8E4M3 | Dtype::F8E5M2 => QuantFormat::Fp8,
        Dtype::I8 => QuantFormat::Int8,
        // Other programs' files have other orders of scales and of the numbers in a byte.
        Dtype::U8 if has_second => QuantFormat::Other("nvfp4 without a note of its order".into()),
        // Scales beside a weight that is not quantised: an old converter's ones.
        other => QuantFormat::Other(format!("scaled {other}")),
    }
}

/// The notes by full layer name.
fn read_notes(file: &File, header: &Header) -> Result<BTreeMap<String, LayerNote>> {
    let damaged = |what: &str, error: serde_json::Error| {
        Error::damaged(&header.path, format!("{what} is not understood: {error}"))
    };
    let mut notes = BTreeMap::new();
    if let Some(text) = header.metadata.get("_quantization_metadata") {
        let note: FileNote =
            serde_json::from_str(text).map_err(|error| damaged("_quantization_metadata", error))?;
        // The names may lack the prefix that the model's names have in this file.
        let prefix = common_prefix(header, note.layers.keys());
        notes.extend(
            note.layers
                .into_iter()
                .map(|(layer, note)| (format!("{prefix}{layer}"), note)),
        );
    }
    for (name, info) in &header.tensors {
        let Some(layer) = name.strip_suffix(".comfy_quant") else {
            continue;
        };
        if info.dtype.block_bytes() != 1 || info.bytes > MAX_NOTE_BYTES {
            return Err(Error::damaged(
                &header.path,
                format!("{name:?} is not a text of at most {MAX_NOTE_BYTES} bytes"),
            ));
        }
        let mut text = vec![0; info.bytes];
        file.read_exact_at(&mut text, info.offset)
            .map_err(Error::io(&header.path))?;
        let note = serde_json::from_slice(&text).map_err(|error| damaged(name, error))?;
        notes.insert(layer.to_owned(), note);
    }
    Ok(notes)
}

/// What stands before the first noted layer in the file's own names.
fn common_prefix<'a>(header: &Header, mut layers: impl Iterator<Item = &'a String>) -> String {
    let Some(layer) = layers.next() else {
        return String::new();
    };
    let weight = format!("{layer}.weight");
    header
        .tensors
        .keys()
        .find_map(|name| {
            let prefix = name.strip_suffix(&weight)?;
            (prefix.is_empty() || prefix.ends_with('.')).then(|| prefix.to_owned())
        })
        .unwrap_or_default()
}
