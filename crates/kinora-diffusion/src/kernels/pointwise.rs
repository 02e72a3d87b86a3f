//! `pointwise.cu`: activations, gates and sums.

use candle_core::{D, DType, Shape, Tensor};

use super::{
    Argument, Call, Launch, applies, blocks, chunk_len, columns, row_stride, suffix, threads_for,
};
use crate::{
    Result,
    layers::{Activation, norm::After},
};

/// Threads of a block at most.
const THREADS: usize = 256;
/// Blocks of a kernel whose threads go on from chunk to chunk.
const MOST_BLOCKS: usize = 16 * 1024;

/// The number of a function, as in `chunks.cuh`.
pub(crate) fn number_of(activation: Activation) -> i32 {
    match activation {
        Activation::Silu => 1,
        Activation::GeluTanh => 2,
        Activation::GeluErf => 3,
        Activation::QuickGelu => 4,
        Activation::Relu => 5,
    }
}

/// The number of what follows a norm.
pub(crate) fn number_after(after: After) -> i32 {
    match after {
        After::Nothing => 0,
        After::Silu => number_of(Activation::Silu),
    }
}

/// One launch with a block for each row.
fn run_rows(
    entry: String,
    rows: usize,
    size: usize,
    output: (DType, Shape),
    arguments: Vec<Argument>,
) -> Result<Option<Tensor>> {
    let call = Call {
        source: "pointwise",
        launches: vec![Launch {
            entry,
            grid: blocks(rows)?,
            block: [threads_for(size, output.0, 1, THREADS), 1, 1],
            shared_bytes: 0,
            arguments,
        }],
        outputs: vec![output],
    };
    Ok(Some(call.run_for_one()?))
}

/// The function of every number.
pub(crate) fn activate(activation: Activation, x: &Tensor) -> Result<Option<Tensor>> {
    let (Some(suffix), count) = (suffix(x.dtype()), x.elem_count()) else {
        return Ok(None);
    };
    if !applies(&[x]) || count == 0 {
        return Ok(None);
    }
    let x = x.contiguous()?;
    let call = Call {
        source: "pointwise",
        outputs: vec![(x.dtype(), x.shape().clone())],
        launches: vec![Launch {
            entry: format!("activate_{suffix}"),
            grid: blocks(
                count
                    .div_ceil(THREADS * chunk_len(x.dtype()))
                    .min(MOST_BLOCKS),
            )?,
            block: [threads_for(count, x.dtype(), 1, THREADS), 1, 1],
            shared_bytes: 0,
            arguments: vec![
                Argument::In(&x),
                Argument::Out(0),
                Argument::long(count),
                Argument::Int(number_of(activation)),
            ],
        }],
    };
    Ok(Some(call.run_for_one()?))
}

/// `activation(gate) · value`; rows may lie apart.
pub(crate) fn gate_rows(
    activation: Activation,
    gate: &Tensor,
    value: &Tensor,
) -> Result<Option<Tensor>> {
    let (Some(suffix), Ok(size)) = (suffix(gate.dtype()), gate.dim(D::Minus1)) else {
        return Ok(None);
    };
    if !applies(&[gate, value])
        || gate.dtype() != value.dtype()
        || gate.dims() != value.dims()
        || gate.elem_count() == 0
    {
        return Ok(None);
    }
    let lay = |t: &Tensor| match row_stride(t) {
        Some(stride) => Ok((t.clone(), stride)),
        None => Ok::<_, candle_core::Error>((t.contiguous()?, size)),
    };
    let ((gate, gate_stride), (value, value_stride)) = (lay(gate)?, lay(value)?);
    run_rows(
        format!("gate_rows_{suffix}"),
        gate.elem_count() / size,
        size,
        (gate.dtype(), gate.shape().clone()),
        vec![
            Argument::In(&gate),
            Argument::In(&value),
            Argument::Out(0),
            Argument::size(size)?,
            Argument::long(gate_stride),
            Argument::long(value_stride),
            Argument::Int(number_of(activation)),
        ],
    )
}

/// `x + gate · y`; x, y: (batch, tokens, size), gate: (batch, size).
pub(crate) fn add_gated(x: &Tensor, gate: &Tensor, y: &Tensor) -> Result<Option<Tensor>> {
    let (Some(suffix_of_x), Ok((batch, tokens, size))) = (suffix(x.dtype()), x.dims3()) else {
        return Ok(None);
    };
    if !applies(&[x, gate, y])
        || y.dtype() != x.dtype()
        || y.dims() != x.dims()
        || gate.dims() != [batch, size]
        || x.elem_count() == 0
    {
        return Ok(None);
    }
    let (x, y, gate) = (x.contiguous()?, y.contiguous()?, columns(gate, x.dtype())?);
    let Some(suffix_of_gate) = suffix(gate.dtype()) else {
        return Ok(None);
    };
    run_rows(
        format!("add_gated_{suffix_of_x}_{suffix_of_gate}"),
        batch * tokens,
        size,
        (x.dtype(), x.shape().clone()),
        vec![
            Argument::In(&x),
            Argument::In(&y),
            Argument::In(&gate),
            Argument::Out(0),
            Argument::size(size)?,
            Argument::size(tokens)?,
        ],
    )
}

