#!/usr/bin/env python3
"""Trains the starter model, step by step or all at once, and exports it as a FLUX.1-schnell folder.

Every step reads and writes a run folder, can be killed at any moment and goes on from its last checkpoint. See README.md for
the recipes; `python train.py STEP --help` for the options of a step.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch

import autoencoder
import text
import transformer


def draw_pictures(seed):
    """An endless source of fresh training pictures: a function of their number."""
    from render import render
    from scenes import sample_scene

    rng = np.random.default_rng(seed)

    def draw(count):
        return np.stack([np.asarray(render(sample_scene(rng))) for _ in range(count)])

    return draw


def run_text(args):
    """Tokenizers and text encoders."""
    text.train_tokenizers(args.run)
    text.train_encoders(args.run, args.minutes, args.device)


def run_latents(args):
    """The linear encoder, then latents and text states of the data sets."""
    with np.load(args.data[0], allow_pickle=False) as file:
        torch.save(autoencoder.fit_projection(file["x_256x256"][:1500]), os.path.join(args.run, "projection.pt"))
    transformer.prepare(args.run, args.data, args.captions)


def run_decoder(args):
    """The decoder of the autoencoder."""
    autoencoder.train_decoder(
        args.run, draw_pictures(777), args.steps, args.batch, args.crop, device=args.device, amp=not args.full_precision
    )


def run_transformer(args):
    """The transformer; with --workers, as several one-thread processes that average their weights."""
    if args.workers > 1 and "RANK" not in os.environ:
        with tempfile.TemporaryDirectory() as folder:
            environment = dict(
                os.environ, WORLD_SIZE=str(args.workers), TEAM_FILE=os.path.join(folder, "team"), OMP_NUM_THREADS="1"
            )
            team = [
                subprocess.Popen([sys.executable, *sys.argv], env=dict(environment, RANK=str(rank)))
                for rank in range(args.workers)
            ]
            sys.exit(max(worker.wait() for worker in team))
    if args.workers > 1:
        torch.set_num_threads(1)
    transformer.train(
        args.run, samples=args.samples, minutes=args.minutes, finish=args.finish, batch=args.batch, rate=args.rate, muon_rate=args.muon_rate,
        average_decay=args.average, emphasis=args.emphasis, device=args.device, amp=not args.full_precision, is_compiled=args.compile,
    )  # fmt: skip


def build_pipeline(run, dtype):
    """The reference pipeline out of a run folder's parts."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline

    tokenizers, clip, t5 = text.load_encoders(run)
    model, seen = transformer.load_average(run)
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1.0, use_dynamic_shifting=False)
    pipeline = FluxPipeline(
        scheduler=scheduler, vae=autoencoder.load_network(run).to(dtype), text_encoder=clip.to(dtype), tokenizer=tokenizers[0],
        text_encoder_2=t5.to(dtype), tokenizer_2=tokenizers[1], transformer=model.to(dtype),
    )  # fmt: skip
    return pipeline, seen


def run_export(args):
    """The diffusers folder, bf16."""
    pipeline, seen = build_pipeline(args.run, torch.bfloat16)
    pipeline.save_pretrained(args.to)
    for name in ("tokenizer/vocab.json", "tokenizer/merges.txt", "tokenizer_2/spiece.model"):
        shutil.copy(os.path.join(args.run, name), os.path.join(args.to, name))
    total = 0
    for folder, _, names in os.walk(args.to):
        for name in names:
            path = os.path.join(folder, name)
            if name.endswith(".json"):
                _drop_machine_paths(path)
            total += os.path.getsize(path)
            print(f"{os.path.getsize(path) / 1e6:8.3f} MB  {os.path.relpath(path, args.to)}")
    print(f"{total / 1e6:8.3f} MB in all, transformer after {seen} samples")


def _drop_machine_paths(path):
    """Configurations remember where they were loaded from; a published file must not."""
    with open(path, encoding="utf-8") as file:
        data = json.load(file)
    if isinstance(data, dict) and data.pop("_name_or_path", None) is not None:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(data, file, indent=2)


