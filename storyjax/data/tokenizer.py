"""Text to numbers, in CLIP's format: byte-level BPE on lower-cased words, `<|startoftext|> ... <|endoftext|>`.

A tokenizer is a folder (`vocab.json`, `merges.txt`, `tokenizer_config.json`) that `transformers.CLIPTokenizer` reads; a
released checkpoint's folder works the same. `train_tokenizer` makes one for a small world, where every frequent word is
one token, so that a sentence takes few of them; bytes stay in the vocabulary, so that any text can still be written.
"""

import json
import os
import shutil
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from storyjax.errors import StoryjaxError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import CLIPTokenizer

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"


class TokensCutWarning(UserWarning):
    """A sentence has more tokens than the model reads; the end of it was cut off."""


class WordsSplitWarning(UserWarning):
    """The vocabulary is too small for every frequent word to be one token."""


def train_tokenizer(
    sentences: Iterable[str],
    folder: str | Path,
    vocab_size: int,
    max_length: int,
    min_count: int = 2,
) -> "CLIPTokenizer":
    """Learn a CLIP-format tokenizer from `sentences`, write it to `folder` (which must not exist) and load it.

    Every word seen at least `min_count` times becomes one token as far as `vocab_size` allows (a warning names words
    that do not fit). Ids are in CLIP's order: 256 bytes, the same 256 ending a word, merges by rank, `<|startoftext|>`,
    `<|endoftext|>` (also the padding). `vocab_size` is an upper bound: `len(tokenizer)` may be smaller. `max_length` (L,
    start and end included) is written as `model_max_length`. The same sentences give the same files.
    """
    folder, symbols = Path(folder), _byte_symbols()
    fixed = len(symbols) + 2
    if folder.exists():
        raise StoryjaxError(f"tokenizer folder '{folder}' exists; remove it or choose another")
    if vocab_size < fixed:
        raise StoryjaxError(f"expected vocab_size of at least {fixed} (bytes and two special tokens), got {vocab_size}")
    _check_length(max_length)
    backend = _clip_backend({BOS: 0, EOS: 1}, [])
    counts = _word_counts(backend, sentences)
    if not counts:
        raise StoryjaxError("no words to learn a tokenizer from; expected sentences with text")
    vocab = {symbol: i for i, symbol in enumerate(symbols)}
    merges: list[tuple[str, str]] = []
    for left, right in _learn_merges(counts, vocab_size, min_count):
        if left + right not in vocab and len(vocab) + 2 >= vocab_size:
            break
        vocab.setdefault(left + right, len(vocab))
        merges.append((left, right))
    vocab |= {BOS: len(vocab), EOS: len(vocab) + 1}
    _warn_split_words(backend, counts, vocab, min_count)
    _write_folder(folder, vocab, merges, max_length)
    return load_tokenizer(folder)


def load_tokenizer(folder: str | Path) -> "CLIPTokenizer":
    """The tokenizer of a folder in CLIP's layout. Errors: no such folder, missing files."""
    folder = Path(folder)
    missing = [name for name in ("vocab.json", "merges.txt") if not (folder / name).is_file()]
    if missing and not (folder / "tokenizer.json").is_file():
        raise StoryjaxError(
            f"no tokenizer in '{folder}': {' and '.join(missing)} missing; expected a CLIP tokenizer folder"
        )
    return _clip_class().from_pretrained(str(folder), local_files_only=True)


def tokenize(
    tokenizer: "CLIPTokenizer", sentences: Sequence[str], max_length: int | None = None, vocab_size: int | None = None
) -> np.ndarray:
    """Token ids of N sentences, (N, L) int32: start, words, end, padding up to L = `max_length`.

    A sentence of more than L-2 tokens keeps the first L-2; a `TokensCutWarning` gives the exact text that was lost.
    `max_length` defaults to the tokenizer's `model_max_length`. `vocab_size`: how many tokens the text encoder knows; one beyond is
    an error (a look-up past the table's end would give NaN without a word).
    """
    length = tokenizer.model_max_length if max_length is None else max_length
    _check_length(length)
    wrong = next((sentence for sentence in sentences if not isinstance(sentence, str)), None)
    if wrong is not None:
        raise StoryjaxError(f"expected sentences as text, got {wrong!r}")
    unique = list(dict.fromkeys(sentences))
    if not unique:
        return np.zeros((0, length), np.int32)
    ids = dict(zip(unique, tokenizer(unique, truncation=False, padding=False, verbose=False)["input_ids"]))
    cut = [sentence for sentence in unique if len(ids[sentence]) > length]
    if cut:
        _warn_cut(tokenizer, cut, length)
    out = np.full((len(sentences), length), tokenizer.pad_token_id, np.int32)
    for row, sentence in zip(out, sentences):
        tokens = ids[sentence]
        row[: min(len(tokens), length)] = tokens if len(tokens) <= length else [*tokens[: length - 1], tokens[-1]]
    if vocab_size is not None and out.max() >= vocab_size:
        raise StoryjaxError(
            f"the tokenizer gives token {out.max()}, the text encoder knows {vocab_size}; they do not fit"
        )
    return out


