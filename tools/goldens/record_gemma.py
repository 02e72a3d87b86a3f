#!/usr/bin/env python3
"""Trains a small tokenizer of Gemma's kind and records what the reference library makes of it, for the
tokenizers that text encoder files carry inside.

    python record_gemma.py ../../crates/kinora-diffusion/tests/fixtures/text
"""
import io
import json
import sys
import tempfile
from pathlib import Path

import sentencepiece
from record_text import PROMPTS
from transformers import GemmaTokenizer
from transformers.convert_slow_tokenizer import SentencePieceExtractor

WORDS = "a painting of a squirrel eating a burger, the old house by the sea at night with a red car "


def train():
    """Marks, bytes and rules as in Gemma's own model; words that are never cut."""
    model = io.BytesIO()
    sentences = [WORDS * 3] + [p[:2000] for p in PROMPTS if p.strip()]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences * 5),
        model_writer=model,
        model_type="bpe",
        vocab_size=700,
        pad_id=0, eos_id=1, bos_id=2, unk_id=3,
        pad_piece="<pad>", eos_piece="<eos>", bos_piece="<bos>", unk_piece="<unk>",
        control_symbols=["<start_of_turn>", "<end_of_turn>"],
        user_defined_symbols=["\n", "\n\n", "<b>", "</b>"],
        byte_fallback=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        allow_whitespace_only_pieces=True,
        split_digits=True,
        character_coverage=0.99,
        hard_vocab_limit=False,
    )
    return model.getvalue()


def main(target):
    model = train()
    (target / "gemma_spiece.model").write_bytes(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.model"
        path.write_bytes(model)
        extractor = SentencePieceExtractor(str(path))
        parts = extractor.extract(GemmaTokenizer.model)
        proto = extractor.proto
    tokenizer = GemmaTokenizer(vocab=parts["vocab"], merges=parts["merges"])
    whole = [p.piece for p in proto.pieces if p.type == 4]
    marks = [p.piece for p in proto.pieces if p.type == 3 and p.piece not in tokenizer.all_special_tokens]
    from tokenizers import AddedToken

    tokenizer.add_tokens([AddedToken(w, normalized=False, special=False) for w in whole])
    tokenizer.add_tokens([AddedToken(w, normalized=False, special=True) for w in marks], special_tokens=True)
    prompts = PROMPTS + ["line one\n\nline <b>two</b>\nthree", "a<start_of_turn>b", "x\ty"]
    bos = parts["vocab"]["<bos>"]
    ids = [tokenizer(p, add_special_tokens=False).input_ids for p in prompts]
    judge = sentencepiece.SentencePieceProcessor(model_proto=model)
    same = sum(judge.encode(p) == i for p, i in zip(prompts, ids))
    print(f"{same} of {len(prompts)} as SentencePiece itself; {len(proto.pieces)} pieces, {len(model)} bytes")
    for p, i in zip(prompts, ids):
        if judge.encode(p) != i:
            print(repr(p[:70]))
    ids = [[bos] + i for i in ids]
    (target / "gemma_ids.json").write_text(json.dumps({"prompts": prompts, "ids": ids}, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
