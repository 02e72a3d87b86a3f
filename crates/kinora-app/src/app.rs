//! The composition root: opens the data folder, the database, the queue, the catalogue and the
//! engine's backend, and hands them to the use-cases.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use kinora_catalog::memory::MachineMemory;
use kinora_core::{Backend, Code, Event, Problem, Problems};
use kinora_queue::{Folders, Queue};
use kinora_store::Store;
use serde_json::Value;
use tokio::sync::broadcast;

use crate::{
    catalogue::LocalCatalogue,
    commands,
    config::Config,
    engine::{EngineConfig, EngineStatus, LocalBackend},
    error::{Error, Result},
    inputs::Inputs,
    instance::Instance,
    logs::LogBuffer,
    models::Catalogue,
    settings::{self, Settings},
    suggest::did_you_mean,
    system::Probe,
};

/// How long running jobs get to leave a checkpoint when the program ends.
const GRACE: Duration = Duration::from_secs(5);

/// The application. One per data folder; hosts share it.
pub struct App {
    config: Config,
    queue: Queue,
    catalogue: Arc<dyn Catalogue>,
    /// None where other backends than the engine were given.
    engine: Option<Arc<LocalBackend>>,
    inputs: Inputs,
    settings: RwLock<Settings>,
    logs: LogBuffer,
    probe: Mutex<Probe>,
    started: Instant,
    /// Dropped last: the lock of the data folder.
    instance: Instance,
}

/// What an application is made of besides its configuration.
pub struct Parts {
    /// Models.
    pub catalogue: Arc<dyn Catalogue>,
    /// What runs plans; at least one serves the local lane.
    pub backends: Vec<Arc<dyn Backend>>,
    /// The log view's lines, filled by the host's subscriber.
    pub logs: LogBuffer,
}

impl App {
    /// Opens the application with this machine's models and engine, and starts its queue. Blocks;
    /// called inside a tokio runtime.
    ///
    /// # Errors
    /// `data_folder_in_use`, `newer_data`, or what the file system reports.
    pub fn open(config: Config, logs: LogBuffer) -> Result<Arc<Self>> {
        let engine = Arc::new(LocalBackend::new(EngineConfig {
            program: config.engine.clone(),
            arguments: vec![
                "serve".into(),
                "--hash-cache".into(),
                config.hashes().into(),
                "--text-cache".into(),
                config.texts_dir().into(),
                "--text-cache-mb".into(),
                config.text_cache_mb.to_string().into(),
            ],
            log_filter: Some(config.log.clone()),
            ..EngineConfig::default()
        }));
        let backend: Arc<dyn Backend> = Arc::clone(&engine) as Arc<dyn Backend>;
        let instance = Instance::take(&config.data_dir)?;
        let parts = Parts {
            catalogue: Arc::new(LocalCatalogue::open(&config)),
            backends: vec![backend],
            logs,
        };
        Self::assemble(config, parts, Some(engine), instance)
    }

    /// Opens the application with other models and backends, for tests. Otherwise as
    /// [`App::open`].
    ///
    /// # Errors
    /// As [`App::open`].
    pub fn open_with(config: Config, parts: Parts) -> Result<Arc<Self>> {
        let instance = Instance::take(&config.data_dir)?;
        Self::assemble(config, parts, None, instance)
    }

