//! The layers of a model that an adapter may change, under every name that adapters call them by.

use std::collections::{BTreeMap, HashMap};

use super::key::{LoraComponent, flatten};
use crate::{
    Component, ModelLayout, Network, Parts, Result, WeightSet,
    ltx::{LtxComponent, LtxLayout},
    ltx2::{Ltx2Component, Ltx2Layout},
    maps::{self, KeyMap, count_blocks, ldm_unet::UnetShape},
    view::Part,
    wan::{WanComponent, WanLayout},
};

/// A layer, or the part of a stored layer that is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layer {
    pub component: LoraComponent,
    /// Canonical name, without `.weight`.
    pub module: String,
    /// Which rows of what the adapter changes.
    pub part: Part,
}

/// The layers of a model.
#[derive(Clone, Debug, Default)]
pub struct LoraTargets {
    /// By component and flattened name in any layout.
    layers: HashMap<(LoraComponent, String), Vec<Layer>>,
    /// Shapes of tensors by component and canonical name.
    shapes: BTreeMap<(LoraComponent, String), Vec<usize>>,
}

impl LoraTargets {
    /// No layers yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The layers of a model that makes pictures: denoiser and text encoders.
    pub fn of_pictures(layout: &ModelLayout) -> Result<Self> {
        let network = match &layout.parts {
            Parts::Flux(parts) => Network::Flux(parts.transformer.clone()),
            Parts::Sd(parts) => Network::Unet(parts.unet.clone()),
        };
        let mut targets = Self::new();
        targets.add_denoiser(&network, &layout.open(Component::Transformer)?);
        for (component, part) in [
            (Component::TextEncoder, LoraComponent::TextEncoder),
            (Component::TextEncoder2, LoraComponent::TextEncoder2),
        ] {
            if layout.bytes_of(component) > 0 {
                targets.add_component(part, &layout.open(component)?);
            }
        }
        Ok(targets)
    }

    /// The layers of Wan; of two experts, which are of one shape, the first one's.
    pub fn of_wan(layout: &WanLayout) -> Result<Self> {
        let network = Network::Wan(layout.parts.transformer.clone());
        let mut targets = Self::new();
        targets.add_denoiser(&network, &layout.open(WanComponent::Transformer)?);
        Ok(targets)
    }

    /// The layers of LTX-Video.
    pub fn of_ltx(layout: &LtxLayout) -> Result<Self> {
        let network = Network::Ltx(layout.parts.transformer.clone());
        let mut targets = Self::new();
        targets.add_denoiser(&network, &layout.open(LtxComponent::Transformer)?);
        Ok(targets)
    }

    /// The layers of LTX-2: denoiser and connectors.
    pub fn of_ltx2(layout: &Ltx2Layout) -> Result<Self> {
        let network = Network::Ltx(layout.parts.transformer.clone());
        let mut targets = Self::new();
        targets.add_denoiser(&network, &layout.open(Ltx2Component::Transformer)?);
        let connectors = layout.open(Ltx2Component::Connectors)?;
        targets.add_component(LoraComponent::Connectors, &connectors);
        Ok(targets)
    }

    /// Adds a denoiser: what it is, and its tensors under canonical names.
    pub fn add_denoiser(&mut self, network: &Network, set: &WeightSet) {
        let count = |prefix: &str| count_blocks(set, prefix);
        let map = match network {
            Network::Flux(_) => {
                let singles = count("single_transformer_blocks.");
                let mut map = maps::flux::transformer(count("transformer_blocks."), singles);
                for block in 0..singles {
                    // Some adapters change the attention's rows of a single block only.
                    let to = ["to_q", "to_k", "to_v"]
                        .map(|name| format!("single_transformer_blocks.{block}.attn.{name}"));
                    map.fused(&to, &format!("single_blocks.{block}.linear1_qkv"));
                }
                map
            }
            Network::Unet(config) => maps::ldm_unet::unet(UnetShape {
                levels: config.block_out_channels.len(),
                blocks: config.layers_per_block,
                depth: config
                    .transformer_layers
                    .iter()
                    .copied()
                    .fold(config.mid_transformer_layers, usize::max),
            }),
            Network::Wan(_) => maps::wan::transformer(count("blocks.")),
            Network::Ltx(_) => maps::ltx::transformer(count("transformer_blocks.")),
            _ => KeyMap::default(),
        };
        self.add(LoraComponent::Denoiser, &map, set);
    }

