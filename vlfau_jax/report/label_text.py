"""A label record in words: for the screen, and as the captions of pictures and page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vlfau_jax.data.read.options import DataOptions
from vlfau_jax.report.formats import au_name, people, percent, protocol_field, signed, unit_name

PAIRS = 5  # that the screen lists


def strongest(
    phi: Sequence[Sequence[float | None]], aus: Sequence[int], most: int
) -> list[tuple[int, int, float]]:
    """The pairs of units whose phi is farthest from 0: (au, au, phi), at most `most` of them."""
    pairs = [
        (one, other, phi[i][j])
        for i, one in enumerate(aus)
        for j, other in enumerate(aus)
        if i < j and phi[i][j] is not None
    ]
    return sorted(pairs, key=lambda pair: -abs(pair[2]))[:most]


def table(record: Mapping[str, Any]) -> str:
    """The rates for the screen: a line per unit, a column per set, then the strongest pairs."""
    drawn = record["drawn_rates"]
    heads = [f"{name:>22}" for name in record["sets"]] + [f"{'as drawn':>10}"] * bool(drawn)
    lines = [f"{'unit':27}{''.join(heads)}{'weight':>9}"]
    for au in record["aus"]:
        line = f"{unit_name(au):27}"
        for part in record["sets"].values():
            unit = part["per_au"][str(au)]
            line += f"{percent(unit['rate']):>10}{unit['active']:>12,}"
        line += f"{percent(drawn[str(au)]):>10}" if drawn else ""
        lines.append(f"{line}{record['class_weights'][str(au)]:>9.3f}")
    sizes = "".join(f"{part['frames']:>22,}" for part in record["sets"].values())
    pairs = ", ".join(
        f"{au_name(one)}-{au_name(other)} {signed(value)}"
        for one, other, value in strongest(record["phi"], record["aus"], PAIRS)
    )
    lines += [f"{'frames':27}{sizes}", "", f"phi: {pairs or 'undefined'}", provenance(record)]
    lines += [f"warning: {warning}" for warning in record["warnings"]]
    return "\n".join([*lines, record["note"]]).rstrip()


def provenance(record: Mapping[str, Any]) -> str:
    """Where the labels are from and how they were read."""
    rule = record["crop_rule"]
    frames = ", ".join(
        f"{name} {part['frames']:,} frames of {people(part['subjects'])}"
        for name, part in record["sets"].items()
    )
    return (
        f"Fold {record['options']['fold']}: {frames}. "
        f"Labels: {protocol_field(record['label_rule'])}. "
        f"Excluded stretches: {protocol_field(record['excluded_stretches'])}. "
        f"Crop rule {rule['name']} ({rule['digest']}), {rule['size']} px."
    )


def augmentation(options: DataOptions, seed: int) -> str:
    """How the training stream changes and draws its faces."""
    by = [name for name in ("classes", "subjects") if getattr(options, f"balance_{name}")]
    balance = f"; drawn evenly by {' and '.join(by)}" if by else ""
    shares = ":".join(f"{share:g}" for share in options.mixture_weights)
    balance += f"; sets drawn {shares}" if shares else ""
    area = f"at least {options.min_area:.0%}"
    if options.max_area > 1:
        area = f"{options.min_area:.0%} to {options.max_area:.0%} of the area"
    return (
        f"The first faces that training with seed {seed} gets, in order, at "
        f"{options.image_size} px: crops of {area} of the face, "
        f"{'' if options.flip else 'not '}mirrored at random, colours changed by up to "
        f"{options.jitter:.0%}, a rectangle erased in {options.erasing:.0%}{balance}."
    )
