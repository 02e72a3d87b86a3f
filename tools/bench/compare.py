#!/usr/bin/env python3
"""compare.py: how fast Kinora is against the reference library, on the same weights, in one run; then the queue.

    make bench, or: PYTHON tools/bench/compare.py --examples target/release/examples [--threads 2] [--pairs 3]
                    [--rounds 8] [--out docs/benchmarks.md] [--only starter,middle,networks,cases,queue]

where PYTHON has torch, diffusers and transformers, and the folder holds the examples `bench`, `bench_networks` and
`bench_cases` of kinora-diffusion and `queue_bench` of kinora-queue. Times one denoiser forward, one VAE decode and one
whole picture in steady state, one picture from the start of a process to its file, single networks at their true sizes,
with the memory that they take, and the whole calls of every family's tiny model. The two sides take turns, so that whatever else the machine does meets both; of all rounds the
best counts. Prints Markdown; with --out it also replaces what stands between the marks in that
page. Ends with 1 when the queue missed a limit."""
import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
NETWORKS = (("unet", "SD 1.5 UNet, one forward at 512 × 512"), ("vae", "SDXL VAE, decode to 512 × 512"),
            ("wan_vae", "Wan 2.1 VAE, decode to 17 frames of 256 × 256"))
STAGES = (("forward", "denoiser forward"), ("decode", "VAE decode"), ("picture", "whole picture"))


def read_json(command, environment) -> dict:
    text = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    return json.loads(text.strip().splitlines()[-1])


def seconds_to_file(command, environment) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - start


def first_line(path: str, start: str) -> str:
    try:
        for line in Path(path).read_text().splitlines():
            if line.startswith(start):
                return line.split(":" if ":" in line else "=", 1)[1].strip().strip('"')
    except OSError:
        pass
    return ""


def describe_machine() -> str:
    processor = first_line("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()
    system = first_line("/etc/os-release", "PRETTY_NAME") or platform.system()
    memory = first_line("/proc/meminfo", "MemTotal").split()
    memory = f", {int(memory[0]) / 2**20:.0f} GiB" if memory else ""
    return f"{processor}, {os.cpu_count()} cores{memory}, {platform.machine()}, {system}"


def describe_versions() -> str:
    def read(*command) -> str:
        try:
            return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return "unknown"
    reference = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "diffusers", "transformers"))
    return f"Kinora {read('git', 'describe', '--always', '--dirty')}, {read('rustc', '--version')}; {reference}; Python {platform.python_version()}"


