"""The tensorflow-datasets builders of all data sets, made from their records.

Importing this module registers them, so that `tfds.data_source("bp4d/cascade_256", data_dir=DIR,
split="F001")` and `tfds.builder("disfa/none_256_right", data_dir=DIR)` work.
"""

from __future__ import annotations

from types import new_class
from typing import Any

from vlfau_jax.data.prepare.builder import AuBuilder, config_named
from vlfau_jax.data.sets import SETS, DataSet


def builder_class(data_set: DataSet) -> type[AuBuilder]:
    """Makes the builder of a data set, which registers it with tensorflow-datasets by its name."""

    def fill(namespace: dict[str, Any]) -> None:
        namespace |= {
            "__doc__": data_set.description,
            "__module__": __name__,
            "name": data_set.name,
            "DATA_SET": data_set,
            "BUILDER_CONFIGS": [config_named(c, data_set.cameras) for c in data_set.configs],
            "MANUAL_DOWNLOAD_INSTRUCTIONS": data_set.download,
        }

    return new_class(data_set.name.capitalize(), (AuBuilder,), exec_body=fill)


BUILDERS: dict[str, type[AuBuilder]] = {name: builder_class(one) for name, one in SETS.items()}
