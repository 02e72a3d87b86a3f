//! The real application behind the server.

use std::sync::Arc;

use bytes::Bytes;
use kinora_app::{app::App, commands::Command, error::Error, inputs, media, metadata};
use kinora_core::{BoxFuture, Event, Problems};
use serde_json::Value;
use tokio::{sync::broadcast, task::spawn_blocking};

use crate::application::{Application, Media, MediaFile};

impl Application for Arc<App> {
    fn call<'a>(
        &'a self,
        command: &'static Command,
        input: Value,
    ) -> BoxFuture<'a, Result<Value, Problems>> {
        Box::pin(App::call(self, command.name, input))
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        App::events(self)
    }

    fn read_metadata(&self, file: Bytes) -> BoxFuture<'_, Result<Value, Problems>> {
        let app = Arc::clone(self);
        // Texts of megabytes are unpacked and parsed: not on a thread that serves others.
        let read = move || -> Result<Value, Error> {
            serde_json::to_value(metadata::read(&app, &file)?).map_err(Error::internal)
        };
        Box::pin(async move {
            let reading = spawn_blocking(read).await.map_err(Error::internal);
            reading.flatten().map_err(Error::into_problems)
        })
    }

    fn keep_input(&self, file: Bytes) -> BoxFuture<'_, Result<Value, Problems>> {
        let app = Arc::clone(self);
        // Decoding a large picture takes a while.
        let keep = move || -> Result<Value, Error> {
            serde_json::to_value(inputs::keep(&app, &file)?).map_err(Error::internal)
        };
        Box::pin(async move {
            let kept = spawn_blocking(keep).await.map_err(Error::internal);
            kept.flatten().map_err(Error::into_problems)
        })
    }

    fn find_media(&self, wanted: Media) -> BoxFuture<'_, Result<MediaFile, Problems>> {
        Box::pin(async move {
            let found = match wanted {
                Media::Asset(id) => media::find_asset(self, id).await,
                Media::Thumbnail { asset, longest } => {
                    media::find_thumbnail(self, asset, longest).await
                }
                Media::Preview { job, is_moving } => media::find_preview(self, job, is_moving),
                Media::Sheet(batch) => media::find_sheet(self, batch),
                Media::Input(digest) => media::find_input(self, &digest).await,
            };
            let found = found.map_err(Error::into_problems)?;
            Ok(MediaFile {
                path: found.path,
                media_type: found.format.media_type().to_owned(),
                name: found.name,
                is_immutable: found.version.is_some(),
                version: found.version,
            })
        })
    }
}
