//! The menu bar. Its entries are actions of the UI, named as its command palette names them: the
//! shell only passes the name on.

use tauri::{
    AppHandle, Emitter, Runtime,
    menu::{Menu, MenuBuilder, MenuEvent, MenuItemBuilder, Submenu, SubmenuBuilder},
};

/// Event that tells the UI which action was chosen.
const CHOSEN: &str = "kinora://menu";

/// An entry: the UI's action, its title, its key.
type Entry = (&'static str, &'static str, Option<&'static str>);

const FILE: &[Entry] = &[("new", "New Picture", Some("CmdOrCtrl+N"))];
const GO: &[Entry] = &[
    ("go/create", "Create", Some("CmdOrCtrl+1")),
    ("go/video", "Video", Some("CmdOrCtrl+2")),
    ("go/bulk", "Bulk", Some("CmdOrCtrl+3")),
    ("go/queue", "Queue", Some("CmdOrCtrl+4")),
    ("go/gallery", "Gallery", Some("CmdOrCtrl+5")),
    ("go/sessions", "Sessions", Some("CmdOrCtrl+6")),
    ("go/models", "Models", Some("CmdOrCtrl+7")),
    ("trash", "Trash", None),
    ("go/settings", "Settings", Some("CmdOrCtrl+Comma")),
];
const QUEUE: &[Entry] = &[("pause", "Pause", None), ("resume", "Resume", None)];
const VIEW: &[Entry] = &[
    ("palette", "Command Palette", Some("CmdOrCtrl+K")),
    ("theme", "Light or Dark", None),
];
const HELP: &[Entry] = &[
    ("help", "Keyboard and Help", None),
    ("docs", "API Documentation", None),
];

/// Builds the menu bar.
pub fn build<R: Runtime>(app: &AppHandle<R>) -> tauri::Result<Menu<R>> {
    let file = entries(app, "File", FILE)?.separator().quit().build()?;
    let edit = SubmenuBuilder::new(app, "Edit")
        .undo()
        .redo()
        .separator()
        .cut()
        .copy()
        .paste()
        .select_all()
        .build()?;
    let menus: [Submenu<R>; 6] = [
        file,
        edit,
        entries(app, "Go", GO)?.build()?,
        entries(app, "Queue", QUEUE)?.build()?,
        entries(app, "View", VIEW)?.build()?,
        entries(app, "Help", HELP)?.build()?,
    ];
    let mut bar = MenuBuilder::new(app);
    for menu in &menus {
        bar = bar.item(menu);
    }
    bar.build()
}

fn entries<'m, R: Runtime>(
    app: &'m AppHandle<R>,
    title: &str,
    list: &[Entry],
) -> tauri::Result<SubmenuBuilder<'m, R, AppHandle<R>>> {
    let mut menu = SubmenuBuilder::new(app, title);
    for (action, title, key) in list {
        let mut item = MenuItemBuilder::with_id(*action, *title);
        if let Some(key) = key {
            item = item.accelerator(key);
        }
        menu = menu.item(&item.build(app)?);
    }
    Ok(menu)
}

/// Passes a chosen entry on to the UI.
pub fn on_event<R: Runtime>(app: &AppHandle<R>, event: MenuEvent) {
    if let Err(error) = app.emit_to(crate::window::LABEL, CHOSEN, event.id().as_ref()) {
        tracing::warn!(%error, "could not pass a menu entry to the window");
    }
}
