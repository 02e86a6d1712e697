"""One table in four writings: for the screen, as Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

UNDEFINED = "-"

# The names of rows and tools are names of folders and cells of tables, too.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.+-]{0,59}")

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": "$<$",
    ">": "$>$",
    **{character: "\\" + character for character in "&%$#_{}"},
}


@dataclass(frozen=True)
class Table:
    """Rows of cells that are text already.

    Attributes:
        caption: what it is, in a line.
        columns: their headings; the first is that of the rows' names.
        rows: name and cells of each.
        notes: what must be read beside it, a line each.
        rules: numbers of rows (from 0) before which a line is drawn.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    rules: tuple[int, ...] = ()

    def text(self) -> str:
        """For the screen, in columns."""
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]

        def line(cells: Sequence[str]) -> str:
            first, *others = zip(cells, widths, strict=True)
            return "  ".join(
                [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
            ).rstrip()

        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        lines = [self.caption, "", line(self.columns), rule]
        for k, row in enumerate(self.rows):
            lines += [rule] * (k in self.rules) + [line(row)]
        return "\n".join([*lines, *([""] if self.notes else []), *self.notes])

    def markdown(self) -> str:
        """A table of GitHub's Markdown, with caption and notes."""

        def line(cells: Iterable[str]) -> str:
            return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"

        rule = "|---|" + "---:|" * (len(self.columns) - 1)
        lines = [self.caption, "", line(self.columns), rule, *map(line, self.rows)]
        return "\n".join([*lines, *(f"\n{note}" for note in self.notes)]) + "\n"

    def latex(self) -> str:
        r"""A `table` for LaTeX with the package booktabs."""

        def line(cells: Iterable[str]) -> str:
            return f"  {' & '.join(map(latex_text, cells))} \\\\"

        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex_text(self.caption)}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(self.columns) - 1)}}}",
            r"  \toprule",
            line(self.columns),
            r"  \midrule",
        ]
        for k, row in enumerate(self.rows):
            lines += [r"  \midrule"] * (k in self.rules and k > 0) + [line(row)]
        lines += [r"  \bottomrule", r"\end{tabular}"]
        lines += [rf"\par\footnotesize {latex_text(note)}" for note in self.notes]
        return "\n".join([*lines, r"\end{table}"]) + "\n"


def latex_text(text: str) -> str:
    """Text without power over LaTeX."""
    return "".join(_LATEX.get(character, character) for character in text)


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as CSV in full precision; None and NaN are empty."""
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, lineterminator="\n", restval="")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: "" if undefined(value) else value for key, value in row.items()})
    return file.getvalue()


def undefined(value: Any) -> bool:
    """Whether a value is None or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def number(value: float | None, digits: int = 3) -> str:
    """A share of 1, or a count."""
    if undefined(value):
        return UNDEFINED
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}"


def spread(mean: float | None, deviation: float | None) -> str:
    """Mean and standard deviation, `0.812 ± 0.010`."""
    if undefined(mean) or undefined(deviation):
        return number(mean)
    return f"{mean:.3f} ± {deviation:.3f}"


def signed(value: float | None) -> str:
    """A difference, `+0.012`."""
    return UNDEFINED if undefined(value) else f"{value:+.3f}"


def between(low: float | None, high: float | None) -> str:
    """An interval, `+0.002 to +0.021`."""
    return UNDEFINED if undefined(low) else f"{low:+.3f} to {high:+.3f}"


def p_text(value: float | None) -> str:
    """A p-value: three digits, as small as it can be told."""
    if undefined(value):
        return UNDEFINED
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
