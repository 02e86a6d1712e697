"""Model folders that differ from the exported one."""

import hashlib
import json
import shutil
from contextlib import suppress

from vlfau_jax.data.crop.registry import crop_rule
from vlfau_jax.inference.model_folder import config_digest


def copied(model_folder, tmp_path):
    return shutil.copytree(model_folder, tmp_path / "model")


def edit(folder, change):
    """Applies `change` to the contents of a folder's config.json, which then is as if exported."""
    config = json.loads((folder / "config.json").read_text())
    change(config)
    if "config_sha256" in config:
        config["config_sha256"] = config_digest(config)
    (folder / "config.json").write_text(json.dumps(config))


def replace(folder, name, content):
    """Another content of a file, with its digest: what a stranger can do."""
    (folder / name).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    edit(folder, lambda config: config["files_sha256"].update({name: digest}))


def replace_record(folder, name, record):
    """Another content of a JSON file, digests included."""
    if name != "config.json":
        replace(folder, name, json.dumps(record).encode())
        return
    if isinstance(record, dict) and "config_sha256" in record:
        with suppress(ValueError):  # not finite: it has no digest
            record["config_sha256"] = config_digest(record)
    (folder / name).write_text(json.dumps(record))


def cropped_by(model_folder, tmp_path, name, file=""):
    """The model folder as if its training faces had been cropped by another rule."""
    folder = copied(model_folder, tmp_path)
    rule = crop_rule(name, 64, str(file))
    edit(folder, lambda config: config.update(crop_rule=rule.describe()))
    return folder