    /// Adds a component whose adapters use its canonical names: a text encoder, or connectors.
    pub fn add_component(&mut self, component: LoraComponent, set: &WeightSet) {
        self.add(component, &KeyMap::default(), set);
        if component != LoraComponent::Connectors {
            return;
        }
        // The authors' names, below the prefix that tells the component.
        let modules: Vec<String> = set
            .tensors()
            .filter_map(|(name, _)| Some(name.rsplit_once('.')?.0.to_owned()))
            .collect();
        for to in modules {
            let from = to
                .replace(
                    "_connector.transformer_blocks.",
                    "_embeddings_connector.transformer_1d_blocks.",
                )
                .replace("text_proj_in", "aggregate_embed")
                .replace(".norm_q", ".q_norm")
                .replace(".norm_k", ".k_norm");
            self.add_alias(component, &from, &to, Part::Whole);
        }
    }

    fn add(&mut self, component: LoraComponent, map: &KeyMap, set: &WeightSet) {
        for (name, view) in set.tensors().filter(|(name, _)| !is_fixed(name)) {
            self.shapes
                .insert((component, name.to_owned()), view.shape.clone());
            let module = match name.rsplit_once('.') {
                Some((module, "weight" | "bias")) => module,
                _ => name,
            };
            self.add_alias(component, module, module, Part::Whole);
            if let Some(short) = module.strip_suffix("to_out.0") {
                self.add_alias(component, &format!("{short}to_out"), module, Part::Whole);
            }
        }
        for entry in map.modules() {
            if self.has(component, &entry.to) {
                self.add_alias(component, &entry.from, &entry.to, entry.part);
            }
        }
        for entry in map.tensors() {
            let to = entry.to.strip_suffix(".weight").unwrap_or(&entry.to);
            if self.has(component, to) {
                let from = entry.from.strip_suffix(".scale").unwrap_or(&entry.from);
                self.add_alias(component, from, to, Part::Whole);
                self.add_alias(component, &entry.from, to, Part::Whole);
            }
        }
    }

    fn has(&self, component: LoraComponent, module: &str) -> bool {
        self.shape(component, &format!("{module}.weight")).is_some()
            || self.shape(component, module).is_some()
    }

    fn add_alias(&mut self, component: LoraComponent, alias: &str, module: &str, part: Part) {
        let layer = Layer {
            component,
            module: module.to_owned(),
            part,
        };
        let layers = self.layers.entry((component, flatten(alias))).or_default();
        // A name that is the same in both layouts is listed once.
        if !layers.contains(&layer) {
            layers.push(layer);
        }
    }

    /// Forgets the tensors of a component that cannot be changed, so that they are told as not
    /// applied.
    pub fn retain(&mut self, component: LoraComponent, is_kept: impl Fn(&str) -> bool) {
        self.shapes
            .retain(|(other, name), _| *other != component || is_kept(name));
        let shapes = &self.shapes;
        let has = |name: String| shapes.contains_key(&(component, name));
        for ((other, _), layers) in &mut self.layers {
            if *other == component {
                layers.retain(|layer| {
                    has(layer.module.clone()) || has(format!("{}.weight", layer.module))
                });
            }
        }
    }

    /// The layers that a flattened name stands for.
    pub(super) fn find(&self, component: LoraComponent, layer: &str) -> &[Layer] {
        self.layers
            .get(&(component, layer.to_owned()))
            .map_or(&[], Vec::as_slice)
    }

    /// The shape of a tensor.
    pub(super) fn shape(&self, component: LoraComponent, name: &str) -> Option<&[usize]> {
        self.shapes
            .get(&(component, name.to_owned()))
            .map(Vec::as_slice)
    }

    /// Whether a component was added.
    pub(super) fn has_component(&self, component: LoraComponent) -> bool {
        self.shapes.keys().any(|(other, _)| *other == component)
    }
}

/// Whether a tensor stays as it is under adapters: tables that networks look up or add, which are no
/// layers.
fn is_fixed(name: &str) -> bool {
    let tables = [
        "scale_shift_table",
        "pos_embed",
        "learnable_registers",
        "token_embedding.weight",
        "position_embedding.weight",
        "shared.weight",
        "relative_attention_bias.weight",
    ];
    tables.iter().any(|table| name.ends_with(table))
}
