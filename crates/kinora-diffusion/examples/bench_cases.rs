//! Times whole calls of recorded cases, from the prompts to the pixels, with models that are loaded
//! and warm: `bench_cases ROUNDS CASE_DIR…`. The best of ROUNDS of each in milliseconds, as one line
//! of JSON: `{"flux_dev": {"ms": 1.2, "cpu_ms": 1.9}}`.

mod timing;

use std::{collections::BTreeMap, error::Error, path::Path};

use kinora_diffusion::parity::Replay;
use serde_json::json;

use timing::best;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let rounds = args.next().and_then(|rounds| rounds.to_str()?.parse().ok());
    let rounds = rounds.ok_or("usage: bench_cases ROUNDS CASE_DIR…")?;
    let mut told = BTreeMap::new();
    for folder in args {
        let folder = Path::new(&folder);
        let mut replay = Replay::open(folder)?;
        let (wall, busy) = best(rounds, || replay.run())?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        told.insert(name.into_owned(), json!({ "ms": wall, "cpu_ms": busy }));
    }
    println!("{}", serde_json::to_string(&told)?);
    Ok(())
}
