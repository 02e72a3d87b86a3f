//! Prints how far the pipeline is from recorded cases: `parity CASE_DIR…`.

use std::process::ExitCode;

use kinora_diffusion::parity;

fn main() -> ExitCode {
    let mut is_good = true;
    for case in std::env::args_os().skip(1) {
        println!("{}", case.to_string_lossy());
        match parity::run(case.as_ref()) {
            Ok(results) => {
                for result in results {
                    let verdict = if result.pass { "ok" } else { "OFF" };
                    is_good &= result.pass;
                    println!(
                        "  {:46} max abs {:.2e}  relative {:.2e}  gate {:.0e}  {verdict}",
                        result.stage, result.max_abs, result.relative, result.gate
                    );
                }
            }
            Err(error) => {
                is_good = false;
                println!("  failed to {error}");
            }
        }
    }
    if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
