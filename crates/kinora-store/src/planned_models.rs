//! The models of plans, each stored once: a hundred thousand jobs of one model share its list of
//! weight files. Templates and assets keep their plans with a blank in the model's place.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use kinora_core::{Family, ModelId, Plan, PlannedModel};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::{Result, codec};

pub(crate) const V1: &str = "
CREATE TABLE planned_models (
    id INTEGER PRIMARY KEY,
    json TEXT NOT NULL UNIQUE
) STRICT;
";

/// The row of `model`, which is made when it is new.
pub(crate) fn intern(tx: &Transaction<'_>, model: &PlannedModel) -> Result<i64> {
    let json = codec::to_json(model)?;
    let known = tx
        .prepare_cached("SELECT id FROM planned_models WHERE json = ?1")?
        .query_row([&json], |row| row.get(0))
        .optional()?;
    match known {
        Some(id) => Ok(id),
        None => {
            tx.prepare_cached("INSERT INTO planned_models (json) VALUES (?1)")?
                .execute(params![json])?;
            Ok(tx.last_insert_rowid())
        }
    }
}

/// Takes the model out of a plan; the rest is what is stored.
pub(crate) fn take(plan: &mut Plan) -> PlannedModel {
    let blank = PlannedModel {
        components: Default::default(),
        parts: Default::default(),
        id: ModelId::new(""),
        name: String::new(),
        family: Family::Flux,
        variant: String::new(),
        root: PathBuf::new(),
        weights: Vec::new(),
    };
    std::mem::replace(&mut plan.model, blank)
}

/// Models that one query has met, so that a page of jobs reads each once.
#[derive(Default)]
pub(crate) struct Models(HashMap<i64, Arc<PlannedModel>>);

impl Models {
    pub(crate) fn get(&mut self, db: &Connection, id: i64) -> Result<PlannedModel> {
        if let Some(model) = self.0.get(&id) {
            return Ok(PlannedModel::clone(model));
        }
        let model: PlannedModel = db
            .prepare_cached("SELECT json FROM planned_models WHERE id = ?1")?
            .query_row([id], |row| codec::json(row, "json"))?;
        self.0.insert(id, Arc::new(model.clone()));
        Ok(model)
    }
}
