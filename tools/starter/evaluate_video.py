#!/usr/bin/env python3
"""Tells from the pixels of clips whether what was asked for moved, and how far; rendered clips are the ceiling.

    python evaluate_video.py rendered --count 8
    python evaluate_video.py model ../../starter/video --count 8 --sheet sheet.jpg
    python evaluate_video.py kinora ../../target/release/kinora --count 8      # the same through the program; needs ffmpeg

Pictures are of held-out combinations. The judge knows where the thing stands in the given picture and nothing of the model: it
looks for that patch of the picture in a later frame. A movement counts when it has the asked direction and at least half and at
most twice the asked length; falling snow and rain when there are many small bright spots that were not there and that went down
from one frame to the next; a sunrise when there is a bright disc at its end that was not there.
"""

import argparse
import time

import numpy as np

import motion
from render import FALL, Painter

KINDS = ("light", "clouds", "boat", "balloon", "fall")
LATER = 20  # the frame that is looked at: far enough to tell, and most things are still in sight


def _grey(clip):
    return clip.astype(np.float32).mean(-1)


def _best_shift(first, later, box, axis, reach):
    """By how many pixels along an axis (0 rows, 1 columns) the patch in a box is found again, and how well (0..1)."""
    x0, y0, x1, y1 = (int(round(v)) for v in box)
    height, width = first.shape[:2]
    x0, x1, y0, y1 = max(0, x0), min(width, x1), max(0, y0), min(height, y1)
    patch, best = first[y0:y1, x0:x1], (0, -1.0)
    for d in range(-reach, reach + 1):
        dx, dy = (0, d) if axis == 0 else (d, 0)
        a0, a1, b0, b1 = max(0, x0 + dx), min(width, x1 + dx), max(0, y0 + dy), min(height, y1 + dy)
        if (a1 - a0) * (b1 - b0) < 0.6 * patch.shape[0] * patch.shape[1]:
            continue
        part = patch[b0 - y0 - dy : b1 - y0 - dy, a0 - x0 - dx : a1 - x0 - dx]
        other = later[b0:b1, a0:a1]
        p, q = part - part.mean((0, 1)), other - other.mean((0, 1))
        score = float((p * q).sum() / (np.sqrt((p * p).sum() * (q * q).sum()) + 1e-6))
        if score > best[1]:
            best = (d, score)
    return best


def _fine(grey):
    """What is small and bright: a frame less its blur over 9 pixels."""
    pad = np.pad(grey, 4, mode="edge")
    total = np.cumsum(np.cumsum(np.pad(pad, ((1, 0), (1, 0))), 0), 1)
    blur = (total[9:, 9:] - total[:-9, 9:] - total[9:, :-9] + total[:-9, :-9]) / 81
    return np.clip(grey - blur, 0, None)


def _overlap(a, b, dx, dy):
    """How much of a frame's bright spots lie on those of the next one, moved by (dx, dy)."""
    h, w = a.shape
    before = a[max(0, -dy) : h - max(0, dy), max(0, -dx) : w - max(0, dx)]
    after = b[max(0, dy) : h - max(0, -dy), max(0, dx) : w - max(0, -dx)]
    return float((before * after).mean())


def _drift(first, later, reach=70):
    """The shift of columns that explains best what changed; 0 when little did."""
    changed = np.abs(first - later).sum(-1) > 36
    if changed.mean() < 0.01:
        return 0
    best, width = (np.inf, 0), first.shape[1]
    for d in range(-reach, reach + 1):
        seen = slice(max(0, d), width - max(0, -d))
        where = changed[:, seen]
        if where.mean() < 0.005:
            continue
        error = np.abs(first[:, max(0, -d) : width - max(0, d)] - later[:, seen]).sum(-1)[where].mean()
        best = min(best, (error, d))
    return best[1]


