"""CLIP's conventions, one token a frequent word, any text at all, and a warning with the exact text that is cut."""

import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from storyjax.data import TokensCutWarning, load_tokenizer, tokenize, train_tokenizer
from storyjax.data.tokenizer import BOS, EOS, WordsSplitWarning
from storyjax.errors import StoryjaxError

SENTENCES = [
    "Pip the penguin runs through the snowy forest.",
    "She waves at Mara, who's fishing by the lake!",
    "They walk home together; it's raining.",
    "Pip the penguin dances at the beach at night.",
] * 2
LENGTH = 12
FREE_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60).filter(lambda text: "<|" not in text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer"
    train_tokenizer(SENTENCES, path, vocab_size=2000, max_length=LENGTH)
    return path


@pytest.fixture(scope="module")
def tokenizer(folder):
    return load_tokenizer(folder)


def words_of(text, tokenizer):
    """The words of a text as the tokenizer's own normaliser and splitter see them, decoded back."""
    backend = tokenizer.backend_tokenizer
    pieces = backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(text))
    return [backend.model.token_to_id(word + "</w>") for word, _ in pieces]


def test_the_layout_is_clips(folder, tokenizer):
    vocab = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    size = len(vocab)
    assert sorted(vocab.values()) == list(range(size))
    assert (vocab["!"], vocab["!</w>"], vocab[BOS], vocab[EOS]) == (0, 256, size - 2, size - 1)
    assert (folder / "merges.txt").read_text().startswith("#version: 0.2\n")
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (size - 2, size - 1, size - 1)
    assert (tokenizer.model_max_length, len(tokenizer)) == (LENGTH, size)


def test_ids_are_start_words_end_and_padding_by_end(tokenizer):
    row = tokenize(tokenizer, ["Pip dances"])[0]
    assert row.dtype == np.int32
    vocab = tokenizer.get_vocab()
    assert row.tolist() == [vocab[BOS], vocab["pip</w>"], vocab["dances</w>"]] + [vocab[EOS]] * (LENGTH - 3)


def test_ids_equal_transformers_own_padding_and_truncation(folder):
    own = CLIPTokenizer.from_pretrained(str(folder))
    texts = [*SENTENCES, "", "Zoë ate 42 pickles — 🥒!"]
    expected = own(texts, padding="max_length", truncation=True, max_length=9)["input_ids"]
    with pytest.warns(TokensCutWarning):
        ours = tokenize(load_tokenizer(folder), texts, 9)
    np.testing.assert_array_equal(ours, expected)


def test_every_frequent_word_is_one_token(tokenizer):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for sentence in SENTENCES:
            assert None not in words_of(sentence, tokenizer)
            ids = tokenizer(sentence)["input_ids"]
            assert ids[1:-1] == words_of(sentence, tokenizer)


def test_upper_case_and_white_space_do_not_matter(tokenizer):
    rows = tokenize(tokenizer, ["Pip the penguin", "  PIP\n the\tPenguin "])
    np.testing.assert_array_equal(rows[0], rows[1])


def test_the_same_sentences_give_the_same_files(folder, tmp_path):
    for attempt in range(12):  # many pairs are equally common here: their order must not be chance
        again = tmp_path / str(attempt)
        train_tokenizer(iter(SENTENCES), again, vocab_size=2000, max_length=LENGTH)
        for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
            assert (again / name).read_bytes() == (folder / name).read_bytes()


