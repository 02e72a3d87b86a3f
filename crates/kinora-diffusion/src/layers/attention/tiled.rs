//! Attention on the processor: a run of queries meets the keys block by block; running maxima and
//! sums are rescaled as blocks come in (Milakov and Gimelshein, "Online normalizer calculation for
//! softmax"). Never more than a tile of scores per core.

use candle_core::Tensor;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{Backend, Call};
use crate::{
    Result,
    layers::{
        cpu::{is_cpu_f32, strided_f32s, tensor},
        math,
        product::{Line, Numbers, PANEL, ROWS, Sums, add_product},
        simd,
    },
};

/// Queries of a tile, and keys that it meets at a time: scores, keys and values of that many stay in
/// the second-level cache.
const QUERIES: usize = 8 * ROWS;
const KEYS: usize = 8 * PANEL;
/// Multiplications below which one core is faster than several.
const SERIAL_WORK: usize = 1 << 19;

/// For f32 on the processor.
pub(super) struct Tiled;

impl Backend for Tiled {
    fn takes(&self, call: &Call) -> bool {
        [call.q, call.k, call.v]
            .iter()
            .all(|tensor| is_cpu_f32(tensor) && tensor.stride()[3] == 1)
    }

    fn attend(&self, call: &Call) -> Result<Tensor> {
        attend(call)
    }
}

/// A borrowed (batch, tokens, heads, size) tensor with its strides.
struct Strided<'a> {
    data: &'a [f32],
    strides: [usize; 4],
}

impl<'a> Strided<'a> {
    fn new(data: &'a [f32], tensor: &Tensor) -> Self {
        let mut strides = [0; 4];
        strides.copy_from_slice(tensor.stride());
        Self { data, strides }
    }

    /// The tokens of one head from `first` on.
    fn tokens(&self, b: usize, h: usize, first: usize) -> Numbers<'a> {
        let start = b * self.strides[0] + first * self.strides[1] + h * self.strides[2];
        Numbers {
            data: &self.data[start..],
            stride: self.strides[1],
        }
    }
}

/// The bias with a stride of 0 along dimensions that are repeated.
struct Bias<'a>(Strided<'a>);

impl Bias<'_> {
    fn row(&self, b: usize, h: usize, query: usize, first_key: usize, keys: usize) -> &[f32] {
        let s = self.0.strides;
        let start = b * s[0] + h * s[1] + query * s[2] + first_key;
        &self.0.data[start..][..keys]
    }
}

