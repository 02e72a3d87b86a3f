//! Adapters on a loaded model: LoRA and its relatives, several at once, each with a weight.
//!
//! An [`Adapter`] is a file that was bound to a model's layers, with a report on every tensor of it.
//! [`AdapterSet`] is what the layers are told: which of their tensors change, and how. The layers
//! themselves merge or branch ([`crate::layers::adapt`]); names of foreign layouts are known in
//! `kinora-weights` only. The arithmetic of each kind is in [`delta`].

mod delta;
mod rotation;
#[cfg(test)]
pub(crate) mod testing;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use candle_core::Tensor;
use kinora_core::Expert;
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
    /// The network that it changes, where a model has two. None: both.
    pub expert: Option<Expert>,
}

impl WeightedAdapter {
    fn is_for(&self, network: Option<Expert>) -> bool {
        self.expert.is_none() || network.is_none() || self.expert == network
    }

    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.adapter, &other.adapter)
            && self.weight == other.weight
            && self.expert == other.expert
    }
}

/// What several adapters do to one network of a model.
pub struct AdapterSet<'a> {
    /// By tensor: which adapter, which of its patches.
    patches: BTreeMap<&'a str, Vec<delta::Weighted<'a>>>,
}

impl<'a> AdapterSet<'a> {
    /// The changes of one component, of one expert where there are two. Weights must be finite;
    /// those of 0 change nothing.
    pub fn new(
        adapters: &'a [WeightedAdapter],
        component: LoraComponent,
        expert: Option<Expert>,
    ) -> Result<Self> {
        let mut patches: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for one in adapters.iter().filter(|one| one.is_for(expert)) {
            let WeightedAdapter {
                adapter, weight, ..
            } = one;
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

/// The layers of one network that adapters may change.
pub struct AdaptableNetwork<'a> {
    /// What it is in the model.
    pub component: LoraComponent,
    /// Which of two denoisers it is; None where there is one.
    pub expert: Option<Expert>,
    /// Its layers.
    pub layers: Vec<&'a mut dyn Adaptable>,
}

impl<'a> AdaptableNetwork<'a> {
    /// A network that its model has once.
    pub fn only(component: LoraComponent, layers: Vec<&'a mut dyn Adaptable>) -> Self {
        Self {
            component,
            expert: None,
            layers,
        }
    }

    /// Brings every layer to these adapters, from whatever it was before.
    pub fn adapt(self, adapters: &[WeightedAdapter]) -> Result<()> {
        let set = AdapterSet::new(adapters, self.component, self.expert)?;
        for layer in self.layers {
            layer.adapt(&set)?;
        }
        Ok(())
    }
}

/// What a loaded model remembers of adapters.
#[derive(Debug, Default)]
pub struct Adapted {
    /// The layers that adapters may change, by every name that files call them; made when the first
    /// file is opened.
    targets: Option<LoraTargets>,
    /// What its networks are brought to.
    adapters: Vec<WeightedAdapter>,
    /// Bytes that they take beyond those of the model as it was loaded: a layer that was kept in
    /// bf16 is merged in the format of the computation, one that stays has a branch beside it.
    added_bytes: AtomicI64,
}

impl Adapted {
    /// What its networks are brought to.
    pub fn adapters(&self) -> &[WeightedAdapter] {
        &self.adapters
    }

    /// Bytes that the adapters take beyond those of the model.
    pub fn added_bytes(&self) -> u64 {
        u64::try_from(self.added_bytes.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Counts what adapters add to networks, or take from them: bytes before and after.
    pub(crate) fn count_change(&self, before: u64, after: u64) {
        let added = after.cast_signed().wrapping_sub(before.cast_signed());
        self.added_bytes.fetch_add(added, Ordering::Relaxed);
    }

    /// The adapters that change something of these components, in their order, with their weights.
    pub(crate) fn changing<'a>(
        &'a self,
        components: &'a [LoraComponent],
    ) -> impl Iterator<Item = (&'a Path, f32)> {
        let is_change = |one: &&WeightedAdapter| {
            let mut patches = one.adapter.binding.patches.iter();
            one.weight != 0.0 && patches.any(|patch| components.contains(&patch.component))
        };
        let changing = self.adapters.iter().filter(is_change);
        changing.map(|one| (one.adapter.path(), one.weight))
    }

    /// The adapters, for the identity of checkpoints.
    pub fn describe(&self) -> String {
        let lines = self.adapters.iter().map(|one| {
            let WeightedAdapter {
                adapter,
                weight,
                expert,
            } = one;
            let (path, bytes) = (adapter.path().display(), adapter.bytes());
            format!("{path} {bytes} {weight:?} {expert:?}\n")
        });
        lines.collect()
    }
}

/// A loaded model whose networks adapters change.
pub trait Adaptive {
    /// Its networks, as far as they are in memory.
    fn networks(&mut self) -> Vec<AdaptableNetwork<'_>>;

    /// Its layers by every name that files call them, read from its headers.
    fn read_targets(&self) -> Result<LoraTargets>;

    /// The tensors that adapters may change in its networks that are not in memory, where not every
    /// tensor of their files is one. Such a network is brought to the adapters when it is read.
    fn unread(&self) -> Result<Vec<(LoraComponent, BTreeSet<String>)>> {
        Ok(Vec::new())
    }

    /// What it remembers of adapters.
    fn adapted(&mut self) -> &mut Adapted;

    /// Opens an adapter (LoRA and its relatives) and tells what of it fits this model. Nothing is
    /// changed yet.
    ///
    /// # Errors
    /// A file that fits nothing of the model is refused, with the family it was made for.
    fn open_adapter(&mut self, path: &Path) -> Result<Adapter> {
        if self.adapted().targets.is_none() {
            let mut targets = self.read_targets()?;
            keep_adaptable(&mut targets, &self.networks());
            for (component, names) in self.unread()? {
                targets.retain(component, |name| names.contains(name));
            }
            self.adapted().targets = Some(targets);
        }
        let targets = self.adapted().targets.get_or_insert_default();
        let adapter = Adapter::open(path, targets)?;
        let LoraReport {
            applied,
            keys,
            unmatched,
            ..
        } = adapter.report();
        match unmatched.first() {
            Some(first) => tracing::warn!(
                path = %path.display(), applied, keys, without = first.key, reason = first.reason,
                "an adapter fits in part"
            ),
            None => tracing::info!(path = %path.display(), applied, keys, "an adapter fits"),
        }
        Ok(adapter)
    }

    /// Brings the networks to these adapters without reading the model again, from whatever they
    /// were before; none gives back the model as it was loaded, bit for bit.
    fn set_adapters(&mut self, adapters: Vec<WeightedAdapter>) -> Result<()> {
        let old = &self.adapted().adapters;
        let mut pairs = old.iter().zip(&adapters);
        if old.len() == adapters.len() && pairs.all(|(old, new)| old.is_same(new)) {
            return Ok(());
        }
        // Weights are checked before the first layer is touched.
        AdapterSet::new(&adapters, LoraComponent::Denoiser, None)?;
        let adapt = |networks: Vec<AdaptableNetwork>, adapters: &[WeightedAdapter]| {
            networks
                .into_iter()
                .try_for_each(|network| network.adapt(adapters))
        };
        let before = count_bytes(&self.networks());
        let result = adapt(self.networks(), &adapters);
        let after = count_bytes(&self.networks());
        let adapted = self.adapted();
        adapted.count_change(before, after);
        adapted.adapters = adapters;
        if let Err(error) = result {
            // Half of it would be neither the one nor the other.
            let adapted = self.adapted();
            adapted.adapters.clear();
            adapted.added_bytes = AtomicI64::new(0);
            adapt(self.networks(), &[])?;
            return Err(error);
        }
        Ok(())
    }
}

fn count_bytes(networks: &[AdaptableNetwork]) -> u64 {
    let layers = networks.iter().flat_map(|network| &network.layers);
    layers.map(|layer| layer.bytes()).sum()
}

/// Narrows targets to the tensors that the model's layers can change: everything else is told as
/// not applied.
fn keep_adaptable(targets: &mut LoraTargets, networks: &[AdaptableNetwork]) {
    for network in networks {
        let names: BTreeSet<String> = network
            .layers
            .iter()
            .flat_map(|layer| layer.tensors())
            .collect();
        targets.retain(network.component, |name| names.contains(name));
    }
}
