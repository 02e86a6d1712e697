"""Model folders that are damaged, special or a stranger's: one line, or no effect."""

import functools
import json
import operator
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save

import vlfau_jax
from tests.inference.folders import copied, edit, replace, replace_record
from vlfau_jax.data.text.vocabulary import Vocabulary
from vlfau_jax.errors import LONGEST_LINE, UserError, line
from vlfau_jax.facs import BP4D_AUS
from vlfau_jax.inference.exported_model import ExportedModel
from vlfau_jax.inference.model_folder import open_model_folder
from vlfau_jax.inference.stored_options import read_options
from vlfau_jax.inference.weights import read_tensors
from vlfau_jax.model.options import ModelOptions

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.just("x" * 10**5),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(), st.integers(), max_size=2),
)


def places(value, at=()):
    """The paths to all values of a JSON document."""
    yield at
    inner = value.items() if isinstance(value, dict) else ()
    for key, part in enumerate(value) if isinstance(value, list) else inner:
        yield from places(part, (*at, key))


@given(data=st.data())
@settings(max_examples=60)
def test_any_value_anywhere_in_the_records_is_one_line_or_harmless(model_folder, data):
    name = data.draw(st.sampled_from(["config.json", "tokenizer.json"]))
    record = json.loads((model_folder / name).read_text())
    *above, key = data.draw(st.sampled_from([*places(record)][1:]))
    parent = functools.reduce(operator.getitem, above, record)
    parent[key] = data.draw(VALUES)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(shutil.copytree(model_folder, Path(scratch, "model")))
        replace_record(folder, name, record)
        try:
            opened = open_model_folder(folder)
            read_options(ModelOptions, opened.config.model, opened.config_path)
            Vocabulary.parse(opened.tokenizer, folder / "tokenizer.json")
        except UserError as error:
            assert 0 < len(line(str(error))) <= LONGEST_LINE


@given(content=st.binary(max_size=200))
@settings(max_examples=60)
def test_any_bytes_as_a_file_are_one_line(model_folder, content):
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("config.json", "tokenizer.json", "model.safetensors"):
            (Path(scratch) / name).write_bytes(content)
        for read in (
            lambda: open_model_folder(Path(scratch)),
            lambda: Vocabulary.load(scratch),
            lambda: read_tensors(Path(scratch, "model.safetensors")),
        ):
            with pytest.raises(UserError):
                read()


def flips(content, count, seed=0):
    """Copies of `content` with one bit of it changed."""
    for place in np.random.default_rng(seed).integers(0, 8 * len(content), count):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << (place % 8)
        yield bytes(changed)


def test_a_flipped_bit_of_the_config_is_refused_or_without_effect(model_folder, tmp_path):
    folder = copied(model_folder, tmp_path)
    content = (folder / "config.json").read_bytes()
    whole = open_model_folder(folder)
    refused = 0
    for changed in flips(content, 300):
        (folder / "config.json").write_bytes(changed)
        try:
            found = open_model_folder(folder)
        except UserError as error:
            assert "\n" not in line(str(error))
            refused += 1
        else:  # white space
            assert (found.config, found.stored) == (whole.config, whole.stored)
    assert refused > 200


def test_a_config_of_an_earlier_version_is_read_with_a_word(model_folder, tmp_path, capsys):
    folder = copied(model_folder, tmp_path)
    edit(folder, lambda config: config.pop("config_sha256"))
    assert open_model_folder(folder).config.aus
    assert "has no digest of its own" in capsys.readouterr().err


@pytest.mark.parametrize("change", [lambda card: b"---\ntags: [facs]\n---\n" + card, None])
def test_the_card_may_be_edited_or_removed(model_folder, tmp_path, change):
    folder = copied(model_folder, tmp_path)
    card = folder / "README.md"
    card.write_bytes(change(card.read_bytes())) if change else card.unlink()
    assert open_model_folder(folder).digest == open_model_folder(model_folder).digest


