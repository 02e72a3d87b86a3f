"""The autoencoder of the video starter: a fixed linear encoder written into the stock AutoencoderKLWan, and a trained decoder.

Blocks of 16x16 pixels and four frames (one for the first latent frame) become 40 channels: 30 say what the frames show on
average, 10 how they differ. What stands still therefore has the same latents in every frame, the first one included.
Because the encoder is linear and known from the start, the transformer can be trained before the decoder is.
"""

import math
import os
import time

import numpy as np
import torch
import torch.nn.functional as F

from autoencoder import _loss
from muon import Muon

CHANNELS, STILL = 40, 30  # latent channels, and how many of them are averages
ENCODER_BASE, DECODER_BASE, MULTIPLIERS = 14, 10, (2, 4, 6, 6)
FOUR, EIGHT, EIGHT_MOVING, MOVING = (
    28,
    40,
    16,
    20,
)  # channels of the pyramid: 4x4, 8x8 and its differences, theirs at 16x16
CARRIER = 100.0  # a constant pair of channels this strong makes the encoder's last norm a fixed scaling


def to_unit(frames):
    """uint8 [..., h, w, 3] to float [..., 3, h, w] in -1..1."""
    return torch.from_numpy(np.array(frames)).movedim(-1, -3).float().div_(127.5).sub_(1)


def to_pixels(frames):
    """float [..., 3, h, w] in -1..1 to uint8 [..., h, w, 3]."""
    return frames.clamp(-1, 1).add(1).mul(127.5).round().movedim(-3, -1).cpu().numpy().astype(np.uint8)