def _warn_cut(tokenizer: "CLIPTokenizer", sentences: list[str], length: int, most: int = 10) -> None:
    """One warning with the exact lost text of the first `most` sentences."""
    lines = []
    for sentence in sentences[:most]:
        encoded = tokenizer(sentence, return_offsets_mapping=True, truncation=False, verbose=False)
        start = encoded["offset_mapping"][length - 1][0]
        lines.append(f"{sentence[start:]!r} of {sentence!r} ({len(encoded['input_ids'])} tokens)")
    more = f"; and of {len(sentences) - most} more sentences" if len(sentences) > most else ""
    plural = "sentence is" if len(sentences) == 1 else "sentences are"
    warnings.warn(
        f"{len(sentences)} {plural} over the limit of {length} tokens, cut off: {'; '.join(lines)}{more}; use fewer words",
        TokensCutWarning,
        stacklevel=3,
    )


def _clip_class() -> "type[CLIPTokenizer]":
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # it would advise the user to install PyTorch
    from transformers import CLIPTokenizer

    return CLIPTokenizer


def _check_length(length: int) -> None:
    if not 3 <= length <= 100_000:  # transformers gives 1e30 where the folder does not say
        raise StoryjaxError(
            f"expected max_length of at least 3 tokens (start, one word, end), got {length}; pass max_length="
        )


def _byte_symbols() -> list[str]:
    """What every text can be written in, in CLIP's order: 256 characters that stand for bytes (id 0 is '!'), then the
    same 256 as the end of a word."""
    from tokenizers.pre_tokenizers import ByteLevel

    alphabet = sorted(ByteLevel.alphabet())
    return alphabet + [byte + WORD_END for byte in alphabet]


def _clip_backend(vocab: dict[str, int], merges: list[tuple[str, str]]) -> "Tokenizer":
    """The `tokenizers` object behind CLIPTokenizer: the very same normaliser and word splitter that will read the folder."""
    return _clip_class()(vocab=vocab, merges=merges).backend_tokenizer  # type: ignore[arg-type]


def _word_counts(backend: "Tokenizer", sentences: Iterable[str]) -> Counter:
    """How often each word (as byte characters, after normalising) is seen."""
    counts: Counter = Counter()
    for sentence, times in Counter(sentences).items():
        for word, _ in backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(sentence)):
            counts[word] += times
    return counts


def _learn_merges(counts: Counter, vocab_size: int, min_count: int) -> list[tuple[str, str]]:
    """Byte-pair merges in rank order: the commonest neighbouring pair, again and again, until none is seen `min_count` times."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    learner = Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # words come split and byte-mapped: no white space inside
    # All symbols are named beforehand, in order: equally common pairs are ranked by the symbols' ids, which the trainer
    # would otherwise give out in the random order of a hash table.
    symbols = _byte_symbols()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_count,
        show_progress=False,
        special_tokens=symbols,
        end_of_word_suffix=WORD_END,
    )
    learner.train_from_iterator((" ".join([word] * times) for word, times in sorted(counts.items())), trainer)
    return [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]


def _warn_split_words(backend: "Tokenizer", counts: Counter, vocab: dict[str, int], min_count: int) -> None:
    split = sorted(
        (word for word, n in counts.items() if n >= min_count and word + WORD_END not in vocab),
        key=lambda w: -counts[w],
    )
    if split:
        shown = ", ".join(repr(backend.decoder.decode([word])) for word in split[:5])
        warnings.warn(
            f"{len(split)} of {len(counts)} words seen at least {min_count} times take several tokens (such as {shown}); "
            f"a larger vocab_size than {len(vocab)} makes each of them one",
            WordsSplitWarning,
            stacklevel=3,
        )


def _write_folder(folder: Path, vocab: dict[str, int], merges: list[tuple[str, str]], max_length: int) -> None:
    """Write beside, then rename: a folder that exists is complete."""
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": max_length,
        "bos_token": BOS,
        "eos_token": EOS,
        "unk_token": EOS,
        "pad_token": EOS,
    }
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    (partial / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (partial / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (partial / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, folder)
