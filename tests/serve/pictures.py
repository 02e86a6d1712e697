"""Encoded pictures that tests send: good ones, and those that are none."""

import struct
import zlib

import numpy as np

from vlfau_jax.data.raw.frames import encode_jpeg

FACE = encode_jpeg(np.full((48, 40, 3), 180, np.uint8))
CROWD = encode_jpeg(np.full((40, 200, 3), 180, np.uint8))  # of five
NO_FACE = encode_jpeg(np.zeros((48, 40, 3), np.uint8))


def _chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height):
    """A whole PNG of one grey, packed a thousandfold."""
    packed = zlib.compressobj(9)
    rows = b"".join(packed.compress(b"\0" + bytes(width)) for _ in range(height)) + packed.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = (_chunk(b"IHDR", header), _chunk(b"IDAT", rows), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def malformed():
    """Bytes that are no picture, by what is wrong with them."""
    return {
        "empty": b"",
        "text": b"no picture",
        "cut": FACE[: len(FACE) // 2],
        "header": FACE[:20],
        "zeros": bytes(1000),
        "page": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        "playlist": b"#EXTM3U\nfile:///etc/passwd\n",
        "program": b"%!PS\n(/etc/passwd) (r) file",
        "video": b"\0\0\0\x18ftypmp42" + bytes(100),
    }
