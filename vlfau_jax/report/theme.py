"""The colours of pages and plots, for light and for dark surroundings.

One accent colour; green and red only for answers that are right or wrong. The style sheet takes its
variables from here, so that a plot has the colours of the page around it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Theme:
    """Colours as "#rrggbb".

    Attributes:
        page: background of the page.
        card: background of cards, tables and plots.
        ink: text.
        soft: secondary text.
        line: rules, grids and empty parts of bars.
        accent: links, bars, the first series.
        right: an answer that agrees with its label.
        wrong: one that does not.
        warn: background of a warning.
        warn_ink: its text.
        second: the second series and floors.
        third: the third series.
        fourth: the fourth series.
    """

    page: str
    card: str
    ink: str
    soft: str
    line: str
    accent: str
    right: str
    wrong: str
    warn: str
    warn_ink: str
    second: str
    third: str
    fourth: str

    @property
    def series(self) -> tuple[str, ...]:
        """The colours of the series of a plot, in order."""
        return (self.accent, self.second, self.third, self.fourth)

    @property
    def variables(self) -> dict[str, str]:
        """The colours by their names in the style sheet, without the leading dashes."""
        return {name.replace("_", "-"): colour for name, colour in asdict(self).items()}


LIGHT = Theme(
    page="#f6f7f9",
    card="#ffffff",
    ink="#18202c",
    soft="#5a6575",
    line="#e1e6ed",
    accent="#2458c6",
    right="#17794a",
    wrong="#c23030",
    warn="#fff3d4",
    warn_ink="#614300",
    second="#c05f14",
    third="#17794a",
    fourth="#8a3fb0",
)

DARK = Theme(
    page="#10141b",
    card="#181e28",
    ink="#e7ebf2",
    soft="#9ba7b8",
    line="#2c3543",
    accent="#82aaff",
    right="#57c793",
    wrong="#ff8585",
    warn="#382d10",
    warn_ink="#ffe09a",
    second="#f2a366",
    third="#57c793",
    fourth="#d09bf0",
)


def mix(colour: str, share: float, other: str) -> str:
    """`share` (0 to 1) of one colour and the rest of another, as "#rrggbb"."""
    pairs = zip(_rgb(colour), _rgb(other), strict=True)
    return "#" + "".join(f"{round(a * share + b * (1 - share)):02x}" for a, b in pairs)


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
