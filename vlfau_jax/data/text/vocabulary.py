"""A word-level vocabulary over every sentence the project can write.

It is built from all fifteen action units for every data set, so that models trained on BP4D and on
DISFA have the same word numbers.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from vlfau_jax.data.text.descriptions import vocabulary_texts
from vlfau_jax.errors import UserError

PAD, START, END, UNK = 0, 1, 2, 3
SPECIAL_TOKENS = ("<pad>", "<start>", "<end>", "<unk>")


class Vocabulary:
    """Translates words to numbers and back; 0 is <pad>, 1 <start>, 2 <end>, 3 <unk>."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        found = tuple(tokenizer.id_to_token(i) for i in range(len(SPECIAL_TOKENS)))
        if found != SPECIAL_TOKENS:
            raise UserError(f"a tokenizer begins with the tokens {found}, not {SPECIAL_TOKENS}")
        self._tokenizer = tokenizer

    @classmethod
    def build(cls) -> Vocabulary:
        """Builds the vocabulary: the words of all descriptions, numbered alphabetically."""
        splitter = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
        )
        words = {w for text in vocabulary_texts() for w, _ in splitter.pre_tokenize_str(text)}
        numbers = {token: i for i, token in enumerate((*SPECIAL_TOKENS, *sorted(words)))}
        tokenizer = Tokenizer(models.WordLevel(numbers, unk_token=SPECIAL_TOKENS[UNK]))
        tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = splitter
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<start> $A <end>", special_tokens=[("<start>", START), ("<end>", END)]
        )
        # The word-piece decoder puts spaces between words and none before punctuation; no word here
        # starts with its prefix.
        tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
        tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
        return cls(tokenizer)

    @classmethod
    def load(cls, folder: str | Path) -> Vocabulary:
        """Reads what `save` wrote. Raises UserError if there is no tokenizer in `folder`."""
        path = Path(folder) / "tokenizer.json"
        if not path.is_file():
            raise UserError(f"{path} is missing; expected a folder written by Vocabulary.save")
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the Rust library raises the bare class
            raise UserError(f"{path}: not a tokenizer file ({error})") from error
        return cls(tokenizer)

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
        row = [int(i) for i in ids]
        if END in row:
            row = row[: row.index(END)]
        return self._tokenizer.decode(row)

    def save(self, folder: str | Path) -> None:
        """Writes `folder` in Hugging Face's format, for `AutoTokenizer.from_pretrained`."""
        # Without PyTorch transformers warns that it has no models; none are needed.
        os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
        from transformers import PreTrainedTokenizerFast  # seconds to import, needed only here

        pad, start, end, unk = SPECIAL_TOKENS
        PreTrainedTokenizerFast(
            tokenizer_object=self._tokenizer,
            pad_token=pad,
            bos_token=start,
            eos_token=end,
            unk_token=unk,
        ).save_pretrained(str(folder))
