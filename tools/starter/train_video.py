#!/usr/bin/env python3
"""Trains the video starter, step by step, and exports it as a folder of the reference library.

Every step reads and writes a run folder, can be killed at any moment and goes on from its last checkpoint. See README.md for
the recipes; `python train_video.py STEP --help` for the options of a step.
"""

import argparse
import glob
import json
import multiprocessing
import os
import shutil
import time

import numpy as np
import torch

import motion
import video_autoencoder as autoencoder
import video_text


def run_text(args):
    """Tokenizer and text encoder."""
    if not os.path.exists(os.path.join(args.run, "tokenizer")):
        video_text.train_tokenizer(args.run)
    video_text.train_encoder(args.run, args.steps)


def _draw(job):
    seed, width, height = job
    rng = np.random.default_rng(seed)
    scene, moves = motion.sample(rng)
    return scene, moves, motion.draw_clip(scene, moves, width, height)


def run_clips(args):
    """Raw clips for the linear encoder and the decoder, and the linear encoder."""
    with multiprocessing.Pool(args.processes) as pool:
        drawn = pool.imap(_draw, [((11, i), 256, 256) for i in range(args.count)], 4)
        clips = np.lib.format.open_memmap(
            os.path.join(args.run, "clips.npy"), "w+", np.uint8, (args.count, motion.FRAMES, 256, 256, 3)
        )
        for i, (_, _, clip) in enumerate(drawn):
            clips[i] = clip
    clips.flush()
    projection = autoencoder.fit_projection(clips[:60])
    torch.save(projection, os.path.join(args.run, "projection.pt"))


def run_latents(args):
    """Latents of many clips with their prompts, in shards; each call adds some. Every clip also comes mirrored."""
    projection = torch.load(os.path.join(args.run, "projection.pt"))
    folder = os.path.join(args.run, "latents")
    os.makedirs(folder, exist_ok=True)
    for _ in range(args.shards):
        number = len(glob.glob(os.path.join(folder, "*.pt")))
        size = motion.SIZES[number % len(motion.SIZES)]
        jobs = [((number + 100, i), *size) for i in range(args.count)]
        latents, scenes = [], []
        with multiprocessing.Pool(args.processes) as pool:
            for scene, moves, clip in pool.imap(_draw, jobs, 4):
                frames = autoencoder.to_unit(clip)
                for is_mirrored in (False, True):
                    latents.append(autoencoder.project(projection, frames.flip(3) if is_mirrored else frames).half())
                    shown = (scene.mirrored(), moves.mirrored()) if is_mirrored else (scene, moves)
                    scenes.append(shown)
        path = os.path.join(folder, f"{number:03}-{size[0]}x{size[1]}.pt")
        state = {"latents": torch.stack(latents), "scenes": [(s.to_dict(), vars(m)) for s, m in scenes]}
        torch.save(state, path + ".new")
        os.replace(path + ".new", path)
        print(f"{time.strftime('%H:%M:%S')} {path}: {len(latents)} clips", flush=True)


def run_decoder(args):
    """The decoder of the autoencoder."""
    clips = np.load(os.path.join(args.run, "clips.npy"), mmap_mode="r")
    autoencoder.train_decoder(
        args.run, clips, args.steps, args.batch, args.crop, device=args.device, amp=not args.full_precision
    )


def run_transformer(args):
    """The transformer."""
    import video_transformer as transformer

    transformer.train(
        args.run, minutes=args.minutes, batch=args.batch, rate=args.rate, muon_rate=args.muon_rate, average_decay=args.average,
        device=args.device, amp=not args.full_precision, is_compiled=args.compile,
    )  # fmt: skip


def build_pipeline(run, dtype):
    """The reference pipeline out of a run folder's parts."""
    from diffusers import UniPCMultistepScheduler, WanImageToVideoPipeline

    import video_transformer as transformer

    tokenizer, text = video_text.load_encoder(run)
    model, seen = transformer.load_average(run)
    scheduler = UniPCMultistepScheduler(
        num_train_timesteps=1000, prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=transformer.SHIFT
    )
    pipeline = WanImageToVideoPipeline(
        tokenizer=tokenizer, text_encoder=text.to(dtype), vae=autoencoder.load_network(run).to(dtype), scheduler=scheduler,
        image_processor=None, image_encoder=None, transformer=model.to(dtype), transformer_2=None, expand_timesteps=True,
    )  # fmt: skip
    return pipeline, seen


