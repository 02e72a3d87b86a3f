//! A view of named tensors: which names a network asks for, in which shape, and how they come to
//! the device. Where the bytes lie and what foreign layouts call them is `kinora-weights`' affair.

use std::{
    collections::HashMap,
    fmt::{self, Display},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use candle_core::{DType, Device, Tensor};
use half::bf16;
use kinora_weights::{Dtype, StoredTensor, WeightSet};

use super::stored::StoredRows;
use crate::{Error, Result, kernels};

/// Named tensors, wherever they come from.
pub trait TensorSource: Send + Sync {
    /// The file or folder, for messages.
    fn path(&self) -> &Path;
    /// Shape of a tensor; None when there is none of that name.
    fn shape(&self, name: &str) -> Option<Vec<usize>>;
    /// The tensor in main memory: in its stored number format, or widened where tensors have none
    /// like it.
    fn tensor(&self, name: &str) -> Result<Tensor>;
    /// The number format and scales of a tensor that is not stored as plain f32 or bf16, with its
    /// bytes; None for plain ones.
    fn quantised(&self, _name: &str) -> Result<Option<StoredTensor>> {
        Ok(None)
    }
    /// Whether [`quantised`](Self::quantised) gives something.
    fn is_quantised(&self, _name: &str) -> bool {
        false
    }
    /// Whether a tensor is one of this shape, padded with zeros behind its rows and columns.
    fn is_padded(&self, _name: &str, _shape: &[usize]) -> bool {
        false
    }
}

/// Tensors that are in memory already.
pub struct Loaded {
    path: PathBuf,
    tensors: HashMap<String, Tensor>,
}

impl Loaded {
    /// `path` is for messages only.
    pub fn new(path: impl Into<PathBuf>, tensors: HashMap<String, Tensor>) -> Self {
        Self {
            path: path.into(),
            tensors,
        }
    }
}

impl TensorSource for Loaded {
    fn path(&self) -> &Path {
        &self.path
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensors.get(name).map(|tensor| tensor.dims().to_vec())
    }

    fn tensor(&self, name: &str) -> Result<Tensor> {
        self.tensors
            .get(name)
            .cloned()
            .ok_or_else(|| missing(&self.path, name))
    }
}

impl TensorSource for WeightSet {
    fn path(&self) -> &Path {
        self.path()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.get(name).ok().map(|view| view.shape.clone())
    }

    fn tensor(&self, name: &str) -> Result<Tensor> {
        let view = self.get(name)?;
        let dtype = match view.dtype {
            Dtype::F32 => Some(DType::F32),
            Dtype::Bf16 => Some(DType::BF16),
            Dtype::F16 => Some(DType::F16),
            Dtype::F64 => Some(DType::F64),
            _ => None,
        };
        if let (Some(dtype), None) = (dtype, &view.scaling) {
            let (bytes, device) = (self.read(name)?, Device::Cpu);
            return Ok(Tensor::from_raw_buffer(
                &bytes,
                dtype,
                &view.shape,
                &device,
            )?);
        }
        let is_exact = matches!(view.dtype, Dtype::F8E4M3 | Dtype::F8E5M2);
        let numbers = Tensor::from_vec(self.read_f32(name)?, view.shape.as_slice(), &Device::Cpu)?;
        // Every number of fp8 is one of bf16.
        Ok(match &view.scaling {
            None if is_exact => numbers.to_dtype(DType::BF16)?,
            _ => numbers,
        })
    }

    fn quantised(&self, name: &str) -> Result<Option<StoredTensor>> {
        if !TensorSource::is_quantised(self, name) {
            return Ok(None);
        }
        Ok(Some(self.read_stored(name)?))
    }

    fn is_quantised(&self, name: &str) -> bool {
        self.get(name)
            .is_ok_and(|view| view.scaling.is_some() || StoredRows::is_kept(view.dtype))
    }

    fn is_padded(&self, name: &str, shape: &[usize]) -> bool {
        let Ok(view) = self.get(name) else {
            return false;
        };
        let scaling = view.scaling.as_ref();
        let fits = |len| {
            let whole = shape.iter().map(|size: &usize| size.next_multiple_of(len));
            shape.len() == 2 && whole.eq(view.shape.iter().copied())
        };
        (scaling.and_then(|scaling| scaling.format.group_len())).is_some_and(fits)
    }
}

fn missing(path: &Path, name: &str) -> Error {
    Error::bad_weights(path, format!("there is no tensor named {name}"))
}

/// A name and the shape that a network asks of it.
pub type Asked = (String, Vec<usize>);

enum Source {
    Tensors(Arc<dyn TensorSource>),
    /// Writes down what is asked for and answers with zeros that occupy no memory.
    Survey(Mutex<Vec<Asked>>),
}

/// A place in the tree of names, the device, and the number format to compute in. Cheap to clone.
#[derive(Clone)]
pub struct Weights {
    source: Arc<Source>,
    prefix: String,
    device: Device,
    dtype: DType,
}

impl fmt::Debug for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.full_name("*"), self.path().display())
    }
}

