"""The two tokenizers and the two text encoders, trained alone on captions before any picture is seen.

The CLIP encoder's pooled vector is pulled towards a fixed code of the factors that a caption mentions, so that the transformer
finds them linearly in its modulation from the first step on. The T5 encoder's mean state has to tell the same factors.
"""

import collections
import json
import math
import os
import re
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from captions import FOREIGN, IDLE, STYLES, caption, caption_and_factors
from scenes import FACTORS, sample_scene

CLIP_LENGTH = 77
T5_LENGTH = 28
WIDTH = 128


# ------------------------------------------------------------------- tokenizers


def train_tokenizers(folder):
    """Train a CLIP byte-pair tokenizer and a T5 sentencepiece tokenizer on the captions' words; write both below `folder`."""
    rng = np.random.default_rng(7)
    captions = [caption(sample_scene(rng), rng) for _ in range(30000)]
    extra = sorted(set(FOREIGN) | set(IDLE) | set(" ".join(STYLES).replace(",", " ").split()))
    text = os.path.join(folder, "captions.txt")
    with open(text, "w", encoding="utf-8") as file:
        file.write("\n".join(captions + [word for word in extra for _ in range(12)]))
    _train_clip_tokenizer(text, os.path.join(folder, "tokenizer"))
    train_t5_tokenizer(text, captions, extra, os.path.join(folder, "tokenizer_2"))
    os.remove(text)


def _train_clip_tokenizer(text, folder):
    """Byte-level BPE with CLIP's normalization; the vocabulary in CLIP's own order, so that the end token has the highest id."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix="", fuse_unk=False))
    bpe.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, behavior="removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.train(
        [text],
        trainers.BpeTrainer(vocab_size=1100, end_of_word_suffix="</w>", initial_alphabet=alphabet, show_progress=False),
    )
    merges = [
        tuple(m) if not isinstance(m, str) else tuple(m.split(" ")) for m in json.loads(bpe.to_str())["model"]["merges"]
    ]
    pieces = alphabet + [c + "</w>" for c in alphabet] + ["".join(m) for m in merges]
    pieces = list(dict.fromkeys(pieces)) + ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    os.makedirs(folder, exist_ok=True)
    CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CLIP_LENGTH).save_pretrained(folder)
    with open(os.path.join(folder, "vocab.json"), "w", encoding="utf-8") as file:
        json.dump(vocabulary, file, ensure_ascii=False)
    with open(os.path.join(folder, "merges.txt"), "w", encoding="utf-8") as file:
        file.write("#version: 0.2\n" + "\n".join(" ".join(m) for m in merges) + "\n")


def train_t5_tokenizer(text, captions, extra, folder, length=T5_LENGTH):
    """Sentencepiece unigram with case folding; every word of the captions becomes one piece, other words fall into letters."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2
    from transformers import T5TokenizerFast

    os.makedirs(folder, exist_ok=True)
    prefix = os.path.join(folder, "spiece")
    sentencepiece.SentencePieceTrainer.train(
        input=text, model_prefix=prefix, vocab_size=640, model_type="unigram", normalization_rule_name="nmt_nfkc_cf",
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, hard_vocab_limit=False, character_coverage=1.0,
        required_chars="abcdefghijklmnopqrstuvwxyz0123456789,.-'!?", minloglevel=2,
    )  # fmt: skip
    os.remove(prefix + ".vocab")
    model = sentencepiece_model_pb2.ModelProto()
    with open(prefix + ".model", "rb") as file:
        model.ParseFromString(file.read())
    counts = collections.Counter(w for c in captions for w in re.findall(r"[a-z\-]+|[^a-z\s]", c.lower()))
    total, known = sum(counts.values()), {piece.piece: piece for piece in model.pieces}
    for word in list(counts) + extra:
        name = "\u2581" + word if word[0].isalpha() else word
        score = math.log(max(counts.get(word, 0), 6) / total)
        if name in known:
            known[name].score = max(known[name].score, score)
        else:
            piece = model.pieces.add()
            piece.piece, piece.score = name, score
            known[name] = piece
    with open(prefix + ".model", "wb") as file:
        file.write(model.SerializeToString())
    T5TokenizerFast(
        vocab=[(p.piece, p.score) for p in model.pieces], _spm_precompiled_charsmap=model.normalizer_spec.precompiled_charsmap,
        extra_ids=0, model_max_length=length,
    ).save_pretrained(folder)  # fmt: skip


