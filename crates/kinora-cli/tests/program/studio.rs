//! A data folder with the program on it, and how the program ended.

use super::*;

pub const DONE: i32 = 0;
pub const FAILED: i32 = 1;
pub const WRONG_INPUT: i32 = 2;
pub const NOT_FOUND: i32 = 3;
pub const NO_ROOM: i32 = 4;
pub const PARTLY: i32 = 5;
pub const DIFFERS: i32 = 7;
pub const INTERRUPTED: i32 = 130;

/// A data folder, and the program on it.
pub struct Studio(pub tempfile::TempDir);

impl Studio {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn folder(&self) -> &Path {
        self.0.path()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_kinora"));
        assert!(
            program.with_file_name("kinora-engine").exists(),
            "kinora-engine is not built: run `cargo build -p kinora-engine` first"
        );
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.folder())
            .env("KINORA_DATA_DIR", self.folder().join("data"))
            .stdin(Stdio::null());
        for variable in ["TOKEN", "HOST", "PORT", "MODELS_DIR", "OUTPUTS_DIR", "LOG"] {
            command.env_remove(format!("KINORA_{variable}"));
        }
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran(self.command(arguments).output().unwrap())
    }

    /// Runs, expects success, and reads the JSON on standard output.
    pub fn ask(&self, arguments: &[&str]) -> Value {
        let ran = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(ran.code(), DONE, "{arguments:?}: {}", ran.errors());
        ran.json()
    }

    pub fn output(&self, name: &str) -> PathBuf {
        self.folder().join("data/outputs").join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.folder().join(name);
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    }
}

/// How the program ended.
pub struct Ran(pub Output);

impl Ran {
    pub fn code(&self) -> i32 {
        self.0.status.code().expect("it ended by itself")
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.0.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", self.text(), self.errors()))
    }
}

pub fn part(verification: &Value, name: &str) -> Value {
    let parts = verification["parts"].as_array().unwrap();
    let found = parts.iter().find(|part| part["part"] == name);
    found
        .unwrap_or_else(|| panic!("no {name} in {verification:#}"))
        .clone()
}

pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}
