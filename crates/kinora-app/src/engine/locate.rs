//! Where the engine's program is, and what of our environment it may see.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

/// Environment variable that names the engine's program.
pub const ENGINE_VARIABLE: &str = "KINORA_ENGINE";

/// File name of the engine's program.
pub(super) const ENGINE_NAME: &str = "kinora-engine";

/// Finds the engine: `KINORA_ENGINE`, then beside this program, then on the `PATH`.
///
/// # Errors
/// The places that were searched, in order, when it is in none of them.
pub fn find_engine() -> Result<PathBuf, Vec<PathBuf>> {
    find_among(
        std::env::var_os(ENGINE_VARIABLE).as_deref(),
        std::env::current_exe().ok().as_deref(),
        std::env::var_os("PATH").as_deref(),
    )
}

fn find_among(
    named: Option<&OsStr>,
    this_program: Option<&Path>,
    path: Option<&OsStr>,
) -> Result<PathBuf, Vec<PathBuf>> {
    // A program that was named is the only candidate: falling back to another build in silence
    // would hide a mistake.
    if let Some(named) = named.filter(|name| !name.is_empty()) {
        let named = PathBuf::from(named);
        return if is_program(&named) {
            Ok(named)
        } else {
            Err(vec![named])
        };
    }
    let name = format!("{ENGINE_NAME}{}", std::env::consts::EXE_SUFFIX);
    let beside = this_program.and_then(Path::parent).map(Path::to_path_buf);
    let folders = beside
        .into_iter()
        .chain(path.map(std::env::split_paths).into_iter().flatten());
    let mut searched = Vec::new();
    for folder in folders {
        let candidate = folder.join(&name);
        if is_program(&candidate) {
            return Ok(candidate);
        }
        searched.push(candidate);
    }
    Err(searched)
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Names that the engine may see. Everything else stays out: tokens, API keys, proxies.
const PASSED: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "XDG_RUNTIME_DIR",
    "LD_LIBRARY_PATH",
    "RAYON_NUM_THREADS",
    "RUST_BACKTRACE",
    "KINORA_DEVICE",
];

/// Beginnings of names that the engine may see: the GPU's driver and compiler read them.
const PASSED_PREFIXES: &[&str] = &["CUDA_", "NVIDIA_", "CUBLAS_"];

/// The part of an environment that the engine gets.
pub(super) fn select_environment(
    all: impl Iterator<Item = (OsString, OsString)>,
) -> Vec<(OsString, OsString)> {
    all.filter(|(name, _)| name.to_str().is_some_and(is_passed))
        .collect()
}

/// Whether the engine may see a variable.
pub(super) fn is_passed(name: &str) -> bool {
    PASSED.contains(&name)
        || PASSED_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn install(folder: &Path, mode: u32) -> PathBuf {
        fs::create_dir_all(folder).unwrap();
        let program = folder.join(ENGINE_NAME);
        fs::write(&program, "").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
        program
    }

    #[test]
    fn a_named_program_wins_then_the_neighbour_then_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let named = install(&folder.path().join("named"), 0o755);
        let beside = install(&folder.path().join("beside"), 0o755);
        let on_path = install(&folder.path().join("path"), 0o755);
        let dull = install(&folder.path().join("dull"), 0o644);
        let this = folder.path().join("beside/kinora");
        let elsewhere = folder.path().join("empty/kinora");
        let path =
            std::env::join_paths([dull.parent().unwrap(), on_path.parent().unwrap()]).unwrap();

        let found = find_among(Some(named.as_os_str()), Some(&this), Some(&path));
        assert_eq!(found, Ok(named));
        assert_eq!(find_among(None, Some(&this), Some(&path)), Ok(beside));
        assert_eq!(find_among(None, Some(&elsewhere), Some(&path)), Ok(on_path));

        let missing = folder.path().join("missing");
        let found = find_among(Some(missing.as_os_str()), Some(&this), Some(&path));
        assert_eq!(found, Err(vec![missing]));
        let found = find_among(
            None,
            Some(&elsewhere),
            Some(dull.parent().unwrap().as_os_str()),
        );
        assert_eq!(
            found,
            Err(vec![elsewhere.with_file_name(ENGINE_NAME), dull])
        );
    }

    #[test]
    fn secrets_stay_out_of_the_engine() {
        let all = [
            "PATH",
            "HOME",
            "CUDA_VISIBLE_DEVICES",
            "KINORA_TOKEN",
            "ANTHROPIC_API_KEY",
            "HF_TOKEN",
            "AWS_SECRET_ACCESS_KEY",
            "https_proxy",
        ];
        let all = all.map(|name| (OsString::from(name), OsString::from("x")));
        let names: Vec<OsString> = select_environment(all.into_iter())
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names, ["PATH", "HOME", "CUDA_VISIBLE_DEVICES"]);
    }
}
