"""What a model answers when a part of the face is hidden: whether its maps are faithful.

Of faces whose unit is on, and predicted on, three questions. What hides is a strong blur (Fong and
Vedaldi, "Interpretable Explanations of Black Boxes by Meaningful Perturbation", 2017): it removes
edges and wrinkles, and leaves the colours.

- cover: the unit's region, tolerance included, is hidden; as control an equally large and equally
  shaped one, half a crop away. How far does the unit's probability fall, and how often does the
  sentence no longer state the unit on?
- deletion: the cells are hidden one after another, the map's highest first; the area under the
  curve of the probability over the hidden share. Low where the map names what the score needs.
- insertion: the same from a face that is hidden whole; high is good. Both after Petsiuk et al.,
  "RISE" (2018). A random order of the cells is the floor of both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import cv2
import jax
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from vlfau_jax.data.raw.frames import decode_crop
from vlfau_jax.data.read.dataset import Dataset
from vlfau_jax.data.read.regions import FaceRegions
from vlfau_jax.data.read.transforms import resize
from vlfau_jax.data.text.reading import Reader
from vlfau_jax.distributed.processes import is_first_process
from vlfau_jax.errors import UserError
from vlfau_jax.evaluation.answers import Answers, Describe
from vlfau_jax.evaluation.kept_answers import MAP_ARRAYS
from vlfau_jax.inference.prediction import DECODED_ARRAYS, Prediction, PredictionDecoder
from vlfau_jax.inference.trained import Trained
from vlfau_jax.metrics.maps import cells
from vlfau_jax.model.vlfau import VLFAU, normalise
from vlfau_jax.sharding.arrays import (
    batch_sharding,
    fetch,
    known_mesh,
    local_rows,
    replicated,
    shard_batch,
)

BLUR = 0.1  # standard deviation of the blur, as a share of the crop's side
STEPS = 7  # between nothing and all hidden
RANDOM = "random"
NAN = float("nan")


@dataclass(frozen=True, eq=False)
class Case:
    """One unit of one face.

    Attributes:
        row: of the answers.
        unit: its column.
        image: uint8 [h, w, 3], as the model sees the face.
        region: bool [h, w], the unit's, tolerance included.
    """

    row: int
    unit: int
    image: np.ndarray
    region: np.ndarray

    @cached_property
    def blurred(self) -> np.ndarray:
        """The face hidden whole."""
        return cv2.GaussianBlur(self.image, (0, 0), BLUR * len(self.image))

    def hidden(self, where: np.ndarray) -> np.ndarray:
        """The face with some pixels hidden, bool [h, w]."""
        return np.where(where[..., None], self.blurred, self.image)

    @property
    def control(self) -> np.ndarray:
        """A region of the same size and shape: half a crop lower, from the bottom to the top."""
        return np.roll(self.region, len(self.region) // 2, 0)


def check_faces(faces: int, dataset: Dataset) -> None:
    """Raises UserError where nobody knows where a unit shows, so that nothing could be covered."""
    if faces and not FaceRegions(dataset).known:
        raise UserError(
            f"--counterfactual={faces}: crop rule {dataset.crop['name']} puts eyes in no fixed "
            "place, so nobody knows where a unit shows; prepare the faces with another rule"
        )


def measure(
    trained: Trained,
    dataset: Dataset,
    subjects: Sequence[str],
    answers: Answers,
    describe: Describe,
    *,
    faces: int,
    batch_size: int,
    mesh: Mesh,
) -> dict[str, Any]:
    """Asks the questions above of `faces` test faces, evenly spaced over the fold.

    Every process must call it; the arguments are those of `answer_fold`.

    Returns:
        JSON's values, NaN where undefined: `faces` and `cases` (a unit of a face); `regions`,
        "exact" or "prior"; `cover` {drop, control_drop, silenced, control_silenced}, the mean fall
        of the probability and the share of the sentences that no longer state the unit on;
        `deletion` and `insertion`, the areas by whose map gave the order; `per_au` with `cases` and
        `cover`'s values of each.
    """
    regions = FaceRegions(dataset)
    shown = _chosen(answers, faces)
    size = trained.data.image_size
    pictures = _pictures(dataset, subjects, shown, size)
    run = _Runner(batch_size, size, mesh)
    maps = run(describe, pictures, tuple(MAP_ARRAYS.values()), "maps")
    cases = list(_cases(trained, dataset, subjects, answers, regions, shown, pictures))
    before = np.array([answers.probabilities[case.row, case.unit] for case in cases])
    values = {"drop": [], "control_drop": [], "silenced": [], "control_silenced": []}
    decoder = PredictionDecoder(trained.aus, trained.thresholds, trained.vocabulary)
    reader = Reader(trained.descriptions)
    for prefix, where in (("", lambda c: c.region), ("control_", lambda c: c.control)):
        images = [case.hidden(where(case)) for case in cases]
        answered = decoder.decode(run(describe, images, DECODED_ARRAYS, f"{prefix}cover"))
        for case, first, after in zip(cases, before, answered if cases else (), strict=True):
            values[f"{prefix}drop"].append(first - after.probabilities[case.unit])
            spoke = states_on(answers.predictions[case.row], case.unit, reader)
            silent = float(not states_on(after, case.unit, reader)) if spoke else NAN
            values[f"{prefix}silenced"].append(silent)
    arrays = {name: np.array(found, float) for name, found in values.items()}
    units = np.array([case.unit for case in cases], int)

    def summary(which: np.ndarray) -> dict[str, float]:
        return {name: _mean(found[which]) for name, found in arrays.items()}

    orders = {whose: maps[name] for whose, name in MAP_ARRAYS.items() if name in maps}
    return {
        "faces": len({case.row for case in cases}),
        "cases": len(cases),
        "regions": "exact" if regions.exact else "prior",
        "cover": summary(np.ones(len(cases), bool)),
        **_areas(cases, shown, orders, before, run, compile_scores(trained, mesh)),
        "per_au": {
            au: {"cases": int((units == column).sum()), **summary(units == column)}
            for column, au in enumerate(trained.aus)
        },
    }


def compile_scores(trained: Trained, mesh: Mesh) -> Describe:
    """Only the probabilities of `Trained.describe`, as `compile_describe` gives all of it."""

    def scores(params: Any, image: jax.Array) -> dict[str, jax.Array]:
        logits = trained.model.apply({"params": params}, normalise(image), method=VLFAU.score)
        return {"au_probabilities": jax.nn.sigmoid(logits)}

    params, split = jax.device_put(trained.params, replicated(mesh)), batch_sharding(mesh)
    run = jax.jit(
        known_mesh(scores, mesh), in_shardings=(replicated(mesh), split), out_shardings=split
    )
    return lambda image: run(params, image)


def _chosen(answers: Answers, faces: int) -> list[int]:
    """So many rows of the answers, evenly spaced."""
    return np.unique(np.linspace(0, len(answers.keys) - 1, faces).round().astype(int)).tolist()


def _pictures(
    dataset: Dataset, subjects: Sequence[str], shown: Sequence[int], size: int
) -> list[np.ndarray]:
    source = dataset.source(dataset.rows(subjects))
    return [resize(decode_crop(source[row]["image"]), size) for row in shown]


def _cases(
    trained: Trained,
    dataset: Dataset,
    subjects: Sequence[str],
    answers: Answers,
    regions: FaceRegions,
    shown: Sequence[int],
    pictures: Sequence[np.ndarray],
) -> Iterator[Case]:
    """The units that are on, taught, predicted on, and whose region shows."""
    rows = dataset.rows(subjects)
    on = (answers.coded_labels == 1) & answers.active & answers.taught[None]
    for row, picture in zip(shown, pictures, strict=True):
        of_units = regions.of(int(rows[row]))
        for unit in np.flatnonzero(on[row]):
            region = cells(of_units[unit : unit + 1], picture.shape[:2])[1][0]
            if region.any():
                yield Case(row, int(unit), picture, region)


def _areas(
    cases: Sequence[Case],
    shown: Sequence[int],
    orders: Mapping[str, np.ndarray],
    before: np.ndarray,
    run: _Runner,
    scores: Describe,
) -> dict[str, dict[str, float]]:
    """Mean areas under the curves of deletion and insertion, by the order of the cells."""
    units = np.array([case.unit for case in cases], int)

    def probabilities(images: Iterable[np.ndarray], text: str) -> np.ndarray:
        """Of each case's unit, [cases, images of a case]."""
        found = run(scores, images, ("au_probabilities",), text)["au_probabilities"]
        found = found.reshape(len(cases), -1, found.shape[-1])
        return np.take_along_axis(found, units[:, None, None], 2)[..., 0]

    areas: dict[str, dict[str, float]] = {"deletion": {}, "insertion": {}}
    if not cases:
        return areas
    everything = np.ones(cases[0].region.shape, bool)
    none_left = probabilities((case.hidden(everything) for case in cases), "all hidden")[:, 0]
    grid = next(iter(orders.values())).shape[-2:] if orders else (STEPS, STEPS)
    for whose in (*orders, RANDOM):
        for kind in areas:
            images = (
                case.hidden(where if kind == "deletion" else ~where)
                for case in cases
                for where in _steps(_order(case, shown, orders.get(whose), grid), case, grid)
            )
            inner = probabilities(images, f"{kind}, {whose}")
            ends = (before, none_left) if kind == "deletion" else (none_left, before)
            curve = np.column_stack([ends[0], inner, ends[1]])
            areas[kind][whose] = _mean(np.trapezoid(curve, dx=1 / STEPS, axis=1))
    return areas


