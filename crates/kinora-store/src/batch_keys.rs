//! What jobs must have in common to run as one batch, as one small number per combination: the
//! indexed twin of [`Plan::is_batchable_with`].

use kinora_core::{Mode, Plan, PlannedLora, Sampler, Schedule, Size, VideoPlan, plan::Start};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};

use crate::{Result, codec};

pub(crate) const V1: &str = "
CREATE TABLE batch_keys (
    id INTEGER PRIMARY KEY,
    model INTEGER NOT NULL REFERENCES planned_models (id),
    shape TEXT NOT NULL,
    UNIQUE (model, shape)
) STRICT;
";

/// Everything but the model that [`Plan::is_batchable_with`] compares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shape {
    /// Revision of the sampling code.
    pub numerics: String,
    /// Kind of work.
    pub mode: Mode,
    /// Pixels.
    pub size: Size,
    /// Denoising steps.
    pub steps: u32,
    /// Length of the prompt's encoding.
    pub text_tokens: u32,
    /// Whether distilled guidance goes in.
    pub has_guidance: bool,
    /// Whether each step calls the network twice.
    pub has_true_cfg: bool,
    /// How far steps may differ for most of an earlier one to be reused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_cache: Option<f32>,
    /// Step rule.
    pub sampler: Sampler,
    /// Spacing of the noise levels.
    pub schedule: Schedule,
    /// What of the picture that it starts from decides about the steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
    /// Adapters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loras: Vec<PlannedLora>,
    /// Length and rates of a clip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video: Option<VideoPlan>,
}

impl From<&Plan> for Shape {
    fn from(plan: &Plan) -> Self {
        Self {
            numerics: plan.numerics.clone(),
            mode: plan.mode,
            size: plan.size,
            steps: plan.steps,
            text_tokens: plan.text_tokens,
            has_guidance: plan.guidance.is_some(),
            has_true_cfg: plan.true_cfg.is_some(),
            step_cache: plan.step_cache,
            sampler: plan.sampler,
            schedule: plan.schedule,
            start: plan.start(),
            loras: plan.loras.clone(),
            video: plan.video,
        }
    }
}

/// A kind of queued work: what the time that it takes depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct Kind {
    /// Row of the model.
    pub model: i64,
    /// Catalogue entry.
    pub model_id: kinora_core::ModelId,
    /// Everything else.
    pub shape: Shape,
}

/// The row of a combination, which is made when it is new.
pub(crate) fn intern(tx: &Transaction<'_>, model: i64, shape: &Shape) -> Result<i64> {
    let shape = codec::to_json(shape)?;
    let known = tx
        .prepare_cached("SELECT id FROM batch_keys WHERE model = ?1 AND shape = ?2")?
        .query_row(params![model, shape], |row| row.get(0))
        .optional()?;
    match known {
        Some(id) => Ok(id),
        None => {
            tx.prepare_cached("INSERT INTO batch_keys (model, shape) VALUES (?1, ?2)")?
                .execute(params![model, shape])?;
            Ok(tx.last_insert_rowid())
        }
    }
}

/// What a combination stands for.
pub fn get(db: &Connection, id: i64) -> Result<Option<Kind>> {
    Ok(db
        .prepare_cached(
            "SELECT k.model, k.shape, json_extract(m.json, '$.id') AS model_id
             FROM batch_keys k JOIN planned_models m ON m.id = k.model WHERE k.id = ?1",
        )?
        .query_row([id], |row| {
            Ok(Kind {
                model: row.get("model")?,
                model_id: kinora_core::ModelId::new(row.get::<_, String>("model_id")?),
                shape: codec::json(row, "shape")?,
            })
        })
        .optional()?)
}
