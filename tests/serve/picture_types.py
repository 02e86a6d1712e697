"""Tells schemathesis which bodies are pictures: a document has no schema for them."""

import schemathesis
from hypothesis import strategies as st

from tests.serve.pictures import CROWD, FACE, NO_FACE, png
from vlfau_jax.serve.openapi import PICTURE_TYPES

for kind in PICTURE_TYPES:
    schemathesis.openapi.media_type(kind, st.sampled_from([FACE, CROWD, NO_FACE, png(30, 40)]))
