"""A data set of one's own as a tensorflow-datasets builder, see raw/folder.py for its layout."""

from __future__ import annotations

from pathlib import Path

from vlfau_jax.data.prepare.builder import AuBuilder, AuConfig, listed_configs
from vlfau_jax.data.raw.folder import index_folder
from vlfau_jax.data.raw.tree import RawTree
from vlfau_jax.errors import UserError


class Folder(AuBuilder):
    """Pictures of one's own with a table of their action units, `labels.csv`.

    What it is: whatever the folder holds. Which units `occurrence` and `intensity` speak of, and in
    which order, is in metadata.json (`aus`).

    Licence: that of the pictures.

    How to build it:
    `python -m vlfau_jax prepare --dataset=folder --raw_dir=DIR --data_dir=DIR`
    """

    BUILDER_CONFIGS = listed_configs("cascade_256", "none_256")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "manual_dir is the folder that holds labels.csv."

    @classmethod
    def index(cls, raw_dir: str | Path, config: AuConfig) -> RawTree:
        """Reads the table, see raw.folder.index_folder.

        Raises:
            UserError: see there; or a frame offset, which means nothing in such a table.
        """
        if config.frame_offset:
            raise UserError(
                f"--frame_offset={config.frame_offset} has no place in a folder, whose labels.csv "
                "names each label's picture; expected 0"
            )
        return index_folder(raw_dir)
