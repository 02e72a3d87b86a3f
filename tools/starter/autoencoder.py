"""The autoencoder: a fixed linear encoder (PCA of 16x16 blocks) written into the stock AutoencoderKL, and a trained decoder.

Because the encoder is linear and known from the start, latents cost nothing, and the transformer can be trained on them before
the decoder is. Trained from scratch end to end, the same network gets stuck far below.
"""

import math
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from muon import Muon

BLOCK = 16  # pixels of one latent, in each direction
CHANNELS = 32  # latent channels
WIDTHS = (16, 32, 64, 72, 72)  # of the five levels
CARRIER = 20.0  # a constant pair of channels this strong makes a GroupNorm a fixed scaling


def to_unit(pictures):
    """uint8 [n, h, w, 3] to float [n, 3, h, w] in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def to_pixels(images):
    """float [n, 3, h, w] in -1..1 to uint8 [n, h, w, 3]."""
    return images.clamp(-1, 1).add(1).mul(127.5).round().permute(0, 2, 3, 1).cpu().numpy().astype(np.uint8)


def _principal_axes(pictures, block, count):
    """Mean [3bb], axes [3bb, count] and variances [count] of all block x block x 3 blocks; index order c, y, x."""
    n, h, w, _ = pictures.shape
    x = pictures[:, : h // block * block, : w // block * block].astype(np.float32) / 127.5 - 1
    x = x.reshape(n, h // block, block, w // block, block, 3).transpose(0, 1, 3, 5, 2, 4).reshape(-1, 3 * block * block)
    mean = x.mean(0)
    values, vectors = np.linalg.eigh(np.cov((x - mean).T))
    order = np.argsort(-values)[:count]
    return (
        torch.tensor(mean),
        torch.tensor(vectors[:, order].copy(), dtype=torch.float32),
        torch.tensor(values[order].copy(), dtype=torch.float32),
    )


def fit_projection(pictures):
    """Fit the linear encoder: a pyramid of PCAs (4x4, 8x8, 16x16 blocks), each on the coefficients of the one before.

    The latents are half whitened (scaled by variance to the power of -1/4): large shapes still outweigh details, which makes
    them easy to denoise, but details are not drowned by noise until the last step.
    """
    _, four, _ = _principal_axes(pictures, 4, WIDTHS[1])
    _, eight, _ = _principal_axes(pictures, 8, WIDTHS[2])
    mean, axes, variances = _principal_axes(pictures, BLOCK, CHANNELS)
    scale = variances**-0.25
    scale = scale / (variances * scale * scale).mean().sqrt()
    four = four.reshape(3, 4, 4, -1)
    eight = eight.reshape(3, 8, 8, -1)
    sixteen = (axes * scale).T.reshape(CHANNELS, 3, 16, 16)
    step8 = torch.stack(
        [torch.einsum("cyxo,cyxk->ok", eight[:, y : y + 4, x : x + 4], four) for y in (0, 4) for x in (0, 4)]
    )
    step16 = torch.stack(
        [torch.einsum("ocyx,cyxk->ok", sixteen[:, :, y : y + 8, x : x + 8], eight) for y in (0, 8) for x in (0, 8)]
    )
    kernel = torch.zeros(CHANNELS, 3, 16, 16)
    for j in range(4):  # the pyramid multiplied out, so that kernel and network agree exactly
        for i in range(4):
            part = torch.einsum("ok,kq,cyxq->ocyx", step16[j], step8[i], four)
            y, x = 8 * (j // 2) + 4 * (i // 2), 8 * (j % 2) + 4 * (i % 2)
            kernel[:, :, y : y + 4, x : x + 4] = part
    inverse = (axes / scale).reshape(3, 16, 16, CHANNELS)
    bias = -torch.einsum("ocyx,cyx->o", kernel, mean.reshape(3, 16, 16))
    return {
        "kernel": kernel,
        "bias": bias,
        "four": four,
        "step8": step8,
        "step16": step16,
        "mean": mean.reshape(3, 16, 16),
        "inverse": inverse,
    }


def project(projection, images):
    """Latents [n, 32, h/16, w/16] of images [n, 3, h, w] in -1..1."""
    return F.conv2d(images, projection["kernel"].to(images.device), projection["bias"].to(images.device), stride=BLOCK)


def unproject(projection, latents):
    """The linear reconstruction: what the latents say without a trained decoder."""
    kernel = projection["inverse"].permute(3, 0, 1, 2)
    return F.conv_transpose2d(latents, kernel, stride=BLOCK) + projection["mean"].repeat(
        1, latents.shape[2], latents.shape[3]
    )


# ---------------------------------------------------------------------- network


def make_network():
    """A stock AutoencoderKL of five levels whose residual branches start silent and whose resampling starts as soft identities."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    network = AutoencoderKL(
        in_channels=3, out_channels=3, down_block_types=["DownEncoderBlock2D"] * 5, up_block_types=["UpDecoderBlock2D"] * 5,
        block_out_channels=list(WIDTHS), layers_per_block=1, latent_channels=CHANNELS, norm_num_groups=1, sample_size=256,
        use_quant_conv=False, use_post_quant_conv=False, force_upcast=False, scaling_factor=1.0, shift_factor=0.0,
    )  # fmt: skip
    with torch.no_grad():
        for name, p in network.named_parameters():
            if name.endswith("conv2.weight") or "to_out.0.weight" in name:
                p.zero_()
            elif p.ndim == 4 and ("samplers" in name or "conv_shortcut" in name or name == "decoder.conv_in.weight"):
                identity = torch.empty(p.shape[:2])
                nn.init.eye_(identity) if p.shape[0] == p.shape[1] else nn.init.orthogonal_(identity)
                middle = p.shape[2] // 2
                p.mul_(0.4)
                p[:, :, middle, middle] += identity * (1.0 if p.shape[2] == 1 else 0.8)
            if name.endswith(".bias"):
                p.zero_()
    return network


