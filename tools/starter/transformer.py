"""The FLUX transformer of the starter model: its shape, its data (cached latents and text states) and its training."""

import json
import math
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import autoencoder
import text
from captions import caption
from muon import Muon
from scenes import FACTORS, SIDES, THINGS, WEATHERS, Scene

HEADS, HEAD_WIDTH, ROPE_AXES = 6, 32, (8, 12, 12)
DOUBLE_BLOCKS, SINGLE_BLOCKS = 2, 4


# ------------------------------------------------------------------------ model


def make_transformer():
    """A fresh FluxTransformer2DModel; modulations and the last layer start at zero, some heads look at neighbours."""
    from diffusers import FluxTransformer2DModel

    torch.manual_seed(5)
    model = FluxTransformer2DModel(
        patch_size=1, in_channels=4 * autoencoder.CHANNELS, num_layers=DOUBLE_BLOCKS, num_single_layers=SINGLE_BLOCKS,
        attention_head_dim=HEAD_WIDTH, num_attention_heads=HEADS, joint_attention_dim=text.WIDTH, pooled_projection_dim=text.WIDTH,
        guidance_embeds=False, axes_dims_rope=ROPE_AXES,
    )  # fmt: skip
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 2:
                if ("norm" in name and "linear" in name) or name.startswith("proj_out"):
                    p.zero_()
                else:
                    p.normal_(0, 0.7 * p.shape[1] ** -0.5)
            elif "bias" in name:
                p.zero_()
        _start_heads_on_neighbours(model)
    return model