fn attend(call: &Call) -> Result<Tensor> {
    let Call {
        q,
        k,
        v,
        scale,
        bias,
        is_causal,
    } = *call;
    let (batch, queries, heads, size) = q.dims4()?;
    let (_, keys, _, value_size) = v.dims4()?;
    let mut out = vec![0f32; batch * queries * heads * value_size];
    if out.is_empty() || keys == 0 {
        return tensor(out, (batch, queries, heads, value_size));
    }
    let (q_data, k_data, v_data) = (strided_f32s(q)?, strided_f32s(k)?, strided_f32s(v)?);
    let (q, k, v) = (
        Strided::new(&q_data, q),
        Strided::new(&k_data, k),
        Strided::new(&v_data, v),
    );
    let bias_tensor = bias.map(Tensor::contiguous).transpose()?;
    let bias_data = bias_tensor.as_ref().map(strided_f32s).transpose()?;
    let bias = bias_tensor
        .as_ref()
        .zip(bias_data.as_ref())
        .map(|(tensor, data)| {
            let mut strided = Strided::new(data, tensor);
            for (stride, &len) in strided.strides.iter_mut().zip(tensor.dims()) {
                if len == 1 {
                    *stride = 0;
                }
            }
            Bias(strided)
        });
    let is_serial = rayon::current_num_threads() == 1
        || batch * heads * queries * keys * (size + value_size) < SERIAL_WORK;
    // Every head's keys and values as lines, once for all queries.
    let (key_lines, value_lines) = (
        keys.div_ceil(PANEL) * size,
        value_size.div_ceil(PANEL) * keys,
    );
    let mut packed_keys = vec![Line::ZERO; batch * heads * key_lines];
    let mut packed_values = vec![Line::ZERO; batch * heads * value_lines];
    let pack = |(i, (key_lines, value_lines)): (usize, (&mut [Line], &mut [Line]))| {
        let (b, h) = (i / heads, i % heads);
        pack_keys(k.tokens(b, h, 0), keys, size, key_lines);
        pack_values(v.tokens(b, h, 0), keys, value_size, value_lines);
    };
    if is_serial {
        packed_keys
            .chunks_exact_mut(key_lines)
            .zip(packed_values.chunks_exact_mut(value_lines))
            .enumerate()
            .for_each(pack);
    } else {
        packed_keys
            .par_chunks_exact_mut(key_lines)
            .zip(packed_values.par_chunks_exact_mut(value_lines))
            .enumerate()
            .for_each(pack);
    }
    let problem = Problem {
        q,
        packed_keys: &packed_keys,
        packed_values: &packed_values,
        bias,
        scale,
        is_causal,
        keys,
        size,
        value_size,
        heads,
    };
    // Always the same tiles, so that a result does not depend on the batch or the cores. Tiles of
    // one head follow each other: its keys and values are still in cache.
    let tiles = queries.div_ceil(QUERIES);
    let mut tasks: Vec<Task> = (0..batch * heads * tiles)
        .map(|i| Task {
            b: i / tiles / heads,
            h: i / tiles % heads,
            first: i % tiles * QUERIES,
            rows: Vec::with_capacity(QUERIES),
        })
        .collect();
    for (i, row) in out.chunks_exact_mut(value_size).enumerate() {
        let (token, h) = (i / heads, i % heads);
        let (b, query) = (token / queries, token % queries);
        tasks[(b * heads + h) * tiles + query / QUERIES]
            .rows
            .push(row);
    }
    let run = |task: &mut Task| {
        simd::run(Tile {
            problem: &problem,
            task,
        });
    };
    if is_serial {
        tasks.iter_mut().for_each(run);
    } else {
        tasks.par_iter_mut().with_max_len(1).for_each(run);
    }
    tensor(out, (batch, queries, heads, value_size))
}

/// `[panel of keys][element]`, the elements of a panel's keys beside each other.
fn pack_keys(k: Numbers, keys: usize, size: usize, lines: &mut [Line]) {
    for key in 0..keys {
        let panel = &mut lines[key / PANEL * size..][..size];
        for (line, value) in panel.iter_mut().zip(k.row(key, 0, size)) {
            line.0[key % PANEL] = *value;
        }
    }
}

/// `[panel of elements][key]`
fn pack_values(v: Numbers, keys: usize, size: usize, lines: &mut [Line]) {
    for key in 0..keys {
        for (panel, values) in v.row(key, 0, size).chunks(PANEL).enumerate() {
            lines[panel * keys + key].0[..values.len()].copy_from_slice(values);
        }
    }
}

struct Problem<'a> {
    q: Strided<'a>,
    packed_keys: &'a [Line],
    packed_values: &'a [Line],
    bias: Option<Bias<'a>>,
    scale: f32,
    is_causal: bool,
    keys: usize,
    size: usize,
    value_size: usize,
    heads: usize,
}

/// Some queries of one head.
struct Task<'a> {
    b: usize,
    h: usize,
    first: usize,
    /// Their results.
    rows: Vec<&'a mut [f32]>,
}

struct Tile<'a, 'b> {
    problem: &'a Problem<'a>,
    task: &'a mut Task<'b>,
}

