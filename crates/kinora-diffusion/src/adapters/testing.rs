//! What the tests of adapters share: recorded cases, files beside them, distances.

use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use kinora_weights::WeightSet;
use serde_json::Value;

use super::{Adaptive, WeightedAdapter};
use crate::layers::TensorSource;

/// A path below this crate.
pub fn below(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A recorded case of the reference.
pub struct Recorded {
    golden: WeightSet,
    json: Value,
    folder: PathBuf,
}

impl Recorded {
    pub fn open(case: &str) -> Self {
        let folder = below("../../tools/goldens/cases").join(case);
        let json = std::fs::read(folder.join("case.json")).unwrap();
        Self {
            golden: WeightSet::open_file(&folder.join("golden.safetensors")).unwrap(),
            json: serde_json::from_slice(&json).unwrap(),
            folder,
        }
    }

    /// Its model folder.
    pub fn model(&self) -> PathBuf {
        self.folder.join("model")
    }

    fn name<'a>(&'a self, name: &'a str) -> &'a str {
        self.json["aliases"][name].as_str().unwrap_or(name)
    }

    /// A tensor in f32.
    pub fn tensor(&self, name: &str) -> Tensor {
        f32s(&self.golden, self.name(name))
    }

    /// Ids of rows of so many tokens.
    pub fn ids(&self, name: &str, tokens: usize) -> Vec<Vec<u32>> {
        let bytes = self.golden.read(self.name(name)).unwrap();
        let ids = bytes.as_chunks::<8>().0.iter();
        let ids: Vec<u32> = ids.map(|id| i64::from_le_bytes(*id) as u32).collect();
        ids.chunks(tokens).map(<[u32]>::to_vec).collect()
    }
}

/// A tensor of a file in f32.
pub fn f32s(set: &WeightSet, name: &str) -> Tensor {
    let tensor = TensorSource::tensor(set, name).unwrap();
    tensor.to_dtype(DType::F32).unwrap()
}

pub fn bits(tensor: &Tensor) -> Vec<u32> {
    let numbers: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
    numbers.into_iter().map(f32::to_bits).collect()
}

/// Largest difference against the standard deviation.
pub fn distance(ours: &Tensor, theirs: &Tensor) -> f64 {
    assert_eq!(ours.dims(), theirs.dims());
    let numbers = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (ours, theirs) = (numbers(ours), numbers(theirs));
    let count = theirs.len() as f64;
    let mean = theirs.iter().map(|n| f64::from(*n)).sum::<f64>() / count;
    let squares = theirs.iter().map(|n| (f64::from(*n) - mean).powi(2));
    let variance = squares.sum::<f64>() / count;
    let far = ours
        .iter()
        .zip(&theirs)
        .map(|(a, b)| f64::from((a - b).abs()));
    far.fold(0.0, f64::max) / variance.sqrt()
}

/// Adapters with weights, opened for a model; every tensor of theirs must have a place.
pub fn open_all(model: &mut dyn Adaptive, list: &[(PathBuf, f32)]) -> Vec<WeightedAdapter> {
    let open = |(file, weight): &(PathBuf, f32)| {
        let adapter = model.open_adapter(file).unwrap();
        let report = adapter.report();
        let missing = &report.unmatched;
        assert_eq!(report.applied, report.keys, "{file:?}: {missing:?}");
        WeightedAdapter {
            adapter: adapter.into(),
            weight: *weight,
            expert: None,
        }
    };
    list.iter().map(open).collect()
}
