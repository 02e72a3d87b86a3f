//! The operations that networks are made of, over candle tensors.
//!
//! On a processor with f32 tensors each runs a kernel of this crate: fused, on all cores, compiled
//! for each vector width and chosen at run time. On other devices and number formats each runs as
//! candle operations that give the same result within rounding; norms, softmax and rotary
//! embeddings are then computed in f32 whatever the tensors are. Tests hold the two together.
//!
//! Not here: anything that belongs to one network only.

pub mod activation;
pub mod adapt;
mod affine;
pub mod attention;
pub mod channel_norm;
pub mod conv;
mod cpu;
pub mod fractions;
mod halves;
mod launch;
pub mod linear;
mod math;
pub mod modulate;
pub mod norm;
pub mod normed_attention;
mod panel;
mod product;
pub mod rope;
mod simd;
pub mod sinusoid;
pub mod snake;
pub mod softmax;
pub mod space;
pub(crate) mod stored;
#[cfg(test)]
pub(crate) mod testing;
pub mod time;
pub mod tokens;
pub mod upsample;
pub mod weights;

pub use activation::Activation;
pub use adapt::{Adaptable, Factors, TensorChanges};
pub use attention::{Attention, attention};
pub use channel_norm::ChannelNorm;
pub use conv::{CausalConv3d, Conv1d, Conv2d, Edges, Enlarging, History, Lengthening, Padding};
pub use cpu::on_workers;
pub(crate) use cpu::{f32s, is_cpu_f32};
pub use fractions::{Precision, rope_of_shares};
pub use launch::Launch;
pub use linear::Linear;
pub use modulate::{Modulation, add_gated, concat_gelu, layer_norm_modulated, rms_norm_modulated};
pub use norm::{GroupNorm, LayerNorm, RmsNorm};
pub use normed_attention::{HeadSizes, KeysAndValues, NormedCrossAttention, NormedSelfAttention};
pub use rope::{Pairs, Rope, normalize_and_rotate};
pub use sinusoid::sinusoid;
pub use snake::Snake;
pub use softmax::softmax;
pub use space::{depth_to_space, space_to_depth};
pub use time::{TimeEmbedding, TimeModulation, distinct_times};
pub use tokens::{add_tokens, normalize_to_tokens};
pub use upsample::upsample_nearest;
pub use weights::{TensorSource, Weights};
