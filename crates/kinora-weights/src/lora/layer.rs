//! Binding one stored layer of an adapter: which kind of change its tensors make, whether they fit,
//! and how a fused layer is divided.

use std::collections::{BTreeMap, BTreeSet};

use super::{Factor, LoraTargets, Patch, PatchKind, key::Piece, targets::Layer};
use crate::{Part, TensorView};

/// The tensors of one layer in the file, with their names.
pub(super) type Pieces<'a> = BTreeMap<Piece, (&'a str, &'a TensorView)>;

/// The tensor of a layer that adapters mean.
pub(super) fn weight_name(targets: &LoraTargets, layer: &Layer) -> String {
    let weight = format!("{}.weight", layer.module);
    match targets.shape(layer.component, &weight) {
        Some(_) => weight,
        // A table without a module around it.
        None => layer.module.clone(),
    }
}

/// What was made of a layer's tensors.
pub(super) struct Bound {
    pub patches: Vec<Patch>,
    /// Names that nothing was made of, and why.
    pub left: Vec<(String, String)>,
}

/// All changes of one stored layer, which may be several of the model's.
pub(super) fn bind_layer(
    targets: &LoraTargets,
    layers: &[Layer],
    pieces: &Pieces,
    alpha: Option<f64>,
    on_input: bool,
) -> Result<Bound, String> {
    let mut patches = Vec::new();
    let mut used = BTreeSet::from([Piece::Alpha]);
    for layer in layers {
        let get = |piece: Piece| pieces.get(&piece).map(|(_, view)| *view);
        let cut = |view: &TensorView| {
            view.select(layer.part).ok_or_else(|| {
                format!(
                    "its shape {:?} cannot be divided among the model's layers",
                    view.shape
                )
            })
        };
        let new = |tensor: String, kind: PatchKind| Patch {
            component: layer.component,
            tensor,
            kind,
            part: Part::Whole,
            scale: 1.0,
            dora_scale: None,
            grown_columns: None,
        };
        let scale = |rank: Option<usize>| match (alpha, rank) {
            (Some(alpha), Some(rank)) if rank > 0 => alpha / rank as f64,
            _ => 1.0,
        };
        let weight = weight_name(targets, layer);
        let shape = targets.shape(layer.component, &weight).unwrap_or_default();
        let mut use_all = |list: &[Piece]| used.extend(list.iter().copied());
        let mut main = None;
        if let (Some(down), Some(up)) = (get(Piece::Down), get(Piece::Up)) {
            use_all(&[Piece::Down, Piece::Up, Piece::Mid]);
            let kind = PatchKind::Lora {
                down: down.clone(),
                up: cut(up)?,
                mid: get(Piece::Mid).cloned(),
            };
            let mut patch = new(weight.clone(), kind);
            patch.scale = scale(down.shape.first().copied());
            patch.grown_columns = check_lora(&patch.kind, shape)?;
            main = Some(patch);
        } else if let (Some(w1_a), Some(w1_b), Some(w2_a), Some(w2_b)) = (
            get(Piece::HadaW1A),
            get(Piece::HadaW1B),
            get(Piece::HadaW2A),
            get(Piece::HadaW2B),
        ) {
            use_all(&[
                Piece::HadaW1A,
                Piece::HadaW1B,
                Piece::HadaW2A,
                Piece::HadaW2B,
            ]);
            use_all(&[Piece::HadaT1, Piece::HadaT2]);
            let cores = get(Piece::HadaT1).cloned().zip(get(Piece::HadaT2).cloned());
            let outputs = w1_a.shape.get(usize::from(cores.is_some())).copied();
            check_outputs(outputs, layer.part, shape)?;
            let rank = w1_b.shape.first().copied();
            let (w1_a, w1_b) = (w1_a.clone(), w1_b.clone());
            let (w2_a, w2_b) = (w2_a.clone(), w2_b.clone());
            let kind = PatchKind::Loha {
                w1_a,
                w1_b,
                w2_a,
                w2_b,
                cores,
            };
            let mut patch = new(weight.clone(), kind);
            patch.scale = scale(rank);
            patch.part = layer.part;
            main = Some(patch);
        } else if let (Some(w1), Some(w2)) = (
            factor(pieces, Piece::LokrW1, Piece::LokrW1A, Piece::LokrW1B),
            factor(pieces, Piece::LokrW2, Piece::LokrW2A, Piece::LokrW2B),
        ) {
            use_all(&[Piece::LokrW1, Piece::LokrW1A, Piece::LokrW1B, Piece::LokrT2]);
            use_all(&[Piece::LokrW2, Piece::LokrW2A, Piece::LokrW2B]);
            // The alpha of two full factors means nothing.
            let rank = [&w2, &w1].into_iter().find_map(|factor| match factor {
                Factor::Full(_) => None,
                Factor::Product(_, right) => right.shape.first().copied(),
            });
            let core = get(Piece::LokrT2).cloned();
            let outputs = outputs_of(&w1, None).zip(outputs_of(&w2, core.as_ref()));
            let outputs = outputs.and_then(|(first, second)| first.checked_mul(second));
            check_outputs(outputs, layer.part, shape)?;
            let mut patch = new(weight.clone(), PatchKind::Lokr { w1, w2, core });
            patch.scale = scale(rank);
            patch.part = layer.part;
            main = Some(patch);
        } else if let (Some(a1), Some(a2), Some(b1), Some(b2)) = (
            get(Piece::GloraA1),
            get(Piece::GloraA2),
            get(Piece::GloraB1),
            get(Piece::GloraB2),
        ) {
            use_all(&[Piece::GloraA1, Piece::GloraA2]);
            use_all(&[Piece::GloraB1, Piece::GloraB2, Piece::GloraCore]);
            let core = get(Piece::GloraCore);
            let b = PatchKind::Lora {
                down: b2.clone(),
                up: cut(b1)?,
                mid: core.cloned(),
            };
            let rank = a2.shape.first().copied().unwrap_or(0);
            let inputs = shape.get(1).copied().unwrap_or(0);
            let makes = |view: &TensorView, sizes: [usize; 2]| {
                view.shape.get(..2) == Some(&sizes) && view.elements() == sizes[0] * sizes[1]
            };
            let is_grown = check_lora(&b, shape)?.is_some();
            if is_grown || !makes(a1, [inputs, rank]) || !makes(a2, [rank, inputs]) {
                return Err(format!(
                    "its factors {:?} and {:?} do not turn the layer's {shape:?}",
                    a1.shape, a2.shape
                ));
            }
            let kind = PatchKind::Glora {
                a1: a1.clone(),
                a2: a2.clone(),
                b1: cut(b1)?,
                b2: b2.clone(),
                core: core.cloned(),
            };
            let mut patch = new(weight.clone(), kind);
            patch.scale = scale(Some(rank));
            main = Some(patch);
        } else if let Some(blocks) = get(Piece::OftBlocks) {
            use_all(&[Piece::OftBlocks, Piece::Rescale]);
            let kind = bind_rotation(blocks, get(Piece::Rescale), layer.part, shape, alpha)?;
            main = Some(new(weight.clone(), kind));
        } else if let Some(factors) = get(Piece::Ia3) {
            use_all(&[Piece::Ia3, Piece::OnInput]);
            let mut flat = factors.clone();
            flat.shape = vec![factors.elements()];
            if !on_input {
                flat = flat.select(layer.part).ok_or_else(|| {
                    format!("its {} factors cannot be divided", factors.elements())
                })?;
            }
            let expected = shape.get(usize::from(on_input)).copied();
            if shape.len() < 2 || Some(flat.elements()) != expected {
                return Err(format!(
                    "its {} factors are not those of the layer's {shape:?}",
                    flat.elements()
                ));
            }
            let kind = PatchKind::Ia3 {
                factors: flat,
                of_columns: on_input,
            };
            main = Some(new(weight.clone(), kind));
        }
        if let Some(patch) = &mut main {
            if let Some(dora) = get(Piece::DoraScale) {
                use_all(&[Piece::DoraScale]);
                // One length for each row is cut like the rows; one for each column holds for all.
                let is_by_row = dora.shape.first() != Some(&1) || dora.shape.len() < 2;
                patch.dora_scale = Some(if is_by_row { cut(dora)? } else { dora.clone() });
            } else if let Some(magnitude) = get(Piece::Magnitude) {
                use_all(&[Piece::Magnitude]);
                // A convolution's lie along the second dimension.
                let mut lengths = magnitude.clone();
                lengths.shape = vec![magnitude.elements()];
                patch.dora_scale = Some(cut(&lengths)?);
            }
        }
        let factor_scale = main.as_ref().map_or(1.0, |patch| patch.scale);
        patches.extend(main);
        for (piece, tensor) in [
            (Piece::Diff, &weight),
            (Piece::NormWeight, &weight),
            (Piece::DiffBias, &format!("{}.bias", layer.module)),
            (Piece::NormBias, &format!("{}.bias", layer.module)),
            (Piece::UpBias, &format!("{}.bias", layer.module)),
        ] {
            let Some(view) = get(piece) else {
                continue;
            };
            if let Some(shape) = targets.shape(layer.component, tensor) {
                use_all(&[piece]);
                let view = cut(view)?;
                check_same(&view, shape)?;
                let mut patch = new(tensor.clone(), PatchKind::Diff(view));
                if piece == Piece::UpBias {
                    // It is added before the product is scaled.
                    patch.scale = factor_scale;
                }
                patches.push(patch);
            }
        }
        if let Some(view) = get(Piece::Set) {
            use_all(&[Piece::Set]);
            let view = cut(view)?;
            check_same(&view, shape)?;
            patches.push(new(weight.clone(), PatchKind::Set(view)));
        }
    }
    let is_left = |piece: &Piece| !used.contains(piece) || patches.is_empty();
    let left = pieces
        .iter()
        .filter(|(piece, _)| is_left(piece))
        .map(|(piece, (name, _))| {
            let reason = match piece {
                Piece::Foreign(kind) => format!("it is {kind}, which is not applied"),
                _ => "it is of a kind that is not applied, or its other half is missing".to_owned(),
            };
            ((*name).to_owned(), reason)
        })
        .collect();
    Ok(Bound { patches, left })
}

