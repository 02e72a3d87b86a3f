"""The Wan transformer of the video starter: its shape, its start, its data and its training.

The layout is that of Wan 2.2 TI2V-5B: the given picture is the first latent frame, whose tokens have the time 0 and stay as
they are, and the network completes the others.
"""

import glob
import math
import os
import time

import numpy as np
import torch
import torch.nn.functional as F

import motion
import video_autoencoder as autoencoder
import video_text
from muon import Muon
from scenes import Scene

HEADS, HEAD_WIDTH, BLOCKS, FEED_FORWARD, TIME_WIDTH = 7, 32, 5, 448, 64
WIDTH = HEADS * HEAD_WIDTH
CONTENT = 4 * autoencoder.CHANNELS  # numbers of a token, which lie in the first channels of the network at the start
SHIFT = 5.0
AXES = (12, 10, 10)  # of the rotary positions: time, rows, columns
MARK = 200  # the channel that tells tokens of the given picture
CARRIER = 5.0  # constant channels this strong make the norms scale all tokens about alike


# ------------------------------------------------------------------------ model


def make_transformer():
    """A fresh WanTransformer3DModel that starts as a still: every frame is the given picture."""
    from diffusers import WanTransformer3DModel

    torch.manual_seed(5)
    model = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=HEADS, attention_head_dim=HEAD_WIDTH, in_channels=autoencoder.CHANNELS,
        out_channels=autoencoder.CHANNELS, text_dim=video_text.WIDTH, freq_dim=TIME_WIDTH, ffn_dim=FEED_FORWARD, num_layers=BLOCKS,
        cross_attn_norm=True, qk_norm="rms_norm_across_heads", eps=1e-6, image_dim=None, rope_max_seq_len=64,
    )  # fmt: skip
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 2:
                p.normal_(0, 0.7 * p.shape[1] ** -0.5)
                if "to_out" in name or "ffn.net.2" in name:
                    p.mul_(0.7)
                    p[:CONTENT] = 0  # at first only the channels that are free are written to
            elif name.endswith("bias"):
                p.zero_()
        _start_as_a_still(model)
    return model


def _look(block, head, offset, strength, is_at_first):
    """Make a head look at a fixed offset of rows and columns: of the given picture, or within each frame.

    With rotary positions, constant parts in queries and keys do this; keys of the given picture only have them through MARK.
    """
    attention = block.attn1
    for axis in (0, 1):
        for pair, amplitude in enumerate((7.0, 6.3)):
            theta = 10000 ** (-2 * pair / AXES[1 + axis])
            i = head * HEAD_WIDTH + AXES[0] + axis * AXES[1] + 2 * pair
            a = amplitude * strength
            attention.to_q.bias[i] = a * math.cos(theta * offset[axis])
            attention.to_q.bias[i + 1] = a * math.sin(theta * offset[axis])
            if is_at_first:
                attention.to_k.weight[i : i + 2] = 0
                attention.to_k.weight[i, MARK] = a / 4
            else:
                attention.to_k.bias[i] = a