def test_the_folders_digest_is_that_of_coreutils_and_covers_all_but_the_card(
    model_folder, tmp_path, capsys
):
    folder = copied(model_folder, tmp_path)
    command = "LC_ALL=C; sha256sum config.json model.* preproc* tokenizer* | sha256sum"
    run = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True)
    digest = run.stdout.split()[0]
    assert open_model_folder(folder, digest.upper()).digest == digest
    edit(folder, lambda config: config.update(synthetic=False))
    with pytest.raises(UserError, match=f"has the SHA-256 .*, not {digest}"):
        vlfau_jax.load(folder, verify=digest)


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "model.stablehlo", "tokenizer.json"]
)
@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "link to nothing", "sparse"])
def test_special_and_huge_files_are_refused(model_folder, tmp_path, name, kind):
    file = copied(model_folder, tmp_path) / name
    file.unlink()
    match kind:
        case "fifo":
            os.mkfifo(file)
        case "folder":
            file.mkdir()
        case "device":
            file.symlink_to("/dev/zero")
        case "link to nothing":
            file.symlink_to("nothing")
        case "sparse":
            with file.open("wb") as sparse:
                sparse.truncate(100 << 30)
    with pytest.raises(UserError) as error:
        open_model_folder(file.parent)
    assert name in str(error.value)


HEADER = 600  # bytes at the beginning of the weights file that are certainly its header


@pytest.mark.parametrize(
    "change",
    [
        lambda content: b"",
        lambda content: content[:7],
        lambda content: content[:HEADER],
        lambda content: content[:-1],
        lambda content: content + b"0",
        lambda content: b"\xff" * 8 + content[8:],
        lambda content: b"PK\x03\x04" + content,
        lambda content: content[:8] + b"[" + content[9:],
        lambda content: content.replace(b"F32", b"F99", 1),
        lambda content: content.replace(b"F32", b"I32", 1),
        lambda content: content.replace(b'"shape":[', b'"shape":[9', 1),
    ],
)
def test_weights_that_are_cut_or_foreign_are_refused(model_folder, tmp_path, change):
    folder = copied(model_folder, tmp_path)
    replace(folder, "model.safetensors", change((folder / "model.safetensors").read_bytes()))
    with pytest.raises(UserError, match=r"model\.safetensors: ") as error:
        ExportedModel(folder)
    assert "\n" not in str(error.value)


def test_missing_and_additional_weights_are_named(model_folder, tmp_path):
    folder = copied(model_folder, tmp_path)
    weights = load_file(folder / "model.safetensors")
    bias = weights.pop("classifier/bias")
    replace(folder, "model.safetensors", save(weights))
    with pytest.raises(UserError, match=r"missing in the file: classifier/bias$"):
        ExportedModel(folder)
    more = {f"more/{k}": np.zeros(2, np.float32) for k in range(12)}
    replace(folder, "model.safetensors", save(weights | {"classifier/bias": bias} | more))
    with pytest.raises(UserError, match=r"not in the program: more/0, .* and 2 more$"):
        ExportedModel(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t["model"]["vocab"].update(a=9999), "should be 0, 1, 2"),
        (lambda t: t["model"]["vocab"].update(a=-1), "a is -1"),
        (lambda t: t["model"]["vocab"].update({"x" * 10_000: 166}), "vocab"),
        (lambda t: t["model"].update(type="BPE"), "type is 'BPE'"),
        (lambda t: t.pop("model"), "model is missing"),
        (lambda t: t["model"].update(vocab=[]), "vocab is a list of 0"),
        (
            lambda t: t["model"]["vocab"].update(zzz=166),
            "vocabulary_size is 166, but",
        ),
    ],
)
def test_a_vocabulary_that_is_none_is_refused(model_folder, tmp_path, change, message):
    folder = copied(model_folder, tmp_path)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    change(tokenizer)
    replace(folder, "tokenizer.json", json.dumps(tokenizer).encode())
    with pytest.raises(UserError, match=message):
        ExportedModel(folder)


def test_nothing_that_a_tokenizer_names_is_imported(model_folder, tmp_path):
    folder = copied(model_folder, tmp_path)
    (folder / "evil.py").write_text("raise SystemExit('imported')")
    evil = {"auto_map": {"AutoTokenizer": "evil.Evil"}, "tokenizer_class": "evil.Evil"}
    replace(folder, "tokenizer_config.json", json.dumps(evil).encode())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer |= evil | {"decoder": {"type": "Evil"}, "normalizer": {"type": "Evil"}}
    replace(folder, "tokenizer.json", json.dumps(tokenizer).encode())
    assert ExportedModel(folder).aus == BP4D_AUS
