#!/usr/bin/env python3
"""Measures how well the exported model follows prompts whose factor combinations it was never trained on.

Shares no code with the renderer, the captions or the model's training: it reads pictures, labels and prompts from .npz files
and runs the exported folder through the stock FluxPipeline. Two judges look at the pictures:
  * a small CNN with one head per factor, trained here on rendered pictures (blurred, jittered, noised) and nothing else;
  * hand-written pixel rules: sky colours tell the time, the best bright disc the side, saturated hues the colour.
The same judges score the rendered pictures of the same scenes: that is the ceiling.

    python render.py dataset judge.npz --count 6000 --seed 50
    python render.py dataset asked.npz --count 200 --seed 60 --held-out
    python evaluate.py judge judge.npz --out judge.pt --minutes 3
    python evaluate.py model ../../starter/image --asked asked.npz --judge judge.pt --steps 8 --sheet sheet.jpg
"""

import argparse
import json
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import uniform_filter
from torch import nn

SIDE_LENGTH = 96  # pixels of the judge's input


def load_pictures(path):
    """Every picture of a data set with its labels and prompt: a list of (picture array, scene dict, prompt)."""
    samples = []
    with np.load(path, allow_pickle=False) as file:
        for key in file.files:
            if key.startswith("x_"):
                scenes, prompts = json.loads(str(file["s_" + key[2:]])), json.loads(str(file["c_" + key[2:]]))
                samples += list(zip(file[key], scenes, prompts))
    return samples


def is_visible(factor, scene):
    """Whether a factor can be told from the picture: no side without sun or moon, no colour without a thing."""
    if factor == "side":
        return scene["light"] in ("sun", "moon", "crescent")
    if factor == "colour":
        return scene["thing"] != "none"
    return True


def is_asked(factor, scene):
    """Whether a prompt asks for this factor. A missing sun or thing goes unsaid and does not count; a clear sky does."""
    return is_visible(factor, scene) and scene[factor] != "none"


# ---------------------------------------------------------------- the CNN judge


class Judge(nn.Module):
    """Five strided convolutions and one linear head per factor."""

    def __init__(self, values):
        super().__init__()
        self.values = values
        widths, layers = (3, 24, 48, 80, 112, 128), []
        for a, b in zip(widths, widths[1:]):
            layers += [nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.ReLU()]
        self.features = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.2))
        self.heads = nn.ModuleDict({name: nn.Linear(128 * 9, len(v)) for name, v in values.items()})

    def forward(self, images):
        x = self.features(images)
        return {name: head(x) for name, head in self.heads.items()}


def prepare_image(picture):
    """A picture of any size as the judge sees it: [1, 3, 96, 96], -0.5..0.5."""
    image = torch.from_numpy(np.array(picture, dtype=np.float32)).permute(2, 0, 1)[None] / 255 - 0.5
    return F.interpolate(image, (SIDE_LENGTH, SIDE_LENGTH), mode="area")


def train_judge(path, out, minutes):
    """Train the CNN on rendered pictures for some minutes."""
    samples = load_pictures(path)
    scenes = [scene for _, scene, _ in samples]
    values = {name: sorted({s[name] for s in scenes}) for name in scenes[0] if name != "seed"}
    images = torch.cat([prepare_image(picture) for picture, _, _ in samples])
    labels = {n: torch.tensor([v.index(s[n]) if is_visible(n, s) else -1 for s in scenes]) for n, v in values.items()}
    judge = Judge(values)
    optimizer = torch.optim.AdamW(judge.parameters(), 2e-3, weight_decay=0.02)
    start, done, epoch = time.process_time(), 0.0, 0
    while done < 1:
        for index in torch.randperm(len(images)).split(64):
            done = min(1.0, (time.process_time() - start) / (60 * minutes))
            for group in optimizer.param_groups:
                group["lr"] = 2e-3 * (1 - done) + 1e-6
            outputs = judge(_disturb(images[index].clone()))
            loss = sum(F.cross_entropy(outputs[n], labels[n][index], ignore_index=-1) for n in values)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        epoch += 1
        print(f"judge: epoch {epoch}, loss {loss.item():.3f}", flush=True)
    torch.save({"values": values, "state": judge.state_dict()}, out)


