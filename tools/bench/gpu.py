#!/usr/bin/env python3
"""Whole denoisers at full size on a GPU, random weights, against the reference library (eager and compiled).

gpu.py --examples FOLDER [--out FILE]                  seconds of a step, peak memory and their ratio, as a table
gpu.py --examples FOLDER --device cpu --tiny           the same code path anywhere, with tiny networks
gpu.py reference NETWORK …                             the reference's half alone, as one line of JSON

FOLDER holds the program `bench_gpu` (cargo build --release -p kinora-diffusion --features cuda --example bench_gpu).
"""
import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent

# Name, Kinora's network, class of the reference, what a step sees: text tokens, frames, rows and columns of latents
# (FLUX.1: rows and columns of its tokens).
CASES = {
    "flux_dev": ("flux", "FluxTransformer2DModel", "1024 × 1024", (512, 1, 64, 64), (7, 1, 4, 6)),
    "sdxl": ("unet", "UNet2DConditionModel", "1024 × 1024, two rows", (77, 1, 128, 128), (7, 1, 8, 12)),
    "wan22_i2v_a14b": ("wan", "WanTransformer3DModel", "832 × 480, 81 frames", (512, 21, 60, 104), (7, 3, 4, 6)),
    "ltx2": ("ltx2", "LTX2VideoTransformer3DModel", "768 × 512, 121 frames, sound", (1024, 16, 16, 24), (7, 2, 3, 4)),
}
# Of LTX-2's sound, for each latent frame of the clip.
SOUND_TOKENS = 8


def config_of(name: str, tiny: bool) -> Path:
    return HERE / "gpu" / f"{name}{'.tiny' if tiny else ''}.json"


def sizes_of(name: str, tiny: bool) -> tuple[int, int, int, int]:
    return CASES[name][4 if tiny else 3]


def reference(name: str, tiny: bool, device: str, dtype: str, rounds: int, compiled: bool) -> dict:
    import diffusers
    import torch

    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    number = {"f32": torch.float32, "bf16": torch.bfloat16}[dtype]
    config = json.loads(config_of(name, tiny).read_text())
    # Weights are made where they stay.
    torch.set_default_dtype(number)
    with torch.device(device):
        model = getattr(diffusers, CASES[name][1]).from_config(config)
    torch.set_default_dtype(torch.float32)
    model = model.to(device=device, dtype=number).eval()
    text, frames, rows, columns = sizes_of(name, tiny)
    draw = lambda *shape: torch.randn(*shape, device=device, dtype=number)
    time_of = lambda count: torch.full((count,), 500.0, device=device)
    if name == "flux_dev":
        inputs = dict(
            hidden_states=draw(1, rows * columns, config["in_channels"]),
            encoder_hidden_states=draw(1, text, config["joint_attention_dim"]),
            pooled_projections=draw(1, config["pooled_projection_dim"]),
            timestep=time_of(1) / 1000, guidance=torch.full((1,), 3.5, device=device),
            txt_ids=torch.zeros(text, 3, device=device),
            img_ids=torch.stack([torch.zeros(rows * columns), torch.arange(rows).repeat_interleave(columns),
                                 torch.arange(columns).repeat(rows)], 1).float().to(device))
    elif name == "sdxl":
        pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
        inputs = dict(
            sample=draw(2, 4, rows, columns), timestep=time_of(2),
            encoder_hidden_states=draw(2, text, config["cross_attention_dim"]),
            added_cond_kwargs=dict(text_embeds=draw(2, pooled), time_ids=draw(2, 6)))
    elif name == "ltx2":
        heard = frames * SOUND_TOKENS
        inputs = dict(
            hidden_states=draw(1, frames * rows * columns, config["in_channels"]),
            audio_hidden_states=draw(1, heard, config["audio_in_channels"]),
            encoder_hidden_states=draw(1, text, config["caption_channels"]),
            audio_encoder_hidden_states=draw(1, text, config["caption_channels"]),
            timestep=time_of(1), sigma=time_of(1), num_frames=frames, height=rows, width=columns, fps=24.0,
            audio_num_frames=heard)
    else:
        inputs = dict(
            hidden_states=draw(1, config["in_channels"], frames, rows, columns), timestep=time_of(1),
            encoder_hidden_states=draw(1, text, config["text_dim"]))
    call = torch.compile(model) if compiled else model
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    call(**inputs, return_dict=False)
    wait()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call(**inputs, return_dict=False)
        wait()
        times.append((time.perf_counter() - start) * 1000)
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else 0
    return {"ms": min(times), "middle_ms": sorted(times)[rounds // 2], "peak_bytes": peak}


def ask(command: list[str]) -> dict | None:
    """One line of JSON of a process of its own, so that memory is counted for it alone; None when it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        print(f"  failed: {' '.join(command[:4])} …\n{done.stderr[-600:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def compare(options) -> list[str]:
    lines = [
        "| network | a step of | Kinora | eager | compiled | Kinora / eager | Kinora / compiled | peak memory | eager's |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    program = str(Path(options.examples) / "bench_gpu")
    for name, (network, _, told, *_) in CASES.items():
        sizes = ",".join(map(str, sizes_of(name, options.tiny)))
        ours = ask([program, network, str(config_of(name, options.tiny)), sizes, options.device, options.dtype,
                    str(options.rounds)])
        theirs = {}
        for kind in ("eager", "compiled") if options.compiled else ("eager",):
            theirs[kind] = ask([sys.executable, __file__, "reference", name, options.device, options.dtype,
                                str(options.rounds), kind, "tiny" if options.tiny else "full"])
        seconds = lambda result: f"{result['ms'] / 1000:.3f} s" if result else "–"
        ratio = lambda kind: f"{ours['ms'] / theirs[kind]['ms']:.2f}" if ours and theirs.get(kind) else "–"
        gigabytes = lambda result: f"{result['peak_bytes'] / 1e9:.1f} GB" if result and result["peak_bytes"] else "–"
        lines.append(
            f"| {name} | {'tiny' if options.tiny else told} | {seconds(ours)} | {seconds(theirs.get('eager'))} | "
            f"{seconds(theirs.get('compiled'))} | {ratio('eager')} | {ratio('compiled')} | {gigabytes(ours)} | "
            f"{gigabytes(theirs.get('eager'))} |")
    return lines


def main():
    if sys.argv[1:2] == ["reference"]:
        name, device, dtype, rounds, kind, size = sys.argv[2:8]
        print(json.dumps(reference(name, size == "tiny", device, dtype, int(rounds), kind == "compiled")))
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--examples", required=True)
    parser.add_argument("--out")
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", default="bf16", choices=["f32", "bf16"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--no-compiled", dest="compiled", action="store_false")
    options = parser.parse_args()
    table = "\n".join(compare(options)) + "\n"
    print(table)
    if options.out:
        heading = "# Denoisers on a GPU\n\nOne step with random weights; the best of several. Written by `make bench GPU=1`.\n\n"
        Path(options.out).write_text(heading + table)


if __name__ == "__main__":
    main()
