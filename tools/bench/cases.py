#!/usr/bin/env python3
"""cases.py: whole calls of the golden recorder's tiny pipelines with the reference library, from the prompts to the
pixels, with models that are loaded and warm.

    PYTHON tools/bench/cases.py make FOLDER           # records every case that Kinora knows, the folders of bench_cases
    PYTHON tools/bench/cases.py time FOLDER ROUNDS    # best of ROUNDS of each, in milliseconds, as one line of JSON

BENCH_THREADS sets the number of threads."""
import contextlib
import importlib.util
import io
import json
import os
import sys
from pathlib import Path

import torch

from networks import best

ROOT = Path(__file__).resolve().parent.parent.parent
FAMILIES = ("flux", "sd15", "sd21", "sd2_", "sdxl", "wan", "ltx")


def recorder():
    spec = importlib.util.spec_from_file_location("golden", ROOT / "tools/goldens/golden.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["golden"] = module
    spec.loader.exec_module(module)
    return module


def measure(golden, name: str, folder: Path, rounds: int) -> dict:
    context = golden.Ctx(name, folder, 0, 0)
    built = golden.CASES[name][0](context)
    place = folder / name
    pipe = type(built.pipe).from_pretrained(place / (built.beside or "model"), torch_dtype=torch.float32)
    prior = type(built.prior).from_pretrained(place / "model", torch_dtype=torch.float32) if built.prior else None
    wall, busy = best(rounds, lambda: golden.run_pipe(pipe, built, None, prior=prior))
    return {"ms": round(wall, 3), "cpu_ms": round(busy, 3)}


def main():
    golden = recorder()
    torch.set_num_threads(int(os.environ.get("BENCH_THREADS", "2")))
    names = [name for name in golden.CASES if name.startswith(FAMILIES)]
    match sys.argv[1:]:
        case ["make", folder]:
            for name in names:
                golden.run_case(name, Path(folder), 0, 0, False)
        case ["time", folder, rounds]:
            told = {}
            for name in names:
                # What the reference says while it loads is no part of the answer.
                with contextlib.redirect_stdout(io.StringIO()):
                    told[name] = measure(golden, name, Path(folder), int(rounds))
            print(json.dumps(told))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
