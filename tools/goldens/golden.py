#!/usr/bin/env python3
"""Golden references for a Rust re-implementation of diffusion pipelines.

For every case: builds a TINY but structurally faithful pipeline (random weights that are exactly representable in
bf16), saves it as a diffusers-format folder, RELOADS that folder in fp32 on CPU, runs the whole prompt->pixels path
with Hugging Face diffusers and records golden tensors at every stage.

  golden.py --out DIR                     all public cases
  golden.py --out DIR --cases flux_dev,sdxl
  golden.py --out DIR --variant heldout --seed 4242     second config + other prompts, sizes, weights
  golden.py --list

Layout written:
  DIR/<case>/model/...            diffusers folder (model_index.json, transformer/, vae/, text_encoder/, tokenizer/, ...)
  DIR/<case>/golden.safetensors   one file, all stage tensors (fp32 / int64)
  DIR/<case>/inputs/*.png         input images (lossless)
  DIR/<case>/case.json            call arguments, stage index, versions, timings, fp32-vs-fp64 noise floor
"""
from __future__ import annotations

import argparse, collections, contextlib, copy, dataclasses, functools, hashlib, io, json, math, os, shutil, sys, time, warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
warnings.filterwarnings("ignore")

import numpy as np
import torch
import regex
from PIL import Image
from safetensors.torch import save_file, load_file

import transformers, diffusers, tokenizers
from transformers import (
    CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPVisionConfig, CLIPVisionModel,
    CLIPVisionModelWithProjection, CLIPTokenizer, CLIPImageProcessor, SiglipImageProcessor, SiglipVisionConfig, SiglipVisionModel,
    T5Config, T5EncoderModel, T5TokenizerFast,
    UMT5Config, UMT5EncoderModel, Qwen2Tokenizer, AutoTokenizer,
)
from diffusers import *  # noqa: F403
from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder

transformers.logging.set_verbosity_error()
diffusers.logging.set_verbosity_error()
diffusers.utils.logging.disable_progress_bar()
torch.set_grad_enabled(False)
torch.set_num_threads(int(os.environ.get("GOLDEN_THREADS", "1")))   # 1: bit-reproducible, and 10x faster on a busy 2-core machine
torch.use_deterministic_algorithms(True, warn_only=True)

# ----------------------------------------------------------------------------------------------------------------
# deterministic numbers
# ----------------------------------------------------------------------------------------------------------------

def rng(*key) -> np.random.Generator:
    h = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(h[:16], "little")))


def noise(*shape, key) -> torch.Tensor:
    return torch.from_numpy(rng(*key).standard_normal(shape).astype(np.float32))


def bf16_exact(x: torch.Tensor) -> torch.Tensor:
    return x.to(torch.bfloat16).to(torch.float32)


def init_weights(module: torch.nn.Module, key) -> torch.nn.Module:
    """Every parameter gets a non-trivial value (norm scales != 1, biases != 0) that bf16 represents exactly."""
    emb = {id(m.weight) for m in module.modules() if isinstance(m, torch.nn.Embedding)}
    zero_centred = "Gemma" in type(module).__name__          # Gemma RMSNorm multiplies by (1 + w)
    for name, p in module.named_parameters():
        x = torch.from_numpy(rng(*key, name).standard_normal(tuple(p.shape)).astype(np.float32))
        leaf = name.rsplit(".", 1)[-1]
        if p.ndim == 0:                                       # LTX timestep_scale_multiplier (1000.0) is a stored parameter
            continue
        if id(p) in emb:
            w = 0.5 * x
        elif leaf == "gamma" or (leaf == "weight" and p.ndim == 1):   # norm scales
            w = 0.1 * x if (zero_centred and "vision" not in name) else 1 + 0.1 * x
        elif leaf in ("alpha", "beta"):                       # snakebeta (log scale)
            w = 0.2 * x
        elif leaf == "mix_factor":
            w = 0.5 * x
        elif leaf == "pos_frequencies":
            w = 0.3 * x
        elif p.ndim <= 1 or leaf.endswith("bias"):
            w = 0.05 * x
        elif leaf.endswith("weight") or leaf.endswith("proj_in") or leaf.endswith("proj_out"):
            fan_in = int(np.prod(p.shape[1:]))
            w = x / math.sqrt(fan_in)
        else:                                                 # scale_shift_table, class_embedding, registers, ...
            w = 0.3 * x
        p.data.copy_(bf16_exact(w))
    for name, b in module.named_buffers():                    # keep saved buffers bf16-exact as well
        if b.is_floating_point() and name in module.state_dict():
            b.data.copy_(bf16_exact(b.float()).to(b.dtype))
    return module.eval()


def test_image(w: int, h: int, key) -> Image.Image:
    g = rng(*key)
    y, x = np.mgrid[0:h, 0:w].astype(np.float64)
    out = np.zeros((h, w, 3))
    for c in range(3):
        a, b, ph, cx, cy, r = g.random(6)
        out[..., c] = 0.5 + 0.3 * np.sin(2 * np.pi * ((1 + 2 * a) * x / w + (1 + 2 * b) * y / h + ph))
        out[..., c] += 0.25 * (np.hypot(x - cx * w, y - cy * h) < (0.15 + 0.3 * r) * min(w, h))
    out += 0.03 * g.standard_normal(out.shape)
    return Image.fromarray((out.clip(0, 1) * 255).round().astype(np.uint8))


# ----------------------------------------------------------------------------------------------------------------
# tokenizers, built offline in the on-disk formats of the real repositories
# ----------------------------------------------------------------------------------------------------------------

PROMPTS = [
    "A painting of a squirrel eating a burger", "an astronaut riding a green horse on the moon, 4k photo",
    "a robot dancing in the rain", "blurry, low quality, bad anatomy, watermark", "Make the sky purple and add a cat's hat",
    "the quick brown fox jumps over the lazy dog", "cinematic shot of waves crashing at sunset; camera pans left",
    "replace the background with mountains", "a small red car drives down a street in Paris at night", "worst quality",
]
QWEN_TEMPLATES = [
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial relationships of the objects and background:<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>system\nDescribe the key features of the input image (color, shape, size, texture, objects, background), then explain how the user's text instruction should alter or modify the image. Generate a new image that meets the user's requirements while maintaining consistency with the original input where appropriate.<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n",
    "Picture 1: Picture 2: ",
]


def bytes_to_unicode():
    bs = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    cs, n = bs[:], 0
    for b in range(256):
        if b not in bs:
            bs.append(b); cs.append(256 + n); n += 1
    return dict(zip(bs, map(chr, cs)))


def learn_bpe(words: dict[tuple[str, ...], int], n_merges: int, min_count=1):
    merges = []
    words = dict(words)
    for _ in range(n_merges):
        pairs = collections.Counter()
        for w, c in words.items():
            for a, b in zip(w, w[1:]):
                pairs[a, b] += c
        if not pairs:
            break
        best, cnt = min(pairs.items(), key=lambda kv: (-kv[1], kv[0]))
        if cnt < min_count:
            break
        merges.append(best)
        new = {}
        for w, c in words.items():
            out, i = [], 0
            while i < len(w):
                if i + 1 < len(w) and (w[i], w[i + 1]) == best:
                    out.append(w[i] + w[i + 1]); i += 2
                else:
                    out.append(w[i]); i += 1
            new[tuple(out)] = new.get(tuple(out), 0) + c
        words = new
    return merges


