"""Where words begin and end, in any language: for the vocabulary, and for what reads sentences."""

from __future__ import annotations

import unicodedata

from tokenizers import Regex
from tokenizers import pre_tokenizers as pre

SPACE = "▁"  # U+2581 in front of a word stands for the space before it, as in SentencePiece

# Scripts that are written without spaces: every character is a word of its own.
_UNSPACED = Regex(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]")


def splitter(keeps_spaces: bool = False) -> pre.PreTokenizer:
    """Splits a text into words and punctuation marks.

    With `keeps_spaces` a word carries the space before it, so that the parts put together again are
    the text; without, spaces are left out.
    """
    if keeps_spaces:
        return pre.Sequence(
            [
                pre.Metaspace(SPACE, prepend_scheme="never"),
                pre.Punctuation(),
                pre.Split(_UNSPACED, "isolated"),
            ]
        )
    return pre.Sequence([pre.WhitespaceSplit(), pre.Punctuation()])


_WORDS = pre.Sequence([splitter(), pre.Split(_UNSPACED, "isolated")])


def words(text: str) -> tuple[str, ...]:
    """The words of a sentence in small letters, without punctuation."""
    parts = _WORDS.pre_tokenize_str(unicodedata.normalize("NFC", text).casefold())
    return tuple(part for part, _ in parts if any(map(_is_spoken, part)))


def _is_spoken(character: str) -> bool:
    """Letters, marks on them and digits are; in Thai a mark may be a part of its own."""
    return unicodedata.category(character)[0] in "LMN"