def run_export(args):
    """The folder of the reference library, bf16."""
    pipeline, seen = build_pipeline(args.run, torch.bfloat16)
    shutil.rmtree(args.to, ignore_errors=True)
    pipeline.save_pretrained(args.to)
    shutil.copy(os.path.join(args.run, "tokenizer", "spiece.model"), os.path.join(args.to, "tokenizer", "spiece.model"))
    total = 0
    for folder, _, names in os.walk(args.to):
        for name in names:
            path = os.path.join(folder, name)
            if name.endswith(".json"):
                _drop_machine_paths(path)
            total += os.path.getsize(path)
            print(f"{os.path.getsize(path) / 1e6:8.3f} MB  {os.path.relpath(path, args.to)}")
    print(f"{total / 1e6:8.3f} MB in all, transformer after {seen} clips")


def _drop_machine_paths(path):
    """Configurations remember where they were loaded from; a published file must not."""
    with open(path, encoding="utf-8") as file:
        data = json.load(file)
    if isinstance(data, dict) and data.pop("_name_or_path", None) is not None:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(data, file, indent=2)


def run_sheet(args):
    """A sheet of held-out pictures set in motion by the present weights, nine frames a row."""
    import video_transformer as transformer

    rng = np.random.default_rng(args.seed)
    drawn = [
        motion.sample(rng, held_out=True, only=kind)
        for kind in ("light", "light", "clouds", "boat", "boat", "balloon", "fall", "fall")
    ]
    prompts = [motion.prompt(rng, *d, is_plain=True) for d in drawn]
    projection = torch.load(os.path.join(args.run, "projection.pt"))
    firsts = [autoencoder.to_unit(motion.draw_clip(*d, frames=1)) for d in drawn]
    latents = torch.stack([autoencoder.project(projection, f) for f in firsts])
    states, counts = video_text.encode(*video_text.load_encoder(args.run), prompts)
    model, seen = transformer.load_average(args.run)
    out = transformer.sample(model, latents, states, counts, 9, args.steps, args.seed)
    with torch.no_grad():
        network = autoencoder.load_network(args.run)
        frames = torch.cat([autoencoder.decode(network, out[i : i + 1]) for i in range(len(out))])
    motion.write_sheet(args.to, list(autoencoder.to_pixels(frames)))
    print(f"{args.to}: transformer after {seen} clips;", "; ".join(prompts))


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
        step.add_argument("--run", default="video-run", help="the run folder")
        step.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
        step.add_argument("--threads", type=int, default=2)
        return step

    step = add("text", run_text)
    step.add_argument("--steps", type=int, default=1500)
    step = add("clips", run_clips)
    step.add_argument("--count", type=int, default=160)
    step.add_argument("--processes", type=int, default=2)
    step = add("latents", run_latents)
    step.add_argument("--count", type=int, default=100, help="clips of a shard, each also mirrored")
    step.add_argument("--shards", type=int, default=20)
    step.add_argument("--processes", type=int, default=2)
    step = add("decoder", run_decoder)
    step.add_argument("--steps", type=int, default=3000)
    step.add_argument("--batch", type=int, default=3)
    step.add_argument("--crop", type=int, default=80, help="pixels; a multiple of 16")
    step.add_argument("--full-precision", action="store_true", help="no bfloat16")
    step = add("transformer", run_transformer)
    step.add_argument(
        "--minutes", type=float, help="end after so many, the rate falling to zero; default: go on until killed"
    )
    step.add_argument("--batch", type=int, default=4)
    step.add_argument("--rate", type=float, default=2e-3, help="AdamW: modulations, embeddings, first and last layer")
    step.add_argument("--muon-rate", type=float, default=0.02, help="Muon: the blocks' matrices")
    step.add_argument("--average", type=float, default=0.996, help="decay of the weight average")
    step.add_argument("--compile", action="store_true", help="torch.compile")
    step.add_argument("--full-precision", action="store_true", help="no bfloat16")
    step = add("export", run_export)
    step.add_argument("--to", required=True, help="the folder to write")
    step = add("sheet", run_sheet)
    step.add_argument("--to", default="sheet.jpg")
    step.add_argument("--steps", type=int, default=2)
    step.add_argument("--seed", type=int, default=4)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    os.makedirs(args.run, exist_ok=True)
    start = time.time()
    args.action(args)
    print(f"{args.step}: {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