impl WithSimd for Tile<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Problem {
            q,
            packed_keys,
            packed_values,
            bias,
            scale,
            is_causal,
            keys: all_keys,
            size,
            value_size,
            heads,
        } = self.problem;
        let (all_keys, size, value_size) = (*all_keys, *size, *value_size);
        let Task { b, h, first, rows } = self.task;
        let (b, h, first, count) = (*b, *h, *first, rows.len());
        let head = b * heads + h;
        let key_lines = all_keys.div_ceil(PANEL) * size;
        let packed_keys = &packed_keys[head * key_lines..][..key_lines];
        let value_lines = value_size.div_ceil(PANEL) * all_keys;
        let packed_values = &packed_values[head * value_lines..][..value_lines];
        let q = q.tokens(b, h, first);
        let mut scores = vec![0f32; count * KEYS.min(all_keys)];
        let mut maxima = [f32::NEG_INFINITY; QUERIES];
        let mut totals = [0f32; QUERIES];
        // A causal run needs no keys beyond its last query.
        let visible = if *is_causal {
            all_keys.min(first + count)
        } else {
            all_keys
        };
        for first_key in (0..visible).step_by(KEYS) {
            let keys = KEYS.min(visible - first_key);
            let scores = &mut scores[..count * keys];
            for column in (0..keys).step_by(PANEL) {
                let width = PANEL.min(keys - column);
                let panel = &packed_keys[(first_key + column) / PANEL * size..][..size];
                for (tile, scores) in scores.chunks_mut(ROWS * keys).enumerate() {
                    let mut sums: Sums = [[0f32; PANEL]; ROWS];
                    let tile = (tile * ROWS, scores.len() / keys);
                    add_product(simd, q, tile, 0, panel, width, &mut sums);
                    for (row, sums) in scores.chunks_exact_mut(keys).zip(&sums) {
                        for (score, sum) in row[column..column + width].iter_mut().zip(sums) {
                            *score = sum * scale;
                        }
                    }
                }
            }
            for (i, row) in scores.chunks_exact_mut(keys).enumerate() {
                if let Some(bias) = bias {
                    let bias = bias.row(b, h, first + i, first_key, keys);
                    for (score, bias) in row.iter_mut().zip(bias) {
                        *score += bias;
                    }
                }
                if *is_causal {
                    let seen = (first + i + 1).saturating_sub(first_key).min(keys);
                    row[seen..].fill(f32::NEG_INFINITY);
                }
                let rescale = add_block(row, &mut maxima[i], &mut totals[i]);
                if first_key > 0 && rescale != 1.0 {
                    scale_row(rows[i], rescale);
                }
            }
            let scores = Numbers {
                data: scores,
                stride: keys,
            };
            for column in (0..value_size).step_by(PANEL) {
                let width = PANEL.min(value_size - column);
                let panel = &packed_values[column / PANEL * all_keys + first_key..][..keys];
                for (tile, rows) in rows.chunks_mut(ROWS).enumerate() {
                    let mut sums: Sums = [[0f32; PANEL]; ROWS];
                    let tile = (tile * ROWS, rows.len());
                    add_product(simd, scores, tile, 0, panel, width, &mut sums);
                    for (row, sums) in rows.iter_mut().zip(&sums) {
                        for (out, sum) in row[column..column + width].iter_mut().zip(sums) {
                            *out += sum;
                        }
                    }
                }
            }
        }
        for (row, total) in rows.iter_mut().zip(totals) {
            // A query that sees nothing gets zeros, not NaN.
            scale_row(row, if total == 0.0 { 0.0 } else { 1.0 / total });
        }
    }
}

/// Turns scores into exponentials against the running maximum and adds them to the running sum;
/// the result is the factor that earlier sums and values now need.
#[inline(always)]
fn add_block(row: &mut [f32], maximum: &mut f32, sum: &mut f32) -> f32 {
    let block = math::max(row);
    let new = if block > *maximum { block } else { *maximum };
    if new == f32::NEG_INFINITY {
        row.fill(0.0);
        return 1.0;
    }
    for score in row.iter_mut() {
        // exp() stops at e⁻⁸⁷, which is not nothing when everything else is masked too.
        *score = if *score == f32::NEG_INFINITY {
            0.0
        } else {
            math::exp(*score - new)
        };
    }
    let rescale = if *maximum == f32::NEG_INFINITY {
        0.0
    } else {
        math::exp(*maximum - new)
    };
    *sum = *sum * rescale + math::sum_by(row, |v| v);
    *maximum = new;
    rescale
}

#[inline(always)]
fn scale_row(row: &mut [f32], factor: f32) {
    for value in row {
        *value *= factor;
    }
}