def _patches(x):
    """[n, 3, h, w] to [n, 12, h/2, w/2] in the order of the reference: colour, column, row."""
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 1, 5, 3, 2, 4).reshape(n, c * 4, h // 2, w // 2)


def _axes(blocks, count, is_centred=True):
    """Principal axes [count, inputs] and variances of rows of data."""
    x = blocks.double()
    x = x - x.mean(0) if is_centred else x
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    return vectors[:, -count:].flip(1).T.float(), values[-count:].flip(0).float(), values.sum().item()


def _blocks(x):
    """All 2x2 blocks of a feature map, as rows in the order of a convolution's kernel."""
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(-1, c * 4)


def _kernel(axes):
    return axes.reshape(len(axes), -1, 2, 2)


def fit_projection(clips):
    """Fit the linear encoder on clips [n, 33, h, w, 3]: PCAs of 4x4, 8x8 and 16x16 blocks, each on the one before, and of
    the differences of successive pairs of frames.

    As in the image starter the latents are half whitened (variance to the power of -1/4), in units of one frame's energy.
    """
    p, parts = {}, []
    for clip in clips:
        parts.append(_patches(to_unit(clip)))
    f = torch.cat([part[::4] for part in parts])
    axes, kept, total = _axes(_blocks(f), FOUR)
    p["four"] = _kernel(axes)
    print(f"4x4 {kept.sum() / total:.5f}")
    f = F.conv2d(f, p["four"], stride=2)
    axes, kept, total = _axes(_blocks(f), EIGHT)
    p["eight"] = _kernel(axes)
    print(f"8x8 {kept.sum() / total:.5f}")
    still = F.conv2d(f, p["eight"], stride=2)
    axes, variances, total = _axes(_blocks(still), STILL)
    print(f"16x16 {variances.sum() / total:.5f}")
    scale = variances**-0.25
    gain = (variances * scale * scale).mean().sqrt()
    p["still"] = _kernel(axes * (scale / gain)[:, None])
    p["bias"] = -(_blocks(still) @ p["still"].flatten(1).T).mean(0)
    eights = [F.conv2d(F.conv2d(part[1:], p["four"], stride=2), p["eight"], stride=2) for part in parts]
    pairs = torch.cat([(e[1::2] - e[0::2]).movedim(1, -1).flatten(0, 2) for e in eights])
    axes, kept, total = _axes(pairs, EIGHT_MOVING, is_centred=False)
    print(f"8x8 moving {kept.sum() / total:.5f}")
    p["eight_moving"] = axes / math.sqrt(2)
    moving = torch.cat([torch.einsum("oc,nchw->nohw", p["eight_moving"], e[1::2] - e[0::2]) for e in eights])
    axes, kept, total = _axes(_blocks(moving), MOVING, is_centred=False)
    print(f"16x16 moving {kept.sum() / total:.5f}")
    p["moving"] = _kernel(axes)
    means = torch.cat([(e[1::2] + e[0::2]) / 2 for e in eights])
    s, m = F.conv2d(means, p["still"], stride=2), F.conv2d(moving, p["moving"], stride=2)
    s = s / (scale / gain)[:, None, None]
    rows = torch.cat([s[1::2] - s[0::2], m[0::2], m[1::2]], 1).movedim(1, -1).flatten(0, 2) / 2
    axes, variances, total = _axes(rows, CHANNELS - STILL, is_centred=False)
    print(
        f"differences {variances.sum() / total:.5f}; their energy against the averages' {total / (s.var((0, 2, 3)).sum().item()):.4f}"
    )
    axes = axes * (variances**-0.25 / gain / 2)[:, None]
    axes[:, :STILL] /= scale / gain
    p["difference"] = axes
    p["colour"] = (
        torch.linalg.pinv(p["still"].flatten(1)).reshape(EIGHT, 4, STILL).mean(1)
    )  # of a block, in 8x8 features
    p["colour"] = _mean_colour(p)
    return p


def _mean_colour(p):
    """What each average channel does to the mean colour of its block [3, STILL], and the mean colour at zero [3]."""
    eight = torch.linalg.pinv(p["eight"].flatten(1))  # [4*FOUR, EIGHT]
    four = torch.linalg.pinv(p["four"].flatten(1))  # [4*12, FOUR]
    colours = four.reshape(3, 4, 4, FOUR).mean((1, 2))  # patches: colour, four subpixels; four patches
    colours = torch.einsum("ck,kjo->co", colours, eight.reshape(FOUR, 4, EIGHT) / 4)
    return torch.einsum("ck,ko->co", colours, p["colour"])


@torch.no_grad()
def project(p, frames):
    """Latents [CHANNELS, 1 + (t-1)/4, h/16, w/16] of a clip [t, 3, h, w] in -1..1."""
    e = F.conv2d(F.conv2d(_patches(frames), p["four"], stride=2), p["eight"], stride=2)
    first = F.conv2d(e[:1], p["still"], p["bias"], stride=2)
    first = torch.cat([first, torch.zeros_like(first[:, : CHANNELS - STILL])], 1)
    if len(e) == 1:
        return first.movedim(0, 1)
    a, b = e[1::2], e[2::2]
    s = F.conv2d((a + b) / 2, p["still"], p["bias"], stride=2)
    m = F.conv2d(torch.einsum("oc,nchw->nohw", p["eight_moving"], b - a), p["moving"], stride=2)
    rows = torch.cat([s[1::2] - s[0::2], m[0::2], m[1::2]], 1)
    d = torch.einsum("oc,nchw->nohw", p["difference"], rows)
    return torch.cat([first, torch.cat([(s[1::2] + s[0::2]) / 2, d], 1)]).movedim(0, 1)


# ---------------------------------------------------------------------- network


def make_network():
    """A stock AutoencoderKLWan with 16 pixels and 4 frames a latent, whose residual branches are silent."""
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    network = AutoencoderKLWan(
        base_dim=ENCODER_BASE, decoder_base_dim=DECODER_BASE, z_dim=CHANNELS, dim_mult=list(MULTIPLIERS), num_res_blocks=1,
        attn_scales=[], temperal_downsample=[False, True, True], latents_mean=[0.0] * CHANNELS, latents_std=[1.0] * CHANNELS,
        is_residual=False, in_channels=12, out_channels=12, patch_size=2, scale_factor_temporal=4, scale_factor_spatial=16,
    )  # fmt: skip
    with torch.no_grad():
        for name, p in network.named_parameters():
            if name.endswith("conv2.weight") or "attentions.0.proj" in name or name.endswith(".bias"):
                p.zero_()
    return network


@torch.no_grad()
def write_projection(network, p):
    """Write the linear encoder into the network, and a start for the decoder: the mean colour of each block.

    silu(x) - silu(-x) = x carries a value through an activation exactly, and a constant pair of +-CARRIER channels makes the
    norm before it a fixed scaling; all residual branches of the encoder are silent.
    """
    e = network.encoder
    for name, q in e.named_parameters():
        if "norm" not in name:
            q.zero_()

    def pass_on(conv, count):
        middle = tuple((k - 1) // 2 for k in conv.weight.shape[2:])
        if len(middle) == 3:
            middle = (conv.weight.shape[2] - 1, *middle[1:])  # time: the present
        for i in range(count):
            conv.weight[(i, i, *middle)] = 1

    blocks = e.down_blocks
    pass_on(e.conv_in, 12)
    pass_on(blocks[0].conv_shortcut, 12)
    blocks[1].resample[1].weight[:FOUR, :12, :2, :2] = p["four"]
    pass_on(blocks[2].conv_shortcut, FOUR)
    blocks[3].resample[1].weight[:EIGHT, :FOUR, :2, :2] = p["eight"]
    line = blocks[3].time_conv.weight[..., 0, 0]
    half = torch.eye(EIGHT) / 2
    line[:EIGHT, :EIGHT, 1], line[:EIGHT, :EIGHT, 2] = half, half
    line[EIGHT : EIGHT + EIGHT_MOVING, :EIGHT, 1] = -p["eight_moving"]
    line[EIGHT : EIGHT + EIGHT_MOVING, :EIGHT, 2] = p["eight_moving"]
    pass_on(blocks[4].conv_shortcut, EIGHT + EIGHT_MOVING)
    conv, line = blocks[5].resample[1], blocks[5].time_conv
    n, m = CHANNELS, CHANNELS - STILL
    moving = [STILL + i for i in range(m)] + [
        n + STILL + i for i in range(m)
    ]  # where the movements of 16x16 blocks wait
    conv.weight[:STILL, :EIGHT, :2, :2], conv.weight[n : n + STILL, :EIGHT, :2, :2] = p["still"], -p["still"]
    conv.bias[:STILL], conv.bias[n : n + STILL] = p["bias"], -p["bias"]
    conv.weight[moving, EIGHT : EIGHT + EIGHT_MOVING, :2, :2] = p["moving"]
    conv.bias[2 * n], conv.bias[2 * n + 1] = CARRIER, -CARRIER
    line.bias[2 * n], line.bias[2 * n + 1] = CARRIER, -CARRIER
    taps, half, d = line.weight[..., 0, 0], torch.eye(STILL) / 2, p["difference"]
    for sign, at in ((1, 0), (-1, n)):
        for tap, side in ((1, -1), (2, 1)):
            taps[at : at + STILL, at : at + STILL, tap] = half
            taps[at + STILL : at + n, :STILL, tap] = sign * side * d[:, :STILL]
            from_m = d[:, STILL : STILL + MOVING] if tap == 1 else d[:, STILL + MOVING :]
            for column, channel in enumerate(moving):
                taps[at + STILL : at + n, channel, tap] = sign * from_m[:, column]
    width = MULTIPLIERS[-1] * ENCODER_BASE
    e.norm_out.gamma.fill_(((2 * CARRIER**2 + 2 * CHANNELS) / width) ** 0.5)
    for i in range(n):
        e.conv_out.weight[i, i, 2, 1, 1], e.conv_out.weight[i, i + n, 2, 1, 1] = 1, -1
    e.conv_out.bias[n:] = 2 * math.log(0.05)
    for conv, count in ((network.quant_conv, 2 * n), (network.post_quant_conv, n)):
        conv.weight.zero_()
        pass_on(conv, count)
    _start_decoder(network.decoder, p)


def _start_decoder(d, p, carried=20, carrier=10.0):
    """Hand the strongest channels up to the last level, as colour there."""
    colour = p["colour"][:, :carried]
    mean = -p["colour"] @ p["bias"]

    def start(conv):
        conv.weight.mul_(0.5)
        conv.weight[:carried] = 0
        at = (
            (2, 1, 1)
            if conv.weight.ndim == 5 and conv.weight.shape[2] == 3
            else tuple(s // 2 for s in conv.weight.shape[2:])
        )
        for i in range(carried):
            conv.weight[(i, i, *at)] = 1

    start(d.conv_in)
    for i, block in enumerate(d.up_blocks):
        if block.resnets[0].conv_shortcut is not None and hasattr(block.resnets[0].conv_shortcut, "weight"):
            start(block.resnets[0].conv_shortcut)
        if block.upsamplers is None:
            continue
        sampler = block.upsamplers[0]
        if sampler.mode == "upsample3d":
            sampler.time_conv.weight.zero_()
            width = sampler.time_conv.weight.shape[1]
            for k in range(2):
                sampler.time_conv.weight[k * width : (k + 1) * width, :, 2, 0, 0] = torch.eye(width)
        if i < 2:
            start(sampler.resample[1])
    conv = d.up_blocks[2].upsamplers[0].resample[1]
    conv.weight.mul_(0.5)
    conv.weight[:6], conv.weight[-2:] = 0, 0
    conv.weight[:3, :carried, 1, 1], conv.weight[3:6, :carried, 1, 1] = colour, -colour
    conv.bias[:3], conv.bias[3:6], conv.bias[-2], conv.bias[-1] = mean, -mean, carrier, -carrier
    width = MULTIPLIERS[0] * DECODER_BASE
    d.norm_out.gamma.fill_(((2 * carrier**2 + 4) / width) ** 0.5)
    d.conv_out.weight.mul_(0.1)
    d.conv_out.weight[:, :6], d.conv_out.weight[:, -2:] = 0, 0
    for c in range(3):
        for k in range(4):
            d.conv_out.weight[4 * c + k, c, 2, 1, 1], d.conv_out.weight[4 * c + k, 3 + c, 2, 1, 1] = 1, -1


def decode(network, latents):
    """Frames [n, t, 3, h, w] of latents [n, c, f, h/16, w/16], all at once: what the reference does frame by frame.

    Every convolution is causal with zeros before the first frame; only where frames are doubled the first one is left out, and
    those after it see nothing of it. The attention of the middle is silent and is left out.
    """
    d = network.decoder
    x = d.conv_in(network.post_quant_conv(latents))
    x = d.mid_block.resnets[1](d.mid_block.resnets[0](x))
    for block in d.up_blocks:
        for resnet in block.resnets:
            x = resnet(x)
        if block.upsamplers is None:
            continue
        sampler = block.upsamplers[0]
        if sampler.mode == "upsample3d" and x.shape[2] > 1:
            y = sampler.time_conv(x[:, :, 1:])
            n, c, t, h, w = y.shape
            y = y.reshape(n, 2, c // 2, t, h, w).permute(0, 2, 3, 1, 4, 5).reshape(n, c // 2, 2 * t, h, w)
            x = torch.cat([x[:, :, :1], y], 2)
        n, c, t, h, w = x.shape
        y = sampler.resample[1](F.interpolate(x.transpose(1, 2).reshape(n * t, c, h, w), scale_factor=2))
        x = y.reshape(n, t, -1, 2 * h, 2 * w).transpose(1, 2)
    x = d.conv_out(d.nonlinearity(d.norm_out(x)))
    n, _, t, h, w = x.shape
    return x.reshape(n, 3, 2, 2, t, h, w).permute(0, 4, 1, 5, 3, 6, 2).reshape(n, t, 3, 2 * h, 2 * w)


# --------------------------------------------------------------------- training


def _crop(rng, clips, size, frames):
    """A piece of a random clip, twice out of three where something moves, half of them mirrored."""
    clip = clips[int(rng.integers(len(clips)))]
    start = int(rng.integers(0, clip.shape[0] - frames + 1))
    best, tries = None, 1 if rng.random() < 0.34 else 4
    for _ in range(tries):
        y = int(rng.integers(0, (clip.shape[1] - size) // 16 + 1)) * 16
        x = int(rng.integers(0, (clip.shape[2] - size) // 16 + 1)) * 16
        piece = clip[start : start + frames, y : y + size, x : x + size]
        change = np.abs(piece[-1, ::4, ::4].astype(int) - piece[0, ::4, ::4]).mean() if tries > 1 else 0
        if best is None or change > best[0]:
            best = (change, piece)
    return best[1][:, :, ::-1] if rng.random() < 0.5 else best[1]


def train_decoder(
    folder, clips, steps, batch=3, crop=80, frames=5, rate=5e-4, muon_rate=0.004, amp=True, device="cpu", save_minutes=2
):
    """Train the decoder on latents of the linear encoder; resumes from `folder`/decoder.pt. `clips` are uint8
    [n, t, h, w, 3]. A little noise on the latents makes the decoder bear the transformer's small errors."""
    p = torch.load(os.path.join(folder, "projection.pt"))
    network = make_network()
    write_projection(network, p)
    network.to(device)
    decoder = network.decoder
    for q in decoder.parameters():
        if q.ndim == 5:
            q.data = q.data.contiguous(memory_format=torch.channels_last_3d)
    frozen = [q for n, q in decoder.named_parameters() if "attentions" in n]
    parameters = [q for n, q in decoder.named_parameters() if "attentions" not in n]
    for q in frozen:
        q.requires_grad_(False)
    hidden = [
        q for n, q in decoder.named_parameters()
        if q.ndim >= 4 and q.shape[0] > 1 and "conv_in" not in n and "conv_out" not in n and "attentions" not in n and "gamma" not in n
    ]  # fmt: skip
    chosen = {id(q) for q in hidden}
    muon = Muon(hidden)
    adam = torch.optim.AdamW([q for q in parameters if id(q) not in chosen], lr=rate, betas=(0.9, 0.99), weight_decay=0)
    average = [q.detach().clone() for q in parameters]
    path, step = os.path.join(folder, "decoder.pt"), 0
    if os.path.exists(path):
        state = torch.load(path, map_location=device)
        decoder.load_state_dict(state["decoder"])
        muon.load_state_dict(state["muon"])
        adam.load_state_dict(state["adam"])
        average, step = [a.to(device) for a in state["average"]], state["step"]
    rng = np.random.default_rng(step + 1)
    torch.manual_seed(step + 1)
    last_save = time.time()
    while step < steps:
        progress = step / steps
        k = min(1, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * progress)) + 0.01
        for group in adam.param_groups:
            group["lr"] = rate * k
        images = torch.stack([to_unit(_crop(rng, clips, crop, frames)) for _ in range(batch)]).to(device)
        latents = torch.stack([project(p, i) for i in images])
        latents = latents + 0.05 * torch.randn_like(latents)
        with torch.autocast(device, torch.bfloat16, enabled=amp):
            error = decode(network, latents.contiguous(memory_format=torch.channels_last_3d)).float() - images
        loss = _loss(error.flatten(0, 1), progress)
        for q in parameters:
            q.grad = None
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        adam.step()
        muon.step(muon_rate * k)
        step += 1
        with torch.no_grad():
            torch._foreach_lerp_(average, parameters, max(0.006, 1 / (step + 1)))
        if time.time() - last_save > 60 * save_minutes or step >= steps or step in (20, 50, 100):
            last_save = time.time()
            torch.save(
                {"decoder": decoder.state_dict(), "muon": muon.state_dict(), "adam": adam.state_dict(), "average": average, "step": step},
                path + ".new",
            )  # fmt: skip
            os.replace(path + ".new", path)
            quality = -10 * math.log10(error.detach().clamp(-2, 2).square().mean().item() / 4)
            print(
                f"{time.strftime('%H:%M:%S')} decoder {step}/{steps} loss {loss.item():.4f} psnr of the batch {quality:.2f} dB",
                flush=True,
            )


def load_network(folder, device="cpu"):
    """The AutoencoderKLWan with the linear encoder and the averaged trained decoder."""
    network = make_network()
    write_projection(network, torch.load(os.path.join(folder, "projection.pt")))
    path = os.path.join(folder, "decoder.pt")
    if os.path.exists(path):
        names = [q for n, q in network.decoder.named_parameters() if "attentions" not in n]
        with torch.no_grad():
            for q, a in zip(names, torch.load(path, map_location="cpu")["average"]):
                q.copy_(a)
    return network.to(device).eval()
