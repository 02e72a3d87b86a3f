//! Pictures and clips: codecs, thumbnails, contact sheets, metadata in and out of files.
//!
//! - [`write_picture`] encodes pixels and writes a file that carries its recipe.
//! - [`ClipWriter`] does the same for a clip, picture by picture; [`probe_clip`] and [`frame_at`]
//!   read clips back, [`FrameSpool`] keeps a clip's pictures until it is written.
//! - [`read_metadata`] says how a file of Kinora's, or of another program's, was made.
//! - [`decode`], [`thumbnail`] and [`ContactSheet`] make pictures out of pictures.
//! - [`strip_metadata`] takes the settings out of a file without touching a pixel.
//!
//! Files are hostile: sizes are checked before memory is taken, and nothing here panics on bytes.
//!
//! Deliberately absent: models, queues, databases, where files lie and what they are called.

mod container;
mod decode;
mod encode;
mod error;
mod font;
mod metadata;
mod sheet;
mod thumbnail;
mod video;
mod write;

pub use container::{Probe, detect_format, probe, strip_metadata};
pub use decode::{MAX_PIXELS, Picture, decode};
pub use encode::{encode, encode_jpeg};
pub use error::{Error, Result};
pub use metadata::{
    Infotext, LoraHint, Metadata, ModelHint, Source, Text, parse_infotext, read_clip_metadata,
    read_metadata, read_settings_text, read_texts, write_infotext,
};
pub use sheet::{ContactSheet, SheetStyle};
pub use thumbnail::{THUMBNAIL_SIZES, clip_thumbnail, thumbnail};
pub use video::{
    CLIP_QUALITY, ClipProbe, ClipSpec, ClipWriter, FrameSpool, MAX_FRAMES, SoundSpec, detect_clip,
    encode_animation, frame_at, poster, probe_clip, visit_frames,
};
pub use write::write_picture;
