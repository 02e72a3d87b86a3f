//! Which value wins, and what is said about those that cannot be used.

use std::{collections::HashMap, fs};

use super::{decision::FILE_KEYS, *};

fn decide(flags: &Flags, variables: &[(&str, &str)], config_dir: &Path) -> Result<Config> {
    let variables: HashMap<&str, &str> = variables.iter().copied().collect();
    Config::decide(
        flags,
        &Surroundings {
            variable: &|name| variables.get(name).map(OsString::from),
            current_dir: "/here".into(),
            home: Some("/home/ada".into()),
            config_dir: config_dir.to_owned(),
            data_dir: "/home/ada/.local/share/kinora".into(),
            pictures_dir: Some("/home/ada/Pictures/Kinora".into()),
            cache_dir: "/home/ada/.cache".into(),
        },
    )
}

fn source(config: &Config, key: &str) -> ValueSource {
    let mut values = config.report().values.iter();
    values.find(|value| value.key == key).unwrap().source
}

#[test]
fn without_anything_folders_follow_the_desktop() {
    let folder = tempfile::tempdir().unwrap();
    let config = decide(&Flags::default(), &[], folder.path()).unwrap();
    assert_eq!(config.data_dir, Path::new("/home/ada/.local/share/kinora"));
    assert_eq!(config.models_dir, config.data_dir.join("models"));
    assert_eq!(config.outputs_dir, Path::new("/home/ada/Pictures/Kinora"));
    assert_eq!(config.hf_home, Path::new("/home/ada/.cache/huggingface"));
    assert_eq!((config.host.as_str(), config.port), ("127.0.0.1", 8030));
    assert_eq!(config.token, None);
    assert!(
        config
            .report()
            .values
            .iter()
            .all(|value| value.source == ValueSource::Default)
    );
    assert_eq!(config.report().values.len(), FILE_KEYS.len());
}

#[test]
fn a_chosen_data_folder_holds_everything() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.toml"), "port = 9000\n").unwrap();
    let data = folder.path().to_str().unwrap();
    let variables = [("KINORA_DATA_DIR", data)];
    let config = decide(&Flags::default(), &variables, Path::new("/none")).unwrap();
    for path in [&config.models_dir, &config.outputs_dir, &config.hf_home] {
        assert!(path.starts_with(folder.path()), "{}", path.display());
    }
    assert_eq!(config.port, 9000, "its config.toml counts");
    assert_eq!(source(&config, "data_dir"), ValueSource::Environment);
    assert_eq!(source(&config, "models_dir"), ValueSource::Default);
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let folder = tempfile::tempdir().unwrap();
    let text = "host = \"0.0.0.0\"\nport = 1\nlog = \"debug\"\nmodels_dir = \"m\"\n\
                outputs_dir = \"~/o\"\ntoken = \"file-token\"\n";
    fs::write(folder.path().join("config.toml"), text).unwrap();
    let flags = Flags {
        port: Some(3),
        models_dir: Some("flagged".into()),
        ..Flags::default()
    };
    let variables = [
        ("KINORA_PORT", "2"),
        ("KINORA_HOST", "::1"),
        ("KINORA_LOG", ""),
        ("KINORA_MODELS_DIR", "/env"),
    ];
    let config = decide(&flags, &variables, folder.path()).unwrap();
    assert_eq!(
        (config.port, source(&config, "port")),
        (3, ValueSource::Flag)
    );
    assert_eq!(config.models_dir, Path::new("/here/flagged"));
    assert_eq!(config.host, "::1");
    assert_eq!(source(&config, "host"), ValueSource::Environment);
    assert_eq!(config.log, "debug", "an empty variable is not set");
    assert_eq!(source(&config, "log"), ValueSource::File);
    assert_eq!(config.outputs_dir, Path::new("/home/ada/o"));
    assert_eq!(config.token.as_deref(), Some("file-token"));
    let report = serde_json::to_string(config.report()).unwrap();
    assert!(!report.contains("file-token"), "secrets are not shown");
}