def _start_as_a_still(model):
    """The first block takes the given picture away from every token, so that the output is noise minus picture; some heads
    of the others look at the picture's neighbourhood, and one tells how far a frame is from it."""
    embedder, free = model.condition_embedder, range(CONTENT, WIDTH)
    patch = model.patch_embedding.weight.flatten(1)
    patch.zero_()
    patch[:CONTENT, :CONTENT] = torch.eye(CONTENT)
    model.patch_embedding.weight.copy_(patch.view_as(model.patch_embedding.weight))
    carriers = list(free)[:32]
    model.patch_embedding.bias[carriers] = CARRIER * torch.tensor([1.0, -1.0]).repeat(16)

    # time: one unit that is on at 0 only, as shift of MARK, and closing the gates of the picture's own channels
    first, second = embedder.time_embedder.linear_1, embedder.time_embedder.linear_2
    first.weight.mul_(0.3)
    second.weight.mul_(0.3)
    first.weight[0], first.bias[0] = 0, -10
    first.weight[0, :16] = 1
    second.weight[MARK], second.bias[MARK] = 0, 0
    second.weight[MARK, 0] = 1
    embedder.time_proj.weight.mul_(0.02)
    embedder.time_proj.weight[MARK, MARK] = 4 / 6  # shift before attention
    embedder.time_proj.weight[3 * WIDTH + MARK, MARK] = 4 / 6  # shift before the feed-forward layer
    for part in (2, 5):
        embedder.time_proj.weight[part * WIDTH : part * WIDTH + CONTENT, MARK] = -1 / 6
    # what is noise at first is turned down before every layer, so that they compute with what is known
    for part in (1, 4):
        embedder.time_proj.bias[part * WIDTH : part * WIDTH + CONTENT] = -0.9
        embedder.time_proj.weight[part * WIDTH : part * WIDTH + CONTENT, MARK] = 0.9 / 6
    offsets = [(0, 0), (0, -1), (0, 1), (-1, 0), (1, 0), (0, -2), (0, 2), (-2, 0), (2, 0), (-3, 0), (3, 0)]
    turn = 0
    for number, block in enumerate(model.blocks):
        block.scale_shift_table.zero_()
        block.scale_shift_table[0, [2, 5]] = 1
        attention = block.attn1
        if number == 0:
            for linear in (attention.to_q, attention.to_k):
                linear.weight.mul_(0.3)
            for head in range(5):
                _look(block, head, (0, 0), 1.0, is_at_first=True)
            attention.to_v.weight[:CONTENT] = 0
            attention.to_v.weight[:CONTENT, :CONTENT] = torch.eye(CONTENT)
            attention.to_out[0].weight[:CONTENT, :CONTENT] = -2.1 * torch.eye(CONTENT)
            at = 5 * HEAD_WIDTH  # the clock: the nearer the given picture is in time, the more of MARK is seen
            for pair, amplitude in ((1, 4.5),):
                attention.to_q.bias[at + 2 * pair] = amplitude
                attention.to_k.bias[at + 2 * pair] = amplitude
            attention.to_v.weight[at] = 0
            attention.to_v.weight[at, MARK] = 1
            attention.to_out[0].weight[WIDTH - 16 : WIDTH - 8, at] = 2.0
        else:
            for head in range(5):
                _look(block, head, offsets[turn % len(offsets)], 0.75, is_at_first=True)
                turn += 1
        for linear, norm in ((attention.to_q, attention.norm_q), (attention.to_k, attention.norm_k)):
            marked = linear.bias + 4 * linear.weight[:, MARK]
            norm.weight.fill_(max(1.0, (marked.square().mean() + 0.3).sqrt().item()))
    model.scale_shift_table.zero_()
    model.proj_out.weight.mul_(0.02)
    for c in range(autoencoder.CHANNELS):
        for k in range(4):
            model.proj_out.weight[k * autoencoder.CHANNELS + c, 4 * c + k] += 2.05


@torch.no_grad()
def aim_at_text(model, states, counts):
    """Let every block's attention to the text start at its words and not at the padding, and pass them on."""
    e = model.condition_embedder.text_embedder
    e.linear_1.weight.normal_(0, 0.7 * video_text.WIDTH**-0.5)
    words = states[torch.arange(states.shape[1])[None] < counts[:, None]]
    mean = e(words).mean(0)
    for block in model.blocks:
        attention, direction = block.attn2, torch.randn(WIDTH)
        attention.to_q.bias.copy_(2 * direction)
        attention.to_q.weight.mul_(0.3)
        attention.to_k.weight.mul_(0.3).add_(3 * torch.outer(direction, mean) / mean.square().sum())
        attention.norm_q.weight.fill_(1.5)
        attention.norm_k.weight.fill_(1.5)


