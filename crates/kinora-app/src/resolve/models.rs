//! Which model a request gets: the one that it names, that of the settings, or the first that can do it.

use kinora_core::{Code, Model, ModelId, PlannedModel, Problem, Request};

use super::{Candidate, Context, given};
use crate::{settings::Settings, suggest::did_you_mean};

/// The model that a request without one gets.
pub fn default_model<'a>(models: &'a [Candidate], settings: &Settings) -> Option<&'a ModelId> {
    let is_usable = |candidate: &&Candidate| candidate.planned.is_some();
    let wanted = settings.default_model.as_ref();
    models
        .iter()
        .filter(is_usable)
        .find(|candidate| Some(&candidate.model.id) == wanted)
        .or_else(|| models.iter().find(is_usable))
        .map(|candidate| &candidate.model.id)
}

/// The model of a request that names none: the default one. Where a kind of result is asked for, the
/// first that can do all that is asked, those of the settings before others.
pub(super) fn pick_model<'a>(request: &Request, context: &Context<'a>) -> Option<&'a ModelId> {
    if request.kind.is_none() {
        return default_model(context.models, context.settings);
    }
    let modes = given::wanted_modes(request);
    let can = |candidate: &&Candidate| {
        let known = &candidate.model.capabilities.modes;
        candidate.planned.is_some() && modes.iter().any(|mode| known.contains(mode))
    };
    let settings = context.settings;
    [&settings.clip_model, &settings.default_model]
        .into_iter()
        .flatten()
        .filter_map(|id| context.models.iter().find(|other| other.model.id == *id))
        .find(can)
        .or_else(|| context.models.iter().find(can))
        .map(|candidate| &candidate.model.id)
}

/// That nothing here can do what is asked.
pub(super) fn no_model(request: &Request, context: &Context<'_>) -> Problem {
    if request.kind.is_none() {
        return Problem::new(
            Code::ModelNotInstalled,
            "no model is installed",
            "Put a model into the models folder, or reinstall the built-in one.",
        );
    }
    let modes = given::wanted_modes(request);
    let deed = modes.first().map_or("do that", |mode| mode.deed());
    let known: Vec<&str> = (context.models.iter())
        .filter(|other| {
            let known = &other.model.capabilities.modes;
            modes.iter().any(|mode| known.contains(mode))
        })
        .map(|other| other.model.name.as_str())
        .collect();
    let hint = match known.as_slice() {
        [] => "Add a model that can.".to_owned(),
        known => format!("Add one of these: {}.", known.join(", ")),
    };
    let message = format!("no model on this machine can {deed}");
    Problem::new(Code::ModelNotInstalled, message, hint)
}

/// The model of a request, and its files.
///
/// # Errors
/// There is none, or it cannot be used.
pub(crate) fn choose_model<'a>(
    request: &Request,
    context: &Context<'a>,
) -> Result<(&'a Model, &'a PlannedModel), Problem> {
    let asked = request.model.as_ref();
    let picked = match asked {
        Some(_) => None,
        None => pick_model(request, context),
    };
    let Some(id) = asked.or(picked) else {
        return Err(in_model(no_model(request, context)));
    };
    let found = context.models.iter().find(|found| found.model.id == *id);
    let Some(candidate) = found else {
        let names: Vec<&str> = context
            .models
            .iter()
            .map(|candidate| candidate.model.id.as_str())
            .collect();
        let hint = format!(
            "Models here: {}.{}",
            names.join(", "),
            did_you_mean(id.as_str(), names.iter().copied())
        );
        return Err(in_model(Problem::new(
            Code::UnknownModel,
            format!("there is no model called \"{id}\""),
            hint,
        )));
    };
    let model = &candidate.model;
    if let Some(fault) = &model.fault {
        return Err(in_model(Problem::new(
            Code::BadWeights,
            format!("{} cannot be used: {fault}", model.name),
            "Replace its files, or choose another model.",
        )));
    }
    match &candidate.planned {
        Some(planned) => Ok((model, planned)),
        None => Err(in_model(Problem::new(
            Code::ModelNotInstalled,
            format!("{} is not on this machine", model.name),
            "Put its files into the models folder, or choose another model.",
        ))),
    }
}

pub(super) fn in_model(mut problem: Problem) -> Problem {
    problem.field = Some("model".to_owned());
    problem
}