@torch.no_grad()
def write_projection(network, projection):
    """Write the linear encoder into the network's convolutions, and a start for the decoder: the mean colour of each block.

    silu(x) - silu(-x) = x carries a value through an activation exactly, and a constant pair of +-CARRIER channels makes the
    GroupNorm before it a fixed scaling; all residual branches of the encoder are silent.
    """
    e, d = network.encoder, network.decoder
    four, step8, step16 = projection["four"], projection["step8"], projection["step16"]

    def corners(conv, weights):
        """Kernel taps (y, x) in {0, 1} of a stride-2 convolution."""
        conv.weight.zero_()
        conv.bias.zero_()
        for j, weight in enumerate(weights):
            conv.weight[: weight.shape[0], : weight.shape[1], j // 2, j % 2] = weight

    def pass_on(conv, count):
        """A convolution that hands on its first channels unchanged."""
        conv.weight.zero_()
        conv.bias.zero_()
        middle = conv.weight.shape[2] // 2
        for i in range(count):
            conv.weight[i, i, middle, middle] = 1

    pass_on(e.conv_in, 3)
    sixteen = [torch.zeros(12, 3) for _ in range(4)]
    for j in range(4):
        for c in range(3):
            sixteen[j][c * 4 + j, c] = 1
    corners(e.down_blocks[0].downsamplers[0].conv, sixteen)
    pass_on(e.down_blocks[1].resnets[0].conv_shortcut, 12)
    taps = [torch.zeros(WIDTHS[1], 12) for _ in range(4)]
    for y in range(4):
        for x in range(4):
            for c in range(3):
                taps[(y // 2) * 2 + x // 2][:, c * 4 + (y % 2) * 2 + x % 2] = four[c, y, x]
    corners(e.down_blocks[1].downsamplers[0].conv, taps)
    pass_on(e.down_blocks[2].resnets[0].conv_shortcut, WIDTHS[1])
    corners(e.down_blocks[2].downsamplers[0].conv, list(step8))
    pass_on(e.down_blocks[3].resnets[0].conv_shortcut, WIDTHS[2])
    last = e.down_blocks[3].downsamplers[0].conv
    corners(last, [torch.cat([w, -w]) for w in step16])
    last.bias[:CHANNELS], last.bias[CHANNELS : 2 * CHANNELS] = projection["bias"], -projection["bias"]
    last.bias[-2], last.bias[-1] = CARRIER, -CARRIER
    e.conv_norm_out.weight.fill_(((2 * CHANNELS + 2 * CARRIER**2) / WIDTHS[-1]) ** 0.5)
    e.conv_out.weight.zero_()
    e.conv_out.bias.zero_()
    e.conv_out.bias[CHANNELS:] = 2 * math.log(0.05)
    for i in range(CHANNELS):
        e.conv_out.weight[i, i, 1, 1], e.conv_out.weight[i, i + CHANNELS, 1, 1] = 1, -1

    carried = 16
    resampling = [
        m
        for n, m in d.up_blocks.named_modules()
        if isinstance(m, nn.Conv2d) and ("upsamplers" in n or "conv_shortcut" in n)
    ]
    for conv in [d.conv_in, *resampling]:
        conv.weight.mul_(0.5)
        conv.weight[:carried] = 0
        middle = conv.weight.shape[2] // 2
        for i in range(carried):
            conv.weight[i, i, middle, middle] = 1
    colour = projection["inverse"].mean((1, 2))[:, :carried]
    mean = projection["mean"].mean((1, 2))
    shortcut = d.up_blocks[4].resnets[0].conv_shortcut
    shortcut.weight[:6], shortcut.weight[-2:] = 0, 0
    shortcut.weight[6:-2] *= 0.3
    shortcut.weight[:3, :carried, 0, 0], shortcut.weight[3:6, :carried, 0, 0] = colour, -colour
    shortcut.bias[:3], shortcut.bias[3:6] = mean, -mean
    shortcut.bias[-2], shortcut.bias[-1] = CARRIER / 2, -CARRIER / 2
    d.conv_norm_out.weight.fill_(((2 + CARRIER**2 / 2) / WIDTHS[0]) ** 0.5)
    d.conv_out.weight.mul_(0.1)
    d.conv_out.weight[:, :6], d.conv_out.weight[:, -2:] = 0, 0
    for i in range(3):
        d.conv_out.weight[i, i, 1, 1], d.conv_out.weight[i, i + 3, 1, 1] = 1, -1


# --------------------------------------------------------------------- training


def _loss(error, progress):
    """Block colours first (squared errors: absolute ones make an untrained decoder settle on flat patches), edges later."""
    gradient_x, gradient_y = error[..., 1:] - error[..., :-1], error[..., 1:, :] - error[..., :-1, :]
    chroma = error - error.mean(1, keepdim=True)
    base = (
        12 * F.avg_pool2d(error, 8).square().mean()
        + 6 * F.avg_pool2d(error, 4).square().mean()
        + 6 * chroma.square().mean()
    )
    squared = 4 * error.square().mean() + 2 * (gradient_x.square().mean() + gradient_y.square().mean())
    absolute = (
        error.abs().mean()
        + 2 * error.square().mean()
        + 0.3 * (gradient_x.abs().mean() + gradient_y.abs().mean())
        + chroma.abs().mean()
    )
    late = min(1.0, max(0.0, (progress - 0.5) / 0.3))
    return base + (1 - late) * squared + late * absolute


def train_decoder(
    folder,
    draw_pictures,
    steps,
    batch=6,
    crop=128,
    rate=1.2e-3,
    muon_rate=0.012,
    device="cpu",
    amp=True,
    save_minutes=3,
):
    """Train the decoder on latents of the linear encoder for `steps` steps; resumes from `folder`/decoder.pt.

    `draw_pictures(n)` gives n fresh pictures as uint8 [n, h, w, 3]. A little noise on the latents makes the decoder bear the
    transformer's small errors.
    """
    projection = torch.load(os.path.join(folder, "projection.pt"))
    network = make_network()
    write_projection(network, projection)
    network.to(device).to(memory_format=torch.channels_last)
    decoder = network.decoder
    hidden = [p for n, p in decoder.named_parameters() if p.ndim == 4 and "conv_in" not in n and "conv_out" not in n]
    chosen = {id(p) for p in hidden}
    muon = Muon(hidden)
    adam = torch.optim.AdamW(
        [p for p in decoder.parameters() if id(p) not in chosen], lr=rate, betas=(0.9, 0.99), weight_decay=0
    )
    parameters = list(decoder.parameters())
    average = [p.detach().clone() for p in parameters]
    path, step = os.path.join(folder, "decoder.pt"), 0
    if os.path.exists(path):
        state = torch.load(path, map_location=device)
        decoder.load_state_dict(state["decoder"])
        muon.load_state_dict(state["muon"])
        adam.load_state_dict(state["adam"])
        average, step = [a.to(device) for a in state["average"]], state["step"]
    rng = np.random.default_rng(step + 1)
    torch.manual_seed(step + 1)
    held = to_unit(draw_pictures(24)).to(device)
    last_save = time.time()
    while step < steps:
        progress = step / steps
        k = min(1, (step + 1) / 60) * (0.5 + 0.5 * math.cos(math.pi * progress)) + 0.01
        for group in adam.param_groups:
            group["lr"] = rate * k
        pictures = draw_pictures(batch)
        y = int((pictures.shape[1] - crop) // BLOCK * rng.random() ** 0.7 + 0.5) * BLOCK
        x = int(rng.integers(0, (pictures.shape[2] - crop) // BLOCK + 1)) * BLOCK
        images = (
            to_unit(pictures[:, y : y + crop, x : x + crop]).to(device).contiguous(memory_format=torch.channels_last)
        )
        latents = project(projection, images)
        latents = latents + 0.06 * torch.randn_like(latents)
        with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=amp):
            error = decoder(latents.contiguous(memory_format=torch.channels_last)).float() - images
        loss = _loss(error, progress)
        for p in parameters:
            p.grad = None
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        adam.step()
        muon.step(muon_rate * k)
        step += 1
        with torch.no_grad():
            torch._foreach_lerp_(average, parameters, max(0.006, 1 / (step + 1)))
        if time.time() - last_save > 60 * save_minutes or step >= steps or step == 100:
            last_save = time.time()
            checkpoint = {
                "decoder": decoder.state_dict(),
                "muon": muon.state_dict(),
                "adam": adam.state_dict(),
                "average": average,
                "step": step,
            }
            torch.save(checkpoint, path + ".new")
            os.replace(path + ".new", path)
            with torch.no_grad():
                out = load_network(folder, device).decoder(project(projection, held))
                psnr = -10 * torch.log10((out.clamp(-1, 1) - held).square().mean() / 4).item()
            print(
                f"{time.strftime('%H:%M:%S')} decoder {step}/{steps} loss {loss.item():.4f} psnr {psnr:.2f} dB",
                flush=True,
            )


def load_network(folder, device="cpu"):
    """The AutoencoderKL with the linear encoder and the averaged trained decoder."""
    network = make_network()
    write_projection(network, torch.load(os.path.join(folder, "projection.pt")))
    path = os.path.join(folder, "decoder.pt")
    if os.path.exists(path):
        with torch.no_grad():
            for p, a in zip(network.decoder.parameters(), torch.load(path, map_location="cpu")["average"]):
                p.copy_(a)
    return network.to(device).to(memory_format=torch.channels_last).eval()