def judge(scene, moves, kind, clip):
    """Whether a movement is seen in a clip, and its length against the asked one (1 is right)."""
    value, (height, width) = getattr(moves, kind), clip.shape[1:3]
    painter = Painter(scene, width, height)
    painter.paint()
    scale, unit = painter.scale, painter.unit / painter.scale
    first, later, frames = clip[0].astype(np.float32), clip[LATER].astype(np.float32), clip
    if kind == "fall":
        fine = [_fine(_grey(clip[k])) for k in (0, LATER, LATER + 1)]
        gained = (fine[1] > 12).mean() - (fine[0] > 12).mean()
        a, b = (np.clip(f - fine[0], 0, None)[: height // 2] for f in fine[1:])
        fell = max((_overlap(a, b, dx, dy), dy) for dx in range(-3, 4) for dy in range(-10, 11))[1]
        return gained > 0.01 and fell > 0, fell / FALL[value][1]
    if kind == "light" and value == "rises" and not motion.has_light(scene):
        x, y, r = painter.light_x / scale, painter.light_y / scale, 0.06 * unit
        box = slice(int(y - r), int(y + r)), slice(int(x - r), int(x + r))
        gained = frames[-1][box].astype(np.float32).mean() - frames[0][box].astype(np.float32).mean()
        sky = (
            frames[-1][: int(height * 0.5)].astype(np.float32).mean()
            - frames[0][: int(height * 0.5)].astype(np.float32).mean()
        )
        return gained - sky > 15, min(2.0, max(0.0, (gained - sky) / 40))
    if kind == "light":
        x, y, r = painter.light_x / scale, painter.light_y / scale, 0.115 * unit
        at, speed, axis = 10, (motion.SINKING if value == "sets" else -motion.CLIMBING), 0
        later, box = clip[at].astype(np.float32), (x - r, y - r, x + r, y + r)
        asked = speed * at
    elif kind == "clouds":
        share = _drift(first[: int(height * 0.3)], later[: int(height * 0.3)]) / (motion.DRIFTING * LATER)
        share = -share if value == "left" else share
        return 0.5 <= share <= 2, share
    else:
        moment = motion.moment(scene, moves, LATER)
        x, size = painter.thing_x / scale, 0.17 * unit
        y = 0.3 * height if kind == "balloon" else painter.ground / scale - 0.13 * unit
        axis, asked = (0, moment.thing_y) if kind == "balloon" else (1, moment.thing_x)
        box = (x - size, y - size, x + size, y + size)
    found, score = _best_shift(first, later, box, axis, 70)
    share = found / asked
    return score > 0.3 and 0.5 <= share <= 2, share


def draw_tasks(count, seed=70):
    """Held-out scenes with one movement each, `count` of each kind, with plain prompts."""
    rng, tasks = np.random.default_rng(seed), []
    for kind in KINDS:
        for _ in range(count):
            scene, moves = motion.sample(rng, held_out=True, only=kind)
            tasks.append((kind, scene, moves, motion.prompt(rng, scene, moves, is_plain=True)))
    return tasks


def make_maker(folder, steps, size):
    """A function that makes a clip from a picture and a prompt with the reference pipeline."""
    import torch
    from diffusers import WanImageToVideoPipeline
    from PIL import Image

    pipeline = WanImageToVideoPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)

    def make(picture, prompt, seed):
        frames = pipeline(
            image=Image.fromarray(picture), prompt=prompt, negative_prompt="", width=size[0], height=size[1], num_frames=motion.FRAMES,
            num_inference_steps=steps, guidance_scale=1.0, generator=torch.Generator().manual_seed(seed), output_type="np",
        ).frames[0]  # fmt: skip
        return (frames * 255).round().astype(np.uint8)

    return make


def make_maker_of_program(program, steps, size):
    """The same with Kinora's own program and its built-in model."""
    import os
    import subprocess
    import tempfile

    from PIL import Image

    folder = tempfile.mkdtemp()

    def make(picture, prompt, seed):
        path = os.path.join(folder, f"{seed}.png")
        Image.fromarray(picture).save(path)
        subprocess.run(
            [
                program, "generate", prompt, "--plain", "--model", "starter-video", "--image", path, "--size", f"{size[0]}x{size[1]}",
                "--frames", str(motion.FRAMES), "--steps", str(steps), "--seed", str(seed), "--output", str(seed), "-q",
            ],
            env=dict(os.environ, KINORA_DATA_DIR=os.path.join(folder, "data")), check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        clip = os.path.join(folder, "data", "outputs", f"{seed}.mp4")
        raw = subprocess.run(
            ["ffmpeg", "-loglevel", "error", "-i", clip, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], check=True, capture_output=True
        ).stdout  # fmt: skip
        return np.frombuffer(raw, np.uint8).reshape(-1, size[1], size[0], 3)

    return make


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("rendered", "still", "model", "kinora"))
    parser.add_argument("path", nargs="?", help="the model's folder, or the program")
    parser.add_argument("--count", type=int, default=8, help="clips of each kind of movement")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--size", default="256x256")
    parser.add_argument("--sheet", help="write nine frames of the first clips here")
    args = parser.parse_args()
    size = tuple(map(int, args.size.split("x")))
    makers = {"model": make_maker, "kinora": make_maker_of_program}
    make = makers[args.what](args.path, args.steps, size) if args.what in makers else None
    seen, clips, errors, start = {kind: [] for kind in KINDS}, [], {kind: [] for kind in KINDS}, time.time()
    for number, (kind, scene, moves, prompt) in enumerate(draw_tasks(args.count)):
        truth = motion.draw_clip(scene, moves, *size)
        if make:
            clip = make(truth[0], prompt, number)
        else:
            clip = truth if args.what == "rendered" else np.repeat(truth[:1], len(truth), 0)
        seen[kind].append(judge(scene, moves, kind, clip))
        errors[kind].append(np.square(clip.astype(np.float32) - truth).mean() / 255**2)
        if number % args.count < 2:
            clips.append(clip)
    for kind, results in seen.items():
        right, share = np.mean([r for r, _ in results]), np.median([s for _, s in results])
        quality = -10 * np.log10(np.mean(errors[kind]) + 1e-9)
        print(
            f"{kind:8} asked {len(results)}  seen {100 * right:5.1f} %  length {share:5.2f} of the asked one  {quality:.1f} dB to the rendered clip"
        )
    total = np.mean([r for results in seen.values() for r, _ in results])
    print(f"total    {100 * total:.1f} %, {time.time() - start:.0f} s")
    if args.sheet:
        motion.write_sheet(args.sheet, clips, size)


if __name__ == "__main__":
    main()
