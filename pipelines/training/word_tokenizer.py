"""Make a CLIP tokenizer (vocab.json, merges.txt) whose every known word is one token.

Byte-pair merges build each word letter by letter, so the files are an ordinary CLIP tokenizer;
a word outside the vocabulary falls into pieces, and `LatentDiffusion.unknown_words` names it.
"""

from __future__ import annotations

import json
import string
from collections.abc import Iterable
from pathlib import Path

from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"


Merge = tuple[str, str]


def pieces_of(word: str, merges: list[Merge]) -> list[str]:
    """Return the byte-pair pieces of `word`: the earliest applicable merge first."""
    pieces = [*word[:-1], word[-1] + "</w>"]
    while True:
        pairs = list(zip(pieces, pieces[1:], strict=False))
        known = [merges.index(pair) for pair in pairs if pair in merges]
        if not known:
            return pieces
        at = pairs.index(merges[min(known)])
        pieces[at : at + 2] = ["".join(pieces[at : at + 2])]


def merges_for(words: Iterable[str]) -> list[Merge]:
    """Return merges that make one token of every word.

    A word's merges come after those of the words before it, so they cannot disturb them.
    """
    merges: list[Merge] = []
    for word in words:
        built, *rest = pieces_of(word, merges)
        for piece in rest:
            merges.append((built, piece))
            built += piece
    return merges


def build(words: Iterable[str], folder: Path, *, max_length: int) -> CLIPTokenizer:
    """Write and return a tokenizer of `words` (lower-case letters, or one punctuation mark).

    Token ids: the words first, in order, then start and end of text (the highest id, as
    CLIPTextModel expects of the end token), with pieces of unknown words between.
    """
    words = list(dict.fromkeys(words))
    merges = merges_for(words)
    pieces = [c + end for c in string.ascii_lowercase + string.digits for end in ("", "</w>")]
    pieces += [left + right for left, right in merges]
    whole = [word + "</w>" for word in words]
    tokens = list(dict.fromkeys([*whole, *pieces, START, END]))
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: i for i, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": max_length,
        "bos_token": START,
        "eos_token": END,
        "pad_token": END,
        "unk_token": END,
        "do_lower_case": True,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))
    return CLIPTokenizer.from_pretrained(folder)