#[test]
fn further_model_folders_come_from_one_source_as_a_list() {
    let folder = tempfile::tempdir().unwrap();
    let text = "more_models_dirs = [\"~/ComfyUI\", \"more\", \"\"]\n";
    fs::write(folder.path().join("config.toml"), text).unwrap();
    let config = decide(&Flags::default(), &[], folder.path()).unwrap();
    let more = [
        PathBuf::from("/home/ada/ComfyUI"),
        folder.path().join("more"),
    ];
    assert_eq!(config.more_models_dirs, more);
    assert_eq!(config.model_folders()[0], config.models_dir);
    assert_eq!(config.model_folders()[1..], more);

    let variables = [("KINORA_MORE_MODELS_DIRS", "/a:~/b")];
    let config = decide(&Flags::default(), &variables, folder.path()).unwrap();
    assert_eq!(
        config.more_models_dirs,
        ["/a", "/home/ada/b"].map(PathBuf::from)
    );
    assert_eq!(
        source(&config, "more_models_dirs"),
        ValueSource::Environment
    );

    let flags = Flags {
        more_models_dirs: vec!["trees".into()],
        ..Flags::default()
    };
    let config = decide(&flags, &variables, folder.path()).unwrap();
    assert_eq!(config.more_models_dirs, [PathBuf::from("/here/trees")]);
}

#[test]
fn hosts_and_origins_come_from_one_source_as_lists() {
    let folder = tempfile::tempdir().unwrap();
    let text = "allowed_hosts = [\"Studio.example\", \"10.0.0.7\"]\n\
                trusted_origins = [\"https://studio.example/\"]\n";
    fs::write(folder.path().join("config.toml"), text).unwrap();
    let config = decide(&Flags::default(), &[], folder.path()).unwrap();
    assert_eq!(config.allowed_hosts, ["studio.example", "10.0.0.7"]);
    assert_eq!(config.trusted_origins, ["https://studio.example"]);
    assert_eq!(source(&config, "allowed_hosts"), ValueSource::File);

    let variables = [
        ("KINORA_ALLOWED_HOSTS", "a.example, b.example,"),
        ("KINORA_TRUSTED_ORIGINS", "https://a.example"),
    ];
    let flags = Flags {
        trusted_origins: vec!["https://flag.example".into()],
        ..Flags::default()
    };
    let config = decide(&flags, &variables, folder.path()).unwrap();
    assert_eq!(config.allowed_hosts, ["a.example", "b.example"]);
    assert_eq!(config.trusted_origins, ["https://flag.example"]);
    assert_eq!(source(&config, "trusted_origins"), ValueSource::Flag);

    let variables = [
        ("KINORA_ALLOWED_HOSTS", "*"),
        ("KINORA_TRUSTED_ORIGINS", "studio.example"),
    ];
    let refusal = decide(&Flags::default(), &variables, folder.path()).unwrap_err();
    let problems = refusal.into_problems().problems;
    assert_eq!(problems.len(), 2);
    assert!(problems[0].message.contains("KINORA_ALLOWED_HOSTS"));
    assert!(problems[1].message.contains("KINORA_TRUSTED_ORIGINS"));
    fs::write(folder.path().join("config.toml"), "allowed_hosts = \"a\"\n").unwrap();
    assert!(decide(&Flags::default(), &[], folder.path()).is_err());
}

#[test]
fn every_unusable_value_is_named_with_its_origin() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("config.toml"),
        "prot = 1\ntoken = \"short\"\n",
    )
    .unwrap();
    let variables = [("KINORA_PORT", "http"), ("KINORA_HOST", "spark.local")];
    let refusal = decide(&Flags::default(), &variables, folder.path());
    let problems = refusal.unwrap_err().into_problems();
    let text: Vec<String> = problems
        .problems
        .iter()
        .map(|p| p.message.clone())
        .collect();
    assert_eq!(text.len(), 4, "{text:?}");
    assert!(text[0].contains("prot"));
    assert!(problems.problems[0].hint.contains("Did you mean \"port\"?"));
    assert!(text[1].contains("KINORA_HOST") && text[1].contains("spark.local"));
    assert!(text[2].contains("KINORA_PORT"));
    assert!(text[3].contains("config.toml"));
    fs::write(folder.path().join("config.toml"), "port = \n").unwrap();
    assert!(decide(&Flags::default(), &[], folder.path()).is_err());
    fs::write(folder.path().join("config.toml"), "port = 70000\n").unwrap();
    assert!(decide(&Flags::default(), &[], folder.path()).is_err());
}
