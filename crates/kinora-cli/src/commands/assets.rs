//! `kinora assets`: stored pictures.

use kinora_app::assets::{AssetCount, AssetPage};
use kinora_core::Asset;
use serde_json::json;

use crate::{Context, args::Assets, connection::Refusal, exit, text};

/// Runs `kinora assets …`.
///
/// # Errors
/// What the application refuses, a lost connection.
pub async fn run(context: &Context, arguments: Assets) -> Result<u8, Refusal> {
    let (command, ids, done) = match arguments {
        Assets::List {
            search,
            kind,
            model,
            session,
            trashed,
            limit,
            offset,
        } => {
            let input = json!({
                "search": search, "kind": kind, "model": model, "session": session,
                "trashed": trashed, "limit": limit, "offset": offset
            });
            let page: AssetPage = context.connection.call("assets_list", input).await?;
            context.print(&page, || list(&page));
            return Ok(exit::DONE);
        }
        Assets::Show { id } => {
            let asset: Asset = context
                .connection
                .call("assets_get", json!({ "id": id }))
                .await?;
            let folder = super::config::outputs_folder(context).await?;
            context.print(&asset, || show(&asset, &folder));
            return Ok(exit::DONE);
        }
        Assets::Trash { ids } => ("assets_trash", ids, "moved to the trash"),
        Assets::Restore { ids } => ("assets_restore", ids, "restored"),
        Assets::Purge { ids } => ("assets_purge", ids, "deleted for good"),
    };
    let count: AssetCount = context
        .connection
        .call(command, json!({ "ids": ids }))
        .await?;
    context.print(&count, || format!("{} pictures {done}", count.assets));
    Ok(exit::DONE)
}

fn list(page: &AssetPage) -> String {
    if page.assets.is_empty() {
        return "no pictures".to_owned();
    }
    let rows: Vec<Vec<String>> = page
        .assets
        .iter()
        .map(|asset| {
            vec![
                asset.id.to_string(),
                format!("{}x{}", asset.width, asset.height),
                asset.recipe.plan.seed.to_string(),
                asset.path.clone(),
                text::shorten(&asset.recipe.plan.prompt, 60),
            ]
        })
        .collect();
    let table = text::table(&["id", "size", "seed", "file", "prompt"], &rows);
    if page.total > rows.len() as u64 {
        format!("{table}\n({} of {})", rows.len(), page.total)
    } else {
        table
    }
}

fn show(asset: &Asset, folder: &std::path::Path) -> String {
    let plan = &asset.recipe.plan;
    let mut lines = vec![
        folder.join(&asset.path).display().to_string(),
        format!("  prompt  {}", plan.prompt),
        format!("  model   {} ({})", plan.model.name, plan.model.id),
        format!(
            "  size    {}x{}, {} steps, seed {}",
            asset.width, asset.height, plan.steps, plan.seed
        ),
        format!(
            "  file    {}, sha256 {}",
            text::bytes(asset.bytes),
            asset.sha256
        ),
        format!(
            "  made    by Kinora {} on {} in {}",
            asset.recipe.kinora, asset.recipe.device, asset.recipe.dtype
        ),
    ];
    if let Some(clip) = &asset.clip {
        let sound = if clip.has_sound { ", with sound" } else { "" };
        lines.push(format!(
            "  clip    {:.2} s, {} pictures at {}/s, {}{sound}",
            clip.duration_ms as f64 / 1000.0,
            clip.frames,
            clip.rate,
            clip.codec
        ));
    }
    for file in &plan.model.weights {
        lines.push(format!(
            "  weights {} {}",
            file.sha256.as_deref().unwrap_or("not hashed"),
            file.file
        ));
    }
    lines.join("\n")
}
