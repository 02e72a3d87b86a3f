//! Encoders that are read when they are first needed: with every text of a run kept from before,
//! never.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use candle_core::{DType, Device};
use kinora_weights::{WeightSet, lora::LoraComponent};

use super::text_cache::KeptTexts;
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
    network: OnceLock<T>,
}

impl<T: Encoder> OnDemand<T> {
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
        }
    }

    /// Whether it is in memory.
    pub fn is_read(&self) -> bool {
        self.network.get().is_some()
    }

    /// The encoder, read if it is not in memory. Without adapters.
    pub fn get(&self, on_load: &mut dyn FnMut(f32)) -> Result<&T> {
        self.get_or_read(on_load, |_| Ok(()))
    }

    /// The encoder, read if it is not in memory, as the adapters want it.
    pub fn get_adapted(
        &self,
        component: LoraComponent,
        adapted: &Adapted,
        on_load: &mut dyn FnMut(f32),
    ) -> Result<&T> {
        self.get_or_read(on_load, |network| {
            if adapted.adapters().is_empty() {
                return Ok(());
            }
            let before = count_bytes(network);
            let layers = network.adaptables();
            AdaptableNetwork::only(component, layers).adapt(adapted.adapters())?;
            adapted.count_change(before, count_bytes(network));
            Ok(())
        })
    }

    fn get_or_read(
        &self,
        on_load: &mut dyn FnMut(f32),
        prepare: impl FnOnce(&mut T) -> Result<()>,
    ) -> Result<&T> {
        if let Some(network) = self.network.get() {
            return Ok(network);
        }
        tracing::info!(encoder = self.title, "reading");
        let mut network = (self.load)(&self.weights, on_load)?;
        prepare(&mut network)?;
        on_load(1.0);
        Ok(self.network.get_or_init(|| network))
    }

    /// The encoder as adapters see it; None when it is not in memory and they need not.
    pub fn adaptable(&mut self, component: LoraComponent) -> Option<AdaptableNetwork<'_>> {
        let network = self.network.get_mut()?;
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