impl Weights {
    /// The root of a source. `dtype` is the format of activations: f32 on the processor.
    pub fn new(source: impl TensorSource + 'static, device: &Device, dtype: DType) -> Self {
        Self::from_source(Source::Tensors(Arc::new(source)), device, dtype)
    }

    /// A source without tensors that answers every question with zeros and remembers it: what a
    /// network of any size asks for, without its memory.
    pub fn survey() -> Self {
        Self::from_source(Source::Survey(Mutex::default()), &Device::Cpu, DType::F32)
    }

    fn from_source(source: Source, device: &Device, dtype: DType) -> Self {
        Self {
            source: Arc::new(source),
            prefix: String::new(),
            device: device.clone(),
            dtype,
        }
    }

    /// What was asked so far, when this is a survey; empty otherwise.
    pub fn asked(&self) -> Vec<Asked> {
        match &*self.source {
            Source::Survey(asked) => asked.lock().map(|asked| asked.clone()).unwrap_or_default(),
            Source::Tensors(_) => Vec::new(),
        }
    }

    /// The place below this one.
    pub fn at(&self, name: impl Display) -> Self {
        let mut below = self.clone();
        below.prefix = self.full_name(&name.to_string());
        below
    }

    /// The name of a tensor below this place, from the root on.
    pub(crate) fn full_name(&self, name: &str) -> String {
        match (self.prefix.as_str(), name) {
            ("", name) => name.into(),
            (prefix, "") => prefix.into(),
            (prefix, name) => format!("{prefix}.{name}"),
        }
    }

    /// Where the weights come from, for messages.
    pub fn path(&self) -> &Path {
        match &*self.source {
            Source::Tensors(source) => source.path(),
            Source::Survey(_) => Path::new("(survey)"),
        }
    }

    /// The device that tensors come to.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The number format of activations.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Whether there is a tensor of that name below this place. Never in a survey.
    pub fn contains(&self, name: &str) -> bool {
        match &*self.source {
            Source::Tensors(source) => source.shape(&self.full_name(name)).is_some(),
            Source::Survey(_) => false,
        }
    }

    /// A tensor as stored, in main memory, with its shape checked.
    fn stored(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let name = self.full_name(name);
        match &*self.source {
            Source::Survey(asked) => {
                if let Ok(mut asked) = asked.lock() {
                    asked.push((name, shape.to_vec()));
                }
                Ok(zero()?.broadcast_as(shape)?)
            }
            Source::Tensors(source) => {
                check_shape(&**source, &name, shape)?;
                let mut tensor = source.tensor(&name)?;
                for (dimension, size) in shape.iter().enumerate() {
                    tensor = tensor.narrow(dimension, 0, *size)?;
                }
                Ok(tensor)
            }
        }
    }

    fn is_survey(&self) -> bool {
        matches!(&*self.source, Source::Survey(_))
    }

