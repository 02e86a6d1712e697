"""Weak scaling predicted from compiled programs: by hand, and drawn."""

import pytest

from tests.account.reports import example_report
from vlfau_jax.account.devices import device_for
from vlfau_jax.account.scaling import predicted, read_reports, table
from vlfau_jax.errors import UserError
from vlfau_jax.report.scaling_picture import main


def test_efficiency_by_hand():
    """32 images move 32 * 0.6 GB at 819 GB/s: 23.44 ms; a ring sends 2 * 0.24 GB * (n - 1) / n."""
    series = predicted("swin_b-data", [example_report()], (4, 256))
    four, many = series.points
    compute = 32 * 0.6 / 819
    interconnect = device_for("TPU v5 lite").interconnect / 1e9
    assert four.compiled and not many.compiled
    assert four.exposed == pytest.approx(compute / (compute + 0.36 / interconnect))
    sent = 0.48 * 255 / 256
    assert many.exposed == pytest.approx(compute / (compute + sent / interconnect))
    assert many.hidden == 1 and many.peak_gb == 7.5


def test_sends_that_take_longer_than_the_step_cannot_hide():
    slow = {"all-gather": {"times": 1, "gb": 100.0}}
    (point,) = predicted("x-data", [example_report(collectives=slow, sent_gb=75.0)], ()).points
    compute, between = 32 * 0.6 / 819, 75e9 / device_for("TPU v5 lite").interconnect
    assert point.hidden == pytest.approx(compute / between)
    assert point.exposed == pytest.approx(compute / (compute + between))


def test_the_state_is_split_further_only_where_fsdp_spans_all_devices():
    split = {"parameters_gb": 0.11, "optimizer_gb": 0.22, "peak_gb": 6.5}
    spans = example_report(mesh={"data": 1, "fsdp": 4, "tensor": 1}, **split)
    mixed = example_report(mesh={"data": 4, "fsdp": 4, "tensor": 1}, devices=16, **split)
    alone = example_report(mesh={"data": 1, "fsdp": 1, "tensor": 1}, devices=1, batch_size=32)
    assert predicted("x-fsdp", [spans], (64,)).points[1].peak_gb == pytest.approx(
        6.5 - 0.33 + 0.33 * 4 / 64
    )
    assert predicted("x-mixed", [mixed], (64,)).points[1].peak_gb == 6.5
    assert predicted("x-data", [alone], (64,)).points[1].peak_gb == 7.5


def test_what_was_compiled_is_not_predicted():
    found = predicted(
        "x-data", [example_report(), example_report(devices=16, peak_gb=8.0, batch_size=512)], (64,)
    )
    assert [(p.devices, p.peak_gb, p.compiled) for p in found.points] == [
        (4, 7.5, True),
        (16, 8.0, True),
        (64, 8.0, False),
    ]
    assert "| x-data | 64 | 8.0 |" in table([found])


def test_a_program_that_does_not_fit_predicts_nothing():
    large = example_report(fits=False, over_gb=3.0, collectives=None, sent_gb=None)
    assert predicted("x-data", [large], (4,)) is None


def test_an_interconnect_that_no_source_names_is_said():
    with pytest.raises(UserError, match="no source says how fast"):
        predicted("x-data", [example_report(device_kind="TPU v4")], (4,))


def test_the_picture_and_the_table(tmp_path, capsys):
    folder = tmp_path / "records"
    folder.mkdir()
    argv = ["--records", str(folder), "--out", str(tmp_path / "scaling.webp")]
    assert main(argv) == 2
    assert "NAME-DEVICES.json" in capsys.readouterr().err
    fsdp = {"mesh": {"data": 1, "fsdp": 4, "tensor": 1}, "parameters_gb": 0.11}
    large = {"fits": False, "over_gb": 3.0, "collectives": None, "sent_gb": None}
    for name, report in {
        "swin_l-data-4": example_report(**large),
        "swin_b-data-4": example_report(),
        "swin_b-fsdp-4": example_report(**fsdp),
    }.items():
        (folder / f"{name}.json").write_text(report.model_dump_json())
    assert read_reports(folder).keys() == {"swin_b-data", "swin_b-fsdp", "swin_l-data"}
    assert main(argv) == 0
    assert (tmp_path / "scaling.webp").read_bytes()[8:12] == b"WEBP"
    out = capsys.readouterr().out
    assert "swin_l-data-4 does not fit: 3.0 GB too large" in out
    assert "| swin_b-fsdp | 256 |" in out and "predicted" in out
    (folder / "swin_b-data-4.json").write_text("{}")
    assert main(argv) == 2