def _disturb(x):
    """Blur, brightness, tint, noise and shift, so that the judge does not depend on the renderer's exact pixels."""
    if np.random.rand() < 0.5:
        x = 0.6 * F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1) + 0.4 * x
    n = len(x)
    x = (
        x * (1 + 0.08 * torch.randn(n, 1, 1, 1))
        + 0.02 * torch.randn(n, 3, 1, 1)
        + 0.02 * torch.randn_like(x) * np.random.rand()
    )
    return torch.roll(x, [int(v) for v in np.random.randint(-4, 5, 2)], (2, 3))


def load_judge(path):
    """The trained judge, ready to look."""
    saved = torch.load(path)
    judge = Judge(saved["values"])
    judge.load_state_dict(saved["state"])
    return judge.eval()


# ------------------------------------------------------------------ pixel rules


def sky_bands(picture):
    """Median colours of four bands of the upper half."""
    a = np.asarray(picture, np.float32) / 255
    height = a.shape[0]
    bands = ((0, 0.06), (0.12, 0.2), (0.28, 0.36), (0.42, 0.5))
    return np.concatenate([np.median(a[int(y0 * height) : int(y1 * height)].reshape(-1, 3), 0) for y0, y1 in bands])


def tell_time(picture, references):
    """The commonest time among the five reference skies that are nearest."""
    bands = sky_bands(picture)
    nearest = sorted((float(np.abs(bands - other).sum()), time) for other, time in references)[:5]
    times = [time for _, time in nearest]
    return max(set(times), key=times.count)


def tell_side(picture):
    """Which half of the sky holds the best disc: an even patch of the size of sun or moon, brighter than the ring around it."""
    a = np.asarray(picture.resize((64, 64), Image.BOX), np.float32) / 255
    light = a[..., :2].mean(2)
    disc = uniform_filter(light, 9)
    ring = (uniform_filter(light, 21) * 21**2 - uniform_filter(light, 13) * 13**2) / (21**2 - 13**2)
    unevenness = np.sqrt(np.maximum(uniform_filter(light * light, 9) - disc**2, 0))
    best = (disc - ring - 0.3 * unevenness)[8:26, 6:58].max(0)
    return "left" if best[:26].max() > best[26:].max() else "right"


HUES = {"red": (-20, 18), "yellow": (36, 58), "green": (100, 170), "blue": (198, 236), "purple": (255, 300)}


def tell_colour(picture, thing):
    """The hue class most present among saturated pixels that differ from their row's median; white when there is none."""
    a = np.asarray(picture.resize((96, 96), Image.BOX), np.float32) / 255
    stands_out = np.abs(a - np.median(a, 1, keepdims=True)).sum(2) > 0.38
    stands_out[slice(60, None) if thing == "balloon" else slice(0, 44)] = False
    high, low = a.max(2), a.min(2)
    r, g, b = a[..., 0], a[..., 1], a[..., 2]
    span = high - low + 1e-6
    hue = 60 * np.where(high == r, ((g - b) / span) % 6, np.where(high == g, (b - r) / span + 2, (r - g) / span + 4))
    hue = np.where(hue > 335, hue - 360, hue)
    is_vivid = (high - low) / (high + 1e-6) > 0.45
    counts = {name: int((stands_out & is_vivid & (hue >= a0) & (hue <= a1)).sum()) for name, (a0, a1) in HUES.items()}
    best = max(counts, key=counts.get)
    return best if counts[best] >= 90 else "white"


# ------------------------------------------------------------------------ score


def judge_pictures(pictures, scenes, judge, references):
    """For each judge and factor, the list of right (True) and wrong answers over the pictures that ask for it."""
    with torch.no_grad():
        outputs = judge(torch.cat([prepare_image(p) for p in pictures]))
    answers = {name: [judge.values[name][i] for i in o.argmax(1).tolist()] for name, o in outputs.items()}
    verdicts = {}
    for i, scene in enumerate(scenes):
        for name in judge.values:
            if is_asked(name, scene):
                verdicts.setdefault(f"cnn {name}", []).append(answers[name][i] == scene[name])
        verdicts.setdefault("rule time", []).append(tell_time(pictures[i], references) == scene["time"])
        if is_asked("side", scene):
            verdicts.setdefault("rule side", []).append(tell_side(pictures[i]) == scene["side"])
        if is_asked("colour", scene):
            verdicts.setdefault("rule colour", []).append(tell_colour(pictures[i], scene["thing"]) == scene["colour"])
    return verdicts


