"""Opens safetensors files of unknown origin, and says whose names their tensors have."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from vlfau_jax.errors import FileError
from vlfau_jax.files import open_regular

LIMIT = 64 << 30  # bytes of a file of parameters
_HEADER_LIMIT = 16 << 20  # bytes of its JSON, which is parsed at once
_MOST_LISTED, _LONGEST_LIST = 10, 300  # items, characters

# How other projects name the tensors of a Swin, by one that only they have.
_NAMINGS = (
    ("timm", r"\blayers\.3\.downsample\."),  # before the stage; Microsoft's is after it
    ("Microsoft's own code or timm", r"\blayers\.\d+\.blocks\.\d+\.attn\.qkv\.weight$"),
    ("torchvision", r"\bfeatures\.\d+\.\d+\.attn\.(qkv\.weight|cpb_mlp)"),
    ("Hugging Face", r"\bencoder\.layers\.\d+\.blocks\.\d+\.attention\.self\.query\.weight$"),
    ("transformers in memory, which save_pretrained changes,", r"\.attention\.q_proj\.weight$"),
    ("Hugging Face for a ViT, which is no Swin,", r"\bencoder\.layer\.\d+\.attention\."),
    ("import_backbone", r"^backbone/"),
)


@contextmanager
def opened(path: Path, framework: str = "numpy", key: str = "") -> Iterator[Any]:
    """The safetensors file, open: `safe_open` of safetensors.

    Args:
        path: the file.
        framework: whose arrays `get_tensor` returns.
        key: the option that named the file, for the message.

    Raises:
        FileError: no regular file, too large, or no safetensors.
    """
    name = f"{key}={path}" if key else path
    if path.is_dir():
        raise FileError(name, "is a folder; give a safetensors file")
    try:
        with open_regular(path, LIMIT) as file:
            header = int.from_bytes(file.read(8), "little")
    except FileError as error:
        raise FileError(name, error.reason) from None
    if header > _HEADER_LIMIT:
        raise FileError(
            name, f"cannot be read as safetensors: its header would have {header} bytes"
        )
    try:
        with safe_open(path, framework) as file:
            yield file
    except (OSError, SafetensorError, ValueError, OverflowError) as error:
        raise FileError(name, f"cannot be read as safetensors: {error}") from error


def naming(names: Collection[str]) -> str:
    """Whose naming of a Swin's tensors this is; empty where it is nobody's that is known."""
    for whose, pattern in _NAMINGS:
        if any(re.search(pattern, name) for name in names):
            return whose
    return ""


def listed(items: Sequence[str], between: str = "; ") -> str:
    """The first ten items in one line, fewer where they are long, and how many more there are."""
    shown, length = list[str](), 0
    for item in items[:_MOST_LISTED]:
        length += len(item)
        if shown and length > _LONGEST_LIST:
            break
        shown.append(item)
    more = len(items) - len(shown)
    return between.join(shown) + (f" and {more} more" if more else "")
