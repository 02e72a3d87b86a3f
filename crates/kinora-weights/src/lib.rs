//! Bytes and names of model files: safetensors and GGUF headers, layouts, configurations, key maps,
//! adapters, hashes.
//!
//! [`detect`] looks at a folder or a file and says which whole model it is ([`ModelLayout`]) from
//! headers and configuration files alone; [`identify`] says which networks one weight file holds, in
//! whichever layout. [`WeightSet`] then gives the tensors of one component under the names of this
//! crate's one key space: those of the diffusers and transformers libraries, without the
//! `text_model.` prefix of older CLIP files. Names of every other layout live only in [`maps`].
//! [`lora`] binds adapters to the tensors of a model.
//!
//! A tensor is read as stored ([`WeightSet::read_into`]) with its format ([`TensorView::dtype`]) and
//! scales ([`TensorView::scaling`]), or as plain numbers ([`WeightSet::read_f32`], [`decode`]).
//!
//! Nothing read from a file is trusted: each length, offset, type and shape is checked with checked
//! arithmetic before it is used, and nothing is allocated that the file's own size does not bound.
//!
//! Deliberately absent: tensors and arithmetic on them, memory maps (on unified memory they hold
//! everything twice), pickle.

pub mod config;
pub mod decode;
mod detect;
mod dtype;
mod error;
mod gguf;
mod glance;
mod groups;
mod hash;
mod header;
pub mod identify;
mod json;
mod layout;
pub mod lora;
pub mod ltx;
pub mod ltx2;
pub mod maps;
pub mod memory;
mod recognised;
mod redux;
mod scaling;
mod sd;
mod search;
mod set;
mod shards;
mod sniff;
mod stored;
mod view;
pub mod wan;

pub use config::{
    ClipConfig, ClipVisionConfig, ClipVisionParts, FluxConfig, GemmaConfig, LatentStats,
    Ltx2Activation, Ltx2AudioVaeConfig, Ltx2ConnectorConfig, Ltx2ConnectorsConfig, Ltx2Finish,
    Ltx2StageConfig, Ltx2VocoderConfig, Ltx2WideningConfig, LtxAudioConfig, LtxConfig,
    LtxDownLevel, LtxFold, LtxRope, LtxShrink, LtxUpLevel, LtxVaeConfig, ReduxConfig,
    SchedulerConfig, SiglipConfig, T5Config, TextActivation, TimeShift, UnetConfig, VaeConfig,
    WanConfig, WanVaeConfig,
};
pub use detect::detect;
pub use dtype::Dtype;
pub use error::{Error, Result};
pub use gguf::{GgufHeader, GgufValue};
pub use glance::{Glance, glance};
pub use groups::Groups;
pub use hash::{HashCache, hash_file};
pub use header::{Header, TensorInfo};
pub use identify::{
    Base, FilePart, Identity, NameLayout, Network, Prediction, Release, identify, identify_set,
};
pub use json::{read_file_bounded, without_infinities};
pub use layout::{
    Component, FluxKind, FluxParts, ModelLayout, Parts, ReduxParts, Tokenizer, stored_tokenizer,
};
pub use recognised::{Recognised, RunSize, recognise, recognise_with};
pub use scaling::QuantFormat;
pub use sd::{ProjectedClip, SdParts};
pub use search::{PartSources, short_name};
pub use set::WeightSet;
pub use sniff::{Container, sniff};
pub use stored::StoredTensor;
pub use view::{Part, Scaling, TensorView};