def pack(latents):
    """Latents [n, c, f, h, w] to tokens [n, f, h/2 * w/2, 4c], channels first as the patch embedding has them."""
    n, c, f, h, w = latents.shape
    x = latents.reshape(n, c, f, h // 2, 2, w // 2, 2).permute(0, 2, 3, 5, 1, 4, 6)
    return x.reshape(n, f, h // 2 * (w // 2), c * 4)


def unpack(tokens, height, width):
    """The reverse of `pack`, to latents of height x width."""
    n, f, _, c = tokens.shape
    x = tokens.reshape(n, f, height // 2, width // 2, c // 4, 2, 2).permute(0, 4, 1, 2, 5, 3, 6)
    return x.reshape(n, c // 4, f, height, width)


def _attend(query, key, value, bias=None):
    """Attention by plain products, in the values' number format: on a CPU in bfloat16, the fused kernel's backward pass is
    slower, and a softmax in float32 costs more than both products."""
    with torch.autocast(query.device.type, enabled=False):
        scores = torch.matmul(query * query.shape[-1] ** -0.5, key.mT)
        scores = scores if bias is None else scores + bias.to(scores.dtype)
        return torch.matmul(torch.softmax(scores, -1), value)


def _rotate(x, cos, sin):
    x1, x2 = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((x1 * cos - x2 * sin, x1 * sin + x2 * cos), -1).flatten(-2)


def _norm(x):
    return F.layer_norm(x.float(), x.shape[-1:], eps=1e-6)


class Forward(torch.nn.Module):
    """The network's own computation, arranged for training: two times a clip, and padding as one weighted key."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, tokens, grid, times, states, counts):
        """Velocity of tokens [n, f, s, 4c] at times [n] (0..1000; the first frame's is 0), frames x rows x columns of `grid`."""
        m = self.model
        n, f, s, _ = tokens.shape
        cos, sin = m.rope(torch.empty(1, 1, f, 2 * grid[0], 2 * grid[1]))
        cos, sin = (v.to(tokens.device)[0, :, 0].float() for v in (cos[..., 0::2], sin[..., 1::2]))
        both = torch.stack([torch.zeros_like(times), times], 1).flatten()
        e = m.condition_embedder
        embedded = e.time_embedder(e.timesteps_proj(both)).unflatten(0, (n, 2))
        change = e.time_proj(F.silu(embedded)).unflatten(-1, (6, -1)).float()
        which = torch.tensor([0] + [1] * (f - 1), device=tokens.device)
        change, embedded = change[:, which][:, :, None], embedded[:, which][:, :, None].float()  # [n, f, 1, (6,) d]
        text = e.text_embedder(states)
        length = states.shape[1]
        place = torch.arange(length, device=tokens.device)[None]
        pads = (length - counts).clamp(min=1)[:, None]
        weight = torch.log((video_text.TOKENS - counts[:, None]).float() / pads)
        bias = torch.where(place < counts[:, None], torch.zeros_like(weight), weight)[:, None, None]
        x = F.linear(tokens, m.patch_embedding.weight.flatten(1), m.patch_embedding.bias).float()

        def split(y):
            return y.unflatten(-1, (HEADS, -1)).transpose(1, 2)

        for block in m.blocks:
            shift, scale, gate, shift2, scale2, gate2 = (block.scale_shift_table[0] + change).unbind(3)
            a = block.attn1
            y = (_norm(x) * (1 + scale) + shift).flatten(1, 2)
            q = _rotate(split(a.norm_q(a.to_q(y).float())), cos, sin)
            k = _rotate(split(a.norm_k(a.to_k(y).float())), cos, sin)
            v = split(a.to_v(y))
            y = a.to_out[0](_attend(q.to(v.dtype), k.to(v.dtype), v).transpose(1, 2).flatten(2)).view(n, f, s, -1)
            x = x + y * gate
            a = block.attn2
            y = F.layer_norm(x, x.shape[-1:], block.norm2.weight, block.norm2.bias, 1e-6).flatten(1, 2)
            q, k = split(a.norm_q(a.to_q(y).float())), split(a.norm_k(a.to_k(text).float()))
            v = split(a.to_v(text))
            y = _attend(q.to(v.dtype), k.to(v.dtype), v, bias).transpose(1, 2).flatten(2)
            x = x + a.to_out[0](y).view(n, f, s, -1)
            y = _norm(x) * (1 + scale2) + shift2
            x = x + block.ffn(y).float() * gate2
        shift, scale = (m.scale_shift_table[0] + embedded[..., None, :]).unbind(-2)
        y = m.proj_out(_norm(x) * (1 + scale) + shift)
        return y.unflatten(-1, (4, -1)).transpose(-1, -2).flatten(-2)  # to the order of `pack`


def shifted(u):
    """Noise levels of evenly spread u in 0..1."""
    return SHIFT * u / (1 + (SHIFT - 1) * u)


@torch.no_grad()
def sample(model, first, states, counts, frames, steps, seed=0):
    """Euler steps from noise to the latents of clips that begin with `first` [n, c, 1, h, w]."""
    n, c, _, h, w = first.shape
    forward = Forward(model)
    generator = torch.Generator().manual_seed(seed)
    x = pack(torch.randn(n, c, frames, h, w, generator=generator))
    x[:, :1] = pack(first)
    sigmas = [shifted(1 - i / steps) for i in range(steps)] + [0.0]
    for now, then in zip(sigmas, sigmas[1:]):
        velocity = forward(x, (h // 2, w // 2), torch.full((n,), 1000.0 * now), states, counts).float()
        x[:, 1:] += (then - now) * velocity[:, 1:]
    return unpack(x, h, w)


# ------------------------------------------------------------------------- data


class Shelf:
    """The cached latents and the text states of prompts for them; shards that appear later are found by `refresh`."""

    def __init__(self, folder, device, prompts_each=3):
        self.folder, self.device, self.each = folder, device, prompts_each
        self.tokenizer, self.encoder = video_text.load_encoder(folder)
        self.rng, self.seen, self.shards = np.random.default_rng(9), set(), []

    def refresh(self):
        """Take up shards that were written since the last time."""
        for path in sorted(glob.glob(os.path.join(self.folder, "latents", "*.pt"))):
            if path in self.seen:
                continue
            self.seen.add(path)
            state = torch.load(path)
            scenes = [(Scene(**s), motion.Motion(**m)) for s, m in state["scenes"]]
            prompts = [motion.prompt(self.rng, *pair) for pair in scenes for _ in range(self.each)]
            states, counts = video_text.encode(self.tokenizer, self.encoder, prompts, length=40)
            latents = state["latents"].to(self.device)
            change = (latents[:, :, 1:] - latents[:, :, :1]).float().square().mean((1, 2, 3, 4))
            shares = (0.15 + change.clamp(max=1)).cpu().numpy().astype(float)
            self.shards.append((latents, states.half().to(self.device), counts.to(self.device), shares))
        return sum(len(shard[0]) for shard in self.shards)

    def draw(self, count):
        """A random batch of one size: latents, text states, lengths. Clips in which much moves come more often: a still is what
        the model starts as."""
        sizes = np.array([shard[3].sum() for shard in self.shards])
        latents, states, counts, shares = self.shards[int(self.rng.choice(len(self.shards), p=sizes / sizes.sum()))]
        chosen = self.rng.choice(len(latents), count, p=shares / shares.sum())
        i = torch.from_numpy(chosen).to(latents.device)
        j = i * self.each + torch.from_numpy(self.rng.integers(0, self.each, count)).to(latents.device)
        counts = counts[j]
        return latents[i].float(), states[j].float(), counts


def draw_times(count, device):
    """Noise levels: most at the start, where everything is decided (given picture and words, one clip fits), the others spread
    like the later steps of a run."""
    u = 1 - torch.rand(count) * 0.8
    return torch.where(torch.rand(count) < 0.75, torch.ones(count), shifted(u)).to(device)


def channel_weights(latents):
    """Loss weights of the channels by their spread, mean one: coarse ones are strong and predictable, fine ones mostly noise
    to the gradient."""
    spread = latents.float().std((0, 2, 3, 4)) + 0.15
    return (spread / spread.mean()).repeat_interleave(4)


# --------------------------------------------------------------------- training


def train(
    folder,
    minutes=None,
    batch=4,
    rate=2e-3,
    muon_rate=0.02,
    average_decay=0.996,
    device="cpu",
    amp=True,
    is_compiled=False,
    save_minutes=2,
):
    """Train the transformer; resumes from `folder`/transformer.pt. Without `minutes` it goes on at a constant rate until
    killed; with, the rate falls to zero over the last four fifths and the result is written to finished.pt, beside the checkpoint."""
    shelf = Shelf(folder, device)
    while not shelf.refresh():
        time.sleep(5)
    model = make_transformer()
    aim_at_text(model, shelf.shards[0][1][:100].float(), shelf.shards[0][2][:100])
    model.to(device)
    hidden = [p for n, p in model.named_parameters() if p.ndim == 2 and "blocks" in n and "table" not in n]
    chosen = {id(p) for p in hidden}
    muon = Muon(hidden)
    adam = torch.optim.AdamW(
        [p for p in model.parameters() if id(p) not in chosen], lr=rate, betas=(0.9, 0.97), weight_decay=0
    )
    parameters = list(model.parameters())
    average = [p.detach().clone() for p in parameters]
    path, seen, step = os.path.join(folder, "transformer.pt"), 0, 0
    if os.path.exists(path):
        state = torch.load(path, map_location=device)
        model.load_state_dict(state["model"])
        muon.load_state_dict(state["muon"])
        adam.load_state_dict(state["adam"])
        average = [a.to(device) for a in state["average"]]
        seen, step = state["seen"], state["step"]
    if minutes:
        path = os.path.join(folder, "finished.pt")
    importance = channel_weights(shelf.shards[0][0][:200])
    torch.manual_seed(seen)
    forward = Forward(model)
    forward = torch.compile(forward, dynamic=False) if is_compiled else forward
    mean_loss, first_seen, refreshed = None, seen, 0
    start = last_log = last_save = time.time()
    is_done = False
    while not is_done:
        if time.time() - refreshed > 60:
            shelf.refresh()
            refreshed = time.time()
        done = (time.time() - start) / (60 * minutes) if minutes else 0.0
        is_done = done >= 1
        k = min(1.0, (step + 1) / 50) * min(1.0, max(0.01, (1 - done) / 0.8))
        for group in adam.param_groups:
            group["lr"] = rate * k
        latents, states, counts = shelf.draw(batch)
        x0 = pack(latents)
        noise = torch.randn_like(x0)
        sigma = draw_times(batch, device)
        target = noise - x0
        x = x0 + sigma[:, None, None, None] * target
        x[:, 0] = x0[:, 0]
        change = (x0[:, 1:] - x0[:, :1]).square().mean(-1, keepdim=True)
        attention = 1 + 2 * (change / (change.mean() + 0.02)).clamp(max=2)
        grid = (latents.shape[3] // 2, latents.shape[4] // 2)
        with torch.autocast(device, torch.bfloat16, enabled=amp):
            velocity = forward(x, grid, sigma * 1000, states, counts).float()
        error = (velocity - target)[:, 1:].square() * importance
        loss = (error * attention).mean() / attention.mean()
        for p in parameters:
            p.grad = None
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 2.0)
        muon.step(muon_rate * k)
        adam.step()
        step += 1
        seen += batch
        with torch.no_grad():
            torch._foreach_lerp_(average, parameters, max(1 - average_decay, 4 / (step + 9)))
        value = error.detach().mean().item()
        mean_loss = value if mean_loss is None else 0.97 * mean_loss + 0.03 * value
        now = time.time()
        if now - last_log > 30 or is_done or step in (1, 10, 30):
            last_log = now
            print(
                f"{time.strftime('%H:%M:%S')} step {step} seen {seen} error {mean_loss:.4f} rate {k:.3f} {(seen - first_seen) / (now - start):.2f} clips/s, of {shelf.refresh()}",
                flush=True,
            )
        if is_done or now - last_save > 60 * save_minutes:
            last_save = now
            state = {
                "model": model.state_dict(),
                "muon": muon.state_dict(),
                "adam": adam.state_dict(),
                "average": average,
                "seen": seen,
                "step": step,
            }
            torch.save(state, path + ".new")
            os.replace(path + ".new", path)


def load_average(folder, device="cpu"):
    """The transformer with averaged weights, of the newer of the checkpoint and a finished one, and how many clips it has seen."""
    paths = [os.path.join(folder, name) for name in ("transformer.pt", "finished.pt")]
    path = max((p for p in paths if os.path.exists(p)), key=os.path.getmtime)
    state = torch.load(path, map_location=device)
    model = make_transformer().to(device)
    with torch.no_grad():
        for p, a in zip(model.parameters(), state["average"]):
            p.copy_(a)
    return model.eval(), state["seen"]