def load_tokenizers(folder):
    """The CLIP and the T5 tokenizer below `folder`."""
    from transformers import CLIPTokenizer, T5TokenizerFast

    return CLIPTokenizer.from_pretrained(os.path.join(folder, "tokenizer")), T5TokenizerFast.from_pretrained(
        os.path.join(folder, "tokenizer_2")
    )


def tokenize(tokenizers, captions):
    """Token ids as the pipeline makes them: CLIP [n, 77], T5 [n, 28], padded and cut."""
    clip = tokenizers[0](
        captions, padding="max_length", max_length=CLIP_LENGTH, truncation=True, return_tensors="pt"
    ).input_ids
    t5 = tokenizers[1](
        captions, padding="max_length", max_length=T5_LENGTH, truncation=True, return_tensors="pt"
    ).input_ids
    return clip, t5


# --------------------------------------------------------------------- encoders


def make_encoders(tokenizers):
    """A two-layer CLIP text model and a two-layer T5 encoder of width 128, freshly initialised."""
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    torch.manual_seed(3)
    clip_tokenizer, t5_tokenizer = tokenizers
    clip = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(clip_tokenizer), hidden_size=WIDTH, intermediate_size=2 * WIDTH, projection_dim=WIDTH, num_hidden_layers=2,
            num_attention_heads=4, max_position_embeddings=CLIP_LENGTH, hidden_act="quick_gelu", attention_dropout=0.0,
            bos_token_id=clip_tokenizer.bos_token_id, eos_token_id=clip_tokenizer.eos_token_id, pad_token_id=clip_tokenizer.pad_token_id,
        )
    )  # fmt: skip
    t5 = T5EncoderModel(
        T5Config(
            vocab_size=(len(t5_tokenizer) + 7) // 8 * 8, d_model=WIDTH, d_kv=32, d_ff=2 * WIDTH, num_layers=2, num_heads=4,
            feed_forward_proj="gated-gelu", dropout_rate=0.0, relative_attention_num_buckets=32, pad_token_id=0, eos_token_id=1,
            tie_word_embeddings=False, is_encoder_decoder=False, use_cache=False,
        )
    )  # fmt: skip
    with torch.no_grad():
        for name, p in clip.named_parameters():
            if "embedding" in name:
                p.normal_(0, 0.3 if "token" in name else 0.05)
        for name, p in t5.named_parameters():
            if "shared" in name or "embed_tokens" in name:
                p.normal_(0, 1.0)
            elif p.ndim == 2 and "relative" not in name:
                p.normal_(0, p.shape[1] ** -0.5)
    return clip, t5


class FactorCode:
    """A fixed code for what a caption says: one near-orthogonal zero-mean direction for each factor value and for 'unsaid'."""

    def __init__(self):
        sizes = [len(values) + 1 for values in FACTORS.values()]
        basis = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(0)))[0][
            :, : sum(sizes)
        ].T
        basis = basis - basis.mean(1, keepdim=True)
        self.offsets = np.cumsum([0] + sizes[:-1])
        self.sizes = sizes
        self.vectors = F.normalize(basis, dim=1) * (WIDTH / len(sizes)) ** 0.5

    @staticmethod
    def labels(scene, said):
        """Index of the value of each factor; the last index means that the caption leaves it open."""
        return [values.index(getattr(scene, name)) if name in said else len(values) for name, values in FACTORS.items()]

    def encode(self, labels):
        """The sum of the directions: [n, factors] to [n, WIDTH], about unit variance per dimension."""
        return sum(self.vectors.to(labels.device)[labels[:, i] + int(o)] for i, o in enumerate(self.offsets))


