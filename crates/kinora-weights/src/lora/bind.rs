//! Binding an adapter's layers to those of a model, and the report on it.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    LoraComponent, LoraFile, LoraTargets, Patch, PatchKind,
    key::{self, Piece},
    layer::{Pieces, bind_layer, weight_name},
};
use crate::{Base, Error, Part, Result, TensorView, decode::decode};

/// An adapter that fits a model.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraBinding {
    /// Changes, by component and tensor.
    pub patches: Vec<Patch>,
    /// What was done with every tensor of the file.
    pub report: LoraReport,
}

/// What became of an adapter's tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoraReport {
    /// Tensors of the file that are applied.
    pub applied: usize,
    /// Tensors in the file.
    pub keys: usize,
    /// Tensors that are not applied, and why.
    pub unmatched: Vec<Unmatched>,
    /// Tensors for a part that this model does not have and the adapter works well without:
    /// Wan 2.1's picture attention on Wan 2.2, text encoders that stay as they are.
    pub ignored: Vec<String>,
    /// Ranks, ascending.
    pub ranks: Vec<usize>,
    /// Kinds of changes.
    pub kinds: Vec<&'static str>,
    /// The family that it was trained for, by its names and shapes.
    pub base: Option<Base>,
}

/// A tensor that is not applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmatched {
    /// Its name.
    pub key: String,
    /// Why.
    pub reason: String,
}

impl LoraFile {
    /// Binds every layer that the model has. Refused when it has none of them.
    pub fn bind(&self, targets: &LoraTargets) -> Result<LoraBinding> {
        let alphas = self.stored_alphas();
        let mut groups: BTreeMap<(LoraComponent, &str), Pieces> = BTreeMap::new();
        for (name, key) in &self.keys {
            let group = groups.entry((key.component, &key.layer)).or_default();
            group.insert(key.piece, (name, self.set.get(name)?));
        }
        let mut patches = Vec::new();
        let mut unmatched = Vec::new();
        let mut ignored = Vec::new();
        for ((component, layer), pieces) in &groups {
            let layers = targets.find(*component, layer);
            let names = pieces.values().map(|(name, _)| (*name).to_owned());
            if layers.is_empty() {
                if is_optional(targets, *component, layer) {
                    ignored.extend(names);
                } else {
                    unmatched.extend(names.map(|key| Unmatched {
                        key,
                        reason: "the model has no such layer".to_owned(),
                    }));
                }
                continue;
            }
            let stored = alphas
                .get(&(*component, (*layer).to_owned()))
                .or_else(|| alphas.get(&(*component, String::new())))
                .copied();
            let alpha = match pieces.get(&Piece::Alpha) {
                Some((name, view)) => Some(self.read_scalar(name, view)?),
                None => stored,
            };
            let on_input = match pieces.get(&Piece::OnInput) {
                Some((name, view)) => self.read_scalar(name, view)? != 0.0,
                None => false,
            };
            match bind_layer(targets, layers, pieces, alpha, on_input) {
                Ok(bound) => {
                    let left = bound.left.into_iter();
                    unmatched.extend(left.map(|(key, reason)| Unmatched { key, reason }));
                    patches.extend(bound.patches);
                }
                Err(reason) => unmatched.extend(names.map(|key| Unmatched {
                    key,
                    reason: reason.clone(),
                })),
            }
        }
        for name in &self.others {
            match self.bind_whole(targets, name)? {
                Some(patch) => patches.push(patch),
                None => unmatched.push(Unmatched {
                    key: name.clone(),
                    reason: "it is not named like a tensor of an adapter".to_owned(),
                }),
            }
        }
        let keys = self.key_count();
        let applied = keys - unmatched.len() - ignored.len();
        if patches.is_empty() {
            return Err(self.refuse(&unmatched));
        }
        patches.sort_by(|a, b| (a.component, &a.tensor).cmp(&(b.component, &b.tensor)));
        let kinds: BTreeSet<_> = patches.iter().map(|patch| patch.kind.title()).collect();
        Ok(LoraBinding {
            patches,
            report: LoraReport {
                applied,
                keys,
                unmatched,
                ignored,
                ranks: self.ranks(),
                kinds: kinds.into_iter().collect(),
                base: self.base,
            },
        })
    }

    fn refuse(&self, unmatched: &[Unmatched]) -> Error {
        let made_for = match self.base {
            Some(base) => format!("; by its names it was made for {}", base.title()),
            None => String::new(),
        };
        let example = unmatched.first().map_or(String::new(), |unmatched| {
            format!(" ({}: {})", unmatched.key, unmatched.reason)
        });
        Error::unsupported(
            self.set.path(),
            format!(
                "none of its {} tensors fits this model{made_for}{example}",
                self.key_count()
            ),
        )
    }

    /// A scale: one number, in any format.
    fn read_scalar(&self, name: &str, view: &TensorView) -> Result<f64> {
        let mut numbers = [0.0; 1];
        if view.elements() == 1 {
            decode(view.dtype, &self.set.read_view(view)?, &mut numbers);
        }
        if view.elements() != 1 || !numbers[0].is_finite() {
            return Err(Error::damaged(
                self.set.path(),
                format!("{name:?} is not one finite number"),
            ));
        }
        Ok(f64::from(numbers[0]))
    }

    /// A tensor that stands in the file under the name of the one it replaces.
    fn bind_whole(&self, targets: &LoraTargets, name: &str) -> Result<Option<Patch>> {
        let (component, path) = key::split_prefix(name);
        let module = path.strip_suffix(".weight").or(path.strip_suffix(".scale"));
        let flat = key::flatten_layer(component, module.unwrap_or(path));
        let [layer] = targets.find(component, &flat) else {
            return Ok(None);
        };
        let tensor = weight_name(targets, layer);
        let view = self.set.get(name)?;
        let is_same = targets.shape(component, &tensor) == Some(&view.shape);
        Ok((is_same && layer.part == Part::Whole).then(|| Patch {
            component,
            tensor,
            kind: PatchKind::Set(view.clone()),
            part: Part::Whole,
            scale: 1.0,
            dora_scale: None,
            grown_columns: None,
        }))
    }
}

/// Whether the model works as it should without this layer of the adapter.
fn is_optional(targets: &LoraTargets, component: LoraComponent, layer: &str) -> bool {
    let is_picture = [
        "_k_img",
        "_v_img",
        "norm_k_img",
        "img_emb_",
        "attn2_add_k_proj",
        "attn2_add_v_proj",
        "attn2_norm_added_k",
        "image_embedder",
    ];
    match component {
        LoraComponent::Denoiser => {
            layer.contains("blocks_") && is_picture.iter().any(|part| layer.contains(part))
                || layer.starts_with("img_emb_")
                || layer.starts_with("condition_embedder_image_embedder")
        }
        _ => !targets.has_component(component),
    }
}