def _start_heads_on_neighbours(model):
    """With RoPE, constant parts in the query and key biases make a head look at a fixed offset: up, left, down, right, itself."""
    offsets = [(-1, 0), (0, -1), (1, 0), (0, 1), (0, 0), (-1, -1), (1, 1), (-1, 1), (1, -1)]
    turn = 0
    for block in list(model.transformer_blocks) + list(model.single_transformer_blocks):
        for head in range(HEADS // 2):
            offset = offsets[turn % len(offsets)]
            turn += 1
            for axis in (0, 1):
                for pair, amplitude in enumerate((4.0, 2.7, 2.0)):
                    theta = 10000 ** (-2 * pair / ROPE_AXES[1 + axis])
                    i = head * HEAD_WIDTH + ROPE_AXES[0] + axis * ROPE_AXES[1] + 2 * pair
                    block.attn.to_q.bias[i] += amplitude * math.cos(theta * offset[axis])
                    block.attn.to_q.bias[i + 1] += amplitude * math.sin(theta * offset[axis])
                    block.attn.to_k.bias[i] += amplitude


def pack(latents):
    """Latents [n, c, h, w] to tokens [n, h/2 * w/2, 4c], as FluxPipeline packs them."""
    n, c, h, w = latents.shape
    return latents.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(n, (h // 2) * (w // 2), c * 4)


def unpack(tokens, height, width):
    """The reverse of `pack`, to latents of height x width."""
    n, _, c = tokens.shape
    return (
        tokens.reshape(n, height // 2, width // 2, c // 4, 2, 2)
        .permute(0, 3, 1, 4, 2, 5)
        .reshape(n, c // 4, height, width)
    )


def image_ids(height, width, device="cpu"):
    """Positions of the packed tokens of height x width latents."""
    ids = torch.zeros(height // 2, width // 2, 3, device=device)
    ids[..., 1] = torch.arange(height // 2, device=device)[:, None]
    ids[..., 2] = torch.arange(width // 2, device=device)[None]
    return ids.reshape(-1, 3)


@torch.no_grad()
def sample(model, pooled, states, height, width, steps, seed=0):
    """Euler steps from noise to latents, as the pipeline's scheduler does with shift 1."""
    device = pooled.device
    generator = torch.Generator().manual_seed(seed)
    x = pack(torch.randn(len(pooled), autoencoder.CHANNELS, height, width, generator=generator)).to(device)
    sigmas = torch.linspace(1, 1 / steps, steps).tolist() + [0.0]
    text_ids = torch.zeros(states.shape[1], 3, device=device)
    for now, then in zip(sigmas, sigmas[1:]):
        velocity = model(
            hidden_states=x, encoder_hidden_states=states, pooled_projections=pooled, timestep=torch.full((len(x),), now, device=device),
            img_ids=image_ids(height, width, device), txt_ids=text_ids, return_dict=False,
        )[0]  # fmt: skip
        x = x + (then - now) * velocity.float()
    return unpack(x, height, width)


# ------------------------------------------------------------------------- data


def prepare(folder, paths, captions_each=2, seed=3):
    """Turn rendered data sets into what training reads: latents of the pictures and of their mirror images, text states of
    their captions, and the code of their factors, as float16 arrays in `folder`/cache."""
    rng = np.random.default_rng(seed)
    projection = torch.load(os.path.join(folder, "projection.pt"))
    encoders, code = text.load_encoders(folder), text.FactorCode()
    cache = os.path.join(folder, "cache")
    os.makedirs(cache, exist_ok=True)
    parts = {}
    for path in paths:
        with np.load(path, allow_pickle=False) as file:
            for key in file.files:
                if not key.startswith("x_"):
                    continue
                pictures, scenes = file[key], [Scene(**s) for s in json.loads(str(file["s_" + key[2:]]))]
                for is_mirrored in (False, True):
                    shown = [s.mirrored() for s in scenes] if is_mirrored else scenes
                    latents = _project_all(projection, pictures, is_mirrored)
                    pooled, states = text.encode(
                        *encoders, [caption(s, rng) for s in shown for _ in range(captions_each)]
                    )
                    factors = code.encode(
                        torch.tensor([code.labels(s, {f for f in FACTORS if s.applies(f)}) for s in shown])
                    )
                    parts.setdefault(key[2:], []).append((latents, pooled.half(), states.half(), factors.half()))
    for name, tensors in parts.items():
        for kind, values in zip(("latents", "pooled", "states", "factors"), zip(*tensors)):
            np.save(os.path.join(cache, f"{name}.{kind}.npy"), torch.cat(values).numpy())
        print(f"{name}: {sum(len(t[0]) for t in tensors)} pictures prepared", flush=True)


def _project_all(projection, pictures, is_mirrored, batch=64):
    """Latents of many pictures, float16."""
    parts = []
    for i in range(0, len(pictures), batch):
        images = autoencoder.to_unit(pictures[i : i + batch])
        parts.append(autoencoder.project(projection, images.flip(3) if is_mirrored else images).half())
    return torch.cat(parts)


class Bucket:
    """The cached samples of one picture size."""

    def __init__(self, cache, name, device):
        paths = (os.path.join(cache, f"{name}.{kind}.npy") for kind in ("latents", "pooled", "states", "factors"))
        self.latents, self.pooled, self.states, self.factors = (torch.from_numpy(np.load(p)).to(device) for p in paths)
        self.each = len(self.pooled) // len(self.latents)
        self.height, self.width = self.latents.shape[2:]
        self.ids = image_ids(self.height, self.width, device)
        self.attention = focus(self.factors, self.height // 2, self.width // 2)
        self._fit_layout()

    @staticmethod
    def layout(latents):
        """The coarse look of latents: the strongest channels on a 4 x 4 grid."""
        return F.adaptive_avg_pool2d(latents[:, :6].float(), 4).flatten(1)

    def _fit_layout(self):
        """What the factors say about the coarse look (ridge regression), to be taken off before noise is assigned."""
        take = torch.arange(min(6000, len(self.latents)))
        x, y = self.factors[take].float(), self.layout(self.latents[take])
        self.mean = y.mean(0)
        self.slope = torch.linalg.solve(x.T @ x + 5 * torch.eye(x.shape[1], device=x.device), x.T @ (y - self.mean))

    def draw(self, count, device):
        """A random batch: latents, pooled vectors, text states, the coarse look that the factors do not explain, and the
        weights of the tokens."""
        i = torch.randint(len(self.latents), (count,)).to(device)
        j = i * self.each + torch.randint(self.each, (count,)).to(device)
        latents = self.latents[i].float()
        residual = self.layout(latents) - self.mean - self.factors[i].float() @ self.slope
        return latents, self.pooled[j].float(), self.states[j].float(), residual, self.attention[i]


def focus(factors, rows, columns, gain=2.0):
    """Loss weights of the tokens [n, tokens], mean one: more where thing and light can be.

    They are a small part of the picture and most of what a prompt asks for. The weights depend on the factors alone, never
    on where the thing of a picture happens to be; otherwise the model would see things in pure noise.
    """
    names, code = list(FACTORS), text.FactorCode()
    values = {}
    for name, offset, size in zip(names, code.offsets, code.sizes):
        values[name] = (factors.float() @ code.vectors[offset : offset + size].T.to(factors.device)).argmax(1)
    unit = math.sqrt(rows * columns)

    def box(x, y, half_width, above, below):
        """How much of each token lies in a box around (x, y), given in shares of the canvas; its sides in units."""
        x0, x1 = columns * x - half_width * unit, columns * x + half_width * unit
        y0, y1 = rows * y - above * unit, rows * y + below * unit
        column, row = torch.arange(columns).float(), torch.arange(rows).float()
        across = (torch.minimum(column + 1, torch.tensor(x1)) - torch.maximum(column, torch.tensor(x0))).clamp(0, 1)
        down = (torch.minimum(row + 1, torch.tensor(y1)) - torch.maximum(row, torch.tensor(y0))).clamp(0, 1)
        return (down[:, None] * across[None]).flatten().to(factors.device)

    weights = torch.ones(len(factors), rows * columns, device=factors.device)
    weights[values["weather"] == WEATHERS.index("clouds")] += gain / 2 * box(0.5, 0.15, columns, 0.15, 0.08)
    balloon, nothing = THINGS.index("balloon"), THINGS.index("none")
    for side in range(len(SIDES) + 1):  # the last: no sun or moon, so that a thing may be on either side
        here = values["side"] == side
        light_x = (0.25, 0.75, None)[side]
        if light_x is not None:
            weights[here] += gain * box(light_x, 0.25, 0.14, 0.14, 0.17)
        for x in ((0.71,), (0.29,), (0.29, 0.71))[side]:
            share = gain if side < len(SIDES) else gain / 2
            weights[here & (values["thing"] == balloon)] += share * box(x, 0.3, 0.18, 0.16, 0.28)
            standing = here & (values["thing"] != balloon) & (values["thing"] != nothing)
            weights[standing] += share * box(x, 1.0, 0.19, 0.56, 0.0)
    return weights / weights.mean()


def assign_noise(noise, residual):
    """Give each picture of a batch the noise that resembles it most, in what its prompt leaves open: straighter paths.

    Only the residual of the coarse look counts; otherwise noise would tell what the prompt should.
    """
    from scipy.optimize import linear_sum_assignment

    likeness = residual @ Bucket.layout(noise).T
    order = linear_sum_assignment(-likeness.cpu().numpy())[1]
    return noise[torch.as_tensor(order, device=noise.device)]


def channel_weights(buckets, emphasis):
    """Loss weights of the packed channels: latent standard deviation to the power of `emphasis`, mean one.

    Coarse channels are strong and predictable, fine ones weak and mostly noise to the gradient: a model that sees few samples
    should hear the coarse ones louder.
    """
    spread = buckets[0].latents[:2000].float().std((0, 2, 3)) ** emphasis
    return (spread / spread.mean()).repeat_interleave(4)


def draw_times(count, device):
    """Noise levels: half on the eighths where eight steps evaluate the model, half in between, leaning to the noisy side."""
    weights = torch.tensor([1.25, 1.25, 1.25, 1.2, 1.1, 1.0, 0.8, 0.6])  # of 8/8, 7/8 ... 1/8
    eighths = 1 - torch.multinomial(weights, count, replacement=True) / 8
    smooth = torch.sigmoid(torch.randn(count) + 0.3)
    return torch.where(torch.rand(count) < 0.5, eighths, smooth).to(device)


# --------------------------------------------------------------------- training


def _attention(query, key, value, *args, **kwargs):
    """Attention by plain products: on a CPU in bfloat16, the fused kernel's backward pass is several times slower."""
    scores = torch.matmul(query * query.shape[-1] ** -0.5, key.mT)
    return torch.matmul(torch.softmax(scores.float(), -1).to(value.dtype), value)


class Team:
    """Worker processes of one thread each, which train apart and average their weights every few seconds.

    On a busy machine this is much faster than several threads in each operation. RANK, WORLD_SIZE and TEAM_FILE come from
    the launcher in `train.py`.
    """

    def __init__(self, seconds=20.0):
        self.rank, self.size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.seconds, self.last = seconds, time.time()
        if self.size > 1:
            torch.distributed.init_process_group(
                "gloo", init_method="file://" + os.environ["TEAM_FILE"], rank=self.rank, world_size=self.size
            )

    @torch.no_grad()
    def meet(self, parameters, count, wants_end):
        """When it is time: average `parameters` over the workers. Returns the samples seen by all since the last meeting and
        whether anyone wants to end, or None when there was no meeting."""
        if self.size == 1:
            return count, wants_end
        if time.time() - self.last < self.seconds:
            return None
        flat = torch.cat([p.reshape(-1) for p in parameters] + [torch.tensor([float(count), float(wants_end)])])
        torch.distributed.all_reduce(flat)
        offset = 0
        for p in parameters:
            p.copy_(flat[offset : offset + p.numel()].view_as(p) / self.size)
            offset += p.numel()
        self.last = time.time()
        return int(flat[-2].item()), flat[-1].item() > 0


class Schedule:
    """How far a training is and how high its rate: constant after a warm-up, then falling to zero towards a known end.

    The end is a number of samples, a wall-clock time, or unknown (then the rate stays up until a later run finishes).
    """

    def __init__(self, samples, minutes, finish, seen):
        self.start, self.first, self.minutes = time.time(), seen, minutes
        self.samples = seen + finish if finish else samples
        self.falling = 1.0 if finish else 0.3

    def progress(self, seen):
        """0 at the start of this run, 1 at its end."""
        parts = [0.0]
        if self.samples:
            parts.append((seen - self.first) / max(1, self.samples - self.first))
        if self.minutes:
            parts.append((time.time() - self.start) / (60 * self.minutes))
        return max(parts)

    def rate(self, seen, step):
        """The factor on all learning rates."""
        return min(1.0, (step + 1) / 120) * min(1.0, max(0.01, (1 - self.progress(seen)) / self.falling))


def train(
    folder, samples=None, minutes=None, finish=None, batch=32, rate=2e-3, muon_rate=0.02, average_decay=0.998, emphasis=1.0,
    device="cpu", amp=True, is_compiled=False, save_minutes=4,
):  # fmt: skip
    """Train the transformer; resumes from `folder`/transformer.pt.

    Without an end it goes on at a constant rate until killed. With `finish` it takes that many more samples at a falling rate
    and writes finished.pt beside the checkpoint, so that the constant-rate training can be taken up again.
    """
    buckets = [Bucket(os.path.join(folder, "cache"), name, device) for name in bucket_names(folder)]
    sizes = np.array([len(b.latents) for b in buckets], float)
    importance = channel_weights(buckets, emphasis)
    model = make_transformer().to(device)
    hidden = [p for n, p in model.named_parameters() if p.ndim == 2 and "transformer_blocks" in n and "norm" not in n]
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
    if finish:
        path = os.path.join(folder, "finished.pt")
    team, schedule = Team(), Schedule(samples, minutes, finish, seen)
    rng = np.random.default_rng([seen, team.rank])
    torch.manual_seed(seen * 64 + team.rank)
    if device == "cpu":
        F.scaled_dot_product_attention = _attention
    forward = torch.compile(model) if is_compiled else model
    text_ids = torch.zeros(text.T5_LENGTH, 3, device=device)
    fresh, mean_loss, first_seen = 0, None, seen
    start = last_log = last_save = time.time()
    is_done = False
    while not is_done:
        k = schedule.rate(seen, step)
        for group in adam.param_groups:
            group["lr"] = rate * k
        bucket = buckets[int(rng.choice(len(buckets), p=sizes / sizes.sum()))]
        latents, pooled, states, residual, attention = bucket.draw(batch, device)
        noise = assign_noise(torch.randn_like(latents), residual)
        sigma = draw_times(batch, device)
        x0, x1 = pack(latents), pack(noise)
        target = x1 - x0
        with torch.autocast(device, torch.bfloat16, enabled=amp):
            velocity = forward(
                hidden_states=x0 + sigma[:, None, None] * target, encoder_hidden_states=states, pooled_projections=pooled,
                timestep=sigma, img_ids=bucket.ids, txt_ids=text_ids, return_dict=False,
            )[0].float()  # fmt: skip
        loss = ((velocity - target).square() * importance * attention[:, :, None]).mean()
        for p in parameters:
            p.grad = None
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 2.0)
        muon.step(muon_rate * k)
        adam.step()
        step += 1
        fresh += batch
        met = team.meet(parameters, fresh, schedule.progress(seen + fresh * team.size) >= 1)
        if met is not None:
            seen, is_done, fresh = seen + met[0], met[1], 0
        with torch.no_grad():
            torch._foreach_lerp_(average, parameters, max(1 - average_decay, 4 / (step + 9)))
        if team.rank:
            continue
        now = time.time()
        if step % 10 == 0 or is_done:
            value = loss.item()
            mean_loss = value if mean_loss is None else 0.9 * mean_loss + 0.1 * value
        if now - last_log > 60 or is_done:
            last_log = now
            print(
                f"{time.strftime('%H:%M:%S')} step {step} seen {seen} loss {mean_loss or 0:.4f} rate {k:.3f} {(seen - first_seen) / (now - start):.1f} samples/s",
                flush=True,
            )
        if is_done or (met is not None and now - last_save > 60 * save_minutes):
            last_save = now
            _save(
                path,
                model=model.state_dict(),
                muon=muon.state_dict(),
                adam=adam.state_dict(),
                average=average,
                seen=seen,
                step=step,
            )


def bucket_names(folder):
    """The picture sizes that `prepare` has cached."""
    return sorted({name.split(".")[0] for name in os.listdir(os.path.join(folder, "cache"))})


def _save(path, **state):
    """Write a checkpoint so that a kill at any moment leaves the old one or the new one."""
    torch.save(state, path + ".new")
    os.replace(path + ".new", path)


def load_average(folder, device="cpu"):
    """The transformer with averaged weights, finished if there is a finished one, and how many samples it has seen."""
    finished = os.path.join(folder, "finished.pt")
    state = torch.load(
        finished if os.path.exists(finished) else os.path.join(folder, "transformer.pt"), map_location=device
    )
    model = make_transformer().to(device)
    with torch.no_grad():
        for p, a in zip(model.parameters(), state["average"]):
            p.copy_(a)
    return model.eval(), state["seen"]