def compare(a, folder: Path) -> str:
    """The table of both sides."""
    python, threads = sys.executable, str(a.threads)
    environment = {**os.environ, "RAYON_NUM_THREADS": threads, "BENCH_THREADS": threads, "OMP_NUM_THREADS": threads}
    reference, ours = [python, ROOT / "tools/bench/reference.py"], [a.examples / "bench"]
    cases = []
    if "starter" in a.only:
        cases.append(("starter, 256 × 256, 8 steps", ROOT / "starter/image", ["256", "256", "8", "32"], a.rounds))
    if "middle" in a.only:
        middle = folder / "middle"
        subprocess.run([python, ROOT / "tools/bench/middle_model.py", ROOT / "starter/image", middle], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        cases.append(("middle, 512 × 512, 2 steps", middle, ["512", "512", "2", "64"], max(2, a.rounds // 4)))
    table = ["| model | what | reference ms | Kinora ms | times as fast | processor time, ms | times as little |",
             "|---|---|---:|---:|---:|---:|---:|"]
    for title, model, size, rounds in cases:
        best = ({}, {})
        for _ in range(a.pairs):
            for side, command in enumerate((reference, ours)):
                result = read_json([*command, "stages", model, *size, str(rounds)], environment)
                result["file_ms"] = 1000 * seconds_to_file([*command, "picture", model, *size, folder / "a.png"], environment)
                for key, value in result.items():
                    best[side][key] = min(value, best[side].get(key, value))
        theirs, mine = best
        for key, name in STAGES:
            wall, busy = f"{key}_ms", f"{key}_cpu_ms"
            table.append(f"| {title} | {name} | {theirs[wall]:.1f} | {mine[wall]:.1f} | **{theirs[wall] / mine[wall]:.2f}** "
                         f"| {theirs[busy]:.1f} / {mine[busy]:.1f} | {theirs[busy] / mine[busy]:.2f} |")
        ratio = theirs["file_ms"] / mine["file_ms"]
        table.append(f"| {title} | process start to file | {theirs['file_ms']:.0f} | {mine['file_ms']:.0f} | **{ratio:.2f}** | | |")
    return "\n".join(table)


def compare_networks(a, folder: Path) -> tuple[str, str]:
    """The tables of single networks at their true sizes: time, and memory."""
    python, threads = sys.executable, str(a.threads)
    environment = {**os.environ, "RAYON_NUM_THREADS": threads, "BENCH_THREADS": threads, "OMP_NUM_THREADS": threads}
    script = ROOT / "tools/bench/networks.py"
    subprocess.run([python, script, "make", folder], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    speed = ["| network | reference ms | Kinora ms | times as fast | processor time, ms | times as little |",
             "|---|---:|---:|---:|---:|---:|"]
    memory = ["| network | | weights as stored | stay | peak while loading / stay | for one run | for twice the frames |",
              "|---|---|---:|---:|---:|---:|---:|"]
    rounds = str(max(1, a.rounds // 4))
    for name, title in NETWORKS:
        best = ({}, {})
        for _ in range(a.pairs):
            for side, command in enumerate(([python, script, "time"], [a.examples / "bench_networks"])):
                result = read_json([*command, name, folder / name, rounds], environment)
                for key, value in result.items():
                    best[side][key] = min(value, best[side].get(key, value))
        theirs, mine = best
        speed.append(f"| {title} | {theirs['ms']:.0f} | {mine['ms']:.0f} | **{theirs['ms'] / mine['ms']:.2f}** "
                     f"| {theirs['cpu_ms']:.0f} / {mine['cpu_ms']:.0f} | {theirs['cpu_ms'] / mine['cpu_ms']:.2f} |")
        mega = lambda side, key: f"{side[key] / 1e6:.0f} MB" if key in side else ""
        for whose, side in (("reference", theirs), ("Kinora", mine)):
            ratio = side["loading_peak_bytes"] / side["resident_bytes"]
            memory.append(f"| {title.split(',')[0]} | {whose} | {mega(mine, 'stored_bytes')} | {mega(side, 'resident_bytes')} "
                          f"| {ratio:.2f} | {mega(side, 'work_bytes')} | {mega(side, 'longer_bytes')} |")
    return "\n".join(speed), "\n".join(memory)


def compare_cases(a, folder: Path) -> str:
    """The table of whole calls of every family's tiny model."""
    environment = {**os.environ, "RAYON_NUM_THREADS": str(a.threads), "BENCH_THREADS": str(a.threads), "OMP_NUM_THREADS": str(a.threads)}
    script, rounds = ROOT / "tools/bench/cases.py", str(max(1, a.rounds // 4))
    subprocess.run([sys.executable, script, "make", folder], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    cases = sorted(model.parent for model in folder.glob("*/model"))
    best = ({}, {})
    for _ in range(a.pairs):
        for side, command in enumerate(([sys.executable, script, "time", folder, rounds], [a.examples / "bench_cases", rounds, *cases])):
            for name, result in read_json(command, environment).items():
                kept = best[side].setdefault(name, result)
                best[side][name] = {key: min(value, kept[key]) for key, value in result.items()}
    theirs, mine = best
    table = ["| case | reference ms | Kinora ms | times as fast | processor time, ms | times as little |", "|---|---:|---:|---:|---:|---:|"]
    for name in theirs:
        them, us = theirs[name], mine[name]
        table.append(f"| {name} | {them['ms']:.1f} | {us['ms']:.1f} | **{them['ms'] / us['ms']:.1f}** "
                     f"| {them['cpu_ms']:.1f} / {us['cpu_ms']:.1f} | {them['cpu_ms'] / us['cpu_ms']:.1f} |")
    return "\n".join(table)


def fill(page: str, name: str, text: str) -> str:
    """The page with `text` between the marks of that name."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, rest = page.split(begin, 1)
    return f"{before}{begin}\n{text}\n{end}{rest.split(end, 1)[1]}"


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--examples", type=Path, default=ROOT / "target/release/examples")
    ap.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    ap.add_argument("--pairs", type=int, default=3, help="how often the two sides take turns")
    ap.add_argument("--rounds", type=int, default=8, help="rounds of one turn")
    ap.add_argument("--out", type=Path)
    ap.add_argument("--only", default="starter,middle,networks,cases,queue", type=lambda text: text.split(","))
    a = ap.parse_args()
    load = os.getloadavg()[0]
    sections = {}
    with tempfile.TemporaryDirectory() as folder:
        if "starter" in a.only or "middle" in a.only:
            sections["speed"] = compare(a, Path(folder))
        if "networks" in a.only:
            sections["networks"], sections["memory"] = compare_networks(a, Path(folder) / "networks")
        if "cases" in a.only:
            sections["cases"] = compare_cases(a, Path(folder) / "cases")
    is_good = True
    if "queue" in a.only:
        queue = subprocess.run([a.examples / "queue_bench"], capture_output=True, text=True)
        print(queue.stderr, end="", file=sys.stderr)
        is_good, sections["queue"] = queue.returncode == 0, queue.stdout.strip()
    sections["machine"] = "\n".join((
        f"- Machine: {describe_machine()}", f"- Versions: {describe_versions()}",
        f"- {a.threads} threads on each side, activations in f32; best of {a.pairs} turns of {a.rounds} rounds (a quarter "
        f"of that for the middle model, the single networks and the tiny cases)",
        f"- {datetime.date.today().isoformat()}; load average when it began: {load:.2f}"))
    for name, text in sections.items():
        print(f"\n## {name}\n\n{text}")
    if a.out:
        page = a.out.read_text()
        for name, text in sections.items():
            page = fill(page, name, text)
        a.out.write_text(page)
    if not is_good:
        sys.exit("the queue missed a limit")


if __name__ == "__main__":
    main()
