import json

import pytest

from tests.tiny import tiny_settings
from vlfau_jax.account.benchmark import _parts, benchmark


def test_captioners_and_decoding_are_what_is_added_to_recognition():
    taken = {f"{name} {way}": 1.0 for name in ("backbone", "MSC", "DAIR") for way in ("forward",)}
    taken |= {"transfer": 0.5, "optimizer": 0.25, "recognition forward": 4.0}
    taken |= {"recognition training": 9.0, "whole forward": 5.0, "whole training": 12.0}
    taken |= {"describing forward": 6.5}
    parts = _parts(taken)
    assert parts["captioners"] == (1.0, 3.0)
    assert parts["decoding"] == (2.5, None)
    assert parts["whole network"] == (5.0, 12.0)
    assert parts["optimizer"] == (None, 0.25) and parts["transfer"] == (0.5, None)
    silent = {name: x for name, x in taken.items() if not name.startswith(("whole", "describing"))}
    assert "captioners" not in _parts(silent) and "decoding" not in _parts(silent)
    assert _parts(silent)["whole network"] == (4.0, 9.0)


@pytest.mark.slow
def test_every_part_is_measured_and_a_trace_is_written(tmp_path, capsys):
    found = benchmark(
        tiny_settings(), seconds=0.01, out=tmp_path / "b.json", profile=tmp_path / "trace"
    )
    assert json.loads((tmp_path / "b.json").read_text()) == found
    assert "holds no prepared bp4d" in found["synthetic"]
    parts = found["parts"]
    assert {*parts} == {
        *("transfer", "backbone", "MSC", "DAIR", "captioners", "decoding", "optimizer"),
        *("recognition", "whole network"),
    }
    for name, both in parts.items():
        assert (both["forward"] is None) == (name == "optimizer")
        assert (both["training"] is None) == (name in ("transfer", "decoding"))
    whole = found["end_to_end"]
    assert whole["ms"] * whole["images_per_second"] == pytest.approx(1e3)
    assert 0 < whole["mfu"] < 1
    captured = capsys.readouterr()
    assert "random pictures" in captured.out and "captioners" in captured.out
    assert "ui.perfetto.dev" in captured.err
    assert [*(tmp_path / "trace").glob("plugins/profile/*/*.xplane.pb")]
