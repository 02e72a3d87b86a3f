//! Adapters on a loaded model: LoRA and its relatives, several at once, each with a weight.
//!
//! An [`Adapter`] is a file that was bound to a model's layers, with a report on every tensor of it.
//! [`AdapterSet`] is what the layers are told: which of their tensors change, and how. The layers
//! themselves merge or branch ([`crate::layers::adapt`]); names of foreign layouts are known in
//! `kinora-weights` only. The arithmetic of each kind is in [`delta`].

mod delta;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use candle_core::Tensor;
use kinora_weights::lora::{LoraBinding, LoraComponent, LoraFile, LoraReport, LoraTargets};

use crate::{
    Error, Result,
    layers::{Adaptable, Factors, TensorChanges},
};

/// An adapter file, bound to the layers of a model.
#[derive(Debug)]
pub struct Adapter {
    file: LoraFile,
    binding: LoraBinding,
}

impl Adapter {
    /// Opens a file and binds it. Refused with words when it fits nothing of the model.
    pub fn open(path: &Path, targets: &LoraTargets) -> Result<Self> {
        let file = LoraFile::open(path)?;
        let binding = file.bind(targets)?;
        Ok(Self { file, binding })
    }

    /// What became of each of its tensors, its ranks, and the family it was made for.
    pub fn report(&self) -> &LoraReport {
        &self.binding.report
    }

    /// Size of its tensors.
    pub fn bytes(&self) -> u64 {
        self.file.set().total_bytes()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.file.set().path()
    }
}

/// An adapter and how much of it is wanted: 1 is as it was trained, 0 nothing.
#[derive(Clone, Debug)]
pub struct WeightedAdapter {
    /// The adapter.
    pub adapter: Arc<Adapter>,
    /// Its weight; negative ones take away.
    pub weight: f32,
}

/// What several adapters do to one network of a model.
pub struct AdapterSet<'a> {
    /// By tensor: which adapter, which of its patches.
    patches: BTreeMap<&'a str, Vec<delta::Weighted<'a>>>,
}

impl<'a> AdapterSet<'a> {
    /// The changes of one component. Weights must be finite; those of 0 change nothing.
    pub fn new(adapters: &'a [WeightedAdapter], component: LoraComponent) -> Result<Self> {
        let mut patches: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for WeightedAdapter { adapter, weight } in adapters {
            if !weight.is_finite() {
                return Err(Error::BadRequest(format!(
                    "the weight of {} must be a finite number",
                    adapter.path().display()
                )));
            }
            let own = adapter.binding.patches.iter();
            for patch in own.filter(|patch| patch.component == component && *weight != 0.0) {
                patches
                    .entry(&patch.tensor)
                    .or_default()
                    .push(delta::Weighted {
                        set: adapter.file.set(),
                        patch,
                        weight: f64::from(*weight),
                    });
            }
        }
        Ok(Self { patches })
    }
}

impl TensorChanges for AdapterSet<'_> {
    fn is_changed(&self, name: &str) -> bool {
        self.patches.contains_key(name)
    }

    fn factors(&self, name: &str) -> Result<Option<Factors>> {
        let mut downs = Vec::new();
        let mut ups = Vec::new();
        for weighted in self.patches.get(name).into_iter().flatten() {
            let Some(Factors { down, up }) = weighted.factors()? else {
                return Ok(None);
            };
            downs.push(down);
            ups.push(up);
        }
        if downs.is_empty() {
            return Ok(None);
        }
        Ok(Some(Factors {
            down: Tensor::cat(&downs, 0)?,
            up: Tensor::cat(&ups, 1)?,
        }))
    }

    fn apply(&self, name: &str, base: Tensor) -> Result<Tensor> {
        let patches = self.patches.get(name).map_or(&[][..], Vec::as_slice);
        delta::apply(patches, base)
    }
}

/// The layers of a network that adapters may change, by component.
pub type AdaptableLayers<'a> = Vec<(LoraComponent, Vec<&'a mut dyn Adaptable>)>;

/// Narrows targets to the tensors that the model's layers can change: everything else is told as
/// not applied.
pub(crate) fn keep_adaptable(targets: &mut LoraTargets, layers: &AdaptableLayers) {
    for (component, layers) in layers {
        let names: std::collections::BTreeSet<String> =
            layers.iter().flat_map(|layer| layer.tensors()).collect();
        targets.retain(*component, |name| names.contains(name));
    }
}

/// Brings every layer to these adapters, from whatever it was before.
pub(crate) fn adapt_layers(adapters: &[WeightedAdapter], layers: AdaptableLayers) -> Result<()> {
    for (component, layers) in layers {
        let set = AdapterSet::new(adapters, component)?;
        for layer in layers {
            layer.adapt(&set)?;
        }
    }
    Ok(())
}
