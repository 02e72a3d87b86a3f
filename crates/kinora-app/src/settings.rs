//! What the user chose in the application, kept in the database.
//! Not here: where folders lie and which address is served (config).

use std::ops::RangeInclusive;

use kinora_core::{ClipFormat, ImageFormat, Mode, ModelId, Problem, Timestamp};
use kinora_store::{Store, settings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{
    app::App,
    commands::NoInput,
    error::{Error, Result},
    naming::Template,
    resolve::Candidate,
    suggest::did_you_mean,
};

/// Naming template of a fresh installation.
pub const DEFAULT_TEMPLATE: &str = "{date}/{prompt(50)}-{seed}";

/// The look of the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Theme {
    /// As the desktop.
    #[default]
    System,
    /// Light.
    Light,
    /// Dark.
    Dark,
}

/// What the user chose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Settings {
    /// Look of the window.
    pub theme: Theme,
    /// Model of requests that name none; None: the first installed one.
    pub default_model: Option<ModelId>,
    /// Model that sets pictures in motion where none is named; None: the first installed one that
    /// can.
    pub clip_model: Option<ModelId>,
    /// Pictures per request that names no number, 1 to 64.
    pub default_copies: u32,
    /// Naming template of files, such as `{date}/{prompt(50)}-{seed}`.
    pub output_template: String,
    /// File format of pictures.
    pub format: ImageFormat,
    /// File format of clips.
    pub clip_format: ClipFormat,
    /// Lines that the log view keeps, 100 to 100,000.
    pub max_log_entries: u32,
    /// Days that trashed pictures stay, 1 to 30.
    pub trash_days: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            theme: Theme::System,
            default_model: None,
            clip_model: None,
            default_copies: 1,
            output_template: DEFAULT_TEMPLATE.to_owned(),
            format: ImageFormat::Png,
            clip_format: ClipFormat::Mp4,
            max_log_entries: 2_000,
            trash_days: 30,
        }
    }
}

/// Changes to the settings; what is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SettingsUpdate {
    /// Look of the window.
    pub theme: Option<Theme>,
    /// Model of requests that name none; the empty name: the first installed one.
    pub default_model: Option<ModelId>,
    /// Model that sets pictures in motion where none is named; the empty name: the first installed
    /// one that can.
    pub clip_model: Option<ModelId>,
    /// Pictures per request that names no number, 1 to 64.
    pub default_copies: Option<u32>,
    /// Naming template of files; the empty text: that of a fresh installation.
    pub output_template: Option<String>,
    /// File format of pictures.
    pub format: Option<ImageFormat>,
    /// File format of clips.
    pub clip_format: Option<ClipFormat>,
    /// Lines that the log view keeps, 100 to 100,000.
    pub max_log_entries: Option<u32>,
    /// Days that trashed pictures stay, 1 to 30.
    pub trash_days: Option<u32>,
}

/// What the user chose.
pub async fn get(app: &App, _: NoInput) -> Result<Settings> {
    Ok(app.settings())
}