    /// A tensor in the activations' number format.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let tensor = self.stored(name, shape)?;
        if self.is_survey() {
            return Ok(tensor);
        }
        Ok(tensor.to_dtype(self.dtype)?.to_device(&self.device)?)
    }

    /// A tensor in f32 whatever the activations are: scales and shifts of norms, tables.
    pub fn get_f32(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let tensor = self.stored(name, shape)?;
        if self.is_survey() {
            return Ok(tensor);
        }
        Ok(tensor.to_dtype(DType::F32)?.to_device(&self.device)?)
    }

    /// A tensor in f32 in main memory, wherever activations are.
    pub(crate) fn get_plain(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        Ok(self.stored(name, shape)?.to_dtype(DType::F32)?)
    }

    /// Whether a tensor is stored in a format that tensors do not have, or with scales.
    pub(crate) fn is_quantised(&self, name: &str) -> bool {
        match &*self.source {
            Source::Tensors(source) => source.is_quantised(&self.full_name(name)),
            Source::Survey(_) => false,
        }
    }

    /// The matrix of a linear layer, (outputs, inputs). On the processor bf16 stays as
    /// it is stored: products widen it panel by panel.
    pub fn get_matrix(&self, name: &str, outputs: usize, inputs: usize) -> Result<Tensor> {
        self.get_stacked_matrix(&[(name, outputs)], inputs)
    }

    /// Whether products can use quantised matrices as they are stored.
    pub(crate) fn keeps_stored(&self) -> bool {
        (self.device.is_cpu() && self.dtype == DType::F32) || kernels::runs_on(&self.device)
    }

    /// Several matrices over the same inputs as one, kept as they are stored. None where none of
    /// them is quantised, and where products cannot use them so.
    pub(crate) fn get_stored_rows(
        &self,
        parts: &[(&str, usize)],
        inputs: usize,
    ) -> Result<Option<StoredRows>> {
        let Source::Tensors(source) = &*self.source else {
            return Ok(None);
        };
        let names: Vec<String> = parts.iter().map(|(name, _)| self.full_name(name)).collect();
        if !self.keeps_stored() || !names.iter().any(|name| source.is_quantised(name)) {
            return Ok(None);
        }
        let mut tensors = Vec::with_capacity(names.len());
        for (name, (_, outputs)) in names.iter().zip(parts) {
            check_shape(&**source, name, &[*outputs, inputs])?;
            match source.quantised(name)? {
                Some(tensor) if tensor.shape == [*outputs, inputs] => tensors.push(tensor),
                Some(tensor) => match tensor.cropped(*outputs, inputs) {
                    Some(tensor) => tensors.push(tensor),
                    None => return Ok(None),
                },
                None => tensors.push(as_stored(&source.tensor(name)?)?),
            }
        }
        StoredRows::join(tensors, inputs)
    }

    /// Several matrices over the same inputs as one, outputs one after another.
    pub fn get_stacked_matrix(&self, parts: &[(&str, usize)], inputs: usize) -> Result<Tensor> {
        let outputs: usize = parts.iter().map(|(_, outputs)| outputs).sum();
        let tensors = parts
            .iter()
            .map(|(name, outputs)| self.stored(name, &[*outputs, inputs]))
            .collect::<Result<Vec<_>>>()?;
        if self.is_survey() {
            return Ok(zero()?.broadcast_as((outputs, inputs))?);
        }
        let dtype = self.product_dtype(&tensors);
        let tensors = tensors
            .into_iter()
            .map(|tensor| Ok(tensor.to_dtype(dtype)?.to_device(&self.device)?))
            .collect::<Result<Vec<_>>>()?;
        match tensors.as_slice() {
            [only] => Ok(only.contiguous()?),
            several => Ok(Tensor::cat(several, 0)?),
        }
    }

    /// A tensor (outputs, …) as a matrix (outputs, inputs) of all that follows the first dimension:
    /// a convolution that steps over as many pixels as it sees. Kept like other matrices.
    pub fn get_flattened_matrix(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let tensor = self.stored(name, shape)?;
        let (outputs, rest) = shape.split_first().unwrap_or((&1, &[]));
        let inputs: usize = rest.iter().product();
        if self.is_survey() {
            return Ok(zero()?.broadcast_as((*outputs, inputs))?);
        }
        let dtype = self.product_dtype(std::slice::from_ref(&tensor));
        Ok(tensor
            .reshape((*outputs, inputs))?
            .to_dtype(dtype)?
            .to_device(&self.device)?)
    }

    /// The kernels of a convolution, in the format that [`get_matrix`](Self::get_matrix) keeps.
    pub fn get_kernel(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let tensor = self.stored(name, shape)?;
        if self.is_survey() {
            return Ok(tensor);
        }
        let dtype = self.product_dtype(std::slice::from_ref(&tensor));
        let tensor = tensor.to_dtype(dtype)?.to_device(&self.device)?;
        Ok(tensor.contiguous()?)
    }

    /// What weights of products are kept in: bf16 on the processor where all are stored so.
    fn product_dtype(&self, tensors: &[Tensor]) -> DType {
        let keeps_bf16 = self.device.is_cpu()
            && self.dtype == DType::F32
            && tensors.iter().all(|tensor| tensor.dtype() == DType::BF16);
        if keeps_bf16 { DType::BF16 } else { self.dtype }
    }

    /// Several vectors as one.
    pub fn get_stacked_vector(&self, parts: &[(&str, usize)]) -> Result<Tensor> {
        let tensors = parts
            .iter()
            .map(|(name, len)| self.get(name, &[*len]))
            .collect::<Result<Vec<_>>>()?;
        if self.is_survey() {
            let len: usize = parts.iter().map(|(_, len)| len).sum();
            return Ok(zero()?.broadcast_as(len)?);
        }
        match tensors.as_slice() {
            [only] => Ok(only.contiguous()?),
            several => Ok(Tensor::cat(several, 0)?),
        }
    }
}

