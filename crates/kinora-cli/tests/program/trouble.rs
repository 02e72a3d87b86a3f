//! What goes wrong around the program: readers that leave, full disks, signals, foreign hosts.

use super::*;

#[test]
fn whoever_stops_reading_stops_nothing() {
    let studio = Studio::new();
    for arguments in [
        &["jobs", "list"][..],
        &["models", "list", "--json"],
        &["config", "show"],
        &["completions", "bash"],
        &["generate", "a red house", "--size", "128x128"],
    ] {
        let mut child = studio
            .command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut errors = String::new();
        let stderr = child.stderr.as_mut().unwrap();
        stderr.read_to_string(&mut errors).unwrap();
        assert!(!errors.contains("panicked"), "{arguments:?}: {errors}");
        assert_eq!(child.wait().unwrap().code(), Some(DONE), "{arguments:?}");
    }
    // Nobody reads the progress either.
    let mut child = studio
        .command(&["generate", "a red house", "--size", "128x128"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(DONE));
    let assets = studio.ask(&["assets", "list"]);
    assert_eq!(assets["total"], 2);
}

#[test]
fn a_disk_that_is_full_fails_what_has_no_room_and_nothing_else() {
    let studio = Studio::new();
    // An engine that may write no file of more than 20 KiB: the small pictures fit.
    let engine = PathBuf::from(env!("CARGO_BIN_EXE_kinora")).with_file_name("kinora-engine");
    let script = format!(
        "#!/bin/bash\ntrap '' XFSZ\nulimit -f 20\nexec '{}' \"$@\"\n",
        engine.display()
    );
    let cramped = studio.write("cramped-engine", script);
    let mut mode = fs::metadata(&cramped).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
    fs::set_permissions(&cramped, mode).unwrap();
    let list = studio.write(
        "list.csv",
        "prompt,size,steps,seed,output\n\
         a red house by the sea,128x128,2,1,small-one\n\
         a red house by the sea,512x512,2,2,large\n\
         a red house by the sea,128x128,2,3,small-two\n",
    );
    let ran = studio.run(&["bulk", &list, "--engine", &cramped]);
    assert_eq!(ran.code(), PARTLY, "{}", ran.errors());
    let told = ran.errors();
    let told = told.lines().find(|line| line.contains("line 3")).unwrap();
    assert!(
        told.contains("File too large") && told.contains("Free some room"),
        "{told}"
    );
    let jobs = studio.ask(&["jobs", "list", "--state", "failed"]);
    assert_eq!(jobs["total"], 1);
    let failure = &jobs["jobs"][0]["failure"];
    assert_eq!(failure["code"], "disk_full");
    assert_eq!(failure["stage"], "saving");
    assert_eq!(failure["fix"]["kind"], "free_disk");
    let mut files: Vec<_> = fs::read_dir(studio.folder().join("data/outputs"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(
        files,
        ["small-one.png", "small-two.png"],
        "and no part of a third"
    );

    // A single picture without room has an exit code of its own; with room, retrying is enough.
    let large = [
        "generate", "a house", "--size", "512x512", "--steps", "2", "-q",
    ];
    let ran = studio.run(&[&large[..], &["--engine", &cramped]].concat());
    assert_eq!(ran.code(), NO_ROOM, "{}", ran.errors());
    assert_eq!(studio.ask(&["jobs", "retry", "--fix"])["jobs"], 2);
    assert_eq!(studio.run(&["jobs", "watch"]).code(), DONE);
    assert!(studio.output("large.png").exists());
}

#[test]
fn a_data_folder_that_takes_no_note_can_still_be_cleaned_up() {
    let studio = Studio::new();
    assert_eq!(studio.run(&["jobs", "list"]).code(), DONE);
    // As on a full disk: the note of where this process answers cannot be written.
    fs::create_dir(studio.folder().join("data/instance.json.part")).unwrap();
    let ran = studio.run(&["cleanup", "--all"]);
    assert_eq!(ran.code(), DONE, "{}", ran.errors());
    assert!(
        ran.errors().contains("do not find this one"),
        "{}",
        ran.errors()
    );
    assert!(ran.text().contains("removed"));
}

#[test]
fn ctrl_c_leaves_the_queue_and_the_next_start_goes_on() {
    let studio = Studio::new();
    let mut child = studio
        .command(&["bulk", "-", "--size", "256x256", "--steps", "50"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut list = child.stdin.take().unwrap();
    list.write_all(b"a red house\na blue house\na green house\na white house\na fifth house\n")
        .unwrap();
    drop(list);
    // The first picture is finished: the others are queued or running.
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut seen = lines.by_ref().map(|line| line.unwrap());
    assert!(seen.any(|line| line.contains("[1/5]") && line.contains("done")));
    server::signal("-INT", child.id());
    let rest: Vec<String> = lines.map(|line| line.unwrap()).collect();
    assert!(
        rest.iter().any(|line| line.contains("stays queued")),
        "{rest:?}"
    );
    assert_eq!(child.wait().unwrap().code(), Some(INTERRUPTED));
    let ran = studio.run(&["jobs", "watch"]);
    assert_eq!(ran.code(), DONE, "{}", ran.errors());
    let jobs = studio.ask(&["jobs", "list"]);
    let states: Vec<&Value> = jobs["jobs"].as_array().unwrap().iter().collect();
    assert_eq!(states.len(), 5);
    assert!(states.iter().all(|job| job["state"] == "done"), "{jobs:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_answers_to_the_hosts_and_origins_of_its_configuration() {
    let studio = Studio::new();
    let data = studio.folder().join("data");
    fs::create_dir_all(&data).unwrap();
    let file = "allowed_hosts = [\"proxy.example\"]\n";
    fs::write(data.join("config.toml"), file).unwrap();
    let origin = "https://pages.example";
    let server = Server::start_with(&data, &["--trusted-origins", origin]).await;
    let ask = async |host: &str, origin: Option<&str>| {
        let request = server.client().get(format!("{}/api/queue", server.url()));
        let mut request = request.header("host", host);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(ask("proxy.example", None).await, 200);
    assert_eq!(
        ask("proxy.example:443", Some("https://proxy.example:443")).await,
        200
    );
    assert_eq!(ask("other.example", None).await, 403);
    assert_eq!(ask("localhost", Some(origin)).await, 200);
    assert_eq!(ask("localhost", Some("https://other.example")).await, 403);
    // Commands of the same machine go through the server, and see its configuration.
    let shown = server.get("/api/config").await;
    let values = shown["values"].as_array().unwrap();
    let value = |key: &str| values.iter().find(|value| value["key"] == key).unwrap();
    assert_eq!(value("allowed_hosts")["value"], "proxy.example");
    assert_eq!(value("allowed_hosts")["source"], "file");
    assert_eq!(value("trusted_origins")["source"], "flag");
    server.stop().await;
    let ran = studio.run(&["serve", "--allowed-hosts", "https://a", "--port", "0"]);
    assert_eq!(ran.code(), WRONG_INPUT);
    assert!(ran.errors().contains("--allowed-hosts"), "{}", ran.errors());
}
