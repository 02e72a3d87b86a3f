//! A stand-in for `kinora-engine` that speaks its protocol and misbehaves as told: it dies, hangs,
//! lies, talks nonsense. It computes nothing.

use std::{
    collections::HashSet,
    fs,
    io::{BufRead, Write, stdin, stdout},
    path::PathBuf,
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use kinora_core::{
    Artifact, AssetKind, Code, Failure, ImageFormat, JobId, Progress, Recipe, Stage, Work,
    engine::{Command, Device, PROTOCOL, Report},
    recipe::RECIPE_VERSION,
};
use serde::{Deserialize, Serialize};

/// First argument that turns the test program into the stand-in.
pub const ROLE: &str = "scripted-engine";

/// How the stand-in says hello.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Greeting {
    Ready,
    OtherProtocol,
    Silence,
    /// Dies before it is ready, this many times; ready from then on.
    DieFirst(u32),
}

/// One thing that it does when it is given a group. Numbers are places in the group.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Act {
    Progress(usize),
    Done(usize),
    /// Done, told under another epoch.
    DoneLate(usize),
    Fail(usize, Code),
    /// Waits until the job is cancelled, and says so.
    AwaitCancel(usize),
    Print(String),
    Log(String),
    /// Tells the names of its environment variables to the log.
    LogEnvironment,
    /// Writes its argument into a file; the tests look at it to know how far it is.
    Mark(PathBuf, String),
    Load(String),
    Fatal,
    Kill,
    Abort,
    Exit(i32),
    Hang,
    End,
}

/// The whole part that it plays.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Script {
    /// Remembers starts and groups here.
    pub folder: PathBuf,
    pub greeting: Greeting,
    /// What it does with the first group, the second, …, over all its lives. The last one repeats.
    pub groups: Vec<Vec<Act>>,
    /// Whether it ends when asked, and at the end of its input.
    pub is_obedient: bool,
}

/// Adds one to a number that outlives the process.
fn count(path: PathBuf) -> u32 {
    let before: u32 = fs::read_to_string(&path)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    fs::write(path, (before + 1).to_string()).unwrap();
    before + 1
}

fn tell(report: &Report) {
    let mut out = stdout().lock();
    writeln!(out, "{}", serde_json::to_string(report).unwrap()).unwrap();
    out.flush().unwrap();
}

fn hang() -> ! {
    loop {
        std::thread::park();
    }
}

/// Plays the part until its end.
pub fn play(script: &str) {
    let script: Script = serde_json::from_str(script).unwrap();
    let start = count(script.folder.join("starts"));
    match script.greeting {
        Greeting::Silence => hang(),
        Greeting::DieFirst(times) if start <= times => {
            eprintln!("ERROR no device this time");
            std::process::exit(7);
        }
        _ => {}
    }
    let is_other = matches!(script.greeting, Greeting::OtherProtocol);
    tell(&Report::Ready {
        protocol: if is_other { PROTOCOL + 1 } else { PROTOCOL },
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        device: Device {
            kind: "cpu".to_owned(),
            name: "a stand-in".to_owned(),
            is_unified: true,
            memory: 1 << 30,
        },
    });
    let (sender, commands) = channel();
    std::thread::spawn(move || {
        for line in stdin().lock().lines() {
            let Ok(line) = line else { return };
            sender.send(serde_json::from_str(&line).unwrap()).unwrap();
        }
    });
    let mut player = Player {
        script,
        commands,
        cancelled: HashSet::new(),
    };
    player.serve();
}

struct Player {
    script: Script,
    commands: Receiver<Command>,
    cancelled: HashSet<JobId>,
}

impl Player {
    fn serve(&mut self) {
        loop {
            match self.commands.recv() {
                Ok(Command::Run { group, works, .. }) => self.run(group, &works),
                Ok(Command::Unload) => tell(&Report::Loaded {
                    models: Vec::new(),
                    bytes: 0,
                }),
                Ok(Command::Cancel { .. }) => {}
                Ok(Command::Shutdown) | Err(_) if self.script.is_obedient => return,
                Ok(Command::Shutdown) | Err(_) => hang(),
            }
        }
    }

    fn run(&mut self, group: u64, works: &[Work]) {
        let number = count(self.script.folder.join("groups")) as usize;
        let groups = &self.script.groups;
        for act in groups[(number - 1).min(groups.len() - 1)].clone() {
            self.act(act, group, works);
        }
    }

    fn act(&mut self, act: Act, group: u64, works: &[Work]) {
        match act {
            Act::Progress(place) => tell(&progress(&works[place])),
            Act::Done(place) => tell(&done(&works[place], works[place].epoch)),
            Act::DoneLate(place) => tell(&done(&works[place], works[place].epoch + 1)),
            Act::Fail(place, code) => tell(&Report::Failed {
                job: works[place].job,
                epoch: works[place].epoch,
                failure: Box::new(Failure::new(code, "paint: as the script says", "Nothing.")),
            }),
            Act::AwaitCancel(place) => self.await_cancel(&works[place]),
            Act::Print(text) => {
                let mut out = stdout().lock();
                writeln!(out, "{text}").unwrap();
                out.flush().unwrap();
            }
            Act::Log(text) => eprintln!("{text}"),
            Act::LogEnvironment => {
                for (name, _) in std::env::vars_os() {
                    eprintln!("variable {}", name.to_string_lossy());
                }
            }
            Act::Mark(path, text) => fs::write(path, text).unwrap(),
            Act::Load(model) => tell(&Report::Loaded {
                models: vec![model],
                bytes: 5,
            }),
            Act::Fatal => tell(&Report::Fatal {
                failure: Box::new(Failure::new(
                    Code::EngineLost,
                    "go on: the device is lost",
                    "Try again.",
                )),
            }),
            Act::Kill => {
                rustix::process::kill_process(
                    rustix::process::getpid(),
                    rustix::process::Signal::KILL,
                )
                .unwrap();
                hang()
            }
            Act::Abort => std::process::abort(),
            Act::Exit(code) => std::process::exit(code),
            Act::Hang => hang(),
            Act::End => tell(&Report::GroupEnded { group }),
        }
    }

    fn await_cancel(&mut self, work: &Work) {
        while !self.cancelled.contains(&work.job) {
            match self.commands.recv_timeout(Duration::from_secs(60)) {
                Ok(Command::Cancel { job }) => {
                    self.cancelled.insert(job);
                }
                Ok(Command::Shutdown) | Err(_) => std::process::exit(0),
                Ok(_) => {}
            }
        }
        tell(&Report::Cancelled {
            job: work.job,
            epoch: work.epoch,
        });
    }
}

fn progress(work: &Work) -> Report {
    Report::Progress {
        progress: Progress {
            job: work.job,
            epoch: work.epoch,
            stage: Stage::Generating,
            step: 1,
            steps: 4,
            fraction: 0.25,
            eta_seconds: None,
            preview: 0,
            part: None,
        },
    }
}

fn done(work: &Work, epoch: u32) -> Report {
    Report::Done {
        job: work.job,
        epoch,
        artifact: Box::new(Artifact {
            kind: AssetKind::Image,
            format: ImageFormat::Png.into(),
            width: work.plan.size.width,
            height: work.plan.size.height,
            bytes: 1,
            sha256: "0".repeat(64),
            clip: None,
            recipe: Recipe {
                recipe: RECIPE_VERSION,
                kinora: env!("CARGO_PKG_VERSION").to_owned(),
                plan: work.plan.clone(),
                device: "cpu".to_owned(),
                dtype: "f32".to_owned(),
                timings: None,
                created_at: None,
            },
        }),
    }
}
