"""Model folders that differ from the exported one."""

import json
import shutil

from vlfau_jax.data.crop.registry import crop_rule


def copied(model_folder, tmp_path):
    return shutil.copytree(model_folder, tmp_path / "model")


def edit(folder, change):
    """Applies `change` to the contents of a folder's config.json."""
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def cropped_by(model_folder, tmp_path, name, file=""):
    """The model folder as if its training faces had been cropped by another rule."""
    folder = copied(model_folder, tmp_path)
    rule = crop_rule(name, 64, str(file))
    edit(folder, lambda config: config.update(crop_rule=rule.describe()))
    return folder