/// Changes the settings that are named and keeps the others.
pub async fn update(app: &App, input: SettingsUpdate) -> Result<Settings> {
    let mut problems = Vec::new();
    let mut check = |field: &str, value: Option<u32>, range: RangeInclusive<u32>| {
        if value.is_some_and(|value| !range.contains(&value)) {
            let message = format!("{field} goes from {} to {}", range.start(), range.end());
            problems.push(Problem::in_field(
                field,
                message,
                "Use a number in between.",
            ));
        }
    };
    check("default_copies", input.default_copies, 1..=64);
    check("max_log_entries", input.max_log_entries, 100..=100_000);
    check("trash_days", input.trash_days, 1..=30);
    let template = input.output_template.as_ref().map(|text| text.trim());
    if let Some(text) = template
        && let Err(error) = Template::parse(text)
    {
        let message = format!("the naming template cannot be used: {error}");
        let hint = format!("Use something like {DEFAULT_TEMPLATE}.");
        problems.push(Problem::in_field("output_template", message, hint));
    }
    let candidates = app.catalogue().candidates();
    for (field, id) in [
        ("default_model", &input.default_model),
        ("clip_model", &input.clip_model),
    ] {
        let Some(id) = id.as_ref().filter(|id| !id.as_str().is_empty()) else {
            continue;
        };
        let known: Vec<&str> = candidates.iter().map(|c| c.model.id.as_str()).collect();
        let found = candidates.iter().find(|c| c.model.id == *id);
        let can_animate = |found: &Candidate| {
            let modes = &found.model.capabilities.modes;
            modes.contains(&Mode::ImageToVideo)
        };
        match found {
            None => {
                let hint = format!(
                    "Models here: {}.{}",
                    known.join(", "),
                    did_you_mean(id.as_str(), known.iter().copied())
                );
                let message = format!("there is no model called \"{id}\"");
                problems.push(Problem::in_field(field, message, hint));
            }
            Some(found) if field == "clip_model" && !can_animate(found) => {
                let message = format!("{} makes no clips from pictures", found.model.name);
                let hint = "Choose a model that does.";
                problems.push(Problem::in_field(field, message, hint));
            }
            Some(_) => {}
        }
    }
    if !problems.is_empty() {
        return Err(Error::from_list(problems));
    }

    let mut settings = app.settings();
    replace(&mut settings.theme, input.theme);
    replace(&mut settings.default_copies, input.default_copies);
    replace(&mut settings.format, input.format);
    replace(&mut settings.clip_format, input.clip_format);
    replace(&mut settings.max_log_entries, input.max_log_entries);
    replace(&mut settings.trash_days, input.trash_days);
    if let Some(text) = template {
        let text = if text.is_empty() {
            DEFAULT_TEMPLATE
        } else {
            text
        };
        settings.output_template = text.to_owned();
    }
    if let Some(id) = input.default_model {
        settings.default_model = Some(id).filter(|id| !id.as_str().is_empty());
    }
    if let Some(id) = input.clip_model {
        settings.clip_model = Some(id).filter(|id| !id.as_str().is_empty());
    }
    save(app.store(), &settings)?;
    app.replace_settings(settings.clone());
    Ok(settings)
}

fn replace<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

/// When a picture has to have gone to the trash for the trash to be emptied of it.
pub(crate) fn trash_limit(settings: &Settings) -> Timestamp {
    let day = 24 * 60 * 60 * 1_000;
    Timestamp(Timestamp::now().0 - i64::from(settings.trash_days) * day)
}

fn save(store: &Store, settings: &Settings) -> Result<()> {
    let members = serde_json::to_value(settings).map_err(Error::internal)?;
    store.write(|tx| {
        for (key, value) in members.as_object().into_iter().flatten() {
            settings::set(tx, key, value)?;
        }
        Ok(())
    })?;
    Ok(())
}

/// The stored settings; what is missing or unreadable is as in a fresh installation.
pub(crate) fn load(store: &Store) -> Result<Settings> {
    let stored: Map<String, Value> = store.read(settings::all)?.into_iter().collect();
    let mut settings = Settings::default();
    read_member(&stored, "theme", &mut settings.theme);
    read_member(&stored, "default_model", &mut settings.default_model);
    read_member(&stored, "clip_model", &mut settings.clip_model);
    read_member(&stored, "default_copies", &mut settings.default_copies);
    read_member(&stored, "output_template", &mut settings.output_template);
    read_member(&stored, "format", &mut settings.format);
    read_member(&stored, "clip_format", &mut settings.clip_format);
    read_member(&stored, "max_log_entries", &mut settings.max_log_entries);
    read_member(&stored, "trash_days", &mut settings.trash_days);
    Ok(settings)
}

fn read_member<T: DeserializeOwned>(stored: &Map<String, Value>, key: &str, place: &mut T) {
    let Some(value) = stored.get(key) else {
        return;
    };
    match serde_json::from_value(value.clone()) {
        Ok(value) => *place = value,
        Err(error) => tracing::warn!(key, %error, "a stored setting cannot be read"),
    }
}
