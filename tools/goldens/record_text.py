#!/usr/bin/env python3
"""Records token ids of unpleasant prompts, for the tests of text/.

    python record_text.py cases/flux_dev ../../crates/kinora-diffusion/tests/fixtures/text

Writes what the reference library's tokenizers make of the prompts (ids.json), each tokenizer from
each kind of file that it is published as. CLIP's case has no tokenizer.json, so one is saved too.
"""
import json
import shutil
import sys
import tempfile
from pathlib import Path

from transformers import CLIPTokenizer, T5Tokenizer

PROMPTS = [
    "",
    " ",
    "a cat",
    "A painting of a squirrel eating a burger",
    "  two  spaces   and\ttabs\nand\r\nlines  ",
    "it's I'VE don't we'LL 'tis rock'n'roll don\u2019t",
    "UPPER lower MiXeD \u0130stanbul I\u0307 stra\u00dfe STRASSE \u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2 \u03a3\u0399\u03a3\u03a5\u03a6\u039f\u03a3",
    "caf\u00e9 cafe\u0301 na\u00efve nai\u0308ve \u00c5ngstr\u00f6m A\u030angstro\u0308m",
    "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f3f3\ufe0f\u200d\U0001f308 \U0001f1e9\U0001f1ea \U0001f44d\U0001f3fd \u2764\ufe0f",
    "\u732b\u304c\u5ea7\u3063\u3066\u3044\u308b \uace0\uc591\uc774 \u0e41\u0e21\u0e27 \u0642\u0637\u0629 \u05d7\u05ea\u05d5\u05dc \u092c\u093f\u0932\u094d\u0932\u0940",
    "\uff26\uff55\uff4c\uff4c \uff57\uff49\uff44\uff54\uff48 \ufb01ne \ufb02ow \u2460 \u00bd x\u00b2 \u2122 \u2026 \U0001d407\U0001d41e\U0001d425\U0001d425\U0001d428",
    "non\u00a0breaking\u3000wide\u2003em\u200bzero\u00adsoft\ufeffbom\u200e\u200fmarks",
    "1234567890 3.14159 1,000,000 16:9 4k 8K f/1.8 50mm",
    "!!! ... ???!? --- *** (((nested))) [brackets] {braces} <tag> a/b\\c #hash @at $5 50% & ^ ~ `tick` |pipe|",
    "snake_case kebab-case camelCase https://example.org/a?b=c&d=e#f mail@example.org",
    "before <|endoftext|> after <|startoftext|> end",
    "before </s> after <pad> and <unk> and <extra_id_0> end<extra_id_3>",
    "\u2581 underline \u2581piece \u2581\u2581",
    "\u0000nul \u0001one \u007fdel \u0085nel",
    "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334\u0319\u0324\u031e\u0349\u035aa\u0320\u034e\u0326l\u034dg\u0321o",
    "a",
    "\u0301",
    "word " * 90,
    "supercalifragilisticexpialidocious" * 12,
    "\U0001f600" * 100,
    "a photo of a large (red:1.2) house, ((masterpiece)), <lora:x:0.8>, by artist; 35mm -- sharp: yes!" * 20,
]


def encode(tokenizer, length):
    return [
        tokenizer(p, padding="max_length", max_length=length, truncation=True).input_ids
        for p in PROMPTS
    ]


def without(folder, names, load):
    """A tokenizer from a copy of its folder without some files."""
    with tempfile.TemporaryDirectory() as copy:
        copy = Path(copy) / "tokenizer"
        shutil.copytree(folder, copy)
        for name in names:
            (copy / name).unlink()
        return load(copy)


def main(case, target):
    model = case / "model"
    clip = CLIPTokenizer.from_pretrained(model / "tokenizer")
    json_folder = target / "tokenizer_json"
    json_folder.mkdir(parents=True, exist_ok=True)
    clip.backend_tokenizer.save(str(json_folder / "tokenizer.json"))
    shutil.copy(model / "tokenizer" / "tokenizer_config.json", json_folder)
    t5 = T5Tokenizer.from_pretrained
    ids = {
        "prompts": PROMPTS,
        "clip": encode(clip, 77),
        "t5": encode(t5(model / "tokenizer_2"), 512),
        "t5_from_spiece": encode(without(model / "tokenizer_2", ["tokenizer.json"], t5), 512),
    }
    if ids["t5"] == ids["t5_from_spiece"]:
        del ids["t5_from_spiece"]
    # Padding is left out: the test adds it.
    for name, pad in (("clip", clip.pad_token_id), ("t5", 0), ("t5_from_spiece", 0)):
        for row in ids.get(name, []):
            while len(row) > 2 and row[-1] == pad and row[-2] == pad:
                row.pop()
    (target / "ids.json").write_text(json.dumps(ids) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
