//! Encoders that are read when they are first needed: with every text of a run kept from before,
//! never.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use candle_core::{DType, Device};
use kinora_weights::{WeightSet, lora::LoraComponent};

use super::{
    shelf::{Read, Shelf},
    text_cache::KeptTexts,
};
use crate::{
    Result,
    adapters::{AdaptableNetwork, Adapted},
    layers::{Adaptable, Weights},
    text::{ClipEncoder, GemmaEncoder, T5Encoder, Umt5Encoder},
    vision::ClipVision,
};

/// A network that turns texts or given pictures into what a denoiser attends to.
pub(crate) trait Encoder {
    /// The layers that adapters may change.
    fn adaptables(&mut self) -> Vec<&mut dyn Adaptable> {
        Vec::new()
    }
}

impl Encoder for ClipEncoder {
    fn adaptables(&mut self) -> Vec<&mut dyn Adaptable> {
        self.adaptables()
    }
}

impl Encoder for T5Encoder {
    fn adaptables(&mut self) -> Vec<&mut dyn Adaptable> {
        self.adaptables()
    }
}

impl Encoder for Umt5Encoder {}
impl Encoder for GemmaEncoder {}
impl Encoder for ClipVision {}

/// Reads a network from the root of its weights, and tells the share that is done, 0 to 1.
type Load<T> = Box<dyn Fn(&Weights, &mut dyn FnMut(f32)) -> Result<T> + Send + Sync>;

/// An encoder, in memory or not yet.
pub(crate) struct OnDemand<T> {
    /// For people.
    title: &'static str,
    weights: Weights,
    files: Vec<PathBuf>,
    /// What tells networks of equal weights apart.
    config: String,
    load: Load<T>,
    network: OnceLock<Arc<T>>,
    /// Other models' encoders.
    shelf: Option<Arc<Shelf>>,
    /// What a network on the shelf is, besides its files.
    purpose: String,
}

impl<T: Encoder + Send + Sync + 'static> OnDemand<T> {
    /// Names an encoder's weights, whose headers are checked already, and what reads them. `config`
    /// is everything else that decides what it computes.
    pub fn new(
        title: &'static str,
        set: WeightSet,
        (device, dtype): (&Device, DType),
        config: &impl std::fmt::Debug,
        load: impl Fn(&Weights, &mut dyn FnMut(f32)) -> Result<T> + Send + Sync + 'static,
    ) -> Self {
        Self {
            title,
            files: set.files().map(Path::to_owned).collect(),
            weights: Weights::new(set, device, dtype),
            config: format!("{config:?}"),
            load: Box::new(load),
            network: OnceLock::new(),
            shelf: None,
            purpose: format!(
                "{title} on {:?} in {dtype:?}: {config:?}",
                device.location()
            ),
        }
    }

    /// Looks on the shelf before it is read, and lies there afterwards.
    pub fn share(&mut self, shelf: &Arc<Shelf>) {
        self.shelf = Some(Arc::clone(shelf));
    }

    /// Whether it is in memory.
    pub fn is_read(&self) -> bool {
        self.network.get().is_some()
    }

    /// The encoder, read if it is not in memory. Without adapters.
    pub fn get(&self, on_load: &mut dyn FnMut(f32)) -> Result<&T> {
        self.get_or_read(on_load, None)
    }

    /// The encoder, read if it is not in memory, as the adapters want it.
    pub fn get_adapted(
        &self,
        component: LoraComponent,
        adapted: &Adapted,
        on_load: &mut dyn FnMut(f32),
    ) -> Result<&T> {
        let is_changed = adapted.changing(&[component]).next().is_some();
        self.get_or_read(on_load, is_changed.then_some((component, adapted)))
    }

    fn get_or_read(
        &self,
        on_load: &mut dyn FnMut(f32),
        change: Option<(LoraComponent, &Adapted)>,
    ) -> Result<&T> {
        if let Some(network) = self.network.get() {
            return Ok(network);
        }
        // One that adapters change is this model's own.
        let shelf = self.shelf.as_ref().filter(|_| change.is_none());
        if let Some(shared) = shelf.and_then(|shelf| shelf.find(&self.purpose, &self.files)) {
            tracing::info!(encoder = self.title, "in memory already, for another model");
            on_load(1.0);
            return Ok(self.network.get_or_init(|| shared));
        }
        tracing::info!(encoder = self.title, "reading");
        let files = Read::of(&self.files);
        let mut network = (self.load)(&self.weights, on_load)?;
        if let Some((component, adapted)) = change {
            let before = count_bytes(&mut network);
            let layers = network.adaptables();
            AdaptableNetwork::only(component, layers).adapt(adapted.adapters())?;
            adapted.count_change(before, count_bytes(&mut network));
        }
        let network = Arc::new(network);
        if let Some(shelf) = shelf {
            shelf.put(&self.purpose, files, &network);
        }
        on_load(1.0);
        Ok(self.network.get_or_init(|| network))
    }

    /// The encoder as adapters see it; None when it is not in memory and they need not. One that
    /// another model uses too stays as it is, and this model forgets it: whatever the adapters want,
    /// the next look finds it again or reads one of its own.
    pub fn adaptable(&mut self, component: LoraComponent) -> Option<AdaptableNetwork<'_>> {
        let network = self.network.get_mut()?;
        if let Some(shelf) = &self.shelf {
            if Arc::strong_count(network) > 1 {
                self.network = OnceLock::new();
                return None;
            }
            shelf.take(network);
        }
        let network = Arc::get_mut(self.network.get_mut()?)?;
        Some(AdaptableNetwork::only(component, network.adaptables()))
    }

    /// The tensors that adapters may change, where the encoder is not in memory.
    pub fn unread_tensors(&self) -> Result<Option<BTreeSet<String>>> {
        if self.is_read() {
            return Ok(None);
        }
        let mut network = (self.load)(&Weights::survey(), &mut |_| {})?;
        let layers = network.adaptables();
        let tensors = layers.iter().flat_map(|layer| layer.tensors()).collect();
        Ok(Some(tensors))
    }

    /// Makes the encoder a part of what decides the texts.
    pub fn sign(&self, texts: &mut KeptTexts<'_>) -> Result<()> {
        texts.add(self.config.as_bytes());
        self.files.iter().try_for_each(|file| texts.add_file(file))
    }
}

fn count_bytes(network: &mut impl Encoder) -> u64 {
    let layers = network.adaptables();
    layers.iter().map(|layer| layer.bytes()).sum()
}
