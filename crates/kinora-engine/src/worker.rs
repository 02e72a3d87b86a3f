//! The GPU thread: takes one order after another, keeps models loaded, runs groups to their end.

use std::{collections::VecDeque, sync::Arc};

use crossbeam_channel::Receiver;
use kinora_core::{Code, Failure, Fix, Plan, Size, Work, engine::Report};

use crate::{
    commands::Order,
    failures::{Verdict, out_of_memory},
    group::{GroupRun, Surroundings},
    memory::forget_pages,
    models::{ModelCache, ModelKey, weight_path},
    pace::Pace,
    runner::{Economy, Runner},
};

/// Owns the device, the models and every tensor.
pub struct Worker<R: Runner> {
    runner: R,
    models: ModelCache<R::Model>,
    around: Arc<Surroundings>,
    pace: Pace,
}

/// Some jobs of a group that go through the pipeline together.
struct Attempt {
    places: Vec<usize>,
    is_frugal: bool,
    /// Whether checkpoints that turned out to be of no use were already removed.
    is_fresh: bool,
}

impl<R: Runner> Worker<R> {
    /// A worker without models.
    pub fn new(runner: R, around: Surroundings) -> Self {
        Self {
            runner,
            models: ModelCache::default(),
            around: Arc::new(around),
            pace: Pace::default(),
        }
    }

    /// Works until there are no more orders.
    ///
    /// # Errors
    /// The device is lost, or the application cannot be understood: the process has to end.
    pub fn run(&mut self, orders: &Receiver<Order>) -> Result<(), Box<Failure>> {
        for order in orders {
            if self.around.control.is_stopping() {
                break;
            }
            match order {
                Order::Run {
                    group,
                    works,
                    memory_budget,
                } => {
                    self.run_group(works, memory_budget)?;
                    if self.around.control.is_stopping() {
                        break;
                    }
                    self.around.reports.tell(Report::GroupEnded { group });
                }
                Order::Unload => {
                    self.models.clear();
                    self.runner.release();
                    self.tell_loaded();
                }
                Order::Nonsense(why) => {
                    return Err(Box::new(Failure::new(
                        Code::Internal,
                        format!("understand the application: {why}"),
                        "Install the engine that came with this program.",
                    )));
                }
            }
        }
        Ok(())
    }

    fn run_group(&mut self, works: Vec<Work>, budget: u64) -> Result<(), Box<Failure>> {
        let Some(first) = works.first() else {
            return Ok(());
        };
        let plan = first.plan.clone();
        let around = Arc::clone(&self.around);
        // Moved out for as long as the group borrows it: a loss ends the process anyway.
        let mut pace = std::mem::take(&mut self.pace);
        let mut group = GroupRun::begin(works, &around, &mut pace);
        group.refuse_strangers();
        group.answer_cancelled();
        let mut result = Ok(());
        if !group.pending().is_empty() {
            result = match self.load(&plan, budget, &mut group) {
                Ok(()) => self.attempt_all(&plan, budget, &mut group),
                Err(verdict) => {
                    let pending = group.pending();
                    give_up(verdict, &pending, &mut group)
                }
            };
        }
        drop(group);
        // Encoders and second networks were read on the way.
        self.forget_pages(&plan);
        self.pace = pace;
        result
    }

    /// Where the GPU shares the machine's memory, weights are not in it twice. (Elsewhere what the
    /// kernel keeps of files costs nothing, and makes the next loading faster.)
    fn forget_pages(&self, plan: &Plan) {
        if self.around.memory_floor > 0 {
            for file in &plan.model.weights {
                forget_pages(&weight_path(&plan.model, file));
            }
        }
    }

    /// Makes the plan's model the first of the loaded ones; others leave as far as they must.
    fn load(&mut self, plan: &Plan, budget: u64, group: &mut GroupRun) -> Result<(), Verdict> {
        let is_gpu = self.is_gpu();
        let judge = |error: kinora_diffusion::Error| Verdict::of(&error, is_gpu);
        let need = self.runner.estimate(plan).map_err(judge)?;
        if need.total() > budget {
            let mut failure = out_of_memory(need.total(), budget);
            failure.fix = self.find_fitting_size(plan, budget);
            return Err(Verdict::Fail(Box::new(failure)));
        }
        let key = ModelKey::of(&plan.model);
        let kept = usize::from(self.models.touch(&key));
        let mut has_evicted = false;
        while self.models.bytes_after(kept).saturating_add(need.total()) > budget {
            let Some(name) = self.models.evict(kept) else {
                break;
            };
            tracing::info!(model = name, "unloaded to make room");
            has_evicted = true;
        }
        if has_evicted {
            self.runner.release();
            self.tell_loaded();
        }
        self.around.hashes.prepare(&plan.model);
        if kept == 0 {
            tracing::info!(model = plan.model.name, "loading");
            group.show_loading(0.0);
            let model = self
                .runner
                .open(&plan.model, &mut |done| group.show_loading(done))
                .map_err(judge)?;
            let bytes = self.runner.weight_bytes(&model);
            self.models
                .insert(key, plan.model.name.clone(), model, bytes);
            self.forget_pages(plan);
            self.tell_loaded();
        }
        Ok(())
    }

