//! The one or two denoisers of a model, of which only the one at work needs to be in memory.

use candle_core::{DType, Device};
use kinora_core::Expert;
use kinora_weights::{
    lora::{LoraComponent, LoraTargets},
    wan::{WanComponent, WanLayout},
};

use crate::{
    Result,
    adapters::{AdaptableNetwork, Adapted},
    denoisers::WanDenoiser,
    layers::Weights,
    memory,
};

/// Where a denoiser lies. Where there is one, it takes every step as the first of two.
fn component_of(expert: Expert) -> WanComponent {
    match expert {
        Expert::High => WanComponent::Transformer,
        Expert::Low => WanComponent::Transformer2,
    }
}

/// The denoisers that are in memory.
#[derive(Debug)]
pub(super) struct Experts {
    layout: WanLayout,
    device: Device,
    dtype: DType,
    loaded: Vec<(Expert, WanDenoiser)>,
    /// What adapters change, in memory or not.
    pub adapted: Adapted,
}

impl Experts {
    pub fn new(layout: WanLayout, device: &Device, dtype: DType) -> Self {
        Self {
            layout,
            device: device.clone(),
            dtype,
            loaded: Vec::new(),
            adapted: Adapted::default(),
        }
    }

    /// Whether there are two.
    pub fn are_two(&self) -> bool {
        self.layout.parts.transformer_2.is_some()
    }

    /// Bytes of the largest denoiser as stored.
    pub fn largest_bytes(&self) -> u64 {
        [Expert::High, Expert::Low]
            .map(|expert| self.layout.bytes_of(component_of(expert)))
            .into_iter()
            .max()
            .unwrap_or(0)
    }

    /// Whether a denoiser is in memory.
    pub fn has(&self, expert: Expert) -> bool {
        self.loaded.iter().any(|(loaded, _)| *loaded == expert)
    }

    /// A denoiser, read if it is not in memory; the other one leaves unless there is plenty of room
    /// for both. `on_load` is told the share that is read.
    pub fn get(&mut self, expert: Expert, on_load: &mut dyn FnMut(f32)) -> Result<&WanDenoiser> {
        let place = match self.loaded.iter().position(|(loaded, _)| *loaded == expert) {
            Some(place) => place,
            None => {
                if !self.can_keep_both(expert) {
                    self.loaded.clear();
                }
                let mut denoiser = self.load(expert, on_load)?;
                if !self.adapted.adapters().is_empty() {
                    let expert = self.are_two().then_some(expert);
                    as_adaptable(&mut denoiser, expert).adapt(self.adapted.adapters())?;
                }
                self.loaded.push((expert, denoiser));
                self.loaded.len() - 1
            }
        };
        Ok(&self.loaded[place].1)
    }

    /// Takes every denoiser out of memory.
    #[cfg(test)]
    pub fn forget(&mut self) {
        self.loaded.clear();
    }

    /// The denoisers that are in memory, as adapters see them. Others are brought to the adapters
    /// when they are read.
    pub fn networks(&mut self) -> Vec<AdaptableNetwork<'_>> {
        let are_two = self.are_two();
        let loaded = self.loaded.iter_mut();
        loaded
            .map(|(expert, denoiser)| as_adaptable(denoiser, are_two.then_some(*expert)))
            .collect()
    }

    /// The layers of either denoiser.
    pub fn read_targets(&self) -> Result<LoraTargets> {
        Ok(LoraTargets::of_wan(&self.layout)?)
    }

    /// On the processor, when twice the weights still fit. What another device has is not known.
    fn can_keep_both(&self, expert: Expert) -> bool {
        let bytes = self.layout.bytes_of(component_of(expert));
        self.device.is_cpu()
            && memory::available().is_some_and(|free| free / 2 >= bytes.saturating_mul(2))
    }

    fn load(&self, expert: Expert, on_load: &mut dyn FnMut(f32)) -> Result<WanDenoiser> {
        let parts = &self.layout.parts;
        let config = match (expert, &parts.transformer_2) {
            (Expert::Low, Some(config)) => config,
            _ => &parts.transformer,
        };
        let set = self.layout.open(component_of(expert))?;
        let weights = Weights::new(set, &self.device, self.dtype);
        WanDenoiser::load(&weights, config, on_load)
    }
}

fn as_adaptable(denoiser: &mut WanDenoiser, expert: Option<Expert>) -> AdaptableNetwork<'_> {
    AdaptableNetwork {
        component: LoraComponent::Denoiser,
        expert,
        layers: denoiser.adaptables(),
    }
}
