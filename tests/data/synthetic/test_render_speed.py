"""What `render_speed` measures and prints."""

import pytest

from vlfau_jax.data.synthetic.render_speed import Cost, main, measure, report


def test_rates_are_frames_by_the_seconds_that_belong_to_them():
    cost = Cost(frames=5, first=0.6, others=0.4, encoding=0.25)
    assert cost.rates == pytest.approx((10, 5, 4))
    slower = Cost(5, 1.1, 0.4, 0.25)
    assert report([cost, cost, slower]).splitlines()[1].split()[0] == "5.0"
    assert "  500.0 ms before a first frame" in report([cost])


@pytest.mark.parametrize("renderer", ["mesh", "relief"])
def test_a_sequence_takes_time(renderer):
    cost = measure(renderer, 1, 4, 64)
    drawing, people, encoding = cost.rates
    assert cost.frames == 4 and drawing > people > encoding > 0


def test_it_prints_a_table_and_refuses_what_it_cannot_render(capsys):
    assert main(["--renderer=relief", "--people=1", "--frames=4", "--size=64"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    for mistake in ("--frames=1", "--people=0", "--size=8"):
        assert main([mistake]) == 2
        assert mistake in capsys.readouterr().err