/// `x · (1 + scale) + shift`; x: (batch, tokens, size), shift, scale: (batch, size).
pub(crate) fn modulate(x: &Tensor, shift: &Tensor, scale: &Tensor) -> Result<Option<Tensor>> {
    let (Some(suffix_of_x), Ok((batch, tokens, size))) = (suffix(x.dtype()), x.dims3()) else {
        return Ok(None);
    };
    if !applies(&[x, shift, scale])
        || shift.dims() != [batch, size]
        || scale.dims() != [batch, size]
        || x.elem_count() == 0
    {
        return Ok(None);
    }
    let is_alike = shift.dtype() == x.dtype() && scale.dtype() == x.dtype();
    let of = if is_alike { x.dtype() } else { DType::F32 };
    let (x, shift, scale) = (x.contiguous()?, columns(shift, of)?, columns(scale, of)?);
    let Some(suffix_of_columns) = suffix(of) else {
        return Ok(None);
    };
    run_rows(
        format!("modulate_{suffix_of_x}_{suffix_of_columns}"),
        batch * tokens,
        size,
        (x.dtype(), x.shape().clone()),
        vec![
            Argument::In(&x),
            Argument::In(&shift),
            Argument::In(&scale),
            Argument::Out(0),
            Argument::size(size)?,
            Argument::size(tokens)?,
        ],
    )
}

/// `x + bias + residual`: bias of (size), the residual of x's shape.
pub(crate) fn add_bias(
    x: &Tensor,
    bias: Option<&Tensor>,
    residual: Option<&Tensor>,
) -> Result<Option<Tensor>> {
    let (Some(suffix_of_x), Ok(size)) = (suffix(x.dtype()), x.dim(D::Minus1)) else {
        return Ok(None);
    };
    let all: Vec<&Tensor> = [x].into_iter().chain(bias).chain(residual).collect();
    if !applies(&all)
        || x.elem_count() == 0
        || bias.is_some_and(|bias| bias.dims() != [size])
        || residual.is_some_and(|y| y.dims() != x.dims() || y.dtype() != x.dtype())
    {
        return Ok(None);
    }
    if bias.is_none() && residual.is_none() {
        return Ok(Some(x.clone()));
    }
    let x = x.contiguous()?;
    let bias = bias.map(|bias| columns(bias, x.dtype())).transpose()?;
    let residual = residual.map(Tensor::contiguous).transpose()?;
    let of = bias.as_ref().map_or(DType::F32, Tensor::dtype);
    let Some(suffix_of_bias) = suffix(of) else {
        return Ok(None);
    };
    run_rows(
        format!("add_bias_{suffix_of_x}_{suffix_of_bias}"),
        x.elem_count() / size,
        size,
        (x.dtype(), x.shape().clone()),
        vec![
            Argument::In(&x),
            // What is not there is not read.
            Argument::In(bias.as_ref().unwrap_or(&x)),
            Argument::In(residual.as_ref().unwrap_or(&x)),
            Argument::Out(0),
            Argument::size(size)?,
            Argument::flag(bias.is_some()),
            Argument::flag(residual.is_some()),
        ],
    )
}

/// `[left, activation(right)]` along the last of three dimensions; `right` may be columns of wider
/// rows.
pub(crate) fn join_activated(
    activation: Activation,
    left: &Tensor,
    right: &Tensor,
) -> Result<Option<Tensor>> {
    let (Some(suffix), Ok((batch, tokens, left_size))) = (suffix(left.dtype()), left.dims3())
    else {
        return Ok(None);
    };
    let right_size = right.dim(D::Minus1)?;
    if !applies(&[left, right])
        || right.dtype() != left.dtype()
        || right.dims() != [batch, tokens, right_size]
        || right.stride()[2] != 1
        || batch * tokens * left_size * right_size == 0
    {
        return Ok(None);
    }
    let left = left.contiguous()?;
    run_rows(
        format!("join_activated_{suffix}"),
        batch * tokens,
        left_size.max(right_size),
        (
            left.dtype(),
            Shape::from((batch, tokens, left_size + right_size)),
        ),
        vec![
            Argument::In(&left),
            Argument::In(right),
            Argument::Out(0),
            Argument::size(left_size)?,
            Argument::size(right_size)?,
            Argument::size(tokens)?,
            Argument::long(right.stride()[0]),
            Argument::long(right.stride()[1]),
            Argument::Int(number_of(activation)),
        ],
    )
}

/// (batch, channels, height, width) → (batch, channels, 2·height, 2·width)
pub(crate) fn enlarge_nearest(x: &Tensor) -> Result<Option<Tensor>> {
    let (batch, channels, height, width) = x.dims4()?;
    let Some(suffix) = suffix(x.dtype()) else {
        return Ok(None);
    };
    if !applies(&[x]) || x.elem_count() == 0 {
        return Ok(None);
    }
    let x = x.contiguous()?;
    run_rows(
        format!("enlarge_nearest_{suffix}"),
        batch * channels * height,
        width * chunk_len(x.dtype()),
        (
            x.dtype(),
            Shape::from((batch, channels, 2 * height, 2 * width)),
        ),
        vec![Argument::In(&x), Argument::Out(0), Argument::size(width)?],
    )
}
