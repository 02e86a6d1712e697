"""FLOPs of the network, part by part, for one image: counted from its options, not measured.

Only products count, 2 FLOP for a multiplication with its addition: matrix products, convolutions,
contractions. Norms, softmax, GELU and other work element by element are left out, as is usual where
a utilisation is stated (arXiv 2204.02311, appendix B). What padding adds counts where the program
computes it: windows that reach over a map's edge, a convolution's border.

Training computes every product once in the forward pass and twice in the backward pass, once for
the gradient of each factor: 3 times forward. It is less where a factor has no gradient:

- the embedding's image has none, nor have MSC's averaging matrices: 2 times;
- a frozen backbone is not differentiated: 1 time, and MSC's taps then have no gradient either;
- the words that `global_context` generates have none: 1 time.

The captioners' recurrence has a gradient of its own (`_words`). What is computed again is no work
of the network and stands apart (`Flops.recomputed`): the recurrence's queries; with `remat` "full"
all products of a part but its last, which the backward pass does not read; with "dots" those of
attention but its output, and those of weights that are stacked by action unit.
"""

from __future__ import annotations

from dataclasses import dataclass

from vlfau_jax.account.parts import PARTS
from vlfau_jax.losses.joint import ObjectiveOptions
from vlfau_jax.model.options import ModelOptions


@dataclass(frozen=True)
class Flops:
    """FLOPs for one image.

    Attributes:
        forward: of the network's outputs.
        training: of a training step, forward included.
        recomputed: what a training step computes again instead of keeping it.
    """

    forward: float = 0.0
    training: float = 0.0
    recomputed: float = 0.0

    def __add__(self, other: Flops) -> Flops:
        return Flops(
            self.forward + other.forward,
            self.training + other.training,
            self.recomputed + other.recomputed,
        )


@dataclass(frozen=True)
class Task:
    """What the options of the network leave open.

    Attributes:
        image_size: pixels along a side.
        au_count: action units.
        vocabulary: words.
        local_tokens: tokens of a unit's sentence, <start> included: one less is predicted.
        global_tokens: the same of the sentence for the whole face.
        batch: images computed at once, which share what is computed once for the vocabulary.
        own_words: words that `global_context` generates at most (`VLFAU.max_own_words`).
    """

    image_size: int
    au_count: int
    vocabulary: int
    local_tokens: int
    global_tokens: int
    batch: int = 64
    own_words: int = 63


def flops(
    options: ModelOptions,
    task: Task,
    objective: ObjectiveOptions | None = None,
    frozen: tuple[str, ...] = (),
) -> dict[str, Flops]:
    """FLOPs of every part of the network, by its name in `PARTS`, in their order.

    Args:
        options: the network.
        task: the sizes of pictures, labels and sentences.
        objective: for its `local_branches`, and captions without weight, which are not computed;
            None for all sentences.
        frozen: modules that are not trained.
    """
    found = _backbone(options, task, trained="backbone" not in frozen)
    found["MSC"] = _fusion(options, task, trained="backbone" not in frozen)
    found["DAIR"] = _refinement(options, task)
    terms = 1 + options.global_context
    found["classifier"] = _trained(terms * task.au_count * options.width)
    for name, count in (("local", _local), ("global", _global)):
        if name in options.captions:
            found[f"{name} captioner"] = count(options, task, objective)
    return {part: found[part] for part in PARTS if part in found}


def total(parts: dict[str, Flops]) -> Flops:
    """Of the whole network."""
    return sum(parts.values(), Flops())


def recognition(parts: dict[str, Flops]) -> Flops:
    """Of the network without its captions."""
    return sum((f for part, f in parts.items() if not part.endswith("captioner")), Flops())