def _order(
    case: Case, shown: Sequence[int], maps: np.ndarray | None, grid: tuple[int, int]
) -> np.ndarray:
    """The cells from the map's highest to its lowest; at random without a map."""
    if maps is None:
        return np.random.default_rng([case.row, case.unit]).permutation(grid[0] * grid[1])
    return np.argsort(-maps[shown.index(case.row), case.unit].ravel(), kind="stable")


def _steps(order: np.ndarray, case: Case, grid: tuple[int, int]) -> Iterator[np.ndarray]:
    """Which pixels of the face the first cells are, bool [h, w], one seventh of them after another.

    Neither none nor all of the cells: those are the same for every order.
    """
    height, width = case.region.shape
    rows, columns = (np.arange(n) * k // n for n, k in zip((height, width), grid, strict=True))
    for step in range(1, STEPS):
        first = np.zeros(len(order), bool)
        first[order[: round(step * len(order) / STEPS)]] = True
        yield first.reshape(grid)[rows[:, None], columns[None]]


@dataclass(frozen=True)
class _Runner:
    """Runs a program on any number of faces, in batches of one size over all devices."""

    batch_size: int
    image_size: int
    mesh: Mesh

    def __call__(
        self, program: Describe, images: Iterable[np.ndarray], names: Sequence[str], text: str
    ) -> dict[str, np.ndarray]:
        """The named arrays that the program gives, in the order of the images."""
        own = local_rows(self.mesh, self.batch_size)
        found: dict[str, list[np.ndarray]] = {}
        left = iter(images)
        with tqdm(desc=text, unit="face", disable=not is_first_process()) as bar:
            while some := list(islice(left, self.batch_size)):
                batch = np.zeros((self.batch_size, self.image_size, self.image_size, 3), np.uint8)
                batch[: len(some)] = some
                split = shard_batch({"image": batch[own]}, self.mesh, self.batch_size)
                arrays = program(split["image"])
                arrays = fetch({name: arrays[name] for name in names if name in arrays})
                for name, values in arrays.items():
                    found.setdefault(name, []).append(values[: len(some)])
                bar.update(len(some))
        return {name: np.concatenate(values) for name, values in found.items()}


def states_on(prediction: Prediction, unit: int, reader: Reader) -> bool:
    """Whether the sentence about a unit states it on."""
    if prediction.sentences is None:
        return False
    fact = reader.stated(prediction.sentences[unit])
    return fact is not None and (fact.au, fact.active) == (prediction.aus[unit], True)


def _mean(values: np.ndarray) -> float:
    """The mean of the numbers that are defined; NaN without any."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else NAN