def dump(path: Path, obj):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(obj if isinstance(obj, str) else json.dumps(obj, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def make_clip_tokenizer(d: Path, pad: str = "<|endoftext|>"):
    """vocab.json + merges.txt (as in SD1.5 / SDXL / FLUX repos: no tokenizer.json)."""
    b2u = bytes_to_unicode()
    pat = regex.compile(r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+""")
    words = collections.Counter()
    for s in PROMPTS:
        for w in pat.findall(s.lower()):
            t = [b2u[b] for b in w.encode()]
            words[tuple(t[:-1] + [t[-1] + "</w>"])] += 1
    merges = learn_bpe(words, 150)
    vocab = {c: i for i, c in enumerate(list(b2u.values()) + [c + "</w>" for c in b2u.values()])}
    for a, b in merges:
        vocab.setdefault(a + b, len(vocab))
    for s in ("<|startoftext|>", "<|endoftext|>"):
        vocab[s] = len(vocab)
    dump(d / "vocab.json", json.dumps(vocab, ensure_ascii=False))
    dump(d / "merges.txt", "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    at = lambda c: {"content": c, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    dump(d / "special_tokens_map.json", {"bos_token": at("<|startoftext|>"), "eos_token": at("<|endoftext|>"),
                                         "pad_token": pad, "unk_token": at("<|endoftext|>")})
    dump(d / "tokenizer_config.json", {
        "add_prefix_space": False, "bos_token": {"__type": "AddedToken", **at("<|startoftext|>")},
        "do_lower_case": True, "eos_token": {"__type": "AddedToken", **at("<|endoftext|>")}, "errors": "replace",
        "model_max_length": 77, "pad_token": pad, "tokenizer_class": "CLIPTokenizer",
        "unk_token": {"__type": "AddedToken", **at("<|endoftext|>")}})
    tok = CLIPTokenizer.from_pretrained(d)
    # pure-python check of the BPE (greedy lowest rank) against the loaded tokenizer
    assert tok("a cat's burger").input_ids[0] == vocab["<|startoftext|>"] and tok("x").input_ids[-1] == vocab["<|endoftext|>"]
    assert tok.pad_token_id == vocab[pad], (tok.pad_token_id, pad)
    return tok, len(vocab)


def make_t5_tokenizer(d: Path, umt5=False, files=("spiece.model", "tokenizer.json"), max_len=512):
    """Real SentencePiece unigram model (nmt_nfkc normaliser). T5: pad 0 eos 1 unk 2; UMT5: pad 0 eos 1 bos 2 unk 3."""
    import sentencepiece as spm
    d.mkdir(parents=True, exist_ok=True)
    buf = io.BytesIO()
    corpus = PROMPTS * 4 + [w for p in PROMPTS for w in p.split()]
    ids = dict(pad_id=0, eos_id=1, unk_id=3, bos_id=2) if umt5 else dict(pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    spm.SentencePieceTrainer.train(sentence_iterator=iter(corpus), model_writer=buf, model_type="unigram", vocab_size=180,
                                   hard_vocab_limit=False, num_threads=1, minloglevel=2, **ids)
    (d / "spiece.model").write_bytes(buf.getvalue())
    sp = spm.SentencePieceProcessor(model_proto=buf.getvalue())
    n_extra = 10
    extra = [f"<extra_id_{i}>" for i in range(n_extra)]
    cfg = {"clean_up_tokenization_spaces": True, "eos_token": "</s>", "extra_ids": n_extra, "additional_special_tokens": extra,
           "model_max_length": max_len, "pad_token": "<pad>", "sp_model_kwargs": {}, "tokenizer_class": "T5Tokenizer", "unk_token": "<unk>"}
    dump(d / "tokenizer_config.json", cfg)
    dump(d / "special_tokens_map.json", {"additional_special_tokens": extra, "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"})
    # explicit tokenizer.json in the layout convert_slow_tokenizer gives for T5
    from tokenizers import Tokenizer, normalizers, pre_tokenizers, decoders, processors, AddedToken
    from tokenizers.models import Unigram
    from transformers.convert_slow_tokenizer import import_protobuf
    m = import_protobuf().ModelProto(); m.ParseFromString(buf.getvalue())
    pieces = [(p.piece, p.score) for p in m.pieces] + [(e, 0.0) for e in reversed(extra)]
    tk = Tokenizer(Unigram(pieces, unk_id=ids["unk_id"]))
    tk.normalizer = normalizers.Precompiled(m.normalizer_spec.precompiled_charsmap)
    tk.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")])
    tk.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tk.post_processor = processors.TemplateProcessing(single=["$A", "</s>"], pair=["$A", "</s>", "$B", "</s>"], special_tokens=[("</s>", 1)])
    tk.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ["<pad>", "</s>", "<unk>"] + (["<s>"] if umt5 else []) + extra])
    tk.save(str(d / "tokenizer.json"))
    for f in ("spiece.model", "tokenizer.json"):
        if f not in files:
            (d / f).unlink()
    tok = AutoTokenizer.from_pretrained(d) if umt5 else T5TokenizerFast.from_pretrained(d)
    # transformers>=5 rebuilds T5Tokenizer with unk_id=2 whatever the file says: with UMT5 ids only compare in-vocabulary text
    for s in PROMPTS + ([] if umt5 else ["héllo ①  wörld"]):
        ref = sp.encode(s) + [1]
        assert tk.encode(s).ids == ref, (s, tk.encode(s).ids, ref)
        got = tok(s).input_ids
        assert got == ref, ("transformers T5 tokenizer differs from sentencepiece", umt5, files, s, got, ref)
    return tok, len(pieces)


QWEN_PAT = r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
QWEN_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
                "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
                "<|image_pad|>", "<|video_pad|>"]


def make_qwen_tokenizer(d: Path):
    """vocab.json + merges.txt + added tokens in tokenizer_config.json (Qwen-Image layout). Every template word is one
    token so that the hard-coded template drop indices (34 / 64) mean what they mean with the real vocabulary."""
    b2u = bytes_to_unicode()
    pat = regex.compile(QWEN_PAT)
    words = collections.Counter()
    split = regex.compile("(" + "|".join(map(regex.escape, QWEN_SPECIAL)) + r"|\{\})")
    for s, weight in [(t, 1000) for t in QWEN_TEMPLATES] + [(p, 1) for p in PROMPTS]:
        for chunk in split.split(s):
            if chunk and not split.fullmatch(chunk):
                for w in pat.findall(chunk):
                    words[tuple(b2u[b] for b in w.encode())] += weight
    merges = learn_bpe(words, 60, 1)
    merges = learn_bpe(words, 420, 500)                       # all template words, then stop
    merges += [m for m in learn_bpe(words, 500) if m not in set(merges)][:60]
    vocab = {c: i for i, c in enumerate(b2u.values())}
    for a, b in merges:
        vocab.setdefault(a + b, len(vocab))
    dump(d / "vocab.json", json.dumps(vocab, ensure_ascii=False))
    dump(d / "merges.txt", "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    added = {t: len(vocab) + i for i, t in enumerate(QWEN_SPECIAL)}
    dump(d / "added_tokens.json", added)
    dump(d / "special_tokens_map.json", {"additional_special_tokens": QWEN_SPECIAL[1:], "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})
    dump(d / "tokenizer_config.json", {
        "add_bos_token": False, "add_prefix_space": False, "additional_special_tokens": QWEN_SPECIAL[1:],
        "added_tokens_decoder": {str(i): {"content": t, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
                                 for t, i in added.items()},
        "bos_token": None, "clean_up_tokenization_spaces": False, "eos_token": "<|im_end|>", "errors": "replace",
        "model_max_length": 131072, "pad_token": "<|endoftext|>", "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer", "unk_token": None})
    tok = Qwen2Tokenizer.from_pretrained(d)
    for t, i in added.items():
        assert tok.convert_tokens_to_ids(t) == i
    n = [len(tok(t.split("{}")[0]).input_ids) for t in QWEN_TEMPLATES[:2]]
    assert n == [34, 64], n
    return tok, len(vocab) + len(added), added


def make_gemma_tokenizer(d: Path):
    """Gemma-style tokenizer.json: BPE, ' '->'▁', byte fallback, <bos> prepended, left padding."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"] + ["<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>", "<image_soft_token>"]
    words = collections.Counter()
    for p in PROMPTS:
        for i, w in enumerate(p.replace(" ", " ▁").split(" ")):
            words[tuple(w)] += 1
    merges = learn_bpe(words, 150)
    vocab = {t: i for i, t in enumerate(special)}
    for b in range(256):
        vocab[f"<0x{b:02X}>"] = len(vocab)
    for c in sorted({c for w in words for c in w} | {"▁"}):
        vocab.setdefault(c, len(vocab))
    for a, b in merges:
        vocab.setdefault(a + b, len(vocab))
    from tokenizers import Tokenizer, normalizers, pre_tokenizers, decoders, processors, AddedToken
    from tokenizers.models import BPE
    tk = Tokenizer(BPE(vocab=vocab, merges=merges, fuse_unk=True, unk_token="<unk>", byte_fallback=True))
    tk.normalizer = normalizers.Replace(" ", "▁")
    tk.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tk.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tk.post_processor = processors.TemplateProcessing(single=["<bos>", "$A"], pair=["<bos>", "$A", "<bos>", "$B"], special_tokens=[("<bos>", 2)])
    tk.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    d.mkdir(parents=True, exist_ok=True)
    tk.save(str(d / "tokenizer.json"))
    dump(d / "tokenizer_config.json", {"add_bos_token": True, "add_eos_token": False, "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>",
                                       "unk_token": "<unk>", "model_max_length": 1024, "padding_side": "left", "tokenizer_class": "GemmaTokenizerFast"})
    tok = AutoTokenizer.from_pretrained(d)
    assert tok("a robot dancing").input_ids == tk.encode("a robot dancing").ids, (tok("a robot dancing").input_ids, tk.encode("a robot dancing").ids)
    return tok, len(vocab), {t: vocab[t] for t in special}


# ----------------------------------------------------------------------------------------------------------------
# capture
# ----------------------------------------------------------------------------------------------------------------

def components_of(*pipes):
    """Parts of pipelines that run one after the other; those of the first count."""
    return {k: v for pipe in reversed(pipes) if pipe for k, v in pipe.components.items() if v is not None}


class Capture:
    """Records stage tensors while the unmodified pipeline runs."""

    def __init__(self, pipe, denoisers, max_calls=2, replay=None, audit=False, prior=None):
        self.t: dict[str, torch.Tensor] = {}
        self.replay, self.audit, self.dead = replay, audit, {}
        self.pipe, self.denoisers, self.max_calls = pipe, denoisers, max_calls
        self.components = components_of(pipe, prior)
        self.undo = []
        self.info = {}

    def put(self, name, x):
        if isinstance(x, (list, tuple)) and x and all(torch.is_tensor(v) for v in x):
            for i, v in enumerate(x):
                self.put(f"{name}.{i}", v)
            return
        if isinstance(x, dict):
            for k, v in x.items():
                self.put(f"{name}.{k}", v)
            return
        if isinstance(x, (bool, int, float)) and not isinstance(x, bool):
            self.info[name] = x
            return
        if not torch.is_tensor(x) or name in self.t:
            return
        x = x.detach().clone().contiguous()
        self.t[name] = x.to(torch.float32) if x.is_floating_point() else x.to(torch.int64)

    def __enter__(self):
        pipe = self.pipe
        counts = collections.Counter()

        def den_hook(comp):
            def hook(mod, args, kwargs, out):
                if self.audit and comp not in self.dead:
                    self.dead[comp] = None
                    self.dead[comp] = self.find_dead(lambda: mod.forward(*args, **kwargs), mod)
                k = counts[comp]; counts[comp] += 1
                self.info[f"{comp}.calls"] = counts[comp]
                if k >= self.max_calls:
                    return
                skip = {"return_dict", "attention_kwargs", "joint_attention_kwargs", "cross_attention_kwargs"}
                if k == 0 or self.max_calls > 2:                      # later calls (uncond): outputs only
                    for n, v in list(zip(("sample", "timestep"), args)) + list(kwargs.items()):
                        if n not in skip:
                            self.put(f"{comp}.call{k}.in.{n}", v)
                self.put(f"{comp}.call{k}.out", list(out) if isinstance(out, tuple) and len(out) > 1 else (out[0] if isinstance(out, tuple) else out))
            return hook

        def enc_hook(comp):
            def hook(mod, args, kwargs, out):
                if self.audit and comp not in self.dead:
                    self.dead[comp] = None
                    self.dead[comp] = self.find_dead(lambda: mod.forward(*args, **kwargs), mod)
                k = counts[comp]; counts[comp] += 1
                if k >= 2:
                    return
                names = {"image_encoder": ("pixel_values",), "image_embedder": ("x",), "connectors": ("hidden_states", "attention_mask"), "vocoder": ("mel",)}.get(comp, ("input_ids", "attention_mask"))
                for n, v in list(zip(names, args)) + list(kwargs.items()):
                    self.put(f"{comp}.call{k}.in.{n}", v)
                if k > 0 and comp.startswith("text_encoder"):         # negative prompt: ids only, its embeddings are in encode_prompt
                    return
                for n in ("last_hidden_state", "pooler_output", "text_embeds", "image_embeds"):
                    v = getattr(out, n, None)
                    if torch.is_tensor(v):
                        self.put(f"{comp}.call{k}.{n}", v)
                hs = getattr(out, "hidden_states", None)
                if isinstance(hs, tuple) and torch.is_tensor(hs[-1]):
                    self.put(f"{comp}.call{k}.hidden_states.-2", hs[-2])
                    self.put(f"{comp}.call{k}.hidden_states.-1", hs[-1])
                if torch.is_tensor(out):
                    self.put(f"{comp}.call{k}.out", out)
                elif isinstance(out, tuple):
                    self.put(f"{comp}.call{k}.out", [o for o in out if torch.is_tensor(o)])
            return hook

        for comp, m in self.components.items():
            if not isinstance(m, torch.nn.Module):
                continue
            if comp in self.denoisers:
                self.undo.append(m.register_forward_hook(den_hook(comp), with_kwargs=True).remove)
            elif comp.startswith(("text_encoder", "image_encoder", "image_embedder", "connectors", "vocoder")):
                self.undo.append(m.register_forward_hook(enc_hook(comp), with_kwargs=True).remove)
            for fn in ("encode", "decode"):
                if comp.endswith("vae") and hasattr(m, fn):
                    self._wrap_vae(m, comp, fn, counts)

        for fn in ("encode_prompt",):
            if hasattr(pipe, fn):
                orig = getattr(pipe, fn)
                def wrapped(*a, _o=orig, **k):
                    r = _o(*a, **k)
                    i = counts["encode_prompt"]; counts["encode_prompt"] += 1
                    self.put(f"encode_prompt{i if i else ''}", [v for v in r if torch.is_tensor(v)] if isinstance(r, tuple) else r)
                    return r
                setattr(pipe, fn, wrapped)
                self.undo.append(lambda fn=fn: pipe.__dict__.pop(fn, None))

        # scheduler.step is patched on the class: LTX-2 / others deepcopy the scheduler
        cls = type(pipe.scheduler)
        orig_step = cls.step
        order = []
        @functools.wraps(orig_step)              # pipelines look at the signature to decide whether they hand over their generator
        def step(sched, model_output, timestep, *a, **k):
            if id(sched) not in order:
                order.append(id(sched))
            tag = "" if order.index(id(sched)) == 0 else f"sched{order.index(id(sched))}."
            i = counts["step" + tag]; counts["step" + tag] += 1
            if i == 0:
                self.put(f"{tag}step{i}.model_output", model_output)
            # CogVideoXDPMScheduler.step(model_output, old_pred_original_sample, timestep, timestep_back, sample)
            self.put(f"{tag}step{i}.timestep", torch.as_tensor(a[0] if cls.__name__ == "CogVideoXDPMScheduler" else timestep))
            r = orig_step(sched, model_output, timestep, *a, **k)
            self.put(f"{tag}step{i}.latents", r[0] if isinstance(r, tuple) else r.prev_sample)
            if i == 0:
                self.put(f"{tag}timesteps", sched.timesteps)
                if hasattr(sched, "sigmas"):
                    self.put(f"{tag}sigmas", sched.sigmas)
            return r
        cls.step = step
        self.undo.append(lambda: setattr(cls, "step", orig_step))

        # every random draw the pipeline makes is recorded, so that the re-implementation can be fed the same noise
        import diffusers.utils.torch_utils as tu
        mods = [m for n, m in list(sys.modules.items()) if n.startswith("diffusers") and getattr(m, "randn_tensor", None) is tu.randn_tensor]
        orig_randn = tu.randn_tensor
        def randn(*a, **k):
            r = orig_randn(*a, **k)
            i = counts["rng"]; counts["rng"] += 1
            if self.replay is not None:
                r = self.replay[f"rng{i}"].to(r.dtype).reshape(r.shape)
            self.put(f"rng{i}", r)
            return r
        for m in mods:
            m.randn_tensor = randn
        self.undo.append(lambda: [setattr(m, "randn_tensor", orig_randn) for m in mods])
        return self

    @staticmethod
    def find_dead(call, mod, only=None):
        """Names of parameters whose gradient of sum(out*noise) vanishes: weights this case cannot check."""
        ps = [(n, p) for n, p in mod.named_parameters() if only is None or n.startswith(only)]
        for _, p in ps:
            p.requires_grad_(True)
        with torch.enable_grad():
            out = call()
            vals = []
            def walk(o):
                if torch.is_tensor(o):
                    if o.is_floating_point() and o.requires_grad:
                        vals.append(o)
                elif isinstance(o, dict) or hasattr(o, "items"):
                    [walk(v) for v in o.values()]
                elif isinstance(o, (list, tuple)):
                    [walk(v) for v in o]
                elif hasattr(o, "mean") and hasattr(o, "logvar"):
                    walk(o.mean)
            walk(out)
            loss = sum((v * torch.from_numpy(rng("audit", i).standard_normal(tuple(v.shape)).astype(np.float32)).to(v.dtype)).sum() for i, v in enumerate(vals))
            gs = torch.autograd.grad(loss, [p for _, p in ps], allow_unused=True) if vals else [None] * len(ps)
        for _, p in ps:
            p.requires_grad_(False)
        return {"n": len(ps), "dead": [n for (n, _), g in zip(ps, gs) if g is None or float(g.abs().max()) < 1e-6]}

    def _wrap_vae(self, m, comp, fn, counts):
        orig = getattr(m, fn)
        def wrapped(x, *a, **k):
            r = orig(x, *a, **k)
            if self.audit and f"{comp}.{fn}" not in self.dead:
                raw = getattr(type(m), fn)
                raw = getattr(raw, "__wrapped__", raw)
                self.dead[f"{comp}.{fn}"] = self.find_dead(lambda: raw(m, x, *a, **k), m, only="decoder" if fn == "decode" else "encoder")
            i = counts[comp + fn]; counts[comp + fn] += 1
            self.put(f"{comp}.{fn}{i}.in", x)
            if fn == "encode":
                dist = getattr(r, "latent_dist", None) or (r[0] if isinstance(r, tuple) else None)
                self.put(f"{comp}.{fn}{i}.out", dist.mode() if hasattr(dist, "mode") else getattr(r, "latent", None))
            else:
                self.put(f"{comp}.{fn}{i}.out", r[0] if isinstance(r, tuple) else r.sample)
            return r
        setattr(m, fn, wrapped)
        self.undo.append(lambda: m.__dict__.pop(fn, None))

    def __exit__(self, *exc):
        for u in self.undo:
            u()


# ----------------------------------------------------------------------------------------------------------------
# case plumbing
# ----------------------------------------------------------------------------------------------------------------

@dataclasses.dataclass
class Ctx:
    """Variant 0 = public, 1 = held out. c(a, b) picks a setting; everything random is keyed by (case, seed)."""
    case: str
    root: Path
    variant: int
    seed: int

    def c(self, public, heldout):
        return heldout if self.variant else public

    @property
    def key(self):
        return (self.case, self.variant, self.seed)

    def init(self, m, comp):
        cfg = m.config.to_dict() if hasattr(m.config, "to_dict") else dict(m.config)
        cfg = {k: v for k, v in cfg.items() if not k.startswith("_") and "version" not in k}
        h = hashlib.sha256(json.dumps(cfg, sort_keys=True, default=str).encode()).hexdigest()[:16]
        return init_weights(m, (self.variant, self.seed, comp, type(m).__name__, h))

    def noise(self, *shape, name="latents"):
        return noise(*shape, key=(*self.key, name))

    def image(self, w, h, name="image"):
        return test_image(w, h, (*self.key, name))

    def tok(self, name):
        return self.root / "_tok" / name

    def stats(self, n, name):
        """latents mean/std lists for a VAE: non trivial, bf16-exact."""
        g = rng(self.variant, self.seed, name, n)
        mean = bf16_exact(torch.from_numpy(0.5 * g.standard_normal(n)).float()).tolist()
        std = bf16_exact(torch.from_numpy(1.0 + 1.5 * g.random(n)).float()).tolist()
        return mean, std


@dataclasses.dataclass
class Built:
    pipe: object
    call: dict                      # kwargs for pipe(**call): tensors / PIL images are stored as files
    tokenizers: dict = dataclasses.field(default_factory=dict)   # component -> source folder (copied verbatim over the saved one)
    denoisers: tuple = ("transformer",)
    max_calls: int = 2
    notes: list = dataclasses.field(default_factory=list)
    patches: list = dataclasses.field(default_factory=list)      # [(module, attr, value)] active while the pipeline runs
    overrides: dict = dataclasses.field(default_factory=dict)    # documented constant overrides
    prior: object = None            # a pipeline that runs first and gives `pipe` its embeddings; saved as model/, `pipe` then beside it
    prior_call: dict = dataclasses.field(default_factory=dict)
    beside: str = ""                # the folder of `pipe` then


CASES: dict[str, tuple] = {}


def case(name, family):
    def deco(f):
        CASES[name] = (f, family)
        return f
    return deco


P_POS = ["A painting of a squirrel eating a burger", "an astronaut riding a green horse on the moon, 4k photo"]
P_NEG = ["blurry, low quality", "worst quality, watermark"]
H_POS = ["a small red car drives down a street in Paris at night", "the Quick brown fox -- jumps over 2 lazy dogs!"]
H_NEG = ["", "bad anatomy"]


def prompts(x: Ctx, n=2):
    p, q = (P_POS, P_NEG) if x.variant == 0 else (H_POS, H_NEG)
    return (p[:n], q[:n]) if n > 1 else (p[0], q[0])


# --- shared small components --------------------------------------------------------------------------------------

def clip_text(x: Ctx, comp, vocab, hidden, layers, heads, proj=None, act="quick_gelu", eos=2):
    cfg = CLIPTextConfig(vocab_size=vocab, hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=layers,
                         num_attention_heads=heads, max_position_embeddings=77, hidden_act=act, projection_dim=proj or hidden,
                         bos_token_id=0, eos_token_id=eos, pad_token_id=1)
    return x.init((CLIPTextModelWithProjection if proj else CLIPTextModel)(cfg), comp)


def t5_text(x: Ctx, comp, vocab, d_model=32, layers=2, heads=4, d_kv=8):
    cfg = T5Config(vocab_size=vocab + 4, d_model=d_model, d_kv=d_kv, d_ff=2 * d_model, num_layers=layers, num_heads=heads,
                   feed_forward_proj="gated-gelu", relative_attention_num_buckets=32, relative_attention_max_distance=128,
                   is_encoder_decoder=True, tie_word_embeddings=False, decoder_start_token_id=0, dropout_rate=0.1)
    return x.init(T5EncoderModel(cfg), comp)


def umt5_text(x: Ctx, comp, vocab, d_model=32, layers=2, heads=4, d_kv=8):
    cfg = UMT5Config(vocab_size=vocab + 4, d_model=d_model, d_kv=d_kv, d_ff=2 * d_model, num_layers=layers, num_heads=heads,
                     feed_forward_proj="gated-gelu", dropout_rate=0.1)
    return x.init(UMT5EncoderModel(cfg), comp)


def kl_vae(x: Ctx, latent=4, ch=(8, 8, 16, 16), groups=4, layers=1, **kw):
    n = len(ch)
    return x.init(AutoencoderKL(in_channels=3, out_channels=3, down_block_types=("DownEncoderBlock2D",) * n,
                                up_block_types=("UpDecoderBlock2D",) * n, block_out_channels=ch, layers_per_block=layers,
                                latent_channels=latent, norm_num_groups=groups, sample_size=64, **kw), "vae")


def clip_tok(x, pad="<|endoftext|>"):
    d = x.tok("clip_" + ("eos" if "end" in pad else "bang"))
    return (*make_clip_tokenizer(d, pad), d)


def t5_tok(x, **kw):
    d = x.tok("t5_" + "_".join(sorted(f[:3] for f in kw.get("files", ("both",)))) + ("_u" if kw.get("umt5") else "") + f"_{kw.get('max_len', 512)}")
    return (*make_t5_tokenizer(d, **kw), d)


# --- Stable Diffusion 1.x / 2.x / XL -------------------------------------------------------------------------------

SD_BETAS = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)


def sd_unet(x, **kw):
    base = dict(sample_size=8, in_channels=4, out_channels=4, layers_per_block=x.c(1, 2), norm_num_groups=4,
                block_out_channels=(8, 16, 16, 16), center_input_sample=False, flip_sin_to_cos=True, freq_shift=0,
                down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"))
    base.update(kw)
    return x.init(UNet2DConditionModel(**base), "unet")


@case("sd15", "Stable Diffusion 1.x")
def build_sd15(x: Ctx):
    tok, V, td = clip_tok(x)
    te = clip_text(x, "text_encoder", V, 24, 2, x.c(3, 4))
    unet = sd_unet(x, attention_head_dim=x.c(2, 4), cross_attention_dim=24)    # NB: this is the number of HEADS in SD1.x
    sched = PNDMScheduler(**SD_BETAS, skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False)
    pipe = StableDiffusionPipeline(vae=kl_vae(x, scaling_factor=0.18215), text_encoder=te, tokenizer=tok, unet=unet, scheduler=sched,
                                   safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    p, n = prompts(x)
    h, w = x.c((64, 96), (96, 64))
    return Built(pipe, dict(prompt=p, negative_prompt=n, height=h, width=w, num_inference_steps=x.c(4, 5), guidance_scale=7.5,
                            latents=x.noise(2, 4, h // 8, w // 8)), {"tokenizer": td}, ("unet",))


@case("sd21", "Stable Diffusion 2.x (v-prediction)")
def build_sd21(x: Ctx):
    tok, V, td = clip_tok(x, "!")
    te = clip_text(x, "text_encoder", V, 24, 3, 3, act="gelu")      # SD2: OpenCLIP-H, 23 of 24 layers are stored
    unet = sd_unet(x, attention_head_dim=(2, 4, 4, 4), cross_attention_dim=24, use_linear_projection=True, upcast_attention=True)
    sched = DDIMScheduler(**SD_BETAS, prediction_type="v_prediction", set_alpha_to_one=False, steps_offset=1, clip_sample=False,
                          **x.c({}, dict(rescale_betas_zero_snr=True, timestep_spacing="trailing")))
    pipe = StableDiffusionPipeline(vae=kl_vae(x, scaling_factor=0.18215), text_encoder=te, tokenizer=tok, unet=unet, scheduler=sched,
                                   safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    p, n = prompts(x)
    h, w = x.c((96, 64), (64, 96))
    return Built(pipe, dict(prompt=p, negative_prompt=n, height=h, width=w, num_inference_steps=4, guidance_scale=7.5,
                            **x.c({}, dict(guidance_rescale=0.7)), latents=x.noise(2, 4, h // 8, w // 8)), {"tokenizer": td}, ("unet",))


@case("sdxl", "Stable Diffusion XL")
def build_sdxl(x: Ctx):
    tok, V, td = clip_tok(x)
    tok2, V2, td2 = clip_tok(x, "!")
    d1, d2 = 16, 24
    te = clip_text(x, "text_encoder", V, d1, 3, 2)
    te2 = clip_text(x, "text_encoder_2", V2, d2, 3, 3, proj=20, act="gelu")
    unet = x.init(UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=2, norm_num_groups=4, block_out_channels=(8, 16, 24),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), transformer_layers_per_block=x.c((1, 1, 2), (1, 2, 3)),
        attention_head_dim=x.c((1, 2, 3), (1, 2, 4)), cross_attention_dim=d1 + d2, use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=6 * 8 + 20), "unet")
    sched = EulerDiscreteScheduler(**SD_BETAS, steps_offset=1, timestep_spacing="leading", interpolation_type="linear", use_karras_sigmas=False)
    pipe = StableDiffusionXLPipeline(vae=kl_vae(x, scaling_factor=0.13025, force_upcast=True), text_encoder=te, text_encoder_2=te2, tokenizer=tok,
                                     tokenizer_2=tok2, unet=unet, scheduler=sched, force_zeros_for_empty_prompt=True, add_watermarker=False)
    p, n = prompts(x)
    h, w = x.c((64, 96), (96, 64))
    return Built(pipe, dict(prompt=p, negative_prompt=x.c(n, None), height=h, width=w, num_inference_steps=4, guidance_scale=5.0,
                            original_size=(h * 2, w * 2), crops_coords_top_left=(4, 8), target_size=(h, w),
                            latents=x.noise(2, 4, h // 8, w // 8)), {"tokenizer": td, "tokenizer_2": td2}, ("unet",),
                 notes=["heldout: negative_prompt=None -> force_zeros_for_empty_prompt zeroes the negative embeddings"])


# What people do with these models besides text to image. One prompt and a seeded generator: the random draws are recorded
# (rngN) and must come out of the re-implementation's own generator.

NO_SAFETY = dict(safety_checker=None, feature_extractor=None, requires_safety_checker=False)


def mask_image(w, h):
    """White (255) is painted anew; grey values on both sides of the threshold at the rim."""
    y, v = np.mgrid[0:h, 0:w]
    r = np.hypot((v - 0.55 * w) / (0.3 * w), (y - 0.5 * h) / (0.32 * h))
    return Image.fromarray((np.clip(1.5 - r, 0, 1) * 255).round().astype(np.uint8), "L")


def small_sd(x: Ctx, cls, sched, in_channels=4, v2=False):
    tok, V, td = clip_tok(x, "!" if v2 else "<|endoftext|>")
    te = clip_text(x, "text_encoder", V, 24, 3, 3, act="gelu" if v2 else "quick_gelu")
    unet = sd_unet(x, in_channels=in_channels, layers_per_block=1, block_out_channels=x.c((8, 16), (8, 16, 16)), attention_head_dim=(2, 4) + x.c((), (4,)),
                   cross_attention_dim=24, use_linear_projection=v2, down_block_types=("CrossAttnDownBlock2D",) * x.c(1, 2) + ("DownBlock2D",),
                   up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * x.c(1, 2))
    pipe = cls(vae=kl_vae(x, scaling_factor=0.18215), text_encoder=te, tokenizer=tok, unet=unet, scheduler=sched, **NO_SAFETY)
    return pipe, {"tokenizer": td}


def small_xl(x: Ctx, cls, sched, in_channels=4, refiner=False, **more):
    tok, V, td = clip_tok(x)
    tok2, V2, td2 = clip_tok(x, "!")
    te = None if refiner else clip_text(x, "text_encoder", V, 16, 3, 2)
    te2 = clip_text(x, "text_encoder_2", V2, 24, 3, 3, proj=20, act="gelu")
    unet = x.init(UNet2DConditionModel(
        sample_size=8, in_channels=in_channels, out_channels=4, layers_per_block=1, norm_num_groups=4, block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=x.c(2, (1, 3)), attention_head_dim=x.c((1, 2), (2, 4)), cross_attention_dim=24 if refiner else 40,
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=(5 if refiner else 6) * 8 + 20), "unet")
    pipe = cls(vae=kl_vae(x, scaling_factor=0.13025, force_upcast=True), text_encoder=te, text_encoder_2=te2, tokenizer=None if refiner else tok,
               tokenizer_2=tok2, unet=unet, scheduler=sched, force_zeros_for_empty_prompt=True, add_watermarker=False, **more)
    return pipe, {"tokenizer_2": td2} if refiner else {"tokenizer": td, "tokenizer_2": td2}


def one_prompt(x: Ctx):
    p, n = prompts(x)
    return dict(prompt=p[0], negative_prompt=n[1], generator_seed=x.seed + 7)


@case("sd15_img2img", "Stable Diffusion 1.x, image to image")
def build_sd15_img2img(x: Ctx):
    sched = x.c(PNDMScheduler(**SD_BETAS, skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False),
                EulerDiscreteScheduler(**SD_BETAS, timestep_spacing="linspace", use_karras_sigmas=True))
    pipe, td = small_sd(x, StableDiffusionImg2ImgPipeline, sched)
    w, h = x.c((96, 64), (72, 104))
    return Built(pipe, dict(**one_prompt(x), image=x.image(w, h), strength=x.c(0.6, 0.75), num_inference_steps=x.c(5, 8), guidance_scale=6.0), td, ("unet",))


@case("sd15_inpaint", "Stable Diffusion 1.x inpainting (9 channels)")
def build_sd15_inpaint(x: Ctx):
    sched = DDIMScheduler(**SD_BETAS, set_alpha_to_one=False, steps_offset=1, clip_sample=False)
    pipe, td = small_sd(x, StableDiffusionInpaintPipeline, sched, in_channels=9)
    w, h = x.c((64, 96), (96, 80))
    return Built(pipe, dict(**one_prompt(x), image=x.image(w, h), mask_image=mask_image(w, h), width=w, height=h, strength=x.c(1.0, 0.7),
                            num_inference_steps=x.c(3, 6), guidance_scale=7.5), td, ("unet",))


@case("sd15_inpaint_4", "Stable Diffusion 1.x, inpainting with the text-to-image model (what stays is put back)")
def build_sd15_inpaint_4(x: Ctx):
    sched = x.c(EulerAncestralDiscreteScheduler(**SD_BETAS, steps_offset=1), DPMSolverMultistepScheduler(**SD_BETAS, steps_offset=1))
    pipe, td = small_sd(x, StableDiffusionInpaintPipeline, sched)
    w, h = x.c((96, 64), (64, 64))
    return Built(pipe, dict(**one_prompt(x), image=x.image(w, h), mask_image=mask_image(w, h), width=w, height=h, strength=x.c(0.8, 1.0),
                            num_inference_steps=x.c(5, 4), guidance_scale=5.0), td, ("unet",))


@case("sd2_turbo", "SD-Turbo")
def build_sd2_turbo(x: Ctx):
    sched = EulerDiscreteScheduler(**SD_BETAS, timestep_spacing="trailing", steps_offset=1)
    pipe, td = small_sd(x, StableDiffusionPipeline, sched, v2=True)
    w, h = x.c((64, 64), (96, 64))
    return Built(pipe, dict(**one_prompt(x), width=w, height=h, num_inference_steps=x.c(2, 3), guidance_scale=0.0), td, ("unet",))


@case("sdxl_turbo", "SDXL-Turbo")
def build_sdxl_turbo(x: Ctx):
    sched = EulerAncestralDiscreteScheduler(**SD_BETAS, timestep_spacing="trailing", steps_offset=1)
    pipe, td = small_xl(x, StableDiffusionXLPipeline, sched)
    w, h = x.c((64, 64), (64, 96))
    return Built(pipe, dict(**one_prompt(x), width=w, height=h, num_inference_steps=x.c(3, 4), guidance_scale=0.0), td, ("unet",))


@case("sdxl_lightning", "SDXL-Lightning, with a negative size")
def build_sdxl_lightning(x: Ctx):
    sched = EulerDiscreteScheduler(**SD_BETAS, timestep_spacing="trailing", steps_offset=1)
    pipe, td = small_xl(x, StableDiffusionXLPipeline, sched)
    w, h = x.c((96, 64), (64, 64))
    return Built(pipe, dict(**one_prompt(x), width=w, height=h, num_inference_steps=4, guidance_scale=x.c(1.0, 1.8), original_size=(4 * h, 4 * w),
                            target_size=(h, w), negative_original_size=(h, w), negative_crops_coords_top_left=(2, 3), negative_target_size=(2 * h, 2 * w)),
                 td, ("unet",))


@case("sdxl_vpred", "SDXL, v-prediction with zero terminal SNR")
def build_sdxl_vpred(x: Ctx):
    sched = EulerDiscreteScheduler(**SD_BETAS, prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing", steps_offset=1)
    pipe, td = small_xl(x, StableDiffusionXLPipeline, sched)
    w, h = x.c((64, 96), (96, 96))
    return Built(pipe, dict(**one_prompt(x), width=w, height=h, num_inference_steps=x.c(4, 5), guidance_scale=5.0, guidance_rescale=x.c(0.7, 0.3),
                            **x.c({}, dict(clip_skip=1))), td, ("unet",))


@case("sdxl_img2img", "SDXL, image to image")
def build_sdxl_img2img(x: Ctx):
    sched = x.c(EulerDiscreteScheduler(**SD_BETAS, steps_offset=1, timestep_spacing="leading"), HeunDiscreteScheduler(**SD_BETAS, steps_offset=1))
    pipe, td = small_xl(x, StableDiffusionXLImg2ImgPipeline, sched)
    w, h = x.c((64, 96), (96, 64))
    return Built(pipe, dict(**one_prompt(x), image=x.image(w, h), strength=x.c(0.5, 0.7), num_inference_steps=6, guidance_scale=5.0), td, ("unet",))


@case("sdxl_inpaint", "SDXL inpainting (9 channels)")
def build_sdxl_inpaint(x: Ctx):
    sched = EulerDiscreteScheduler(**SD_BETAS, steps_offset=1, timestep_spacing="leading")
    pipe, td = small_xl(x, StableDiffusionXLInpaintPipeline, sched, in_channels=x.c(9, 4))
    w, h = x.c((96, 64), (64, 96))
    return Built(pipe, dict(**one_prompt(x), image=x.image(w, h), mask_image=mask_image(w, h), width=w, height=h, strength=x.c(0.99, 0.6),
                            num_inference_steps=5, guidance_scale=8.0), td, ("unet",), notes=["heldout: 4 channels, what stays is put back"])


@case("sdxl_base_part", "SDXL base, the first part of the steps (denoising_end)")
def build_sdxl_base_part(x: Ctx):
    sched = x.c(EulerDiscreteScheduler(**SD_BETAS, steps_offset=1, timestep_spacing="leading"), DDIMScheduler(**SD_BETAS, steps_offset=1, clip_sample=False))
    pipe, td = small_xl(x, StableDiffusionXLPipeline, sched)
    w, h = x.c((64, 64), (64, 96))
    return Built(pipe, dict(**one_prompt(x), width=w, height=h, num_inference_steps=x.c(5, 7), guidance_scale=5.0, denoising_end=x.c(0.6, 0.75)), td, ("unet",))


@case("sdxl_refiner", "SDXL refiner, on from the base's latents (denoising_start, aesthetic scores)")
def build_sdxl_refiner(x: Ctx):
    sched = x.c(EulerDiscreteScheduler(**SD_BETAS, steps_offset=1, timestep_spacing="leading"), HeunDiscreteScheduler(**SD_BETAS, steps_offset=1))
    pipe, td = small_xl(x, StableDiffusionXLImg2ImgPipeline, sched, refiner=True, requires_aesthetics_score=True)
    p, n = prompts(x)
    h, w = x.c((8, 12), (12, 8))
    return Built(pipe, dict(prompt=p, negative_prompt=["low", *n[1:]], image=5 * x.noise(2, 4, h, w, name="image"), num_inference_steps=x.c(6, 8),
                            denoising_start=x.c(0.6, 0.45), guidance_scale=5.0, aesthetic_score=6.5, negative_aesthetic_score=2.0), td, ("unet",))


# --- FLUX.1 --------------------------------------------------------------------------------------------------------

def build_flux(x: Ctx, guidance: bool, cls=None, in_channels=64):
    tok, V, td = clip_tok(x)
    tok2, V2, td2 = t5_tok(x, files=("spiece.model", "tokenizer.json"))
    te = clip_text(x, "text_encoder", V, 24, 2, 3)
    te2 = t5_text(x, "text_encoder_2", V2, 32)
    wide = {} if in_channels == 64 else dict(in_channels=in_channels, out_channels=64)
    tr = x.init(FluxTransformer2DModel(**(dict(patch_size=1, in_channels=64, num_layers=x.c(2, 1), num_single_layers=x.c(2, 3), attention_head_dim=16,
                                       num_attention_heads=x.c(2, 3), joint_attention_dim=32, pooled_projection_dim=24, guidance_embeds=guidance,
                                       axes_dims_rope=x.c((4, 6, 6), (8, 4, 4))) | wide)), "transformer")
    vae = kl_vae(x, latent=16, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False)
    if guidance:
        sched = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15,
                                                base_image_seq_len=256, max_image_seq_len=4096)
    else:
        sched = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1.0, use_dynamic_shifting=False, base_shift=0.5, max_shift=1.15,
                                                base_image_seq_len=256, max_image_seq_len=4096)
    if cls:                                                       # a pipeline that takes pictures; its call follows below
        return cls(scheduler=sched, vae=vae, text_encoder=te, tokenizer=tok, text_encoder_2=te2, tokenizer_2=tok2, transformer=tr), {"tokenizer": td, "tokenizer_2": td2}
    pipe = FluxPipeline(scheduler=sched, vae=vae, text_encoder=te, tokenizer=tok, text_encoder_2=te2, tokenizer_2=tok2, transformer=tr)
    p, n = prompts(x)
    h, w = x.c((64, 96), (96, 80))
    call = dict(prompt=p, height=h, width=w, num_inference_steps=x.c(3, 4), guidance_scale=3.5 if guidance else 0.0, max_sequence_length=x.c(48, 32),
                latents=x.noise(2, (h // 16) * (w // 16), 64))
    if guidance and x.variant:
        call.update(negative_prompt=n, true_cfg_scale=2.0)
    return Built(pipe, call, {"tokenizer": td, "tokenizer_2": td2}, notes=["latents are PACKED: (B, (H/16)*(W/16), 64)"])


@case("flux_dev", "FLUX.1-dev")
def build_flux_dev(x): return build_flux(x, True)


@case("flux_schnell", "FLUX.1-schnell")
def build_flux_schnell(x): return build_flux(x, False)


def flux_mask(w, h, soft=False):
    """A disc and a bar, with grey borders when soft: the pipeline makes them black and white."""
    y, x = np.mgrid[0:h, 0:w].astype(np.float64)
    d = 0.3 * min(w, h) - np.hypot(x - 0.45 * w, y - 0.55 * h)
    a = np.clip(0.5 + d / (8 if soft else 1e-6), 0, 1)
    a[: h // 8, w // 2:] = 1
    return Image.fromarray((a * 255).round().astype(np.uint8))


def flux_call(x: Ctx, **kw):
    """One picture: every draw is recorded, and the seed gives them all again."""
    h, w = x.c((64, 96), (96, 80))
    p, n = prompts(x)
    return dict(prompt=p[0], height=h, width=w, guidance_scale=x.c(3.5, 2.5), max_sequence_length=x.c(48, 32), generator_seed=x.c(1234, 77)) | kw


@case("flux_img2img", "FLUX.1 from a picture")
def build_flux_img2img(x):
    pipe, toks = build_flux(x, True, FluxImg2ImgPipeline)
    call = flux_call(x, num_inference_steps=x.c(5, 4), strength=x.c(0.6, 0.85))
    if x.variant:
        call.update(negative_prompt="bad anatomy", true_cfg_scale=2.0)
    w, h = x.c((call["width"], call["height"]), (131, 97))
    return Built(pipe, call | dict(image=x.image(w, h)), toks)


@case("flux_inpaint", "FLUX.1 inside of a mask")
def build_flux_inpaint(x):
    pipe, toks = build_flux(x, True, FluxInpaintPipeline)
    call = flux_call(x, num_inference_steps=x.c(4, 5), strength=x.c(0.8, 1.0))
    w, h = call["width"], call["height"]
    return Built(pipe, call | dict(image=x.image(w, h), mask_image=flux_mask(w, h, bool(x.variant))), toks, max_calls=9,
                 notes=["stepN.latents are taken before the mask is applied; transformer.callN+1.in.hidden_states after"])


@case("flux_kontext", "FLUX.1 Kontext")
def build_flux_kontext(x):
    pipe, toks = build_flux(x, True, FluxKontextPipeline)
    call = flux_call(x, num_inference_steps=x.c(3, 4), _auto_resize=False)
    if x.variant:
        call.update(negative_prompt="bad anatomy", true_cfg_scale=2.0)
    w, h = x.c((64, 80), (75, 119))
    return Built(pipe, call | dict(image=x.image(w, h), max_area=call["width"] * call["height"]), toks)


@case("flux_fill", "FLUX.1 Fill")
def build_flux_fill(x):
    pipe, toks = build_flux(x, True, FluxFillPipeline, in_channels=384)
    call = flux_call(x, num_inference_steps=x.c(3, 5), strength=x.c(1.0, 0.7))
    w, h = call["width"], call["height"]
    return Built(pipe, call | dict(image=x.image(w, h), mask_image=flux_mask(w, h, bool(x.variant))), toks)


@case("flux_control", "FLUX.1 Canny / Depth")
def build_flux_control(x):
    pipe, toks = build_flux(x, True, FluxControlPipeline, in_channels=128)
    call = flux_call(x, num_inference_steps=x.c(3, 4))
    w, h = x.c((call["width"], call["height"]), (61, 143))
    return Built(pipe, call | dict(control_image=x.image(w, h)), toks)


def siglip(x: Ctx, hidden, layers, heads, image, patch):
    return x.init(SiglipVisionModel(SiglipVisionConfig(hidden_size=hidden, intermediate_size=2 * hidden + 8, num_hidden_layers=layers, num_attention_heads=heads,
                                                       image_size=image, patch_size=patch)), "image_encoder")


class ZerosOf:
    """torch, where zeros take the widths of small text encoders for those of the published ones."""

    def __init__(self, sizes):
        self.sizes = sizes

    def __getattr__(self, name):
        return getattr(torch, name)

    def zeros(self, shape, **kw):
        return torch.zeros(tuple(self.sizes.get(n, n) for n in shape), **kw)


@case("flux_redux", "FLUX.1 Redux")
def build_flux_redux(x):
    """Public: one picture and no words, as the model card runs it. Held out: three pictures with weights, words through the base model's text encoders,
    a second call with a negative prompt. The base model lies beside the folder of Redux, as people have it."""
    from diffusers.pipelines.flux import pipeline_flux_prior_redux as redux
    pipe, toks = build_flux(x, True, FluxPipeline)
    # A side that is no multiple of the patch: what is left over is not seen, as with 384 and 14.
    hidden, layers, heads, image, patch = x.c((24, 2, 2, 30, 7), (32, 3, 4, 28, 7))
    embedder = x.init(ReduxImageEncoder(redux_dim=hidden, txt_in_features=32), "image_embedder")
    processor = SiglipImageProcessor(size={"height": image, "width": image}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    prior = FluxPriorReduxPipeline(image_encoder=siglip(x, hidden, layers, heads, image, patch), feature_extractor=processor, image_embedder=embedder)
    call = flux_call(x, num_inference_steps=x.c(3, 4))
    del call["prompt"]
    if x.variant:
        del call["max_sequence_length"]                           # 512 in the prior, whatever the call says
        call.update(negative_prompt="bad anatomy", true_cfg_scale=2.0)
        first = dict(image=[x.image(w, h, f"image{i}") for i, (w, h) in enumerate([(75, 119), (21, 17), (64, 28)])], prompt=prompts(x)[0][1],
                     prompt_embeds_scale=[0.75, 0.5, -0.25], pooled_prompt_embeds_scale=[0.5, 0.25, 0.125])
        return Built(pipe, call, toks, prior=prior, prior_call=first, beside="FLUX.1-dev")
    sizes = {512: call["max_sequence_length"], 4096: 32, 768: 24}
    return Built(pipe, call, toks, prior=prior, prior_call=dict(image=x.image(90, 61), prompt_embeds_scale=0.8, pooled_prompt_embeds_scale=0.9), beside="FLUX.1-dev",
                 patches=[(redux, "torch", ZerosOf(sizes))], overrides={"zeros in place of text": sizes})


# --- Stable Diffusion 3 / 3.5 --------------------------------------------------------------------------------------

def build_sd3(x: Ctx, medium35: bool):
    tok, V, td = clip_tok(x)
    tok2, V2, td2 = clip_tok(x, "!")
    tok3, V3, td3 = t5_tok(x, files=("spiece.model", "tokenizer.json"))
    te = clip_text(x, "text_encoder", V, 16, 3, 2, proj=16)
    te2 = clip_text(x, "text_encoder_2", V2, 24, 3, 3, proj=24, act="gelu")
    te3 = t5_text(x, "text_encoder_3", V3, 48)
    layers = x.c(3, 4)
    kw = dict(qk_norm="rms_norm", dual_attention_layers=tuple(range(layers - 2))) if medium35 else dict(qk_norm=None, dual_attention_layers=())
    tr = x.init(SD3Transformer2DModel(sample_size=32, patch_size=2, in_channels=16, out_channels=16, num_layers=layers, attention_head_dim=8,
                                      num_attention_heads=4, caption_projection_dim=32, joint_attention_dim=48, pooled_projection_dim=40,
                                      pos_embed_max_size=x.c(24, 20), **kw), "transformer")
    # pos_embed.pos_embed is a persistent buffer in the real checkpoints: it is saved in the safetensors
    vae = kl_vae(x, latent=16, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False)
    pipe = StableDiffusion3Pipeline(transformer=tr, scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=3.0), vae=vae, text_encoder=te,
                                    tokenizer=tok, text_encoder_2=te2, tokenizer_2=tok2, text_encoder_3=te3, tokenizer_3=tok3)
    p, n = prompts(x)
    h, w = x.c((64, 96), (96, 64))
    call = dict(prompt=p, negative_prompt=n, height=h, width=w, num_inference_steps=4, guidance_scale=5.0, max_sequence_length=x.c(64, 40),
                latents=x.noise(2, 16, h // 8, w // 8))
    if medium35 and x.variant:
        call.update(skip_guidance_layers=[0, 1], skip_layer_guidance_scale=2.8, skip_layer_guidance_start=0.01, skip_layer_guidance_stop=0.6)
    return Built(pipe, call, {"tokenizer": td, "tokenizer_2": td2, "tokenizer_3": td3})


@case("sd3_medium", "Stable Diffusion 3")
def build_sd3_medium(x): return build_sd3(x, False)


@case("sd35_medium", "Stable Diffusion 3.5 medium")
def build_sd35_medium(x): return build_sd3(x, True)


# --- Wan ------------------------------------------------------------------------------------------------------------

def wan_parts(x: Ctx, in_ch, out_ch, image_dim=None, image_positions=None):
    tok, V, td = t5_tok(x, umt5=True, files=("spiece.model", "tokenizer.json"))
    te = umt5_text(x, "text_encoder", V, 32)
    heads, hd = x.c((2, 20), (3, 16))
    mk = lambda comp: x.init(WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=heads, attention_head_dim=hd, in_channels=in_ch, out_channels=out_ch, text_dim=32, freq_dim=x.c(64, 32),
        ffn_dim=x.c(72, 56), num_layers=2, cross_attn_norm=True, qk_norm="rms_norm_across_heads", eps=1e-6, image_dim=image_dim,
        added_kv_proj_dim=heads * hd if image_dim else None, rope_max_seq_len=1024, pos_embed_seq_len=image_positions), comp)
    return tok, td, te, mk


def wan_vae21(x):
    mean, std = x.stats(16, "vae_stats")
    return x.init(AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=x.c(1, 2), temperal_downsample=[False, True, True],
                                   latents_mean=mean, latents_std=std), "vae")


def wan_vae22(x):
    mean, std = x.stats(48, "vae_stats")
    return x.init(AutoencoderKLWan(base_dim=4, decoder_base_dim=x.c(6, 4), z_dim=48, dim_mult=[1, 2, 4, 4], num_res_blocks=x.c(1, 2),
                                   temperal_downsample=[False, True, True], is_residual=True, in_channels=12, out_channels=12, patch_size=2,
                                   scale_factor_spatial=16, scale_factor_temporal=4, latents_mean=mean, latents_std=std), "vae")


def wan_sched(shift):
    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=shift)


@case("wan22_t2v_a14b", "Wan 2.2 T2V-A14B (two experts)")
def build_wan_t2v(x: Ctx):
    tok, td, te, mk = wan_parts(x, 16, 16)
    pipe = WanPipeline(tokenizer=tok, text_encoder=te, vae=wan_vae21(x), scheduler=wan_sched(x.c(3.0, 5.0)), transformer=mk("transformer"),
                       transformer_2=mk("transformer_2"), boundary_ratio=0.875)
    nb = x.c(2, 1)
    p, n = prompts(x, nb)
    h, w, f = x.c((32, 48, 9), (48, 32, 13))
    return Built(pipe, dict(prompt=p, negative_prompt=n, height=h, width=w, num_frames=f, num_inference_steps=x.c(4, 5), guidance_scale=4.0, guidance_scale_2=3.0,
                            max_sequence_length=x.c(48, 32), latents=x.noise(nb, 16, (f - 1) // 4 + 1, h // 8, w // 8)),
                 {"tokenizer": td}, ("transformer", "transformer_2"))


@case("wan22_i2v_a14b", "Wan 2.2 I2V-A14B (two experts, no image encoder)")
def build_wan_i2v(x: Ctx):
    tok, td, te, mk = wan_parts(x, 36, 16)
    pipe = WanImageToVideoPipeline(tokenizer=tok, text_encoder=te, vae=wan_vae21(x), scheduler=wan_sched(x.c(3.0, 5.0)), transformer=mk("transformer"),
                                   transformer_2=mk("transformer_2"), image_encoder=None, image_processor=None, boundary_ratio=0.9)
    p, n = prompts(x, 1)
    h, w, f = x.c((32, 48, 9), (48, 32, 13))
    return Built(pipe, dict(image=x.image(w, h), prompt=p, negative_prompt=n, height=h, width=w, num_frames=f, num_inference_steps=4, guidance_scale=3.5,
                            max_sequence_length=48, latents=x.noise(1, 16, (f - 1) // 4 + 1, h // 8, w // 8)), {"tokenizer": td}, ("transformer", "transformer_2"))


@case("wan21_i2v", "Wan 2.1 I2V (CLIP image encoder)")
def build_wan21_i2v(x: Ctx):
    tok, td, te, mk = wan_parts(x, 36, 16, image_dim=16)
    ie = x.init(CLIPVisionModel(CLIPVisionConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=32,
                                                 patch_size=8, hidden_act="gelu", projection_dim=16)), "image_encoder")
    ip = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    pipe = WanImageToVideoPipeline(tokenizer=tok, text_encoder=te, vae=wan_vae21(x), scheduler=wan_sched(3.0), transformer=mk("transformer"),
                                   transformer_2=None, image_encoder=ie, image_processor=ip)
    p, n = prompts(x, 1)
    h, w, f = x.c((32, 48, 9), (48, 32, 9))
    return Built(pipe, dict(image=x.image(w, h), prompt=p, negative_prompt=n, height=h, width=w, num_frames=f, num_inference_steps=3, guidance_scale=5.0,
                            max_sequence_length=512, latents=x.noise(1, 16, (f - 1) // 4 + 1, h // 8, w // 8)), {"tokenizer": td},
                 notes=["max_sequence_length must be 512: WanAttnProcessor hard-codes `image_context_length = seq - 512`"])


@case("wan21_flf2v", "Wan 2.1 FLF2V (first and last frame, CLIP positions), pictures of other sizes")
def build_wan21_flf2v(x: Ctx):
    tok, td, te, mk = wan_parts(x, 36, 16, image_dim=16, image_positions=2 * 17)
    ie = x.init(CLIPVisionModel(CLIPVisionConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=32,
                                                 patch_size=8, hidden_act="gelu", projection_dim=16)), "image_encoder")
    ip = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    pipe = WanImageToVideoPipeline(tokenizer=tok, text_encoder=te, vae=wan_vae21(x), scheduler=wan_sched(x.c(3.0, 5.0)), transformer=mk("transformer"),
                                   transformer_2=None, image_encoder=ie, image_processor=ip)
    p, n = prompts(x, 1)
    h, w, f = x.c((32, 48, 9), (48, 32, 5))
    a, b = x.c(((70, 50), (90, 61)), ((40, 65), (33, 47)))
    return Built(pipe, dict(image=x.image(*a), last_image=x.image(*b, name="last_image"), prompt=p, negative_prompt=n, height=h, width=w, num_frames=f,
                            num_inference_steps=3, guidance_scale=5.0, max_sequence_length=512, latents=x.noise(1, 16, (f - 1) // 4 + 1, h // 8, w // 8)),
                 {"tokenizer": td})


@case("wan22_flf2v_a14b", "Wan 2.2 I2V-A14B with a last frame; held out: no guidance, text as people paste it")
def build_wan22_flf2v(x: Ctx):
    tok, td, te, mk = wan_parts(x, 36, 16)
    pipe = WanImageToVideoPipeline(tokenizer=tok, text_encoder=te, vae=wan_vae21(x), scheduler=wan_sched(x.c(5.0, 8.0)), transformer=mk("transformer"),
                                   transformer_2=mk("transformer_2"), image_encoder=None, image_processor=None, boundary_ratio=0.9)
    p, n = prompts(x, 1)
    h, w, f = x.c((32, 48, 5), (48, 32, 9))
    return Built(pipe, dict(image=x.image(*x.c((64, 64), (50, 71))), last_image=x.image(*x.c((48, 32), (31, 45)), name="last_image"),
                            prompt=x.c(p, "  a small\tred car drives \n ｏｖｅｒ a cat’s hat &nbsp; in &#80;aris, &amp;nbsp; at ﬁve\u3000o’clock "), negative_prompt=n,
                            height=h, width=w, num_frames=f, num_inference_steps=x.c(4, 6), guidance_scale=x.c(3.5, 1.0), guidance_scale_2=x.c(1.5, 1.0),
                            max_sequence_length=x.c(40, 64), latents=x.noise(1, 16, (f - 1) // 4 + 1, h // 8, w // 8)), {"tokenizer": td}, ("transformer", "transformer_2"))


@case("wan22_ti2v_5b_t2v", "Wan 2.2 TI2V-5B, text to video")
def build_wan_5b_t2v(x: Ctx):
    tok, td, te, mk = wan_parts(x, 48, 48)
    pipe = WanPipeline(tokenizer=tok, text_encoder=te, vae=wan_vae22(x), scheduler=wan_sched(5.0), transformer=mk("transformer"), transformer_2=None,
                       boundary_ratio=None, expand_timesteps=True)
    p, n = prompts(x, 1)
    h, w, f = x.c((64, 96, 9), (96, 64, 5))
    return Built(pipe, dict(prompt=p, negative_prompt=n, height=h, width=w, num_frames=f, num_inference_steps=4, guidance_scale=5.0,
                            max_sequence_length=48, latents=x.noise(1, 48, (f - 1) // 4 + 1, h // 16, w // 16)), {"tokenizer": td})


@case("wan22_ti2v_5b_i2v", "Wan 2.2 TI2V-5B, image to video")
def build_wan_5b_i2v(x: Ctx):
    tok, td, te, mk = wan_parts(x, 48, 48)
    pipe = WanImageToVideoPipeline(tokenizer=tok, text_encoder=te, vae=wan_vae22(x), scheduler=wan_sched(5.0), transformer=mk("transformer"), transformer_2=None,
                                   image_encoder=None, image_processor=None, boundary_ratio=None, expand_timesteps=True)
    p, n = prompts(x, 1)
    h, w, f = x.c((64, 96, 9), (96, 64, 5))
    return Built(pipe, dict(image=x.image(w, h), prompt=p, negative_prompt=n, height=h, width=w, num_frames=f, num_inference_steps=4, guidance_scale=5.0,
                            max_sequence_length=48, latents=x.noise(1, 48, (f - 1) // 4 + 1, h // 16, w // 16)), {"tokenizer": td})


# --- LTX-Video / LTX-2 ----------------------------------------------------------------------------------------------

@case("ltx_video", "LTX-Video 0.9.0 T2V")
def build_ltx(x: Ctx):
    tok, V, td = t5_tok(x, files=("spiece.model",), max_len=128)
    te = t5_text(x, "text_encoder", V, 32)
    tr = x.init(LTXVideoTransformer3DModel(in_channels=16, out_channels=16, patch_size=1, patch_size_t=1, num_attention_heads=x.c(2, 4), attention_head_dim=16,
                                           cross_attention_dim=x.c(32, 64), num_layers=2, caption_channels=32), "transformer")
    vae = x.init(AutoencoderKLLTXVideo(latent_channels=16, block_out_channels=(8, 12, 16, 16), decoder_block_out_channels=(8, 12, 16, 16),
                                       layers_per_block=(1, 1, 1, 1, 1), decoder_layers_per_block=(1, 1, 1, 1, x.c(1, 2)), spatio_temporal_scaling=(True, True, True, False),
                                       decoder_spatio_temporal_scaling=(True, True, True, False), decoder_inject_noise=(False,) * 5, upsample_residual=(False,) * 4,
                                       upsample_factor=(1,) * 4, timestep_conditioning=False, patch_size=4, patch_size_t=1, encoder_causal=True, decoder_causal=False), "vae")
    mean, std = x.stats(16, "vae_stats")
    vae.latents_mean.copy_(torch.tensor(mean)); vae.latents_std.copy_(torch.tensor(std))
    sched = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, base_image_seq_len=1024, max_image_seq_len=4096, shift_terminal=0.1)
    pipe = LTXPipeline(scheduler=sched, vae=vae, text_encoder=te, tokenizer=tok, transformer=tr)
    p, n = prompts(x, 1)
    h, w, f = x.c((64, 96, 9), (96, 64, 9))
    return Built(pipe, dict(prompt=p, negative_prompt=n, height=h, width=w, num_frames=f, frame_rate=x.c(25, 24), num_inference_steps=4, guidance_scale=3.0,
                            max_sequence_length=x.c(48, 128), latents=x.noise(1, ((f - 1) // 8 + 1) * (h // 32) * (w // 32), 16)), {"tokenizer": td},
                 notes=["latents are PACKED (B, F*H*W, C); spiece.model only (no tokenizer.json), like the real repo"])


@case("ltx_video_095", "LTX-Video 0.9.5 (timestep-conditioned VAE)")
def build_ltx095(x: Ctx):
    b = build_ltx(x)
    vae = x.init(AutoencoderKLLTXVideo(
        latent_channels=16, block_out_channels=(4, 8, 16, 32, 32), down_block_types=("LTXVideo095DownBlock3D",) * 4, decoder_block_out_channels=(8, 16, 32),
        layers_per_block=(1, 1, 1, 1, 1), decoder_layers_per_block=(1, 1, 1, x.c(1, 2)), spatio_temporal_scaling=(True,) * 4, decoder_spatio_temporal_scaling=(True,) * 3,
        decoder_inject_noise=(False,) * 4, downsample_type=("spatial", "temporal", "spatiotemporal", "spatiotemporal"), upsample_residual=(True,) * 3,
        upsample_factor=(2,) * 3, timestep_conditioning=True, patch_size=4, patch_size_t=1, encoder_causal=True, decoder_causal=False,
        spatial_compression_ratio=32, temporal_compression_ratio=8), "vae")
    mean, std = x.stats(16, "vae_stats")
    vae.latents_mean.copy_(torch.tensor(mean)); vae.latents_std.copy_(torch.tensor(std))
    b.pipe.register_modules(vae=vae)
    b.call.update(decode_timestep=0.05, decode_noise_scale=x.c(0.0, 0.025), generator_seed=0)
    b.notes.append("decode noise is recorded as rng*; with decode_noise_scale=0 it has no influence")
    return b


@case("ltx_i2v", "LTX-Video I2V")
def build_ltx_i2v(x: Ctx):
    b = build_ltx(x)
    pipe = LTXImageToVideoPipeline(**b.pipe.components)
    c = dict(b.call)
    f, h, w = (c["num_frames"] - 1) // 8 + 1, c["height"] // 32, c["width"] // 32
    # with latents= given the pipeline uses them as the (already mixed) packed latents: build them the way prepare_latents does
    c["image"] = x.image(c["width"], c["height"])
    c.pop("latents"); c["generator_seed"] = 0
    return Built(pipe, c, b.tokenizers, notes=["rng0 = posterior noise (retrieve_latents samples), rng1 = initial noise, UNPACKED (B,C,F,H,W); frame 0 is replaced by the encoded image"])


def ltx2_text(x: Ctx, V, ids):
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3TextConfig
    tc = dict(vocab_size=V, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
              query_pre_attn_scalar=8, sliding_window=x.c(16, 12), max_position_embeddings=4096, rms_norm_eps=1e-6, hidden_activation="gelu_pytorch_tanh",
              layer_types=["sliding_attention", "sliding_attention", "full_attention"], pad_token_id=0, eos_token_id=1, bos_token_id=2,
              rope_parameters={"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
                               "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}})
    cfg = Gemma3Config(text_config=tc, vision_config=dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14),
                       mm_tokens_per_image=4, boi_token_index=ids["<start_of_image>"], eoi_token_index=ids["<end_of_image>"], image_token_index=ids["<image_soft_token>"])
    return x.init(Gemma3ForConditionalGeneration(cfg), "text_encoder")


def build_ltx2(x: Ctx, v23: bool):
    from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
    from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder, LTX2VocoderWithBWE
    td = x.tok("gemma")
    tok, V, ids = make_gemma_tokenizer(td)
    te = ltx2_text(x, V, ids)
    n_te = te.config.text_config.num_hidden_layers + 1
    heads, hd, ahd = x.c((2, 16, 8), (2, 24, 12))
    dim, adim = heads * hd, heads * ahd
    C, A, mel = 16, 4, 16
    tr = x.init(LTX2VideoTransformer3DModel(
        in_channels=C, out_channels=C, num_attention_heads=heads, attention_head_dim=hd, cross_attention_dim=dim, audio_in_channels=A * (mel // 4), audio_out_channels=A * (mel // 4),
        audio_num_attention_heads=heads, audio_attention_head_dim=ahd, audio_cross_attention_dim=adim, num_layers=2, caption_channels=32, gated_attn=v23,
        cross_attn_mod=v23, audio_gated_attn=v23, audio_cross_attn_mod=v23, rope_type="split", rope_double_precision=True, use_prompt_embeddings=not v23,
        perturbed_attn=v23), "transformer")
    ck = dict(caption_channels=32, text_proj_in_factor=n_te, video_connector_num_layers=1, video_connector_num_learnable_registers=8, audio_connector_num_layers=1,
              audio_connector_num_learnable_registers=8, connector_rope_base_seq_len=64, rope_double_precision=True, rope_type="split")
    if v23:
        ck.update(video_connector_num_attention_heads=heads, video_connector_attention_head_dim=hd, audio_connector_num_attention_heads=heads, audio_connector_attention_head_dim=ahd,
                  video_gated_attn=True, audio_gated_attn=True, per_modality_projections=True, video_hidden_dim=dim, audio_hidden_dim=adim, proj_bias=True)
    else:
        ck.update(video_connector_num_attention_heads=4, video_connector_attention_head_dim=8, audio_connector_num_attention_heads=4, audio_connector_attention_head_dim=8)
    conn = x.init(LTX2TextConnectors(**ck), "connectors")
    vae = x.init(AutoencoderKLLTX2Video(
        latent_channels=C, block_out_channels=(8, 16, 32, 32), decoder_block_out_channels=(8, 16, 32), layers_per_block=(1, 1, 1, 1, 1), decoder_layers_per_block=(1, 1, 1, x.c(1, 2)),
        decoder_causal=False, timestep_conditioning=False, patch_size=4, patch_size_t=1, spatial_compression_ratio=32, temporal_compression_ratio=8,
        decoder_spatial_padding_mode=("zeros" if v23 else "reflect")), "vae")
    mean, std = x.stats(C, "vae_stats")
    vae.latents_mean.copy_(torch.tensor(mean)); vae.latents_std.copy_(torch.tensor(std))
    avae = x.init(AutoencoderKLLTX2Audio(base_channels=16, output_channels=2, ch_mult=(1, 2, 2), num_res_blocks=1, attn_resolutions=None, in_channels=2, resolution=32,
                                         latent_channels=A, norm_type="pixel", causality_axis="height", mid_block_add_attention=False, sample_rate=16000, mel_hop_length=160,
                                         is_causal=True, mel_bins=mel), "audio_vae")
    if v23:
        voc = LTX2VocoderWithBWE(in_channels=2 * mel, hidden_channels=32, out_channels=2, upsample_kernel_sizes=[11, 4], upsample_factors=[5, 2], resnet_kernel_sizes=[3, 7],
                                 resnet_dilations=[[1, 3, 5], [1, 3, 5]], bwe_in_channels=2 * mel, bwe_hidden_channels=16, bwe_upsample_kernel_sizes=[12, 4], bwe_upsample_factors=[6, 2],
                                 bwe_resnet_kernel_sizes=[3, 7], bwe_resnet_dilations=[[1, 3, 5], [1, 3, 5]], filter_length=32, hop_length=4, window_length=32, num_mel_channels=mel,
                                 input_sampling_rate=16000, output_sampling_rate=48000)
    else:
        voc = LTX2Vocoder(in_channels=2 * mel, hidden_channels=32, out_channels=2, upsample_kernel_sizes=[16, 15, 4], upsample_factors=[6, 5, 2], resnet_kernel_sizes=[3, 7, 11],
                          resnet_dilations=[[1, 3, 5]] * 3, leaky_relu_negative_slope=0.1, output_sampling_rate=24000)
    for n, b in voc.named_buffers():                       # STFT / mel bases are weights of the checkpoint; zeros by default
        if n in voc.state_dict() and b.abs().sum() == 0:
            b.copy_(0.1 * torch.from_numpy(rng(x.variant, x.seed, "voc", n).standard_normal(tuple(b.shape))).float().abs() if "mel" in n else
                    0.1 * torch.from_numpy(rng(x.variant, x.seed, "voc", n).standard_normal(tuple(b.shape))).float())
    voc = x.init(voc, "vocoder")
    for m, k in ((avae, "audio_vae"),):
        mean, std = x.stats(m.latents_mean.numel(), "audio_stats")
        m.latents_mean.copy_(torch.tensor(mean).view_as(m.latents_mean)); m.latents_std.copy_(torch.tensor(std).view_as(m.latents_std))
    sched = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, base_image_seq_len=1024, max_image_seq_len=4096, shift_terminal=0.1)
    pipe = LTX2Pipeline(scheduler=sched, vae=vae, audio_vae=avae, text_encoder=te, tokenizer=tok, connectors=conn, transformer=tr, vocoder=voc)
    p, n = prompts(x, 1)
    h, w, f = x.c((64, 96, 9), (96, 64, 9))
    fps = x.c(24.0, 25.0)
    n_audio = round(f / fps * 16000 / 160 / 4)
    call = dict(prompt=p, negative_prompt=n, height=h, width=w, num_frames=f, frame_rate=fps, num_inference_steps=x.c(3, 4), guidance_scale=4.0, audio_guidance_scale=x.c(4.0, 7.0),
                max_sequence_length=64, latents=x.noise(1, ((f - 1) // 8 + 1) * (h // 32) * (w // 32), C), audio_latents_raw=x.noise(1, n_audio, A * (mel // 4), name="audio_latents"), generator_seed=0)
    if v23:
        call.update(stg_scale=1.0, audio_stg_scale=1.0, spatio_temporal_guidance_blocks=[1], modality_scale=3.0, audio_modality_scale=3.0, guidance_rescale=0.7,
                    audio_guidance_rescale=0.7, use_cross_timestep=True)
    else:
        call.update(stg_scale=0.0, audio_stg_scale=0.0, modality_scale=1.0, audio_modality_scale=1.0, guidance_rescale=0.0, audio_guidance_rescale=0.0, use_cross_timestep=False)
    # the pipeline NORMALISES user supplied audio latents; undo it so that the loop starts from audio_latents_raw
    raw = call.pop("audio_latents_raw")
    call["audio_latents"] = raw * avae.latents_std.float() + avae.latents_mean.float()
    return Built(pipe, call, {"tokenizer": td}, max_calls=4 if v23 else 1,
                 notes=["latents are packed (B,F*H*W,C) and used as is; audio_latents (3-D) are normalised with audio_vae stats by the pipeline -> see transformer.call0.in.audio_hidden_states",
                        "rng0/rng1 (_create_noised_state) have no influence: noise_scale = 0"])


@case("ltx2", "LTX-2 (audio+video)")
def build_ltx20(x): return build_ltx2(x, False)


@case("ltx23", "LTX-2.3 (gated attention, BWE vocoder, STG + modality guidance)")
def build_ltx23(x): return build_ltx2(x, True)


@case("ltx2_i2v", "LTX-2 I2V (audio+video)")
def build_ltx2_i2v(x: Ctx):
    b = build_ltx2(x, bool(x.variant))
    pipe = LTX2ImageToVideoPipeline(**b.pipe.components)
    c = dict(b.call)
    c["image"] = x.image(c["width"], c["height"])
    c.pop("latents"), c.pop("audio_latents")
    # 33 by default: a video codec would run over the picture
    c.update(image_crf=0, generator_seed=0, use_cross_timestep=bool(x.variant))
    return Built(pipe, c, b.tokenizers, max_calls=b.max_calls,
                 notes=["rng0 = video noise, UNPACKED (B,C,F,H,W); rng1 = audio noise (B,C,L,M); frame 0 is the MEAN of the encoded image; held out: 2.3"])


# --- CogVideoX ------------------------------------------------------------------------------------------------------

def cog(x: Ctx, rotary: bool, i2v: bool, v15=False):
    tok, V, td = t5_tok(x, files=("spiece.model",), max_len=226)
    te = t5_text(x, "text_encoder", V, 32)
    h, w, f = x.c((32, 48, 17), (48, 32, 17)) if not v15 else x.c((32, 48, 9), (48, 32, 9))
    L = 8
    tr = x.init(CogVideoXTransformer3DModel(
        num_attention_heads=x.c(2, 3), attention_head_dim=16, in_channels=L * (2 if i2v else 1), out_channels=L, time_embed_dim=24, text_embed_dim=32, num_layers=2,
        sample_width=w // 8, sample_height=h // 8, sample_frames=f, patch_size=2, patch_size_t=2 if v15 else None, patch_bias=not v15, temporal_compression_ratio=4, max_text_seq_length=x.c(40, 32),
        use_rotary_positional_embeddings=rotary, use_learned_positional_embeddings=(i2v and rotary and not v15),
        ofs_embed_dim=24 if (v15 and i2v) else None), "transformer")
    vae = x.init(AutoencoderKLCogVideoX(block_out_channels=(8, 8, 16, 16), latent_channels=L, layers_per_block=x.c(1, 2), norm_num_groups=4, temporal_compression_ratio=4,
                                        sample_height=h, sample_width=w, scaling_factor=0.7 if rotary else 1.15258426, invert_scale_latents=v15), "vae")
    common = dict(SD_BETAS, clip_sample=False, prediction_type="v_prediction", rescale_betas_zero_snr=True, set_alpha_to_one=True, timestep_spacing="trailing", snr_shift_scale=1.0 if rotary else 3.0)
    sched = CogVideoXDPMScheduler(**common) if (rotary and x.variant and not i2v) else CogVideoXDDIMScheduler(**common)
    cls = CogVideoXImageToVideoPipeline if i2v else CogVideoXPipeline
    pipe = cls(tokenizer=tok, text_encoder=te, vae=vae, transformer=tr, scheduler=sched)
    p, n = prompts(x, 1)
    lf = (f - 1) // 4 + 1
    if v15:
        lf += lf % 2                                                 # patch_size_t=2: pipeline pads latent frames
    call = dict(prompt=p, negative_prompt=n, height=h, width=w, num_frames=f, num_inference_steps=4, guidance_scale=6.0, use_dynamic_cfg=rotary, max_sequence_length=x.c(40, 32),
                latents=x.noise(1, lf, L, h // 8, w // 8), generator_seed=0)
    if i2v:
        call["image"] = x.image(w, h)
    return Built(pipe, call, {"tokenizer": td}, notes=["latents layout is (B, F, C, H, W)", "rng* = every random draw in call order (I2V: the VAE posterior is SAMPLED, not mode(); CogVideoXDPMScheduler: one per step)"])


@case("cogvideox_2b", "CogVideoX-2B (sincos)")
def build_cog2b(x): return cog(x, False, False)


@case("cogvideox_5b", "CogVideoX-5B (rotary)")
def build_cog5b(x): return cog(x, True, False)


@case("cogvideox_5b_i2v", "CogVideoX-5B I2V (rotary + learned)")
def build_cog5bi(x): return cog(x, True, True)


@case("cogvideox_15_i2v", "CogVideoX1.5-5B I2V (patch_size_t, ofs)")
def build_cog15i(x): return cog(x, True, True, True)


# --- Mochi ------------------------------------------------------------------------------------------------------------

@case("mochi", "Mochi 1")
def build_mochi(x: Ctx):
    tok, V, td = t5_tok(x, files=("spiece.model", "tokenizer.json"), max_len=256)
    te = t5_text(x, "text_encoder", V, 32)
    tr = x.init(MochiTransformer3DModel(patch_size=2, num_attention_heads=x.c(2, 3), attention_head_dim=8, num_layers=x.c(2, 3), pooled_projection_dim=16, in_channels=12, out_channels=None,
                                        qk_norm="rms_norm", text_embed_dim=32, time_embed_dim=8, activation_fn="swiglu", max_sequence_length=x.c(32, 48)), "transformer")
    mean, std = x.stats(12, "vae_stats")
    vae = x.init(AutoencoderKLMochi(latent_channels=12, out_channels=3, encoder_block_out_channels=(32, 32, 32, 32), decoder_block_out_channels=(32, 32, 32, 32),
                                    layers_per_block=(1, 1, 1, 1, 1), latents_mean=mean, latents_std=std, scaling_factor=1.0), "vae")
    pipe = MochiPipeline(scheduler=FlowMatchEulerDiscreteScheduler(invert_sigmas=True), vae=vae, text_encoder=te, tokenizer=tok, transformer=tr, force_zeros_for_empty_prompt=False)
    p, n = prompts(x, 1)
    h, w, f = x.c((32, 48, 13), (48, 32, 7))
    return Built(pipe, dict(prompt=p, negative_prompt=n, height=h, width=w, num_frames=f, num_inference_steps=4, guidance_scale=4.5, max_sequence_length=x.c(32, 48),
                            latents=x.noise(1, 12, (f - 1) // 6 + 1, h // 8, w // 8)), {"tokenizer": td})


# --- Stable Video Diffusion -------------------------------------------------------------------------------------------

@case("svd", "Stable Video Diffusion")
def build_svd(x: Ctx):
    unet = x.init(UNetSpatioTemporalConditionModel(                # GroupNorm groups are hard-coded to 32
        sample_size=8, in_channels=8, out_channels=4, block_out_channels=(32, 32), layers_per_block=1, cross_attention_dim=24, num_attention_heads=x.c((2, 4), (1, 2)),
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"), up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        transformer_layers_per_block=1, addition_time_embed_dim=8, projection_class_embeddings_input_dim=24, num_frames=4), "unet")
    sched = EulerDiscreteScheduler(**SD_BETAS, interpolation_type="linear", prediction_type="v_prediction", sigma_max=700.0, sigma_min=0.002, steps_offset=1, timestep_spacing="leading",
                                   timestep_type="continuous", use_karras_sigmas=True)
    vae = x.init(AutoencoderKLTemporalDecoder(block_out_channels=(32, 32, 32), down_block_types=("DownEncoderBlock2D",) * 3, layers_per_block=2, latent_channels=4, sample_size=64,
                                              scaling_factor=0.18215, force_upcast=True), "vae")
    ie = x.init(CLIPVisionModelWithProjection(CLIPVisionConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=224, patch_size=28, hidden_act="gelu",
                                                               projection_dim=24)), "image_encoder")
    fe = CLIPImageProcessor(size={"shortest_edge": 224}, crop_size={"height": 224, "width": 224})
    pipe = StableVideoDiffusionPipeline(vae=vae, image_encoder=ie, unet=unet, scheduler=sched, feature_extractor=fe)
    h, w = x.c((32, 48), (48, 32))                              # 3-level VAE: factor 4
    nf = x.c(4, 3)
    return Built(pipe, dict(image=x.image(w, h), height=h, width=w, num_frames=nf, num_inference_steps=3, min_guidance_scale=1.0, max_guidance_scale=3.0, fps=7, motion_bucket_id=127,
                            noise_aug_strength=x.c(0.02, 0.1), decode_chunk_size=x.c(2, 3), latents=x.noise(1, nf, 4, h // 4, w // 4), generator_seed=0), {}, ("unet",),
                 notes=["rng0 = image-space noise that is added to the conditioning image (x noise_aug_strength)", "latents: multiplied by init_noise_sigma by the pipeline"])


# --- Qwen-Image ---------------------------------------------------------------------------------------------------------

def qwen_parts(x: Ctx):
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
    td = x.tok("qwen")
    tok, V, added = make_qwen_tokenizer(td)
    hid = 32
    cfg = Qwen2_5_VLConfig(
        text_config=dict(vocab_size=V, hidden_size=hid, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=4096, rms_norm_eps=1e-6,
                         rope_parameters={"mrope_section": [1, 1, 2], "rope_type": "default", "rope_theta": 1000000.0}, tie_word_embeddings=False,
                         bos_token_id=added["<|endoftext|>"], eos_token_id=added["<|im_end|>"]),
        vision_config=dict(depth=3, hidden_size=16, intermediate_size=24, num_heads=2, out_hidden_size=hid, patch_size=x.c(8, 14), spatial_merge_size=2, temporal_patch_size=2, window_size=x.c(64, 112),
                           fullatt_block_indexes=x.c([1], [0, 2]), tokens_per_second=2, hidden_act="silu", in_channels=3),
        image_token_id=added["<|image_pad|>"], video_token_id=added["<|video_pad|>"], vision_start_token_id=added["<|vision_start|>"], vision_end_token_id=added["<|vision_end|>"],
        tie_word_embeddings=False)
    te = x.init(Qwen2_5_VLForConditionalGeneration(cfg), "text_encoder")
    tr = x.init(QwenImageTransformer2DModel(patch_size=2, in_channels=64, out_channels=16, num_layers=2, attention_head_dim=16, num_attention_heads=x.c(3, 2), joint_attention_dim=hid,
                                            guidance_embeds=False, axes_dims_rope=x.c((4, 6, 6), (8, 4, 4))), "transformer")
    mean, std = x.stats(16, "vae_stats")
    vae = x.init(AutoencoderKLQwenImage(base_dim=4, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=1, temperal_downsample=[False, True, True], latents_mean=mean, latents_std=std), "vae")
    sched = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, base_image_seq_len=256, max_image_seq_len=8192,
                                            shift_terminal=0.02, time_shift_type="exponential", invert_sigmas=False, use_karras_sigmas=False, use_exponential_sigmas=False, use_beta_sigmas=False)
    return dict(scheduler=sched, vae=vae, text_encoder=te, tokenizer=tok, transformer=tr), td


def qwen_processor(x: Ctx, td):
    from transformers import Qwen2VLProcessor
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
    try:
        from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
        vp = Qwen2VLVideoProcessor()
    except Exception:
        vp = None
    ip = Qwen2VLImageProcessor(patch_size=x.c(8, 14), temporal_patch_size=2, merge_size=2, min_pixels=56 * 56, max_pixels=28 * 28 * 1280)
    return Qwen2VLProcessor(image_processor=ip, tokenizer=Qwen2Tokenizer.from_pretrained(td), video_processor=vp)


@case("qwen_image", "Qwen-Image T2I")
def build_qwen(x: Ctx):
    parts, td = qwen_parts(x)
    pipe = QwenImagePipeline(**parts)
    p, n = prompts(x)
    h, w = x.c((64, 96), (96, 64))
    return Built(pipe, dict(prompt=p, negative_prompt=n, height=h, width=w, num_inference_steps=x.c(3, 4), true_cfg_scale=4.0, latents=x.noise(2, (h // 16) * (w // 16), 64)), {"tokenizer": td},
                 notes=["latents are packed"])


def qwen_edit_prompt(x):
    return x.c(("Make the sky purple and add a cat's hat", "blurry, low quality"), ("replace the background with mountains", ""))


@case("qwen_image_edit", "Qwen-Image-Edit")
def build_qwen_edit(x: Ctx):
    import diffusers.pipelines.qwenimage.pipeline_qwenimage_edit as mod
    parts, td = qwen_parts(x)
    pipe = QwenImageEditPipeline(**parts, processor=qwen_processor(x, td))
    p, n = qwen_edit_prompt(x)
    iw, ih = x.c((160, 96), (224, 448))                         # multiple of 32 (VAE) and of 2*patch (vision tower): no resampling
    area, orig = iw * ih, mod.calculate_dimensions
    h, w = x.c((64, 96), (96, 64))
    return Built(pipe, dict(image=x.image(iw, ih), prompt=p, negative_prompt=n, height=h, width=w, num_inference_steps=3, true_cfg_scale=4.0, latents=x.noise(1, (h // 16) * (w // 16), 64)),
                 {"tokenizer": td}, patches=[(mod, "calculate_dimensions", lambda _a, r: orig(area, r))],
                 overrides={"calculate_dimensions.target_area": area, "was": 1024 * 1024}, notes=["target area of calculate_dimensions() overridden to keep the fixture small"])


@case("qwen_image_edit_plus", "Qwen-Image-Edit-Plus (2509), 2 images")
def build_qwen_edit_plus(x: Ctx):
    import diffusers.pipelines.qwenimage.pipeline_qwenimage_edit_plus as mod
    parts, td = qwen_parts(x)
    pipe = QwenImageEditPlusPipeline(**parts, processor=qwen_processor(x, td))
    p, n = qwen_edit_prompt(x)
    h, w = x.c((64, 96), (96, 64))
    sizes = x.c([(160, 96), (96, 160)], [(448, 224), (224, 224)])
    imgs = [x.image(*s, f"image{i}") for i, s in enumerate(sizes)]
    area = sizes[0][0] * sizes[0][1]
    return Built(pipe, dict(image=imgs, prompt=p, negative_prompt=n, height=h, width=w, num_inference_steps=3, true_cfg_scale=4.0, latents=x.noise(1, (h // 16) * (w // 16), 64)),
                 {"tokenizer": td}, patches=[(mod, "CONDITION_IMAGE_SIZE", area), (mod, "VAE_IMAGE_SIZE", x.c(area, 128 * 64))],
                 overrides={"CONDITION_IMAGE_SIZE": area, "VAE_IMAGE_SIZE": x.c(area, 128 * 64), "was": {"CONDITION_IMAGE_SIZE": 384 * 384, "VAE_IMAGE_SIZE": 1024 * 1024}},
                 notes=["public: sizes chosen so that nothing is resampled. heldout: images are resampled (PIL Lanczos; bicubic in the Qwen2-VL processor): compare vae.encode*.in / pixel_values first"])


# ----------------------------------------------------------------------------------------------------------------
# schedulers on their own (no weights): a fixed analytic "model" drives every scheduler configuration
# ----------------------------------------------------------------------------------------------------------------

def scheduler_zoo(variant):
    FM = FlowMatchEulerDiscreteScheduler
    cog = dict(SD_BETAS, clip_sample=False, prediction_type="v_prediction", rescale_betas_zero_snr=True, set_alpha_to_one=True, timestep_spacing="trailing")
    n = 5 if variant == 0 else 7
    z = {
        "pndm_sd15": (PNDMScheduler(**SD_BETAS, skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False), {}),
        "ddim_sd": (DDIMScheduler(**SD_BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1), {}),
        "ddim_vpred_zsnr_trailing": (DDIMScheduler(**SD_BETAS, clip_sample=False, set_alpha_to_one=False, prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"), {}),
        "ddim_eta": (DDIMScheduler(**SD_BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1), {"step": {"eta": 0.7}}),
        "euler_leading": (EulerDiscreteScheduler(**SD_BETAS, steps_offset=1, timestep_spacing="leading"), {}),
        "euler_linspace_karras": (EulerDiscreteScheduler(**SD_BETAS, use_karras_sigmas=True), {}),
        "euler_trailing": (EulerDiscreteScheduler(**SD_BETAS, timestep_spacing="trailing"), {}),
        "euler_trailing_zsnr_v": (EulerDiscreteScheduler(**SD_BETAS, timestep_spacing="trailing", prediction_type="v_prediction", rescale_betas_zero_snr=True), {}),
        "euler_svd": (EulerDiscreteScheduler(**SD_BETAS, prediction_type="v_prediction", sigma_max=700.0, sigma_min=0.002, steps_offset=1, timestep_spacing="leading", timestep_type="continuous", use_karras_sigmas=True), {}),
        "euler_ancestral": (EulerAncestralDiscreteScheduler(**SD_BETAS, steps_offset=1, timestep_spacing="leading"), {}),
        "dpmpp_2m": (DPMSolverMultistepScheduler(**SD_BETAS, steps_offset=1), {}),
        "dpmpp_2m_karras": (DPMSolverMultistepScheduler(**SD_BETAS, use_karras_sigmas=True), {}),
        "dpmpp_2m_v_trailing": (DPMSolverMultistepScheduler(**SD_BETAS, prediction_type="v_prediction", timestep_spacing="trailing"), {}),
        "dpmpp_2m_sde_karras": (DPMSolverMultistepScheduler(**SD_BETAS, use_karras_sigmas=True, algorithm_type="sde-dpmsolver++"), {}),
        "dpmpp_2m_flow": (DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0), {}),
        "unipc_sd": (UniPCMultistepScheduler(**SD_BETAS, steps_offset=1), {}),
        "unipc_wan_shift3": (wan_sched(3.0), {}), "unipc_wan_shift5": (wan_sched(5.0), {}),
        "lms": (LMSDiscreteScheduler(**SD_BETAS, steps_offset=1), {}),
        "heun": (HeunDiscreteScheduler(**SD_BETAS, steps_offset=1), {}),
        "lcm": (LCMScheduler(**SD_BETAS, set_alpha_to_one=True, steps_offset=1), {}),
        "flow_shift1": (FM(shift=1.0), {}), "flow_shift3": (FM(shift=3.0), {}),
        "flow_flux_dev": (FM(shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, base_image_seq_len=256, max_image_seq_len=4096), {"mu": 0.83, "lin": True}),
        "flow_qwen": (FM(shift=1.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, base_image_seq_len=256, max_image_seq_len=8192, shift_terminal=0.02), {"mu": 0.61, "lin": True}),
        "flow_ltx": (FM(use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, base_image_seq_len=1024, max_image_seq_len=4096, shift_terminal=0.1), {"mu": 1.4, "lin": True}),
        "flow_linear_shift_type": (FM(use_dynamic_shifting=True, time_shift_type="linear"), {"mu": 1.7, "lin": True}),
        "flow_mochi": (FM(invert_sigmas=True), {"mochi": True}),
        "flow_beta": (FM(shift=3.0, use_beta_sigmas=True), {}) if variant and importlib_has("scipy") else (FM(shift=2.0), {}),
        "cog_ddim_2b": (CogVideoXDDIMScheduler(**cog, snr_shift_scale=3.0), {}), "cog_ddim_5b": (CogVideoXDDIMScheduler(**cog, snr_shift_scale=1.0), {}),
        "cog_dpm_5b": (CogVideoXDPMScheduler(**cog, snr_shift_scale=1.0), {"cogdpm": True}),
    }
    return z, n


def scheduler_zoo_more(variant):
    """What the first zoo leaves out: other classes, orders, forms, rules for the levels, later beginnings."""
    FM, DPM, SINGLE, UNI, EU = FlowMatchEulerDiscreteScheduler, DPMSolverMultistepScheduler, DPMSolverSinglestepScheduler, UniPCMultistepScheduler, EulerDiscreteScheduler
    v = dict(prediction_type="v_prediction")
    sample = dict(prediction_type="sample")
    sde = dict(algorithm_type="sde-dpmsolver++")
    flow = dict(prediction_type="flow_prediction", use_flow_sigmas=True)
    sd = SD_BETAS
    n = 6 if variant == 0 else 9
    z = {
        "ddpm": (DDPMScheduler(**sd, clip_sample=False), {}),
        "ddpm_clip": (DDPMScheduler(**sd), {}),
        "ddpm_v_large_trailing": (DDPMScheduler(**sd, **v, clip_sample=False, variance_type="fixed_large", timestep_spacing="trailing"), {}),
        "ddim_clip_sample": (DDIMScheduler(**sd, **sample), {}),
        "ddim_linspace_linear_betas": (DDIMScheduler(timestep_spacing="linspace", clip_sample=False), {}),
        "ddim_begin": (DDIMScheduler(**sd, clip_sample=False, steps_offset=1), {"begin": 2}),
        "pndm_prk": (PNDMScheduler(**sd), {}),
        "pndm_v_linspace": (PNDMScheduler(**sd, **v, skip_prk_steps=True, timestep_spacing="linspace", set_alpha_to_one=True), {}),
        "lcm_v_clip": (LCMScheduler(**sd, **v, clip_sample=True, clip_sample_range=0.8), {}),
        "tcd": (TCDScheduler(**sd), {}),
        "tcd_eta0": (TCDScheduler(**sd), {"step": {"eta": 0.0}}),
        "tcd_v_eta1": (TCDScheduler(**sd, **v), {"step": {"eta": 1.0}}),
        "euler_exponential": (EU(**sd, use_exponential_sigmas=True), {}),
        "euler_beta": (EU(**sd, use_beta_sigmas=True), {}),
        "euler_sample_sigma_min": (EU(**sd, **sample, final_sigmas_type="sigma_min"), {}),
        "euler_begin": (EU(**sd), {"begin": 3}),
        "euler_cosine": (EU(beta_schedule="squaredcos_cap_v2", **v, timestep_spacing="leading"), {}),
        "euler_sgm_uniform": (EU(**sd), {"schedule": "sgm_uniform"}),
        "euler_simple": (EU(**sd), {"schedule": "simple"}),
        "euler_align_your_steps": (EU(**sd), {"schedule": "align_your_steps"}),
        "euler_ancestral_v_zsnr": (EulerAncestralDiscreteScheduler(**sd, **v, rescale_betas_zero_snr=True, timestep_spacing="trailing"), {}),
        "heun_karras_v": (HeunDiscreteScheduler(**sd, **v, use_karras_sigmas=True), {}),
        "heun_clip": (HeunDiscreteScheduler(**sd, clip_sample=True, clip_sample_range=1.5), {}),
        "heun_begin": (HeunDiscreteScheduler(**sd), {"begin": 2}),
        "lms_karras": (LMSDiscreteScheduler(**sd, use_karras_sigmas=True), {}),
        "lms_begin": (LMSDiscreteScheduler(**sd), {"begin": 2}),
        "dpmpp_2m_heun": (DPM(**sd, solver_type="heun"), {}),
        "dpmpp_2m_exponential": (DPM(**sd, use_exponential_sigmas=True), {}),
        "dpmpp_2m_beta": (DPM(**sd, use_beta_sigmas=True), {}),
        "dpmpp_2m_lu": (DPM(**sd, use_lu_lambdas=True), {}),
        "dpmpp_2m_sigma_min_leading": (DPM(**sd, final_sigmas_type="sigma_min", timestep_spacing="leading", steps_offset=1), {}),
        "dpmpp_2m_zsnr_v": (DPM(**sd, **v, rescale_betas_zero_snr=True, timestep_spacing="trailing"), {}),
        "dpmpp_2m_cosine_clipped": (DPM(beta_schedule="squaredcos_cap_v2", lambda_min_clipped=-5.1), {}),
        "dpmpp_2m_simple": (DPM(**sd), {"schedule": "simple"}),
        "dpmpp_2m_begin": (DPM(**sd), {"begin": 2}),
        "dpmpp_2m_sde_heun": (DPM(**sd, **sde, solver_type="heun"), {}),
        "dpmpp_3m": (DPM(**sd, solver_order=3), {"n": 17}),
        "dpmpp_3m_sde_karras": (DPM(**sd, **sde, solver_order=3, use_karras_sigmas=True), {}),
        "dpmpp_3m_sde_long": (DPM(**sd, **sde, solver_order=3), {"n": 16}),
        "dpmpp_3m_sde_flow": (DPM(**flow, **sde, solver_order=3, flow_shift=3.0), {}),
        "dpmpp_single": (SINGLE(**sd), {}),
        "dpmpp_single_3": (SINGLE(**sd, solver_order=3), {}),
        "dpmpp_single_3_heun": (SINGLE(**sd, solver_order=3, solver_type="heun"), {"n": n + 2}),
        "dpmpp_sde": (SINGLE(**sd, **sde), {}),
        "dpmpp_sde_karras": (SINGLE(**sd, **sde, use_karras_sigmas=True), {}),
        "dpmpp_sde_3_heun": (SINGLE(**sd, **sde, solver_order=3, solver_type="heun"), {}),
        "dpmpp_single_flow": (SINGLE(**flow, flow_shift=3.0), {}),
        "unipc_3": (UNI(**sd, solver_order=3), {}),
        "unipc_3_bh1_v_karras": (UNI(**sd, **v, solver_order=3, solver_type="bh1", use_karras_sigmas=True, final_sigmas_type="sigma_min"), {}),
        "unipc_noise": (UNI(**sd, predict_x0=False, final_sigmas_type="sigma_min"), {}),
        "unipc_uncorrected": (UNI(**sd, disable_corrector=[0, 2]), {}),
        "unipc_exponential": (UNI(**sd, use_exponential_sigmas=True, final_sigmas_type="sigma_min"), {}),
        "unipc_begin": (UNI(**sd, timestep_spacing="trailing"), {"begin": 2}),
        "unipc_flow_dynamic": (UNI(**flow, use_dynamic_shifting=True), {"mu": 0.9}),
        "unipc_flow_karras": (UNI(**flow, use_karras_sigmas=True), {}),
        "flow_heun": (FlowMatchHeunDiscreteScheduler(), {}),
        "flow_heun_shift3": (FlowMatchHeunDiscreteScheduler(shift=3.0), {}),
        "flow_karras": (FM(shift=3.0, use_karras_sigmas=True), {}),
        "flow_exponential": (FM(shift=3.0, use_exponential_sigmas=True), {}),
        "flow_beta_dynamic": (FM(use_dynamic_shifting=True, use_beta_sigmas=True), {"mu": 0.8, "lin": True}),
        "flow_stochastic": (FM(shift=3.0, stochastic_sampling=True), {}),
        "flow_begin": (FM(shift=3.0), {"begin": 2}),
    }
    return z, n


def schedule_of(name, n):
    """Arguments of set_timesteps for rules that the reference has no flag for."""
    if name == "simple":
        return dict(timesteps=[999 - int(i * 1000 / n) for i in range(n)])
    if name == "sgm_uniform":
        return dict(timesteps=np.linspace(999, 0, n + 1)[:-1].tolist())
    if name == "align_your_steps":
        from diffusers.schedulers import AysSchedules
        known = [*AysSchedules["StableDiffusionSigmas"][:-1], 0.029]
        return dict(sigmas=[*np.exp(np.interp(np.linspace(0, 1, n + 1), np.linspace(0, 1, 11), np.log(known)))[:-1].tolist(), 0.0])
    return {}


def importlib_has(m):
    import importlib.util
    return importlib.util.find_spec(m) is not None


def analytic_model(xin, t, bias):
    """model(x, t) = tanh(0.7 x + sin(t/100)) + 0.1 bias"""
    return torch.tanh(0.7 * xin + math.sin(float(t) / 100.0)) + 0.1 * bias


def run_schedulers(out: Path, variant, seed, case="schedulers"):
    import diffusers.utils.torch_utils as tu
    d = out / case
    shutil.rmtree(d, ignore_errors=True); d.mkdir(parents=True)
    t, meta = {}, {}
    zoo, all_n = scheduler_zoo(variant) if case == "schedulers" else scheduler_zoo_more(variant)
    x0, bias = noise(2, 4, 3, 5, key=("sched", variant, seed, "x")), noise(2, 4, 3, 5, key=("sched", variant, seed, "bias"))
    t["x0"], t["bias"] = x0, bias
    for name, (s, o) in zoo.items():
        n = o.get("n", all_n)
        begin = o.get("begin", 0)
        kw = schedule_of(o.get("schedule"), n)
        if o.get("lin"):
            kw = dict(sigmas=np.linspace(1.0, 1 / n, n), mu=o["mu"])
        elif o.get("mochi"):
            from diffusers.pipelines.mochi.pipeline_mochi import linear_quadratic_schedule
            kw = dict(sigmas=np.array(linear_quadratic_schedule(n, 0.025)))
        elif o.get("mu"):
            kw = dict(num_inference_steps=n, mu=o["mu"])
        s.set_timesteps(**(dict(num_inference_steps=n) if not kw else kw))
        timesteps = s.timesteps[begin * s.order:]
        if begin:
            getattr(s, "set_begin_index", lambda _: None)(begin * s.order)
        x = x0 * getattr(s, "init_noise_sigma", 1.0)
        draws = []
        mods = [m for k, m in list(sys.modules.items()) if k.startswith("diffusers") and getattr(m, "randn_tensor", None) is tu.randn_tensor]
        orig = tu.randn_tensor
        def randn(*a, **k):
            r = noise(*a[0], key=("sched", variant, seed, name, len(draws))); draws.append(r); return r
        for m in mods: m.randn_tensor = randn
        try:
            old = None
            for i, ts in enumerate(timesteps):
                xin = s.scale_model_input(x, ts) if hasattr(s, "scale_model_input") else x
                mo = analytic_model(xin, ts, bias)
                if o.get("cogdpm"):
                    x, old = s.step(mo, old, ts, s.timesteps[i - 1] if i > 0 else None, x, return_dict=False)
                else:
                    x = s.step(mo, ts, x, return_dict=False, **o.get("step", {}))[0]
                t[f"{name}.step{i}"] = x.float()
        finally:
            for m in mods: m.randn_tensor = orig
        assert torch.isfinite(x).all(), name
        t[f"{name}.timesteps"] = timesteps.clone().to(torch.float64 if s.timesteps.is_floating_point() else torch.int64)
        if hasattr(s, "sigmas"):
            t[f"{name}.sigmas"] = torch.as_tensor(s.sigmas).clone().float()
        for i, r in enumerate(draws):
            t[f"{name}.noise{i}"] = r
        meta[name] = {"class": type(s).__name__, "config": {k: v for k, v in s.config.items() if not k.startswith("_")}, "options": {k: v for k, v in o.items()},
                      "init_noise_sigma": float(getattr(s, "init_noise_sigma", 1.0)), "n": n}
    save_file({k: v.contiguous() for k, v in t.items()}, d / "golden.safetensors")
    dump(d / "case.json", {"case": case, "model": analytic_model.__doc__, "variant": ["public", "heldout"][variant], "seed": seed, "schedulers": json.loads(json.dumps(meta, default=str))})
    return len(zoo), (d / "golden.safetensors").stat().st_size


# ----------------------------------------------------------------------------------------------------------------
# running a case
# ----------------------------------------------------------------------------------------------------------------

def to_repo_style(model_dir: Path, b: Built):
    """Make the folder look like the published repositories (transformers-4.x style configs, tokenizer files)."""
    for comp, src in b.tokenizers.items():
        shutil.rmtree(model_dir / comp)
        shutil.copytree(src, model_dir / comp)
    for f in model_dir.glob("*/config.json"):
        cfg = json.loads(f.read_text())
        if "transformers_version" in cfg:
            fix_transformers_config(cfg)
            dump(f, cfg)
    for comp in model_dir.iterdir():                              # transformers>=5 drops the text_model./vision_model. prefix
        f = comp / "model.safetensors"
        arch = json.loads((comp / "config.json").read_text()).get("architectures", [""])[0] if f.exists() else ""
        prefix = {"CLIPTextModel": "text_model.", "CLIPVisionModel": "vision_model.", "SiglipVisionModel": "vision_model."}.get(arch)
        if prefix:
            save_file({(k if k.startswith(prefix) else prefix + k): v for k, v in load_file(f).items()}, f, metadata={"format": "pt"})
    for comp in ("processor",):
        d = model_dir / comp
        if (d / "processor_config.json").exists():                # 4.x layout: preprocessor_config.json
            pc = json.loads((d / "processor_config.json").read_text())
            ip = pc["image_processor"]
            dump(d / "preprocessor_config.json", {
                "do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": ip["image_mean"], "image_std": ip["image_std"],
                "image_processor_type": "Qwen2VLImageProcessor", "max_pixels": ip["size"]["longest_edge"], "min_pixels": ip["size"]["shortest_edge"],
                "merge_size": ip["merge_size"], "patch_size": ip["patch_size"], "temporal_patch_size": ip["temporal_patch_size"], "processor_class": "Qwen2_5_VLProcessor",
                "resample": 3, "rescale_factor": 1 / 255, "size": {"longest_edge": ip["size"]["longest_edge"], "shortest_edge": ip["size"]["shortest_edge"]}})
            (d / "processor_config.json").unlink()
        if d.exists() and "tokenizer" in b.tokenizers:
            for f in b.tokenizers["tokenizer"].iterdir():
                shutil.copy(f, d / f.name)
            if (d / "tokenizer.json").exists():
                (d / "tokenizer.json").unlink()


def fix_transformers_config(cfg: dict):
    """rope_parameters -> rope_theta/rope_scaling, dtype -> torch_dtype as transformers 4.x wrote them."""
    for k in list(cfg):
        if isinstance(cfg[k], dict):
            fix_transformers_config(cfg[k])
    if "dtype" in cfg:
        cfg["torch_dtype"] = cfg.pop("dtype")
    rp = cfg.get("rope_parameters")
    if isinstance(rp, dict) and "full_attention" in rp:           # Gemma 3
        full, loc = rp["full_attention"], rp["sliding_attention"]
        cfg.pop("rope_parameters")
        cfg.update(rope_theta=full["rope_theta"], rope_local_base_freq=loc["rope_theta"], rope_scaling={"factor": full["factor"], "rope_type": "linear"})
    elif isinstance(rp, dict) and "mrope_section" in rp:          # Qwen2.5-VL
        cfg.pop("rope_parameters")
        cfg.update(rope_theta=rp["rope_theta"], rope_scaling={"mrope_section": rp["mrope_section"], "rope_type": "default", "type": "default"})
    elif isinstance(rp, dict):                                    # Qwen vision: not in 4.x configs
        cfg.pop("rope_parameters")
    if cfg.get("model_type") == "qwen2_5_vl" and "text_config" in cfg:   # published configs also carry the text fields at top level
        for k, v in cfg["text_config"].items():
            cfg.setdefault(k, v)


@contextlib.contextmanager
def patched(patches):
    saved = [(m, a, getattr(m, a)) for m, a, _ in patches]
    for m, a, v in patches:
        setattr(m, a, v)
    try:
        yield
    finally:
        for m, a, v in saved:
            setattr(m, a, v)


def run_pipe(pipe, b: Built, cap: Capture | None, dtype=torch.float32, prior=None):
    call = {}
    for k, v in b.call.items():
        if k == "generator_seed":
            call["generator"] = torch.Generator("cpu").manual_seed(v)
        elif torch.is_tensor(v):
            call[k] = v.clone().to(dtype)
        else:
            call[k] = v
    pipe.set_progress_bar_config(disable=True)
    with patched(b.patches), (cap or contextlib.nullcontext()):
        if prior:
            if "prompt" in b.prior_call:                          # not in its folder: they are those of the other pipeline
                for c in ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"):
                    setattr(prior, c, getattr(pipe, c))
            embeds = prior(**b.prior_call, return_dict=False)
            for name, v in zip(("prompt_embeds", "pooled_prompt_embeds"), embeds):
                call[name] = v
                if cap:
                    cap.put(f"prior.{name}", v)
        return pipe(**call, output_type="pt", return_dict=False)


def run_case(name, out: Path, variant: int, seed: int, fp64: bool, audit=False):
    fn, family = CASES[name]
    d = out / name
    if d.exists():
        shutil.rmtree(d)
    d.mkdir(parents=True)
    x = Ctx(name, out, variant, seed)
    t0 = time.time()
    b: Built = fn(x)
    cls = type(b.pipe)
    model = d / "model"
    built = components_of(b.pipe, b.prior)
    params = {c: sum(p.numel() for p in m.parameters()) for c, m in built.items() if isinstance(m, torch.nn.Module)}
    b.pipe.to(torch.bfloat16)
    b.pipe.save_pretrained(d / (b.beside or "model"), safe_serialization=True)
    to_repo_style(d / (b.beside or "model"), b)
    if b.prior:
        b.prior.to(torch.bfloat16)
        b.prior.save_pretrained(model, safe_serialization=True)
        to_repo_style(model, dataclasses.replace(b, tokenizers={}))
    t1 = time.time()
    pipe = cls.from_pretrained(d / (b.beside or "model"), torch_dtype=torch.float32)
    prior = type(b.prior).from_pretrained(model, torch_dtype=torch.float32) if b.prior else None
    for c, m in components_of(pipe, prior).items():               # the reload must give back exactly what we built
        if isinstance(m, torch.nn.Module):
            m.eval()
            ref = {k: v.float() for k, v in built[c].state_dict().items()}
            got = m.state_dict()
            assert ref.keys() == got.keys(), (c, list(ref.keys() ^ got.keys())[:5])
            for k in ref:
                assert torch.equal(ref[k], got[k].float()), (c, k)
                if got[k].is_floating_point():
                    assert got[k].dtype == torch.float32, (c, k, got[k].dtype)
    t2 = time.time()
    cap = Capture(pipe, b.denoisers, b.max_calls, prior=prior)
    res = run_pipe(pipe, b, cap, prior=prior)
    t3 = time.time()
    outs = [r for r in res if torch.is_tensor(r)] if isinstance(res, (tuple, list)) else [res]
    for nm, r in zip(("pixels", "audio"), outs):
        assert torch.isfinite(r).all(), nm
        if nm == "pixels":                                        # = clamp(vae.decode/2 + 0.5); only stored where it is small or not one decode
            n_dec = sum(k.startswith("vae.decode") and k.endswith("out") for k in cap.t)
            if n_dec != 1 or r.ndim == 4:
                cap.t["out.pixels_u8"] = (r.float().clamp(0, 1) * 255).round().to(torch.uint8).contiguous()
        else:
            cap.put(f"out.{nm}", r.float())
    assert outs, [type(r) for r in res]
    for comp in ("vae", "audio_vae"):                             # the encoder half is not on the T2I/T2V path: check it as well
        v = getattr(pipe, comp, None)
        if v is not None and f"{comp}.decode0.out" in cap.t:
            try:
                cap.put(f"extra.{comp}_encode.out", v.encode(cap.t[f"{comp}.decode0.out"]).latent_dist.mode())   # input: {comp}.decode0.out
            except Exception as e:  # noqa: BLE001
                b.notes.append(f"extra.{comp}_encode not available: {type(e).__name__}: {str(e)[:120]}")
    dead = None
    if audit:
        ca = Capture(pipe, b.denoisers, b.max_calls, replay=cap.t, audit=True, prior=prior)
        run_pipe(pipe, b, ca, prior=prior)
        dead = ca.dead
        stat = {k: [round(float(v.mean()), 4), round(float(v.std()), 4)] for k, v in cap.t.items() if v.is_floating_point() and v.numel() > 1 and
                (k.endswith((".out", ".out.0", ".out.1", "last_hidden_state", "hidden_states.-2")) or ".latents" in k)}
        dump(d / "audit.json", {"dead": dead, "mean_std": stat})
        print("   audit:", {k: (f"{len(v['dead'])}/{v['n']}", v["dead"][:6]) for k, v in dead.items()}, flush=True)
        print("   mean/std:", {k: v for k, v in stat.items() if "call0.out" in k or "decode0.out" in k or "step0.latents" in k or k.startswith("step3")}, flush=True)
    # inputs
    inputs = {}
    for k, v in (b.prior_call | b.call).items():
        if torch.is_tensor(v):
            cap.put(f"in.{k}", v); inputs[k] = {"tensor": f"in.{k}", "shape": list(v.shape)}
        elif isinstance(v, Image.Image) or (isinstance(v, list) and v and isinstance(v[0], Image.Image)):
            files = []
            for i, im in enumerate(v if isinstance(v, list) else [v]):
                (d / "inputs").mkdir(exist_ok=True)
                fn_ = f"inputs/{k}{i}.png"
                im.save(d / fn_); files.append(fn_)
            inputs[k] = files if isinstance(v, list) else files[0]
        else:
            inputs[k] = v
    # fp32 noise floor: the same run in fp64
    floor = None
    if fp64:
        try:
            p64 = pipe.to(torch.float64)
            cap64 = Capture(p64, b.denoisers, b.max_calls, replay=cap.t, prior=prior)
            r64 = run_pipe(p64, b, cap64, torch.float64, prior=prior.to(torch.float64) if prior else None)
            floor = {}
            for k, v in cap64.t.items():
                if k in cap.t and cap.t[k].is_floating_point() and cap.t[k].shape == v.shape:
                    floor[k] = float((cap.t[k] - v).abs().max())
            floor = {"final_latents": max([v for k, v in floor.items() if k.startswith("step") and k.endswith("latents")] or [0]),
                     "denoiser_call0": max([v for k, v in floor.items() if ".call0.out" in k and k.split(".")[0] in b.denoisers] or [0]),
                     "decoded": max([v for k, v in floor.items() if ".decode" in k and k.endswith("out")] or [0]), "max_any": max(floor.values() or [0])}
        except Exception as e:  # noqa: BLE001
            floor = {"error": f"{type(e).__name__}: {e}"[:300]}
    aliases, seen = {}, {}
    for k in sorted(cap.t):                                       # identical tensors are stored once
        v = cap.t[k]
        h = (tuple(v.shape), v.dtype, hashlib.sha256(v.numpy().tobytes()).hexdigest())
        if h in seen and v.numel() > 16:
            aliases[k] = seen[h]
        else:
            seen.setdefault(h, k)
    for k in aliases:
        del cap.t[k]
    save_file({k: v for k, v in sorted(cap.t.items())}, d / "golden.safetensors")
    saved = [model, *([d / b.beside] if b.beside else [])]
    wsize = sum(f.stat().st_size for m in saved for f in m.rglob("*.safetensors"))
    tsize = sum(f.stat().st_size for m in saved for f in m.rglob("*") if f.is_file()) - wsize
    info = {
        "case": name, "family": family, "pipeline": type(b.prior or b.pipe).__name__, "variant": ["public", "heldout"][variant], "seed": seed,
        "aliases": aliases, "inputs": inputs, "constant_overrides": b.overrides, "notes": b.notes, "denoisers": list(b.denoisers), "scalars": cap.info,
        "classes": {c: type(m).__name__ for c, m in cap.components.items()}, "params": params,
        "stages": {k: {"shape": list(v.shape), "dtype": str(v.dtype).replace("torch.", "")} for k, v in sorted(cap.t.items())},
        "fp32_vs_fp64_max_abs": floor,
        "bytes": {"weights": wsize, "model_other": tsize, "golden": (d / "golden.safetensors").stat().st_size},
        "versions": {"torch": torch.__version__, "diffusers": diffusers.__version__, "transformers": transformers.__version__, "tokenizers": tokenizers.__version__},
    }
    dump(d / "case.json", info)
    # Not written down: two recordings of a case are the same files.
    return info | {"seconds": {"build+save": t1 - t0, "load": t2 - t1, "run": t3 - t2}}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", type=Path, default=Path("golden_out"))
    ap.add_argument("--cases", default="")
    ap.add_argument("--variant", choices=["public", "heldout"], default="public")
    ap.add_argument("--seed", type=int, default=0)
    ap.add_argument("--fp64", action="store_true", help="also run in fp64 and record the fp32 noise floor")
    ap.add_argument("--audit", action="store_true", help="report parameters that do not influence the goldens (dead weights) and stage statistics")
    ap.add_argument("--list", action="store_true")
    ap.add_argument("--trace", action="store_true")
    a = ap.parse_args()
    if a.list:
        for n, (_, fam) in CASES.items():
            print(f"{n:24s} {fam}")
        return 0
    names = [n for n in a.cases.split(",") if n] or [*CASES, "schedulers", "schedulers_more"]
    a.out.mkdir(parents=True, exist_ok=True)
    bad = 0
    print(f"{'case':24s} {'load':>5s} {'run':>6s} {'weights':>9s} {'other':>8s} {'golden':>9s}  noise floor")
    for n in names:
        try:
            if n in ("schedulers", "schedulers_more"):
                k, size = run_schedulers(a.out, int(a.variant == "heldout"), a.seed, n)
                print(f"{n:24s} {k} scheduler configurations, golden {size} bytes", flush=True)
                continue
            i = run_case(n, a.out, int(a.variant == "heldout"), a.seed, a.fp64, a.audit)
            s, by = i["seconds"], i["bytes"]
            print(f"{n:24s} {s['load']:5.1f} {s['run']:6.1f} {by['weights']:9d} {by['model_other']:8d} {by['golden']:9d}  {i['fp32_vs_fp64_max_abs']}", flush=True)
        except Exception as e:  # noqa: BLE001
            bad += 1
            print(f"{n:24s} FAILED {type(e).__name__}: {str(e)[:300]}", flush=True)
            if a.trace:
                import traceback; traceback.print_exc()
    shutil.rmtree(a.out / "_tok", ignore_errors=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
