//! How a file was made, completely: enough to make the same bytes again on the same build, or to
//! say which part differs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Plan, Timestamp, Timings};

/// The version of the recipe's format; it only grows.
pub const RECIPE_VERSION: u32 = 1;

/// What a picture carries inside, as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Recipe {
    /// [`RECIPE_VERSION`] of the program that wrote it.
    pub recipe: u32,
    /// Version of Kinora that made the picture.
    pub kinora: String,
    /// The plan, without paths of the machine, with the SHA-256 of every weight file.
    pub plan: Plan,
    /// What computed it: `cpu`, or the GPU's name.
    pub device: String,
    /// Number format of the network's arithmetic: `f32`, `bf16`.
    pub dtype: String,
    /// Where the time went. Left out of the file's copy: it would make equal pictures unequal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timings: Option<Timings>,
    /// When it was made. Left out of the file's copy, for the same reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
}

impl Recipe {
    /// The part that goes into the file: a function of what is painted, the weights and the build
    /// alone. The file's name is not part of it: under another name the bytes are the same.
    pub fn for_file(&self) -> Recipe {
        let mut recipe = self.clone();
        recipe.plan.forget_machine();
        recipe.timings = None;
        recipe.plan.template = None;
        recipe.created_at = None;
        recipe
    }
}
