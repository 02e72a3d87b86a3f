//! Who is next on a lane: by priority, without starving the lower ones; within a priority in order,
//! except that jobs of the loaded model may go first for a bounded while.

use kinora_core::{LaneId, Priority};
use kinora_store::{
    Connection, Result,
    jobs::{self, Head},
};

/// After so many groups in a row from above a waiting priority, that priority has one turn.
pub const TURNS_PER_LOWER_PRIORITY: u32 = 8;

/// So many groups of the loaded model may pass a job of another model and batch. Within its own
/// batch there is no limit: a list of prompts loads each of its models once.
pub const PASSES_PER_HEAD: u32 = 4;

const PRIORITIES: [Priority; 3] = [Priority::Bulk, Priority::Interactive, Priority::Urgent];

/// What a lane remembers between two claims. Not stored: after a restart everyone starts afresh.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fairness {
    /// Row of the model of the last group.
    loaded: Option<i64>,
    /// By priority: groups in a row that came from above it while it waited.
    waited: [u32; 3],
    /// Row of the job at the head of its line that was passed, and how often.
    passed: Option<(i64, u32)>,
}

/// What to claim next.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Choice {
    pub head: Head,
    priority: usize,
    is_waiting: [bool; 3],
    /// The job that it passes.
    passes: Option<i64>,
}

impl Fairness {
    /// Row of the model that the lane has loaded, as far as it knows.
    pub fn loaded(&self) -> Option<i64> {
        self.loaded
    }

    /// Chooses the head of the next group; None when nothing waits.
    pub fn choose(&self, db: &Connection, lane: &LaneId) -> Result<Option<Choice>> {
        let mut is_waiting = [false; 3];
        for (index, priority) in PRIORITIES.into_iter().enumerate() {
            is_waiting[index] = jobs::is_waiting(db, lane, priority)?;
        }
        let starving = (0..3)
            .find(|&index| is_waiting[index] && self.waited[index] >= TURNS_PER_LOWER_PRIORITY);
        let Some(index) = starving.or_else(|| (0..3).rev().find(|&index| is_waiting[index])) else {
            return Ok(None);
        };
        let Some(first) = jobs::head(db, lane, PRIORITIES[index])? else {
            return Ok(None);
        };
        let passing = self.passing(db, lane, PRIORITIES[index], &first)?;
        let passes = passing.is_some().then_some(first.seq);
        Ok(Some(Choice {
            head: passing.unwrap_or(first),
            priority: index,
            is_waiting,
            passes,
        }))
    }

    /// A job of the loaded model that may go before `first`.
    fn passing(
        &self,
        db: &Connection,
        lane: &LaneId,
        priority: Priority,
        first: &Head,
    ) -> Result<Option<Head>> {
        let Some(loaded) = self.loaded.filter(|loaded| *loaded != first.model) else {
            return Ok(None);
        };
        // Neither what the user moved there nor what has to run alone is passed.
        if first.is_moved || first.deaths > 0 {
            return Ok(None);
        }
        if first.batch.is_some() {
            let same = jobs::head_of_model(db, lane, priority, loaded, first.batch)?;
            if same.is_some() {
                return Ok(same);
            }
        }
        match self.passed {
            Some((seq, passes)) if seq == first.seq && passes >= PASSES_PER_HEAD => Ok(None),
            _ => jobs::head_of_model(db, lane, priority, loaded, None),
        }
    }

    /// Notes that the choice was claimed.
    pub fn note(&mut self, choice: &Choice) {
        self.loaded = Some(choice.head.model);
        for index in 0..3 {
            if index == choice.priority || !choice.is_waiting[index] {
                self.waited[index] = 0;
            } else if index < choice.priority {
                self.waited[index] += 1;
            }
        }
        self.passed = choice.passes.map(|seq| match self.passed {
            Some((last, passes)) if last == seq => (seq, passes + 1),
            _ => (seq, 1),
        });
    }
}
