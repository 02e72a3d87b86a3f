#!/usr/bin/env python3
"""Writes vocabularies into GGUF headers as llama.cpp's converter does (convert_hf_to_gguf.py: T5 and Gemma), and records
what the reference library makes of the same pieces.

    python record_gguf_tokenizer.py ../../crates/kinora-diffusion/tests/fixtures/text
"""
import io
import json
import sys
import tempfile
from pathlib import Path

import gguf
import numpy
import sentencepiece
from record_t5 import MORE
from record_text import PROMPTS
from sentencepiece import sentencepiece_model_pb2 as pb
from transformers import T5Tokenizer

CHINESE = [
    "一只红色的小猫坐在窗边，看着雨。",
    "电影感镜头，夜晚的城市街道，霓虹灯倒映在水面上",
    "  空格　全角空格\t制表符\n\n换行  ",
    "ＡＢＣ１２３ ﬁn ① 😀👩‍🚀🏳️‍🌈 naïve café",
    "日本の古い家と桜、한국의 바다, Привет мир",
]


def train():
    """Unigrams with marks as in umt5-xxl's model, and a normaliser of a few rules instead of all of NFKC."""
    rules = {"ﬁ": "fi", "①": "1", "　": " ", "\t": " ", "\n": " ", "\u00a0": " "}
    rules |= {chr(0xFF01 + i): chr(0x21 + i) for i in range(94)}
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as table:
        for source, target in rules.items():
            codes = lambda text: " ".join(f"{ord(c):X}" for c in text)  # noqa: E731
            table.write(f"{codes(source)}\t{codes(target)}\n")
        table.flush()
        model = io.BytesIO()
        sentences = [p[:2000] for p in PROMPTS + MORE + CHINESE if p.strip()]
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences * 5),
            model_writer=model,
            model_type="unigram",
            vocab_size=500,
            pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
            pad_piece="<pad>", eos_piece="</s>", unk_piece="<unk>",
            normalization_rule_tsv=table.name,
            character_coverage=0.98,
            hard_vocab_limit=False,
        )
    return model.getvalue()


def write(path, model, kind, fill):
    proto = pb.ModelProto()
    proto.ParseFromString(model)
    pieces = [(p.piece.encode(), p.score, p.type) for p in proto.pieces]
    pieces += fill(len(pieces))
    writer = gguf.GGUFWriter(path, "t5" if kind == "t5" else "gemma3")
    writer.add_tokenizer_model(kind)
    writer.add_tokenizer_pre("default")
    writer.add_token_list([p[0] for p in pieces])
    writer.add_token_scores([p[1] for p in pieces])
    writer.add_token_types([p[2] for p in pieces])
    writer.add_add_space_prefix(proto.normalizer_spec.add_dummy_prefix)
    writer.add_remove_extra_whitespaces(proto.normalizer_spec.remove_extra_whitespaces)
    if proto.normalizer_spec.precompiled_charsmap:
        writer.add_precompiled_charsmap(proto.normalizer_spec.precompiled_charsmap)
    writer.add_tensor("token_embd.weight", numpy.zeros((4, 32), dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main(target):
    model = train()
    # Marks are user-defined tokens with a score of -1000, the rest of the embeddings' table is unused.
    marks = [(f"<extra_id_{i}>".encode(), -1000.0, 4) for i in reversed(range(100))]
    unused = lambda start: [(f"[PAD{start + i}]".encode(), -10000.0, 5) for i in range(28)]  # noqa: E731
    write(target / "umt5_vocabulary.gguf", model, "t5", lambda n: marks + unused(n + 100))
    write(target / "gemma_vocabulary.gguf", (target / "gemma_spiece.model").read_bytes(), "llama", unused)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "spiece.model").write_bytes(model)
        tokenizer = T5Tokenizer.from_pretrained(folder)
    prompts = PROMPTS + MORE + CHINESE
    ids = [tokenizer(text, max_length=512, truncation=True).input_ids for text in prompts]
    (target / "umt5_gguf_ids.json").write_text(json.dumps({"prompts": prompts, "ids": ids}, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