fn factor(pieces: &Pieces, full: Piece, left: Piece, right: Piece) -> Option<Factor> {
    let get = |piece: Piece| pieces.get(&piece).map(|(_, view)| (*view).clone());
    match get(full) {
        Some(view) => Some(Factor::Full(view)),
        None => Some(Factor::Product(get(left)?, get(right)?)),
    }
}

/// Rows of a factor. With a core, the left part of the product lies turned.
fn outputs_of(factor: &Factor, core: Option<&TensorView>) -> Option<usize> {
    match factor {
        Factor::Full(view) => view.shape.first().copied(),
        Factor::Product(left, _) => left.shape.get(usize::from(core.is_some())).copied(),
    }
}

/// Rows that a block of a rotation turns at most. Published ones have up to a thousand.
const LARGEST_BLOCK: usize = 2048;

/// OFT (three dimensions) or BOFT (four) of a layer. A part of a fused layer has its own blocks of the
/// former; stages of the latter mix all rows.
fn bind_rotation(
    blocks: &TensorView,
    rescale: Option<&TensorView>,
    part: Part,
    shape: &[usize],
    constraint: Option<f64>,
) -> Result<PatchKind, String> {
    let wrong = || {
        format!(
            "its blocks {:?} do not turn the layer's {} rows",
            blocks.shape,
            shape.first().copied().unwrap_or(0)
        )
    };
    let rows = shape.first().copied().ok_or_else(wrong)?;
    let constraint = constraint.unwrap_or(0.0);
    let is_whole = part == Part::Whole;
    // The lengths of all blocks count together, and those of the other parts are not here.
    if !is_whole && constraint > 0.0 {
        return Err("it is bounded as a whole, and this layer is a part of it".to_owned());
    }
    let own = match blocks.shape.len() {
        3 => blocks.select(part).ok_or_else(wrong)?,
        _ if is_whole => blocks.clone(),
        _ => return Err("its stages turn all rows of a fused layer together".to_owned()),
    };
    let rescale = match rescale {
        Some(view) => {
            let mut flat = view.clone();
            flat.shape = vec![view.elements()];
            let own = flat.select(part).filter(|own| own.elements() == rows);
            Some(own.ok_or_else(wrong)?)
        }
        None => None,
    };
    // Every block is solved for, which takes the cube of its size.
    let size = own.shape.last().copied().unwrap_or(0);
    if size > LARGEST_BLOCK {
        return Err(format!(
            "its blocks turn {size} rows at once, more than {LARGEST_BLOCK}"
        ));
    }
    let most = constraint * rows as f64;
    match own.shape[..] {
        [count, size, other] if size == other && count.checked_mul(size) == Some(rows) => {
            Ok(PatchKind::Oft {
                blocks: own,
                most,
                rescale,
            })
        }
        [stages, count, size, other] => {
            // Stage i mixes rows within runs of 2ⁱ blocks, which must be whole.
            let run = u32::try_from(stages).ok().and_then(|stages| {
                let last = 1usize.checked_shl(stages.checked_sub(1)?)?;
                last.checked_mul(size)
            });
            let fits = size == other
                && size.is_multiple_of(2)
                && count.checked_mul(size) == Some(rows)
                && run.is_some_and(|run| run > 0 && rows.is_multiple_of(run));
            match fits {
                true => Ok(PatchKind::Boft {
                    blocks: own,
                    most,
                    rescale,
                }),
                false => Err(wrong()),
            }
        }
        _ => Err(wrong()),
    }
}