def total(verdicts, kind="cnn"):
    """Share of right answers over all asked factors, in percent."""
    right = [v for name, list_ in verdicts.items() if name.startswith(kind) for v in list_]
    return 100 * sum(right) / len(right)


def generate(folder, prompts, width, height, steps, batch, seed):
    """Pictures for prompts through the stock pipeline, one seed each."""
    from diffusers import FluxPipeline

    pipeline = FluxPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pictures = []
    for i in range(0, len(prompts), batch):
        part = prompts[i : i + batch]
        generators = [torch.Generator().manual_seed(seed + i + j) for j in range(len(part))]
        pictures += pipeline(
            part, width=width, height=height, num_inference_steps=steps, guidance_scale=0.0, generator=generators,
            max_sequence_length=pipeline.tokenizer_2.model_max_length,
        ).images  # fmt: skip
    return pictures


def save_sheet(pictures, path, columns=8, size=160, quality=84):
    """A contact sheet of the first pictures."""
    count = min(len(pictures), 5 * columns)
    height = size * pictures[0].height // pictures[0].width
    page = Image.new("RGB", (columns * (size + 4), -(-count // columns) * (height + 4)), "white")
    for i in range(count):
        page.paste(
            pictures[i].resize((size, height), Image.LANCZOS),
            (i % columns * (size + 4) + 2, i // columns * (height + 4) + 2),
        )
    page.save(path, quality=quality, optimize=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("judge", help="train the CNN judge on rendered pictures")
    train.add_argument("data")
    train.add_argument("--out", default="judge.pt")
    train.add_argument("--minutes", type=float, default=3, help="processor minutes")
    model = commands.add_parser("model", help="score an exported model")
    model.add_argument("folder")
    model.add_argument("--asked", required=True, help="data set with the prompts asked and their true pictures")
    model.add_argument("--judge", default="judge.pt")
    model.add_argument("--count", type=int, default=200)
    model.add_argument("--size", default="256x256", help="WIDTHxHEIGHT of the generated pictures")
    model.add_argument("--steps", type=int, default=8)
    model.add_argument("--batch", type=int, default=10)
    model.add_argument("--seed", type=int, default=1000)
    model.add_argument("--sheet", help="write a contact sheet here")
    model.add_argument("--pictures", help="write all pictures into this folder")
    for command in (train, model):
        command.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.command == "judge":
        train_judge(args.data, args.out, args.minutes)
        return
    samples = load_pictures(args.asked)
    references = [(sky_bands(picture), scene["time"]) for picture, scene, _ in samples[args.count :][:400]]
    samples = samples[: args.count]
    scenes, prompts = [s for _, s, _ in samples], [p for _, _, p in samples]
    judge = load_judge(args.judge)
    truth = judge_pictures([Image.fromarray(p) for p, _, _ in samples], scenes, judge, references)
    width, height = map(int, args.size.split("x"))
    start = time.time()
    pictures = generate(args.folder, prompts, width, height, args.steps, args.batch, args.seed)
    print(
        f"{len(pictures)} pictures of {args.size} in {args.steps} steps, {(time.time() - start) / len(pictures):.2f} s each"
    )
    scores = judge_pictures(pictures, scenes, judge, references)
    for name in truth:
        print(
            f"{name:13s} asked {len(truth[name]):4d}   model {100 * np.mean(scores[name]):5.1f} %   rendered {100 * np.mean(truth[name]):5.1f} %"
        )
    print(
        f"total (cnn)   asked {sum(len(v) for n, v in truth.items() if n[:3] == 'cnn'):4d}   model {total(scores):5.1f} %   rendered {total(truth):5.1f} %"
    )
    if args.sheet:
        save_sheet(pictures, args.sheet)
    if args.pictures:
        os.makedirs(args.pictures, exist_ok=True)
        for i, picture in enumerate(pictures):
            picture.save(os.path.join(args.pictures, f"{i:03d}.png"))


if __name__ == "__main__":
    main()
