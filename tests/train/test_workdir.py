import json
import re

import pytest

from vlfau_jax.errors import UserError
from vlfau_jax.train.workdir import claim, config_digest, read_config, write_config, write_json

CONFIG = {"seed": 0, "data": {"aus": (1, 2)}, "train": {"steps": 4, "batch_size": 8}}


def start(workdir, config=CONFIG, **how):
    claim(workdir, config, **{"resume": False, "overwrite": False, **how})


def test_a_new_folder_gets_the_config(tmp_path):
    start(tmp_path / "a" / "b")
    assert read_config(tmp_path / "a" / "b") == json.loads(json.dumps(CONFIG))
    start(tmp_path / "c", resume=True)  # a launcher that always says --resume


def test_in_use(tmp_path):
    start(tmp_path)
    with pytest.raises(UserError, match=r"is in use .* --resume .* --overwrite"):
        start(tmp_path)
    with pytest.raises(UserError, match="exclude each other"):
        start(tmp_path, resume=True, overwrite=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        start(tmp_path / "file")


def test_overwrite_removes_the_run_and_nothing_else(tmp_path):
    start(tmp_path)
    for name in ("final.json", "scores.json", "notes.txt"):
        (tmp_path / name).write_text("{}")
    for name in ("checkpoints/4", "raw"):
        (tmp_path / name).mkdir(parents=True)
    start(tmp_path, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "notes.txt", "raw"]


def test_overwrite_does_not_follow_links(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious").write_text("")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").symlink_to(tmp_path / "elsewhere")
    start(tmp_path / "run", overwrite=True)
    assert (tmp_path / "elsewhere" / "precious").exists()


def test_resume_takes_the_same_config_only(tmp_path):
    start(tmp_path)
    write_json(tmp_path / "final.json", {})
    longer = CONFIG | {"train": {"steps": 9, "batch_size": 8}}
    start(tmp_path, longer, resume=True)
    # Its checkpoint may still turn out not to fit.
    assert read_config(tmp_path)["train"]["steps"] == 4
    assert (tmp_path / "final.json").exists()
    write_config(tmp_path, longer)
    assert read_config(tmp_path)["train"]["steps"] == 9
    assert not (tmp_path / "final.json").exists()
    other = {"seed": 1, "data": {"aus": (1, 4)}, "train": {"steps": 4}}
    differing = "data.aus=[1, 4] (was [1, 2]), seed=1 (was 0), train.batch_size=absent (was 8)"
    with pytest.raises(UserError, match=re.escape(differing)):
        start(tmp_path, other, resume=True)


def test_resume_without_a_config(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(UserError, match=r"no config\.json; it cannot be resumed"):
        start(tmp_path, resume=True)
    with pytest.raises(UserError, match=r"config\.json is missing"):
        read_config(tmp_path)


def test_digest_is_of_values_not_of_order():
    assert config_digest({"a": 1, "b": (2,)}) == config_digest({"b": [2], "a": 1})
    assert config_digest({"a": 1}) != config_digest({"a": 2})