/// Whether down and up fit a weight; columns beyond the weight's when it grows.
fn check_lora(kind: &PatchKind, shape: &[usize]) -> Result<Option<usize>, String> {
    let PatchKind::Lora { down, up, mid } = kind else {
        return Ok(None);
    };
    let inner = |view: &TensorView| {
        view.shape
            .get(1..)
            .unwrap_or_default()
            .iter()
            .product::<usize>()
    };
    let rows = shape.first().copied().unwrap_or(0);
    let columns = shape.get(1..).unwrap_or_default().iter().product::<usize>();
    let wrong = || {
        format!(
            "its factors {:?} and {:?} do not make up the layer's {shape:?}",
            up.shape, down.shape
        )
    };
    let rank = down.shape.first().copied().unwrap_or(0);
    if up.shape.first() != Some(&rows) || rank == 0 || shape.len() < 2 {
        return Err(wrong());
    }
    match mid {
        None if inner(up) == rank && inner(down) == columns => Ok(None),
        // Control adapters come with a wider first layer, as many times as wide.
        None if inner(up) == rank
            && shape.len() == 2
            && inner(down) > columns
            && inner(down).is_multiple_of(columns.max(1)) =>
        {
            Ok(Some(inner(down)))
        }
        Some(mid) if mid.shape.get(2..) == shape.get(2..) && down.shape.get(1) == shape.get(1) => {
            Ok(None)
        }
        _ => Err(wrong()),
    }
}

fn check_outputs(outputs: Option<usize>, part: Part, shape: &[usize]) -> Result<(), String> {
    let rows = shape.first().copied().unwrap_or(0);
    let expected = match part {
        Part::Rows { len, of, .. } if len > 0 => rows / len * of,
        _ => rows,
    };
    match outputs {
        Some(outputs) if outputs == expected => Ok(()),
        _ => Err(format!(
            "its factors make {outputs:?} rows, the layer {expected}"
        )),
    }
}

fn check_same(view: &TensorView, shape: &[usize]) -> Result<(), String> {
    // 1×1 convolutions and linear layers are the same numbers.
    if view.elements() == shape.iter().product::<usize>() {
        return Ok(());
    }
    Err(format!(
        "its shape {:?} is not the layer's {shape:?}",
        view.shape
    ))
}