@torch.no_grad()
def run_sheet(args):
    """A sheet of held-out prompts painted by the present weights, prompts below; the decoder or, with --linear, none."""
    from PIL import Image, ImageDraw

    from captions import caption
    from scenes import sample_scene

    rng = np.random.default_rng(args.seed)
    prompts = [caption(sample_scene(rng, held_out=True), rng, is_full=True) for _ in range(24)]
    tokenizers, clip, t5 = text.load_encoders(args.run)
    model, seen = transformer.load_average(args.run)
    pooled, states = text.encode(tokenizers, clip, t5, prompts)
    latents = transformer.sample(model, pooled, states, 16, 16, args.steps, args.seed)
    if args.linear:
        images = autoencoder.unproject(torch.load(os.path.join(args.run, "projection.pt")), latents)
    else:
        images = autoencoder.load_network(args.run).decoder(latents)
    page = Image.new("RGB", (6 * 260, 4 * 274), "white")
    draw = ImageDraw.Draw(page)
    for i, pixels in enumerate(autoencoder.to_pixels(images)):
        page.paste(Image.fromarray(pixels), (i % 6 * 260, i // 6 * 274))
        draw.text((i % 6 * 260, i // 6 * 274 + 258), prompts[i][:46], fill="black")
    page.save(args.to, quality=85)
    print(f"{args.to}: transformer after {seen} samples")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(dest="step", required=True)

    def add(name, action):
        step = steps.add_parser(
            name,
            help=action.__doc__,
            description=action.__doc__,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        step.set_defaults(action=action)
        step.add_argument("--run", default="run", help="the run folder")
        step.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
        step.add_argument("--threads", type=int, default=2)
        return step

    step = add("text", run_text)
    step.add_argument("--minutes", type=float, default=5)
    step = add("latents", run_latents)
    step.add_argument("--data", nargs="+", required=True, help="data sets of render.py")
    step.add_argument("--captions", type=int, default=2, help="captions of each picture")
    step = add("decoder", run_decoder)
    step.add_argument("--steps", type=int, default=4000)
    step.add_argument("--batch", type=int, default=6)
    step.add_argument("--crop", type=int, default=128, help="pixels; a multiple of 16, at most 256")
    step.add_argument("--full-precision", action="store_true", help="no bfloat16")
    step = add("transformer", run_transformer)
    step.add_argument("--samples", type=int, help="stop after this many samples in all; default: go on until killed")
    step.add_argument(
        "--minutes", type=float, help="a whole training in this wall-clock time, the rate falling in the last 30 %%"
    )
    step.add_argument(
        "--finish", type=int, help="from the checkpoint, this many samples with a falling rate, written beside it"
    )
    step.add_argument("--batch", type=int, default=32)
    step.add_argument("--rate", type=float, default=2e-3, help="AdamW: modulations, embeddings, first and last layer")
    step.add_argument("--muon-rate", type=float, default=0.02, help="Muon: the blocks' matrices")
    step.add_argument("--average", type=float, default=0.998, help="decay of the weight average")
    step.add_argument(
        "--emphasis", type=float, default=1.0, help="how much coarse latent channels outweigh fine ones in the loss"
    )
    step.add_argument("--workers", type=int, default=1, help="processes of one thread each (CPU)")
    step.add_argument("--compile", action="store_true", help="torch.compile: half as fast again, after a minute or two")
    step.add_argument("--full-precision", action="store_true", help="no bfloat16")
    step = add("export", run_export)
    step.add_argument("--to", required=True, help="the folder to write")
    step = add("sheet", run_sheet)
    step.add_argument("--to", default="sheet.jpg")
    step.add_argument("--steps", type=int, default=8)
    step.add_argument("--seed", type=int, default=4)
    step.add_argument("--linear", action="store_true", help="without the trained decoder")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    os.makedirs(args.run, exist_ok=True)
    start = time.time()
    args.action(args)
    print(f"{args.step}: {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