    fn assemble(
        config: Config,
        parts: Parts,
        engine: Option<Arc<LocalBackend>>,
        instance: Instance,
    ) -> Result<Arc<Self>> {
        for folder in [&config.models_dir, &config.outputs_dir] {
            std::fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, &e))?;
        }
        let store = Store::open(&config.database())?;
        let settings = settings::load(&store)?;
        parts.logs.set_capacity(settings.max_log_entries);
        let folders = Folders::new(&config.data_dir, &config.outputs_dir);
        let queue = Queue::open(store, folders, parts.backends)?;
        queue.start();
        let app = Arc::new(Self {
            inputs: Inputs::below(config.inputs_dir()),
            config,
            queue,
            catalogue: parts.catalogue,
            engine,
            settings: RwLock::new(settings),
            logs: parts.logs,
            probe: Mutex::new(Probe::new()),
            started: Instant::now(),
            instance,
        });
        app.purge_old_trash();
        Ok(app)
    }

    /// Deletes what was in the trash for longer than the settings say, in the background.
    fn purge_old_trash(&self) {
        let queue = self.queue.clone();
        let before = settings::trash_limit(&self.settings());
        tokio::spawn(async move {
            if let Err(error) = queue.purge_assets_older_than(before).await {
                tracing::warn!(%error, "cannot empty the trash");
            }
        });
    }

    /// Runs a command of the table by its name.
    ///
    /// # Errors
    /// `not_found` for an unknown name, `invalid_input` for an input of another shape, and what
    /// the command refuses.
    pub async fn call(self: &Arc<Self>, name: &str, input: Value) -> Result<Value, Problems> {
        let Some(command) = commands::find(name) else {
            let names = commands::COMMANDS.iter().map(|command| command.name);
            let hint = format!("See the table of commands.{}", did_you_mean(name, names));
            let message = format!("there is no command called \"{name}\"");
            return Err(Problem::new(Code::NotFound, message, hint).into());
        };
        (command.run)(Arc::clone(self), input)
            .await
            .map_err(Error::into_problems)
    }

    /// What changes from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.queue.events()
    }

    /// Tells other processes where this one answers, for as long as it lives.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn announce(&self, url: &str, token: Option<&str>) -> Result<()> {
        self.instance.announce(Some(url), token)
    }

    /// Stops running jobs at their next step, with their checkpoints, and ends the engine. What
    /// was not finished goes on at the next start.
    pub async fn shutdown(&self) {
        if let Err(error) = self.queue.shutdown(GRACE).await {
            tracing::warn!(%error, "cannot end the queue in order");
        }
        if let Some(engine) = &self.engine {
            engine.shutdown().await;
        }
    }

    /// Where things lie and how the program is reached.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What the user chose.
    pub fn settings(&self) -> Settings {
        let settings = self.settings.read();
        settings.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn replace_settings(&self, settings: Settings) {
        self.logs.set_capacity(settings.max_log_entries);
        *self
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner) = settings;
        self.queue.tell(Event::SettingsChanged);
    }

    /// The durable queue.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    pub(crate) fn store(&self) -> &Store {
        self.queue.store()
    }

    /// The models.
    pub fn catalogue(&self) -> &Arc<dyn Catalogue> {
        &self.catalogue
    }

    /// The pictures that were handed in.
    pub(crate) fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// The lines of the log view.
    pub fn logs(&self) -> &LogBuffer {
        &self.logs
    }

    pub(crate) fn probe(&self) -> &Mutex<Probe> {
        &self.probe
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// What the engine is doing.
    pub fn engine_status(&self) -> EngineStatus {
        let engine = self.engine.as_ref();
        engine.map_or_else(EngineStatus::default, |engine| engine.status())
    }

    /// Bytes that models and work may occupy together: the number that the engine admits by, so
    /// that nothing is accepted which it would refuse. None: the machine does not tell.
    pub(crate) fn memory_budget(&self) -> Option<u64> {
        match &self.engine {
            Some(engine) => Some(engine.memory_budget()).filter(|bytes| *bytes < u64::MAX),
            None => MachineMemory::read().map(|memory| memory.budget(0)),
        }
    }

    /// The file of a stored picture on this machine.
    pub fn asset_file(&self, asset: &kinora_core::Asset) -> std::path::PathBuf {
        if asset.trashed_at.is_some() {
            let name = format!("{}.{}", asset.id, asset.format.extension());
            return self.queue.folders().trash().join(name);
        }
        self.queue.folders().output(&asset.path)
    }

    /// The work folder of a job, with its previews.
    pub fn job_folder(&self, job: kinora_core::JobId) -> std::path::PathBuf {
        self.queue.folders().scratch(job)
    }

    /// The folder under which pictures are stored.
    pub fn outputs_dir(&self) -> &Path {
        &self.config.outputs_dir
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("data_dir", &self.config.data_dir)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