@settings(max_examples=300, deadline=None)
@given(FREE_TEXT)
def test_any_text_is_written_and_read_back(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.eos_token_id not in ids[1:-1]  # which is also the unknown token
    pieces = tokenizer.backend_tokenizer.normalizer.normalize_str(text)
    read_back = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert "".join(read_back.split()) == "".join(pieces.split())


@settings(max_examples=100, deadline=None)
@given(st.lists(FREE_TEXT, min_size=1, max_size=4), st.integers(3, 20))
def test_rows_are_whole_or_cut_with_a_warning(tokenizer, texts, length):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rows = tokenize(tokenizer, texts, length)
    whole = [tokenizer(text)["input_ids"] for text in texts]
    assert rows.shape == (len(texts), length)
    assert bool(caught) == any(len(ids) > length for ids in whole)
    for row, ids in zip(rows.tolist(), whole):
        kept = ids if len(ids) <= length else [*ids[: length - 1], tokenizer.eos_token_id]
        assert row == kept + [tokenizer.pad_token_id] * (length - len(kept))


def test_the_warning_gives_the_exact_cut_text(tokenizer):
    with pytest.warns(TokensCutWarning) as caught:
        tokenize(tokenizer, ["Pip dances.", "Pip the penguin  dances at the BEACH at night"], 7)
    assert len(caught) == 1
    message = str(caught[0].message)
    assert "1 sentence is over the limit of 7 tokens" in message
    assert "cut off: 'the BEACH at night' of 'Pip the penguin  dances at the BEACH at night' (11 tokens)" in message
    assert caught[0].filename == __file__


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from(["Pip", "runs", "ZOË", "x" * 9, "42", "🥒", "e\u0301té"]), min_size=4, max_size=9),
    st.sampled_from(" \n\t"),
)
def test_kept_words_and_cut_text_make_the_whole_sentence(tokenizer, words, space):
    text = space.join(words)
    first = len(tokenizer(words[0])["input_ids"]) - 2
    with pytest.warns(TokensCutWarning) as caught:
        row = tokenize(tokenizer, [text], first + 2)[0]  # room for exactly the first word
    cut = text.split(space, 1)[1]
    assert f"cut off: {cut!r} of {text!r}" in str(caught[0].message)
    np.testing.assert_array_equal(row, tokenize(tokenizer, [words[0]], first + 2)[0])


def test_many_cut_sentences_make_one_warning(tokenizer):
    with pytest.warns(TokensCutWarning, match="14 sentences are over the limit.*; and of 4 more sentences") as caught:
        tokenize(tokenizer, [f"the penguin runs {'very ' * n}" for n in range(10, 24)], 6)
    assert len(caught) == 1


def test_a_small_vocabulary_names_the_words_it_splits(tmp_path):
    with pytest.warns(
        WordsSplitWarning, match=r"words seen at least 2 times take several tokens .*larger vocab_size than 530"
    ):
        tokenizer = train_tokenizer(SENTENCES, tmp_path / "small", vocab_size=530, max_length=32)
    assert len(tokenizer) == 530
    assert tokenizer.decode(tokenizer("snowy forest")["input_ids"], skip_special_tokens=True) == "snowy forest"


def test_errors(tmp_path, folder, tokenizer):
    with pytest.raises(StoryjaxError, match=r"vocab_size of at least 514 .*got 100"):
        train_tokenizer(SENTENCES, tmp_path / "t", vocab_size=100, max_length=32)
    with pytest.raises(StoryjaxError, match="exists; remove it or choose another"):
        train_tokenizer(SENTENCES, folder, vocab_size=1000, max_length=32)
    with pytest.raises(StoryjaxError, match="no words to learn"):
        train_tokenizer([" ", ""], tmp_path / "t", vocab_size=1000, max_length=32)
    with pytest.raises(StoryjaxError, match=r"no tokenizer in .*vocab\.json and merges\.txt missing"):
        load_tokenizer(tmp_path)
    with pytest.raises(StoryjaxError, match=r"max_length of at least 3 tokens .*got 2"):
        tokenize(tokenizer, ["x"], 2)
    with pytest.raises(StoryjaxError, match="expected sentences as text, got 5"):
        tokenize(tokenizer, ["x", 5], 8)
    assert not (tmp_path / "t").exists()


def test_a_folder_without_its_length_needs_one(folder, tmp_path):
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    bare = load_tokenizer(tmp_path)
    with pytest.raises(StoryjaxError, match="pass max_length="):
        tokenize(bare, ["Pip"])
    assert tokenize(bare, ["Pip"], 5).shape == (1, 5)


def test_no_sentences_give_no_rows(tokenizer):
    assert tokenize(tokenizer, []).shape == (0, LENGTH)


def test_tokens_beyond_the_text_encoders_table_are_refused(tokenizer):
    most = len(tokenizer)
    assert tokenize(tokenizer, ["Pip runs."], LENGTH, most).max() < most
    with pytest.raises(StoryjaxError, match=f"gives token {most - 1}, the text encoder knows {most - 1}"):
        tokenize(tokenizer, ["Pip runs."], LENGTH, most - 1)