def train_encoders(folder, minutes, device="cpu", rate=2e-3, batch=192):
    """Train both encoders on fresh captions for some minutes and write `text.pt`; prints how often factors are told right."""
    tokenizers = load_tokenizers(folder)
    clip, t5 = (m.to(device) for m in make_encoders(tokenizers))
    code = FactorCode()
    heads = nn.ModuleList(nn.Linear(WIDTH, size) for size in code.sizes).to(device)
    parameters = [*clip.parameters(), *t5.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, rate, betas=(0.9, 0.98), weight_decay=0.01)
    rng = np.random.default_rng(11)

    def draw(count, is_full=False, held_out=False):
        texts, labels = [], []
        for _ in range(count):
            scene = sample_scene(rng, held_out)
            line, said = caption_and_factors(scene, rng, is_full)
            texts.append(line)
            labels.append(code.labels(scene, said))
        ids = tokenizers[0](texts, padding=True, max_length=CLIP_LENGTH, truncation=True, return_tensors="pt").input_ids
        ids2 = tokenizers[1](
            texts, padding="max_length", max_length=T5_LENGTH, truncation=True, return_tensors="pt"
        ).input_ids
        return ids.to(device), ids2.to(device), torch.tensor(labels, device=device)

    @torch.no_grad()
    def measure():
        """Share of factors told right from each encoder, on captions of held-out scenes."""
        ids, ids2, labels = draw(500, held_out=True)
        pooled, state = clip(ids).pooler_output, t5(ids2)[0].mean(1)
        vectors = code.vectors.to(device)
        guesses = [(pooled @ vectors[o : o + s].T).argmax(1) for o, s in zip(code.offsets, code.sizes)]
        right = [g.eq(labels[:, i]).float().mean().item() for i, g in enumerate(guesses)]
        right2 = [h(state).argmax(1).eq(labels[:, i]).float().mean().item() for i, h in enumerate(heads)]
        return f"held-out: clip {np.mean(right):.4f} (worst {min(right):.3f}), t5 {np.mean(right2):.4f} (worst {min(right2):.3f})"

    start, step, done = time.time(), 0, 0.0
    while done < 1:
        done = min(1.0, (time.time() - start) / (60 * minutes))
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 50) * (0.02 + 0.98 * min(1, 2 * (1 - done)))
        ids, ids2, labels = draw(batch)
        state = t5(ids2)[0].mean(1)
        told = sum(F.cross_entropy(h(state), labels[:, i]) for i, h in enumerate(heads))
        loss = F.mse_loss(clip(ids).pooler_output, code.encode(labels)) + 0.2 * told
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        if step % 100 == 0 or done >= 1:
            print(f"text {step} {done:.2f} loss {loss.item():.4f} {measure()}", flush=True)
    torch.save({"clip": clip.state_dict(), "t5": t5.state_dict()}, os.path.join(folder, "text.pt"))


def load_encoders(folder, device="cpu"):
    """Tokenizers and the trained encoders, frozen."""
    tokenizers = load_tokenizers(folder)
    clip, t5 = make_encoders(tokenizers)
    state = torch.load(os.path.join(folder, "text.pt"), map_location="cpu")
    clip.load_state_dict(state["clip"])
    t5.load_state_dict(state["t5"])
    return tokenizers, clip.to(device).eval().requires_grad_(False), t5.to(device).eval().requires_grad_(False)


@torch.no_grad()
def encode(tokenizers, clip, t5, captions, device="cpu", batch=256):
    """Pooled vectors [n, WIDTH] and token states [n, T5_LENGTH, WIDTH] of captions, as the pipeline computes them."""
    pooled, states = [], []
    for i in range(0, len(captions), batch):
        ids, ids2 = tokenize(tokenizers, captions[i : i + batch])
        pooled.append(clip(ids[:, : int((ids == ids[0, -1]).long().argmax(1).max()) + 1].to(device)).pooler_output)
        states.append(t5(ids2.to(device))[0])
    return torch.cat(pooled), torch.cat(states)