fn check_shape(source: &dyn TensorSource, name: &str, shape: &[usize]) -> Result<()> {
    let found = source
        .shape(name)
        .ok_or_else(|| missing(source.path(), name))?;
    if found != shape && !source.is_padded(name, shape) {
        return Err(Error::bad_weights(
            source.path(),
            format!("{name} has the shape {found:?} where the configuration asks for {shape:?}"),
        ));
    }
    Ok(())
}

/// A plain tensor beside quantised ones.
fn as_stored(tensor: &Tensor) -> Result<StoredTensor> {
    let flat = tensor.flatten_all()?;
    let (dtype, bytes) = if flat.dtype() == DType::BF16 {
        let numbers = flat.to_vec1::<bf16>()?;
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes());
        (Dtype::Bf16, bytes.collect())
    } else {
        let numbers = flat.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes());
        (Dtype::F32, bytes.collect())
    };
    Ok(StoredTensor {
        dtype,
        shape: tensor.dims().to_vec(),
        bytes,
        scales: Vec::new(),
        groups: None,
    })
}

/// The element that a survey's answers repeat.
fn zero() -> Result<Tensor> {
    Ok(Tensor::zeros((), DType::F32, &Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> Weights {
        let matrix = |rows: usize, value: f32| {
            Tensor::full(value, (rows, 3), &Device::Cpu)
                .and_then(|tensor| tensor.to_dtype(DType::BF16))
                .unwrap()
        };
        let tensors = HashMap::from([
            ("block.q.weight".to_string(), matrix(2, 1.0)),
            ("block.k.weight".to_string(), matrix(1, 2.0)),
        ]);
        Weights::new(
            Loaded::new("model.safetensors", tensors),
            &Device::Cpu,
            DType::F32,
        )
    }

    #[test]
    fn names_are_joined_and_parts_are_stacked() {
        let weights = tiny();
        let block = weights.at("block");
        let stacked = block
            .get_stacked_matrix(&[("q.weight", 2), ("k.weight", 1)], 3)
            .unwrap();
        assert_eq!(stacked.dims(), [3, 3]);
        // As it is stored.
        assert_eq!(stacked.dtype(), DType::BF16);
        let stacked = stacked.to_dtype(DType::F32).unwrap();
        assert_eq!(
            stacked.sum(1).unwrap().to_vec1::<f32>().unwrap(),
            [3.0, 3.0, 6.0]
        );
        assert!(block.at("q").contains("weight") && !block.contains("weight"));
    }

    #[test]
    fn a_missing_name_and_a_wrong_shape_name_the_tensor() {
        let weights = tiny();
        let missing = weights
            .get("block.v.weight", &[2, 3])
            .unwrap_err()
            .to_string();
        assert!(
            missing.contains("block.v.weight") && missing.contains("model.safetensors"),
            "{missing}"
        );
        let wrong = weights
            .get("block.q.weight", &[9, 3])
            .unwrap_err()
            .to_string();
        assert!(
            wrong.contains("[2, 3]") && wrong.contains("[9, 3]"),
            "{wrong}"
        );
    }

    #[test]
    fn a_survey_remembers_what_was_asked() {
        let survey = Weights::survey();
        let matrix = survey
            .at("a")
            .get_stacked_matrix(&[("q", 1 << 20), ("k", 1 << 20)], 1 << 20)
            .unwrap();
        assert_eq!(matrix.dims(), [1 << 21, 1 << 20]);
        assert_eq!(
            survey.asked(),
            [
                ("a.q".to_string(), vec![1 << 20, 1 << 20]),
                ("a.k".to_string(), vec![1 << 20, 1 << 20])
            ]
        );
    }
}
