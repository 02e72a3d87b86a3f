#!/usr/bin/env python3
"""Records what the reference library makes of the built-in vocabulary of T5.

    python record_t5.py ../../crates/kinora-diffusion/src/text/t5_spiece.model.gz \\
        ../../crates/kinora-diffusion/tests/fixtures/text/t5_ids.json
"""
import gzip
import json
import sys
import tempfile
from pathlib import Path

from record_text import PROMPTS
from transformers import T5Tokenizer

# Sentences whose ids stand in the reference library's own documentation and tests.
DOCUMENTED = {
    "translate English to German: That is good.": [13959, 1566, 12, 2968, 10, 466, 19, 207, 5, 1],
    "Hello, my dog is cute": [8774, 6, 82, 1782, 19, 5295, 1],
    "The <extra_id_0> walks in <extra_id_1> park": [37, 32099, 10681, 16, 32098, 2447, 1],
}
MORE = [
    "A photo of a cat",
    "Ein Mädchen läuft über die Straße, später als 18 Uhr.",
    "Un chat près de la fenêtre d’été; l'œuvre à côté",
    "Măgarul și învățătoarea din București",
    "Ωmega ﬃ ㎏ ½ ™ № ⅷ ｶﾀｶﾅ",
]


def main(vocabulary, target):
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "spiece.model").write_bytes(gzip.decompress(vocabulary.read_bytes()))
        tokenizer = T5Tokenizer.from_pretrained(folder)
    for text, ids in DOCUMENTED.items():
        assert tokenizer(text).input_ids == ids, text
    prompts = PROMPTS + list(DOCUMENTED) + MORE
    ids = [tokenizer(text, max_length=512, truncation=True).input_ids for text in prompts]
    target.write_text(json.dumps({"prompts": prompts, "ids": ids}, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
