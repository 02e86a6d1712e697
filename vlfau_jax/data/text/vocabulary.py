"""A word-level vocabulary over every sentence that an experiment's descriptions can write.

The built-in descriptions are those of the same units for every data set, so that models trained on
BP4D and on DISFA have the same word numbers (`descriptions.built_in`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, JsonValue, StringConstraints
from tokenizers import Tokenizer, decoders, models, normalizers, processors

from vlfau_jax.data.text.descriptions import STATES, Descriptions
from vlfau_jax.data.text.splitting import SPACE, splitter
from vlfau_jax.errors import FileError, UserError
from vlfau_jax.files import read_bytes
from vlfau_jax.records import Record, parse_record

TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
LIMIT = 16 << 20  # bytes of such a file
PAD, START, END, UNK = 0, 1, 2, 3
SPECIAL_TOKENS = ("<pad>", "<start>", "<end>", "<unk>")

_MOST_WORDS = 2**16
_Word = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class _WordLevel(Record):
    """The words of a tokenizer file and their numbers."""

    type: Literal["WordLevel"]
    vocab: Annotated[
        dict[_Word, Annotated[int, Field(ge=0, lt=_MOST_WORDS)]], Field(max_length=_MOST_WORDS)
    ]
    unk_token: Literal["<unk>"]


class _TokenizerFile(Record, extra="ignore"):
    """What is read of a tokenizer file: how words are split and joined is this module's.

    Of the decoder it is read whether it is Metaspace, whose words carry their spaces.
    """

    model: _WordLevel
    decoder: JsonValue = None


class Vocabulary:
    """Translates words to numbers and back; 0 is <pad>, 1 <start>, 2 <end>, 3 <unk>."""

    def __init__(self, words: Sequence[str], exact: bool = False) -> None:
        """Numbers `words`, which begin with the special tokens and are distinct.

        Where they are `exact`, they carry the spaces before them and their capital letters, and any
        text of them is decoded as it was (see `Descriptions.spelling`).
        """
        if tuple(words[: len(SPECIAL_TOKENS)]) != SPECIAL_TOKENS:
            raise UserError(
                f"a tokenizer begins with the tokens {tuple(words[:4])}, not {SPECIAL_TOKENS}"
            )
        numbers = {word: number for number, word in enumerate(words)}
        tokenizer = Tokenizer(models.WordLevel(numbers, unk_token=SPECIAL_TOKENS[UNK]))
        tokenizer.normalizer = normalizers.NFC() if exact else normalizers.Lowercase()
        tokenizer.pre_tokenizer = splitter(keeps_spaces=exact)
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<start> $A <end>", special_tokens=[("<start>", START), ("<end>", END)]
        )
        # The word-piece decoder puts spaces between words and none before punctuation; no word here
        # starts with its prefix.
        tokenizer.decoder = (
            decoders.Metaspace(SPACE, prepend_scheme="never")
            if exact
            else decoders.WordPiece(prefix="##", cleanup=True)
        )
        tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
        self._tokenizer = tokenizer

    @classmethod
    def build(cls, descriptions: Descriptions = STATES) -> Vocabulary:
        """Builds the vocabulary: the words of all descriptions, numbered alphabetically."""
        exact = descriptions.spelling == "exact"
        split = splitter(keeps_spaces=exact).pre_tokenize_str
        words = {word for text in descriptions.texts() for word, _ in split(text)}
        return cls((*SPECIAL_TOKENS, *sorted(words)), exact)

    @classmethod
    def load(cls, folder: str | Path) -> Vocabulary:
        """Reads what `save` wrote. Raises UserError if there is no tokenizer in `folder`."""
        path = Path(folder) / TOKENIZER
        if not path.exists():
            raise UserError(f"{path} is missing; expected a folder written by Vocabulary.save")
        return cls.parse(read_bytes(path, LIMIT), path)

    @classmethod
    def parse(cls, content: bytes, source: Path) -> Vocabulary:
        """The vocabulary of a tokenizer file's words; nothing else of it is used.

        Args:
            content: the file's bytes.
            source: its path, for messages.

        Raises:
            UserError: it is not such a file.
        """
        try:
            found = parse_record(content, _TokenizerFile, source)
        except FileError as error:
            raise FileError(source, f"not a tokenizer file: {error.reason}") from None
        numbers = found.model.vocab
        exact = isinstance(found.decoder, dict) and found.decoder.get("type") == "Metaspace"
        words = sorted(numbers, key=numbers.__getitem__)
        if [numbers[word] for word in words] != list(range(len(words))):
            raise FileError(source, "numbers of words should be 0, 1, 2, ..., each once")
        try:
            return cls(words, exact)
        except UserError as error:
            raise FileError(source, str(error)) from None

    @property
    def size(self) -> int:
        """Number of tokens, the four special ones included."""
        return self._tokenizer.get_vocab_size()

    @property
    def words(self) -> tuple[str, ...]:
        """All tokens in the order of their numbers."""
        return tuple(self._tokenizer.id_to_token(i) for i in range(self.size))

    def encode(self, text: str, length: int | None = None) -> np.ndarray:
        """Encodes a text as a token row `<start> words <end>`, int32, padded to `length` if given.

        Raises:
            ValueError: if the row is longer than `length`.
        """
        ids = self._tokenizer.encode(text).ids
        row = np.full(len(ids) if length is None else length, PAD, np.int32)
        if len(ids) > len(row):
            raise ValueError(f"{len(ids)} tokens do not fit into {length}: {text!r}")
        row[: len(ids)] = ids
        return row

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Decodes one token row up to its first <end>, without special tokens."""
        return self._tokenizer.decode(_before_end(ids))

    def pieces(self, ids: Sequence[int] | np.ndarray) -> tuple[str, ...]:
        """The text of each token up to the first <end>, with its space; joined, `decode`'s."""
        row = _before_end(ids)
        texts = [self._tokenizer.decode(row[:k]) for k in range(len(row) + 1)]
        return tuple(text[len(before) :] for before, text in pairwise(texts))

    def save(self, folder: str | Path) -> None:
        """Writes `folder` in Hugging Face's format, for `AutoTokenizer.from_pretrained`."""
        folder = Path(folder)
        (folder / TOKENIZER).write_text(self._tokenizer.to_str(pretty=True), encoding="utf-8")
        pad, start, end, unk = SPECIAL_TOKENS
        config = {
            "backend": "tokenizers",
            "bos_token": start,
            "eos_token": end,
            "model_max_length": 10**30,
            "pad_token": pad,
            "tokenizer_class": "TokenizersBackend",
            "unk_token": unk,
        }
        (folder / TOKENIZER_CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def _before_end(ids: Sequence[int] | np.ndarray) -> list[int]:
    row = [int(i) for i in ids]
    return row[: row.index(END)] if END in row else row