    fn attempt_all(
        &mut self,
        plan: &Plan,
        budget: u64,
        group: &mut GroupRun,
    ) -> Result<(), Box<Failure>> {
        let mut attempts = VecDeque::from([Attempt {
            places: group.pending(),
            is_frugal: false,
            is_fresh: false,
        }]);
        while let Some(attempt) = attempts.pop_front() {
            group.answer_cancelled();
            if self.around.control.is_stopping() {
                return Ok(());
            }
            let pending = group.pending();
            let places: Vec<usize> = (attempt.places.iter().copied())
                .filter(|place| pending.contains(place))
                .collect();
            if places.is_empty() {
                continue;
            }
            let result = self.attempt(&places, attempt.is_frugal, budget, group);
            let pending = group.pending();
            let left: Vec<usize> = (places.iter().copied())
                .filter(|place| pending.contains(place))
                .collect();
            match result {
                Ok(()) if self.around.control.is_stopping() => return Ok(()),
                Ok(()) => group.fail_all(&left, &no_result()),
                Err(Verdict::OutOfMemory(failure)) if !attempt.is_frugal => {
                    tracing::warn!("failed to {}; trying again in pieces", failure.message);
                    while self.models.evict(1).is_some() {}
                    self.runner.release();
                    self.tell_loaded();
                    attempts.extend(left.iter().map(|&place| Attempt {
                        places: vec![place],
                        is_frugal: true,
                        is_fresh: attempt.is_fresh,
                    }));
                }
                Err(Verdict::OutOfMemory(mut failure)) => {
                    // The estimate was too hopeful: what is advised has to be clearly smaller.
                    let need = self
                        .runner
                        .estimate(plan)
                        .map_or(budget, |need| need.total());
                    failure.fix = self.find_fitting_size(plan, budget.min(need / 4 * 3));
                    group.fail_all(&left, &failure);
                }
                Err(Verdict::BadCheckpoint(failure)) if !attempt.is_fresh => {
                    tracing::warn!("failed to {}; beginning anew", failure.message);
                    group.forget_checkpoints(&left);
                    attempts.push_back(Attempt {
                        places: left,
                        is_frugal: attempt.is_frugal,
                        is_fresh: true,
                    });
                }
                Err(verdict) => {
                    if matches!(&verdict, Verdict::Fail(failure) if failure.code == Code::BadWeights)
                    {
                        // Whatever is wrong with the files, the copy in memory is not trusted.
                        self.models.drop_first();
                        self.runner.release();
                        self.tell_loaded();
                    }
                    give_up(verdict, &left, group)?;
                }
            }
        }
        Ok(())
    }

    fn attempt(
        &mut self,
        places: &[usize],
        is_frugal: bool,
        budget: u64,
        group: &mut GroupRun,
    ) -> Result<(), Verdict> {
        let is_gpu = self.is_gpu();
        let economy = Economy {
            budget: budget.saturating_sub(self.models.bytes_after(1)),
            is_frugal,
        };
        let Some(loaded) = self.models.first() else {
            return Err(Verdict::Fail(Box::new(no_result())));
        };
        let plans: Vec<Plan> = (places.iter())
            .map(|&place| group.work(place).plan.clone())
            .collect();
        let plans: Vec<&Plan> = plans.iter().collect();
        group.select(places.to_vec());
        let result = self
            .runner
            .run(&mut loaded.model, &plans, economy, group)
            .map_err(|error| Verdict::of(&error, is_gpu));
        group.close_attempt();
        result
    }

    /// The largest size of the same shape that fits.
    fn find_fitting_size(&mut self, plan: &Plan, budget: u64) -> Option<Fix> {
        const GRID: u32 = 16;
        const SMALLEST: u32 = 64;
        (1..16_u32).rev().find_map(|sixteenths| {
            let shrink = |pixels: u32| {
                let pixels = u64::from(pixels) * u64::from(sixteenths) / 16;
                u32::try_from(pixels).unwrap_or(u32::MAX) / GRID * GRID
            };
            let (width, height) = (shrink(plan.size.width), shrink(plan.size.height));
            let smaller = Plan {
                size: Size { width, height },
                ..plan.clone()
            };
            let fits = width >= SMALLEST
                && height >= SMALLEST
                && (self.runner.estimate(&smaller)).is_ok_and(|need| need.total() <= budget);
            fits.then_some(Fix::Resize { width, height })
        })
    }

    fn is_gpu(&self) -> bool {
        self.runner.device().kind != "cpu"
    }

    fn tell_loaded(&self) {
        self.around.reports.tell(Report::Loaded {
            models: self.models.names(),
            bytes: self.models.bytes_after(0),
        });
    }
}

/// Fails jobs that nothing more can be done for; a lost device takes the engine along.
fn give_up(verdict: Verdict, places: &[usize], group: &mut GroupRun) -> Result<(), Box<Failure>> {
    match verdict {
        Verdict::Lost(failure) => Err(Box::new(group.describe_loss(*failure))),
        Verdict::Fail(failure)
        | Verdict::OutOfMemory(failure)
        | Verdict::BadResult(failure)
        | Verdict::BadCheckpoint(failure) => {
            group.fail_all(places, &failure);
            Ok(())
        }
    }
}

fn no_result() -> Failure {
    Failure::new(
        Code::Internal,
        "run the job: the pipeline returned without a result",
        "This is a defect of Kinora; please report it with the log.",
    )
}

#[cfg(test)]
pub mod tests;
