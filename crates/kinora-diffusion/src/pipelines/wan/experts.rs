//! The one or two denoisers of a model, of which only the one at work needs to be in memory.

use candle_core::{DType, Device};
use kinora_weights::wan::{WanComponent, WanLayout};

use crate::{Result, denoisers::WanDenoiser, layers::Weights, memory};

/// A denoiser by the steps that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expert {
    /// Noisy steps; every step where there is one denoiser.
    High,
    /// Steps with little noise.
    Low,
}

impl Expert {
    fn component(self) -> WanComponent {
        match self {
            Self::High => WanComponent::Transformer,
            Self::Low => WanComponent::Transformer2,
        }
    }
}

/// The denoisers that are in memory.
#[derive(Debug)]
pub(super) struct Experts {
    layout: WanLayout,
    device: Device,
    dtype: DType,
    loaded: Vec<(Expert, WanDenoiser)>,
}

impl Experts {
    pub fn new(layout: WanLayout, device: &Device, dtype: DType) -> Self {
        Self {
            layout,
            device: device.clone(),
            dtype,
            loaded: Vec::new(),
        }
    }

    /// Whether there are two.
    pub fn are_two(&self) -> bool {
        self.layout.parts.transformer_2.is_some()
    }

    /// Bytes of the largest denoiser as stored.
    pub fn largest_bytes(&self) -> u64 {
        [Expert::High, Expert::Low]
            .map(|expert| self.layout.bytes_of(expert.component()))
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
                let denoiser = self.load(expert, on_load)?;
                self.loaded.push((expert, denoiser));
                self.loaded.len() - 1
            }
        };
        Ok(&self.loaded[place].1)
    }

    /// On the processor, when twice the weights still fit. What another device has is not known.
    fn can_keep_both(&self, expert: Expert) -> bool {
        let bytes = self.layout.bytes_of(expert.component());
        self.device.is_cpu()
            && memory::available().is_some_and(|free| free / 2 >= bytes.saturating_mul(2))
    }

    fn load(&self, expert: Expert, on_load: &mut dyn FnMut(f32)) -> Result<WanDenoiser> {
        let parts = &self.layout.parts;
        let config = match (expert, &parts.transformer_2) {
            (Expert::Low, Some(config)) => config,
            _ => &parts.transformer,
        };
        let set = self.layout.open(expert.component())?;
        let weights = Weights::new(set, &self.device, self.dtype);
        WanDenoiser::load(&weights, config, on_load)
    }
}
