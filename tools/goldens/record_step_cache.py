"""Records runs with the reference's first-block cache (diffusers `FirstBlockCacheConfig`) on the tiny models of recorded
cases: every step's latents, and which calls of the denoisers went through all blocks.

    V/bin/python record_step_cache.py        # writes ../../crates/kinora-diffusion/tests/fixtures/step_cache/*.safetensors

What was called with what is told in the files' metadata. Weights that were never trained change much from step to step,
so thresholds are far above those of use; each is the first of a few at which some calls are reused and some are not,
and lies clearly between the changes that it is held against, so that no decision hangs on rounding.
"""

import json
from pathlib import Path

import torch
from diffusers import FirstBlockCacheConfig, FluxPipeline, LTXPipeline, WanPipeline
from diffusers.hooks import first_block_cache
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
OUT = HERE / "../../crates/kinora-diffusion/tests/fixtures/step_cache"

THRESHOLDS = [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]

# file: pipeline, case whose model is used, denoisers, call
RUNS = {
    "flux": (FluxPipeline, "flux_dev", ("transformer",), dict(
        prompt="A painting of a squirrel eating a burger", height=64, width=96, num_inference_steps=10, guidance_scale=3.5, max_sequence_length=48)),
    "flux_guided": (FluxPipeline, "flux_dev_heldout", ("transformer",), dict(
        prompt="A painting of a squirrel eating a burger", negative_prompt="blurry", true_cfg_scale=2.0, height=96, width=80, num_inference_steps=10,
        guidance_scale=3.5, max_sequence_length=32)),
    "wan": (WanPipeline, "wan22_t2v_a14b", ("transformer", "transformer_2"), dict(
        prompt="A painting of a squirrel eating a burger", negative_prompt="blurry", height=32, width=48, num_frames=9, num_inference_steps=12,
        guidance_scale=4.0, guidance_scale_2=3.0, max_sequence_length=48)),
    "ltx": (LTXPipeline, "ltx_video", ("transformer",), dict(
        prompt="A painting of a squirrel eating a burger", height=64, width=96, num_frames=9, frame_rate=25, num_inference_steps=12, guidance_scale=1.0,
        max_sequence_length=48)),
}


def main():
    torch.set_num_threads(1)
    OUT.mkdir(parents=True, exist_ok=True)
    changes = []
    decide = first_block_cache.FBCHeadBlockHook._should_compute_remaining_blocks

    def watched(hook, residual):
        state = hook.state_manager.get_state()
        before = state.head_block_residual
        full = decide(hook, residual)
        change = None if before is None else float((residual - before).abs().mean() / before.abs().mean())
        changes.append((change, full))
        return full

    first_block_cache.FBCHeadBlockHook._should_compute_remaining_blocks = watched
    for name, (cls, case, denoisers, call) in RUNS.items():
        root = HERE / "cases" / case
        pipe = cls.from_pretrained(root / "model", torch_dtype=torch.float32)
        pipe.set_progress_bar_config(disable=True)
        latents = load_file(root / "golden.safetensors")["in.latents"][:1]
        for threshold in THRESHOLDS:
            recorded = {"in.latents": latents}

            def keep(pipe, step, timestep, kept):
                recorded[f"step{step}.latents"] = kept["latents"].detach().clone().contiguous()
                return {}

            for denoiser in denoisers:
                getattr(pipe, denoiser).eval().enable_cache(FirstBlockCacheConfig(threshold=threshold))
            changes.clear()
            with torch.no_grad():
                pipe(**call, latents=latents.clone(), output_type="latent", callback_on_step_end=keep, return_dict=False)
            for denoiser in denoisers:
                getattr(pipe, denoiser).disable_cache()
            print(name, threshold, [(None if c is None else round(c, 4), f) for c, f in changes], flush=True)
            full = [f for _, f in changes]
            is_clear = all(c is None or abs(c / threshold - 1) > 0.005 for c, _ in changes)
            if is_clear and full.count(False) >= 2 and any(f and c is not None for c, f in changes):
                break
        else:
            raise SystemExit(f"{name}: no threshold does it")
        metadata = {"case": case, "threshold": str(threshold), "call": json.dumps(call), "full": json.dumps(full)}
        save_file(recorded, OUT / f"{name}.safetensors", metadata=metadata)


if __name__ == "__main__":
    main()
