"""The text side of the video starter: a sentencepiece tokenizer and a tiny UMT5 encoder, trained alone on prompts.

Every token of a prompt is pulled towards one fixed code of what is asked to move, so that attention to any of them tells the
transformer everything, linearly and from its first step on.
"""

import os
import time

import numpy as np
import torch
from torch import nn

from captions import FOREIGN, IDLE, STYLES
from motion import MOTIONS, labels, prompt, sample
from text import train_t5_tokenizer

WIDTH = 96
TOKENS = 512  # what the pipeline pads to, with zeros


def train_tokenizer(folder):
    """Train the tokenizer on the prompts' words; writes `folder`/tokenizer."""
    rng = np.random.default_rng(7)
    prompts = [prompt(rng, *sample(rng)) for _ in range(20000)]
    extra = sorted(set(FOREIGN) | set(IDLE) | set(" ".join(STYLES).replace(",", " ").split()))
    path = os.path.join(folder, "prompts.txt")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(prompts + [word for word in extra for _ in range(12)]))
    train_t5_tokenizer(path, prompts, extra, os.path.join(folder, "tokenizer"), length=TOKENS)
    os.remove(path)


def load_tokenizer(folder):
    """The tokenizer of a run folder."""
    from transformers import T5TokenizerFast

    return T5TokenizerFast.from_pretrained(os.path.join(folder, "tokenizer"))


def make_encoder(tokenizer):
    """A fresh UMT5 encoder."""
    from transformers import UMT5Config, UMT5EncoderModel

    torch.manual_seed(2)
    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=-(-len(tokenizer) // 8) * 8, d_model=WIDTH, d_kv=24, d_ff=256, num_layers=2, num_heads=4, dropout_rate=0.0,
            relative_attention_num_buckets=32, feed_forward_proj="gated-gelu", is_encoder_decoder=False,
        )
    )  # fmt: skip


class Code:
    """Orthonormal vectors for every value of every kind of movement, and one that is always there."""

    def __init__(self):
        self.sizes = [len(values) for values in MOTIONS.values()]
        self.offsets = np.cumsum([0] + self.sizes[:-1]).tolist()
        generator = torch.Generator().manual_seed(1)
        self.vectors = (
            torch.linalg.qr(torch.randn(WIDTH, sum(self.sizes) + 1, generator=generator))[0].T * WIDTH**0.5 / 2.5
        )

    def encode(self, told):
        """Codes [n, WIDTH] of labels [n, kinds], and the projection that leaves out kinds that are not told."""
        code = self.vectors[-1].repeat(len(told), 1)
        for kind, offset in enumerate(self.offsets):
            known = told[:, kind] >= 0
            code[known] += self.vectors[offset + told[known, kind]]
        return code

    def unknown(self, told):
        """Directions [n, values, WIDTH] in which a code is free: of kinds that are not told."""
        free = torch.zeros(len(told), len(self.vectors))
        for kind, (offset, size) in enumerate(zip(self.offsets, self.sizes)):
            free[told[:, kind] < 0, offset : offset + size] = 1
        return free

    def read(self, states):
        """The values that states [n, WIDTH] tell, [n, kinds]."""
        return torch.stack(
            [(states @ self.vectors[o : o + s].T).argmax(1) for o, s in zip(self.offsets, self.sizes)], 1
        )


def train_encoder(folder, steps, rate=2e-3, batch=128, pool=12000):
    """Train the encoder on a pool of prompts; writes `folder`/text.pt and prints how often it is right about others."""
    tokenizer, code = load_tokenizer(folder), Code()
    model = make_encoder(tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), rate, betas=(0.9, 0.98), weight_decay=0.01)
    rng = np.random.default_rng(11)
    unit = code.vectors / code.vectors.norm(dim=1, keepdim=True)

    def draw(count, held_out=False):
        drawn = [sample(rng, held_out) for _ in range(count)]
        ids = tokenizer([prompt(rng, *d) for d in drawn], truncation=True, max_length=64).input_ids
        return sorted(zip(ids, (labels(*d) for d in drawn)), key=lambda pair: len(pair[0]))

    def pad(pairs):
        ids = torch.zeros(len(pairs), max(len(i) for i, _ in pairs), dtype=torch.long)
        for row, (i, _) in zip(ids, pairs):
            row[: len(i)] = torch.tensor(i)
        return ids, (ids != 0).long(), torch.tensor([told for _, told in pairs])

    train, held = draw(pool), draw(600, held_out=True)

    @torch.no_grad()
    def measure():
        ids, mask, told = pad(held)
        states = model(ids, mask)[0]
        mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        right = (code.read(mean).eq(told) | (told < 0)).float()
        return f"held-out: right {right.mean():.4f} (worst kind {right.mean(0).min():.3f})"

    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, step / 50) * (0.02 + 0.98 * min(1, 2 * (1 - step / steps)))
        start = int(rng.integers(len(train) - batch))  # neighbours are of about one length
        ids, mask, told = pad(train[start : start + batch])
        error = model(ids, mask)[0] - code.encode(told)[:, None]
        free = code.unknown(told)[:, None]
        error = error - ((error @ unit.T) * free) @ unit
        loss = (error.square().mean(-1) * mask).sum() / mask.sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0:
            print(f"{time.strftime('%H:%M:%S')} text {step}/{steps} loss {loss.item():.4f} {measure()}", flush=True)
            torch.save(model.state_dict(), os.path.join(folder, "text.pt"))


def load_encoder(folder):
    """The tokenizer and the trained encoder, frozen."""
    tokenizer = load_tokenizer(folder)
    model = make_encoder(tokenizer)
    model.load_state_dict(torch.load(os.path.join(folder, "text.pt"), map_location="cpu"))
    return tokenizer, model.eval().requires_grad_(False)


@torch.no_grad()
def encode(tokenizer, model, prompts, length=64, batch=256):
    """States [n, length, WIDTH] with zeros behind each prompt, and the prompts' lengths [n]; as the pipeline makes them, but
    for the number of zeros."""
    states, counts = [], []
    for i in range(0, len(prompts), batch):
        tokens = tokenizer(
            prompts[i : i + batch], padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )
        mask = tokens.attention_mask
        states.append(model(tokens.input_ids, mask)[0] * mask[..., None])
        counts.append(mask.sum(1))
    return torch.cat(states), torch.cat(counts)
