//! The vocabulary of Kinora: what every other crate speaks, and nothing that does anything.
//!
//! A [`Request`] is what a user asked for; resolved once, it becomes a [`Plan`]; queued, a [`Job`];
//! run by a [`Backend`], it yields [`Artifact`]s, which are stored as [`Asset`]s. [`Event`]s tell
//! every host what changed. [`engine`] holds the messages between the application and its GPU
//! process.
//!
//! Deliberately absent: IO, runtimes, databases, tensors, window toolkits.

pub mod asset;
pub mod backend;
pub mod capabilities;
pub mod clip;
pub mod draft;
pub mod engine;
pub mod event;
pub mod failure;
pub mod family;
pub mod id;
pub mod job;
pub mod model;
pub mod picture;
pub mod plan;
pub mod problem;
pub mod progress;
pub mod recipe;
pub mod request;
pub mod sampler;
pub mod seed;
pub mod session;
pub mod time;
pub mod video;

pub use asset::{Artifact, Asset, AssetKind, FileFormat, ImageFormat};
pub use backend::{Backend, BoxFuture, Outcome, Watch, Work};
pub use capabilities::{
    Capabilities, ContextRule, FloatRange, IntRange, Mode, SizePreset, SizeRule, VideoRule,
};
pub use clip::{ClipFormat, ClipInfo, FrameRate};
pub use draft::{DraftOf, ParentRole, Relative};
pub use event::Event;
pub use failure::{Failure, Fix, MemorySample};
pub use family::Family;
pub use id::{AssetId, BatchId, JobId, LaneId, ModelId, SessionId};
pub use job::{Job, JobState, Priority, QueueStatus, StateCounts, WaitReason};
pub use model::{Model, ModelDefaults, ModelSource};
pub use picture::{Digest, PictureRef, PlannedImage, PlannedPicture, PlannedSource};
pub use plan::{OutputPlan, Plan, PlannedLora, PlannedModel, PromptTemplate, Size, WeightFile};
pub use problem::{Code, Problem, Problems};
pub use progress::{Progress, Stage, StagePart, Timings};
pub use recipe::Recipe;
pub use request::{Expansion, ImageRequest, LoraRequest, Request};
pub use sampler::{Sampler, Schedule};
pub use seed::{Rng, Seed};
pub use session::{Batch, BatchKind, Session, SessionKind};
pub use time::Timestamp;
pub use video::{Expert, VideoOptions, VideoPlan, count_windows};
