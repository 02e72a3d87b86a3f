//! What plans have in common, each stored once: a list of a hundred thousand prompts is a hundred
//! thousand prompts, seeds and names, and a handful of templates. A template is a plan with blanks
//! for what each job brings itself; the model's list of files is stored apart once more, since
//! templates of many sizes share it.

use std::collections::HashMap;

use kinora_core::{Plan, PlannedModel, Seed};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use crate::{
    Result,
    batch_keys::{self, Shape},
    codec, planned_models,
    planned_models::Models,
};

pub(crate) const V1: &str = "
CREATE TABLE plan_templates (
    id INTEGER PRIMARY KEY,
    model INTEGER NOT NULL REFERENCES planned_models (id),
    batch_key INTEGER NOT NULL REFERENCES batch_keys (id),
    json TEXT NOT NULL,
    UNIQUE (model, json)
) STRICT;
";

/// What each job brings itself.
pub(crate) struct Own {
    pub prompt: String,
    pub negative_prompt: String,
    pub seed: Seed,
    pub stem: String,
}

impl Own {
    /// Reads the columns `prompt`, `negative_prompt`, `seed` and `stem`.
    pub fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            prompt: row.get("prompt")?,
            negative_prompt: row.get("negative_prompt")?,
            // SQLite's integers are signed; the bits are the seed's.
            seed: Seed(row.get::<_, i64>("seed")?.cast_unsigned()),
            stem: row.get("stem")?,
        })
    }

    /// Takes a plan apart: what stays in it is the template.
    fn take(plan: &mut Plan) -> Self {
        Self {
            prompt: std::mem::take(&mut plan.prompt),
            negative_prompt: std::mem::take(&mut plan.negative_prompt),
            seed: std::mem::replace(&mut plan.seed, Seed(0)),
            stem: std::mem::take(&mut plan.output.stem),
        }
    }

    /// Puts a plan together again.
    pub fn put(self, plan: &mut Plan) {
        plan.prompt = self.prompt;
        plan.negative_prompt = self.negative_prompt;
        plan.seed = self.seed;
        plan.output.stem = self.stem;
    }

    /// The seed as a column.
    pub fn seed_column(&self) -> i64 {
        self.seed.0.cast_signed()
    }
}

/// The rows that a stored plan refers to.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    pub template: i64,
    pub model: i64,
    pub batch_key: i64,
}

/// Stores templates, and remembers those that it has met.
#[derive(Default)]
pub(crate) struct Interner {
    /// The last template: in most batches, that of nearly every job.
    last: Option<(Plan, Rows)>,
    models: Vec<(PlannedModel, i64)>,
    templates: HashMap<(i64, String), Rows>,
}

impl Interner {
    /// Takes a plan apart and stores what it shares.
    pub fn intern(&mut self, tx: &Transaction<'_>, mut plan: Plan) -> Result<(Own, Rows)> {
        let own = Own::take(&mut plan);
        if let Some((last, rows)) = &self.last
            && *last == plan
        {
            return Ok((own, *rows));
        }
        let whole = plan.clone();
        let shape = Shape::from(&plan);
        let model = planned_models::take(&mut plan);
        let model = match self.models.iter().find(|(known, _)| *known == model) {
            Some((_, id)) => *id,
            None => {
                let id = planned_models::intern(tx, &model)?;
                self.models.push((model, id));
                id
            }
        };
        let key = (model, codec::to_json(&plan)?);
        let rows = match self.templates.get(&key) {
            Some(rows) => *rows,
            None => {
                let batch_key = batch_keys::intern(tx, model, &shape)?;
                let rows = Rows {
                    template: intern(tx, model, batch_key, &key.1)?,
                    model,
                    batch_key,
                };
                self.templates.insert(key, rows);
                rows
            }
        };
        self.last = Some((whole, rows));
        Ok((own, rows))
    }
}

fn intern(tx: &Transaction<'_>, model: i64, batch_key: i64, json: &str) -> Result<i64> {
    let known = tx
        .prepare_cached("SELECT id FROM plan_templates WHERE model = ?1 AND json = ?2")?
        .query_row(params![model, json], |row| row.get(0))
        .optional()?;
    match known {
        Some(id) => Ok(id),
        None => {
            tx.prepare_cached(
                "INSERT INTO plan_templates (model, batch_key, json) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![model, batch_key, json])?;
            Ok(tx.last_insert_rowid())
        }
    }
}

/// Templates that one query has met, so that a page of jobs reads each once.
#[derive(Default)]
pub(crate) struct Templates {
    models: Models,
    plans: HashMap<i64, Plan>,
}

impl Templates {
    /// The plan of a template, with blanks.
    pub fn get(&mut self, db: &Connection, id: i64) -> Result<Plan> {
        if let Some(plan) = self.plans.get(&id) {
            return Ok(plan.clone());
        }
        let (mut plan, model): (Plan, i64) = db
            .prepare_cached("SELECT json, model FROM plan_templates WHERE id = ?1")?
            .query_row([id], |row| {
                Ok((codec::json(row, "json")?, row.get("model")?))
            })?;
        plan.model = self.models.get(db, model)?;
        self.plans.insert(id, plan.clone());
        Ok(plan)
    }
}