def table(parts: dict[str, Flops]) -> str:
    """The parts as a table in Markdown, in GFLOP an image, with their share of training."""
    whole = total(parts)
    rows = ["| part | forward | training | share |", "|---|---:|---:|---:|"]
    for name, one in (*parts.items(), ("in all", whole)):
        share = one.training / whole.training
        rows.append(
            f"| {name} | {one.forward / 1e9:.3f} | {one.training / 1e9:.3f} | {share:.1%} |"
        )
    return "\n".join(rows)


def map_sizes(options: ModelOptions, image_size: int) -> tuple[int, int, int, int]:
    """Cells along a side of the four stages' maps."""
    sizes = [-(-image_size // options.patch)]
    for _ in range(3):
        sizes.append(-(-sizes[-1] // 2))
    return tuple(sizes)


def stem_grid(options: ModelOptions, image_size: int) -> int:
    """Cells along a side of F."""
    return options.grid or map_sizes(options, image_size)[-1]


def _times(multiplications: float, training: int, again: float = 0.0) -> Flops:
    """`again` are the multiplications that the backward pass computes once more."""
    return Flops(2.0 * multiplications, 2.0 * multiplications * training, 2.0 * again)


def _trained(multiplications: float, again: float = 0.0) -> Flops:
    return _times(multiplications, 3, again)


def _backbone(options: ModelOptions, task: Task, trained: bool) -> dict[str, Flops]:
    times = 3 if trained else 1
    sizes = map_sizes(options, task.image_size)
    found = {"embedding": _embedding(options, sizes[0], trained)}
    merges = 0
    for stage, (size, depth) in enumerate(zip(sizes, options.depths, strict=True)):
        c = options.backbone_width << stage
        window = min(options.window, size)
        padded = (-(-size // window) * window) ** 2  # cells of all windows
        weights = padded * 2 * window**2 * c  # scores and values
        attention = padded * 4 * c * c + weights  # queries, keys, values and output
        mlp = size**2 * c * int(c * options.mlp_ratio)  # twice
        kept = attention - padded * c * c  # all but the output, which is kept
        again = {"none": (0, 0), "dots": (kept, 0), "full": (attention, mlp)}[options.remat]
        for half, count, once_more in zip(
            ("attention", "mlp"), (attention, 2 * mlp), again, strict=True
        ):
            once_more *= depth * trained
            found[f"stage {stage + 1} {half}"] = _times(depth * count, times, once_more)
        if stage:
            merges += size**2 * (2 * c) * c  # four neighbours of width c/2
    found["merges"] = _times(merges, times)
    return found


def _embedding(options: ModelOptions, size: int, trained: bool) -> Flops:
    width, patch = options.backbone_width, options.patch
    if options.stem == "patch":
        return _times(size**2 * patch**2 * 3 * width, 2 if trained else 1)
    halvings = patch.bit_length() - 1
    channels = [3, *(width >> (halvings - 1 - i) for i in range(halvings)), width]
    sides = [size << (halvings - 1 - i) for i in range(halvings)] + [size]
    found = Flops()
    for i, side in enumerate(sides):
        times = (2 if i == 0 else 3) if trained else 1
        found += _times(side**2 * 9 * channels[i] * channels[i + 1], times)
    return found


def _fusion(options: ModelOptions, task: Task, trained: bool) -> Flops:
    sizes = map_sizes(options, task.image_size)
    grid, width = stem_grid(options, task.image_size), options.width
    found = _trained(grid**2 * len(options.taps) * width * width)
    for tap in options.taps:
        stage = min(tap, 3)  # taps 3 and 4 both have the last stage's map
        size, c = sizes[stage], options.backbone_width << stage
        if options.pooling == "average" and size % grid:  # equal cells are a mean
            found += _pooling(size, grid, c, task.batch, trained)
        found += _times(grid**2 * 9 * c * width, 3 if trained else 2)
    return found


def _pooling(size: int, grid: int, c: int, batch: int, trained: bool) -> Flops:
    """Rows, then columns, or both by one matrix, which images share: what is less, as einsum does.

    The matrices are constants: the backward pass is the gradient of the map alone.
    """
    times = 2 if trained else 1
    in_turn = grid * size * size * c + grid * grid * size * c
    both, matrix = (grid * size) ** 2 * c, (grid * size) ** 2 / batch
    if in_turn <= both + matrix:
        return _times(in_turn, times)
    return _times(both, times) + _times(matrix, 1)


def _refinement(options: ModelOptions, task: Task) -> Flops:
    n, d, cells = task.au_count, options.width, stem_grid(options, task.image_size) ** 2
    squeeze = excite = spatial = 0
    if options.refinement in ("both", "channel"):
        # Two pooled features; where they share an MLP, its second layer takes their sum.
        each = n * d * max(1, d // options.reduction)
        squeeze, excite = 2 * each, each * (1 if options.channel_mlp == "shared" else 2)
    if options.refinement in ("both", "spatial"):
        spatial = n * cells * 9 * 2
    both = excite + spatial  # of weights stacked by action unit
    again = {"none": 0, "dots": both, "full": squeeze + both}[options.remat]
    return _trained(squeeze + both, again)


def _bound(options: ModelOptions, task: Task, sentences: int, decoders: int) -> float:
    """A captioner bound to feature maps: keys, first states, the words' share of the gates."""
    d, cells = options.width, stem_grid(options, task.image_size) ** 2
    keys = sentences * cells * d * options.attention
    states = sentences * 2 * d * options.hidden
    gates = task.vocabulary * options.word_embedding * 4 * options.hidden
    return keys + states + decoders * gates / task.batch


def _words(options: ModelOptions, task: Task, words: int, trained: bool) -> Flops:
    """Some words of one sentence, without their logits (`recurrence`).

    The backward pass has no product with relu's derivative, which is added up, but one for the
    gradient of the words' table.
    """
    d, h, a = options.width, options.hidden, options.attention
    cells = stem_grid(options, task.image_size) ** 2
    query, scores, context, gates = h * a, cells * a, cells * d, (d + h) * 4 * h
    forward = query + scores + context + gates
    if not trained:
        return _times(words * forward, 1)
    backward = 2 * (query + context + gates) + task.vocabulary * 4 * h
    training = 2.0 * words * (forward + backward)
    return Flops(2.0 * words * forward, training, 2.0 * words * query)


def _logits(options: ModelOptions, task: Task) -> float:
    return options.hidden * task.vocabulary


def _local(options: ModelOptions, task: Task, objective: ObjectiveOptions | None) -> Flops:
    per_au = options.local_captioner == "per_au"

    def found(sentences: int, trained: bool) -> Flops:
        if not sentences:
            return Flops()
        once = _bound(options, task, sentences, sentences if per_au else 1)
        if options.au_embedding or options.told_scores:
            once += sentences * options.word_embedding * 4 * options.hidden
        words = sentences * (task.local_tokens - 1)
        once += words * _logits(options, task)
        return _times(once, 3 if trained else 1) + _words(options, task, words, trained)

    trained = task.au_count
    if objective is not None:
        trained = min(objective.local_branches or trained, trained) * (objective.local_weight > 0)
    step = found(trained, True)
    return Flops(found(task.au_count, False).forward, step.training, step.recomputed)


def _global(options: ModelOptions, task: Task, objective: ObjectiveOptions | None) -> Flops:
    logits = _logits(options, task)
    trained = objective is None or objective.global_weight > 0
    words = task.global_tokens - 1
    found = _times(_bound(options, task, 1, 1) + words * logits, 3 if trained else 1)
    found += _words(options, task, words, trained)
    if not trained:
        found = Flops(found.forward)
    if options.global_context:
        words = task.own_words + 1
        cells = stem_grid(options, task.image_size) ** 2
        found += _words(options, task, words, False) + _times(words * logits, 1)
        found += _trained(_bound(options, task, 1, 1) + cells * options.width)
        found += _words(options, task, words, True)
    return found
