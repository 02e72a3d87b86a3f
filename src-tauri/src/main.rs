//! The desktop shell of Kinora: one window over the application, with menus, file drops and IPC.
//! No domain logic: whatever the window asks for goes to the command table of `kinora-app`.

#![cfg_attr(not(debug_assertions), windows_subsystem = "windows")]

mod files;
mod ipc;
mod menu;
mod studio;
mod window;

use std::process::ExitCode;

use tauri::{Manager, RunEvent};

fn main() -> ExitCode {
    prepare_webkit();
    let built = tauri::Builder::default()
        // A second start hands its focus to the first and ends.
        .plugin(tauri_plugin_single_instance::init(
            |app, _arguments, _folder| window::focus(app),
        ))
        .plugin(tauri_plugin_dialog::init())
        .menu(menu::build)
        .on_menu_event(menu::on_event)
        .on_window_event(files::on_window_event)
        .invoke_handler(tauri::generate_handler![
            ipc::call,
            ipc::host_info,
            files::read_dropped_file,
            files::keep_input,
            files::read_metadata,
            files::save_file,
            files::save_asset,
            files::reveal_asset,
            files::open_external,
        ])
        .setup(|app| {
            app.manage(files::Granted::default());
            app.manage(studio::open(app.handle())?);
            window::open(app.handle())?;
            Ok(())
        })
        .build(tauri::generate_context!());
    let app = match built {
        Ok(app) => app,
        Err(error) => {
            studio::report(&error);
            return ExitCode::FAILURE;
        }
    };
    app.run(|app, event| {
        if let RunEvent::Exit = event {
            studio::close(app);
        }
    });
    ExitCode::SUCCESS
}

/// WebKitGTK's DMA-BUF renderer leaves the window blank on a DGX Spark and on some NVIDIA drivers.
fn prepare_webkit() {
    const RENDERER: &str = "WEBKIT_DISABLE_DMABUF_RENDERER";
    if std::env::var_os(RENDERER).is_none() {
        // SAFETY: this is the first thing the program does; no other thread exists that could read
        // the environment at the same time.
        unsafe { std::env::set_var(RENDERER, "1") };
    }
}
