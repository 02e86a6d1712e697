"""What every page shares: escaping, what it may load, colours that can be read, its files."""

import base64
import fnmatch
import hashlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import jinja2
import pytest

from tests.report.examples import scores
from tests.report.html_tree import parse
from vlfau_jax.report import render, templating
from vlfau_jax.report.templating import environment, script
from vlfau_jax.report.theme import DARK, LIGHT, mix

ROOT = Path(__file__).resolve().parents[2]
HEAT = 0.5  # the largest share of a heat table's colour in style.css.j2


def luminance(colour):
    """Relative luminance of "#rrggbb" (WCAG 2.2)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_text_can_be_read(theme):
    on_cards = (theme.ink, theme.soft, theme.accent, theme.right, theme.wrong)
    pairs = [(colour, background) for colour in on_cards for background in (theme.card, theme.page)]
    pairs += [
        (theme.warn_ink, theme.warn),
        (theme.card, theme.accent),
        (theme.soft, theme.line),
        (theme.ink, mix(theme.accent, HEAT, theme.card)),
        (theme.ink, mix(theme.wrong, HEAT, theme.card)),
        (theme.page, theme.ink),
    ]
    assert min((contrast(*pair), pair) for pair in pairs)[0] >= 4.5, min(
        (contrast(*pair), pair) for pair in pairs
    )
    assert min(contrast(colour, theme.card) for colour in theme.series) >= 3


def test_the_style_has_the_colours_of_the_themes():
    style = parse(render(scores(), [], [])).one("style").raw
    light, dark = style.split("@media screen and (prefers-color-scheme: dark)")[:2]
    for name in LIGHT.variables:
        assert f"--{name}: {LIGHT.variables[name]};" in light
        assert f"--{name}: {DARK.variables[name]};" in dark.split("}")[0]
    assert f"{100 * HEAT:.0f}%" in style


def test_the_policy_allows_our_script_and_nothing_else():
    page = parse(render(scores(), [], []))
    first = [child for child in page.one("head").children if not isinstance(child, str)][:2]
    assert "charset" in first[0].attributes
    assert first[1]["http-equiv"] == "Content-Security-Policy", "before anything that it governs"
    policy = dict(part.strip().split(" ", 1) for part in first[1]["content"].split(";"))
    code = page.all("script")[1].raw
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    assert policy == {
        "default-src": "'none'",
        "script-src": f"'sha256-{digest}'",
        "style-src": "'unsafe-inline'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_the_script_takes_no_value_of_a_page():
    source = environment().loader.get_source(environment(), "script.js.j2")[0]
    assert "{{" not in source
    # What the template is told is which part it has, never a value.
    assert re.findall("{%.*?%}", source) == ["{% if part %}", "{% include part %}", "{% endif %}"]
    assert "</" not in source and "{%" not in script()
    assert not any(name in source for name in ("innerHTML", "eval(", "fetch(", "http", "import("))


@pytest.mark.parametrize("part", ["explain.js.j2", "serve.js.j2"])
def test_a_part_of_the_script_takes_none_either(part):
    own = environment().loader.get_source(environment(), part)[0]
    assert "{{" not in own and "{%" not in own and own in script(part) and "</" not in own
    assert not any(name in own for name in ("eval(", "://", "import("))


def test_values_are_escaped_and_missing_ones_are_errors():
    page = environment().from_string("{{ value }}|{{ data|tojson }}")
    assert page.render(value="<&'\"", data="</script>") == (
        '&lt;&amp;&#39;&#34;|"\\u003c/script\\u003e"'
    )
    with pytest.raises(jinja2.UndefinedError):
        environment().from_string("{{ nothing }}").render(value=1)
    with pytest.raises(ValueError, match="Out of range float"):
        page.render(value=1, data=float("nan"))


def test_only_our_own_script_is_marked_safe():
    folder = Path(templating.__file__).parent / "templates"
    for path in folder.iterdir():
        unescaped = path.read_text().replace("{{ script|safe }}", "")
        assert "safe" not in unescaped and "autoescape" not in unescaped, path


def test_the_templates_are_in_an_installed_package():
    folder = Path(templating.__file__).parent / "templates"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["vlfau_jax"]
    names = [f"report/templates/{path.name}" for path in folder.iterdir()]
    assert len(names) >= 6
    for name in names:
        assert any(fnmatch.fnmatch(name, pattern) for pattern in patterns), name


def test_matplotlib_is_imported_only_to_draw():
    code = (
        "import sys, vlfau_jax.report, vlfau_jax.report.training_data\n"
        "assert 'matplotlib' not in sys.modules\n"
        "from tests.report.examples import RECORDS, scores\n"
        "vlfau_jax.report.render(scores(), [], [])\n"
        "assert 'matplotlib' not in sys.modules\n"
        "vlfau_jax.report.render(scores(), RECORDS, [])\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=300)
