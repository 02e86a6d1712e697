"""VL-FAU in PyTorch (arXiv 2408.00644): the network of this model folder, for use and training.

    from model import load          # this file, in the folder of config.json and model.safetensors
    network = load(".")             # a torch.nn.Module in evaluation mode
    answers = network.describe(faces)  # uint8 RGB [b, size, size, 3]
    logits = network(network.normalise(faces)).au_logits

It needs torch and safetensors. Every parameter has the name and the layout that it has in
model.safetensors, "backbone.norm.weight" for "backbone/norm/scale"; `load` reads float32, bfloat16
and int8 files, and `save` writes float32 ones. Dropout and drop path are left out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

PAD, START, END, UNK = range(4)
NORM_EPSILON = 1e-5
OWN_LENGTH = 64  # tokens of the sentence that `global_context` generates, <end> counted


def load(folder: str | Path) -> VLFAU:
    """The network of a model folder with its weights, in evaluation mode."""
    folder = Path(folder)
    config = json.loads((folder / "config.json").read_text())
    network = VLFAU(config)
    network.load_state_dict(to_state(load_file(folder / "model.safetensors")))
    return network.eval()


def save(network: VLFAU, file: str | Path) -> None:
    """Writes the weights as a model.safetensors: float32 tensors under the names of the folder."""
    tensors = {}
    for name, value in network.state_dict().items():
        room, _, leaf = name.rpartition(".")
        if leaf == "weight":
            leaf = "scale" if value.ndim == 1 else "kernel"
            value = value.permute(2, 3, 1, 0) if value.ndim == 4 else value.t()
        tensors[f"{room}.{leaf}".replace(".", "/")] = value.float().contiguous()
    save_file(tensors, file)


def to_state(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a model.safetensors as the network's state.

    PyTorch puts a kernel's outputs first; int8 tensors are multiplied by their scales.
    """
    state = {}
    for name, value in tensors.items():
        if name.endswith(".scale"):
            continue
        value = value.float() * tensors.get(f"{name}.scale", 1.0)
        room, _, leaf = name.replace("/", ".").rpartition(".")
        if leaf == "kernel" and room != "classifier":
            value = value.permute(3, 2, 0, 1) if value.ndim == 4 else value.t()
        if leaf == "scale" or (leaf == "kernel" and room != "classifier"):
            leaf = "weight"
        state[f"{room}.{leaf}"] = value.contiguous()
    return state


def to_windows(x: Tensor, window: int) -> Tensor:
    """[b, h, w, c] -> [b * windows, window**2, c]."""
    _, h, w, c = x.shape
    x = x.reshape(-1, h // window, window, w // window, window, c)
    return x.transpose(2, 3).reshape(-1, window * window, c)


def from_windows(windows: Tensor, window: int, h: int, w: int) -> Tensor:
    """Undoes `to_windows`."""
    x = windows.reshape(-1, h // window, w // window, window, window, windows.shape[-1])
    return x.transpose(2, 3).reshape(-1, h, w, windows.shape[-1])


def pad_to(x: Tensor, multiple: int) -> Tensor:
    """Pads [b, h, w, c] with zeros, below and right."""
    _, h, w, _ = x.shape
    return F.pad(x, (0, 0, 0, -w % multiple, 0, -h % multiple))


def position_index(window: int) -> Tensor:
    """Row of the table of relative positions for each pair of a window's cells."""
    cells = torch.cartesian_prod(torch.arange(window), torch.arange(window))
    offset = cells[:, None] - cells[None] + window - 1
    return offset[..., 0] * (2 * window - 1) + offset[..., 1]


def shift_mask(h: int, w: int, window: int, shift: int) -> Tensor:
    """0 where two cells of a shifted window belong together, else -100; [windows, n, n]."""

    def strip(size: int) -> Tensor:
        place = torch.arange(size)
        return (place >= size - window).long() + (place >= size - shift)

    regions = 3 * strip(h)[:, None] + strip(w)[None]
    regions = to_windows(regions[None, :, :, None], window)[..., 0]
    return torch.where(regions[:, :, None] != regions[:, None, :], -100.0, 0.0)


class Attention(nn.Module):
    """Attention inside windows, with a bias learned for each relative position."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))
        self.relative_position_bias = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.register_buffer("index", position_index(window), persistent=False)

    def forward(self, x: Tensor, shift: int) -> Tensor:
        """A map of whole windows [b, h, w, c] -> the same."""
        b, h, w, c = x.shape
        n = self.window**2
        x = to_windows(torch.roll(x, (-shift, -shift), (1, 2)), self.window)
        q, k, v = (
            part(x).reshape(-1, n, self.heads, c // self.heads).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        scores = (q * (c // self.heads) ** -0.5) @ k.transpose(-1, -2)
        scores = scores + self.relative_position_bias[self.index].permute(2, 0, 1)
        if shift:
            mask = shift_mask(h, w, self.window, shift).to(scores)
            scores = (scores.reshape(b, -1, *scores.shape[1:]) + mask[None, :, None]).flatten(0, 1)
        x = (scores.softmax(-1) @ v).transpose(1, 2).reshape(-1, n, c)
        x = from_windows(self.output(x), self.window, h, w)
        return torch.roll(x, (shift, shift), (1, 2))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, heads: int, window: int, shift: int, hidden: int) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm_attention = nn.LayerNorm(width, NORM_EPSILON)
        self.attention = Attention(width, heads, window)
        self.norm_mlp = nn.LayerNorm(width, NORM_EPSILON)
        self.mlp_in, self.mlp_out = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        _, h, w, _ = x.shape
        y = self.attention(pad_to(self.norm_attention(x), self.window), self.shift)
        x = x + y[:, :h, :w]
        return x + self.mlp_out(F.gelu(self.mlp_in(self.norm_mlp(x))))


class Merging(nn.Module):
    """Halves the grid and doubles the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width, NORM_EPSILON)
        self.reduce = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = pad_to(x, 2)
        x = torch.cat([x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)], -1)
        return self.reduce(self.norm(x))


class Embedding(nn.Module):
    """Image [b, 3, h, w] -> tokens [b, h / patch, w / patch, width]."""

    def __init__(self, o: dict[str, Any]) -> None:
        super().__init__()
        width, self.patch = o["backbone_width"], o["patch"]
        self.halvings = self.patch.bit_length() - 1 if o["stem"] == "conv" else 0  # of the sides
        widths = [3, *(width >> i for i in reversed(range(self.halvings)))]
        for i in range(self.halvings):
            self.add_module(f"conv{i}", nn.Conv2d(*widths[i : i + 2], 3, 2, 1))
            self.add_module(f"norm{i}", nn.GroupNorm(1, widths[i + 1], NORM_EPSILON))
        size, stride, pad = (3, 1, 1) if self.halvings else (self.patch, self.patch, 0)
        self.project = nn.Conv2d(widths[-1], width, size, stride, pad)
        self.norm = nn.LayerNorm(width, NORM_EPSILON)

    def forward(self, image: Tensor) -> Tensor:
        _, _, h, w = image.shape
        x = F.pad(image, (0, -w % self.patch, 0, -h % self.patch))
        for i in range(self.halvings):
            x = getattr(self, f"norm{i}")(getattr(self, f"conv{i}")(x))
            x = F.gelu(x, approximate="tanh")
        return self.norm(self.project(x).permute(0, 2, 3, 1))


class Swin(nn.Module):
    """The backbone (arXiv 2103.14030): image [b, 3, h, w] -> its four taps [b, h, w, c]."""

    def __init__(self, o: dict[str, Any], size: int) -> None:
        super().__init__()
        width, self.depths = o["backbone_width"], tuple(o["depths"])
        self.embedding = Embedding(o)
        side = -(-size // o["patch"])
        for stage, (depth, heads) in enumerate(zip(self.depths, o["heads"], strict=True)):
            if stage:
                self.add_module(f"merge{stage}", Merging(width))
                width, side = 2 * width, -(-side // 2)
            # A map no larger than the window is one window, unshifted.
            window = min(o["window"], side)
            shift = window // 2 if side > o["window"] else 0
            for i in range(depth):
                block = Block(width, heads, window, shift * (i % 2), int(width * o["mlp_ratio"]))
                self.add_module(f"stage{stage}_block{i}", block)
        self.norm = nn.LayerNorm(width, NORM_EPSILON)

    def forward(self, image: Tensor) -> list[Tensor]:
        x, taps = self.embedding(image), []
        for stage, depth in enumerate(self.depths):
            if stage:
                x = getattr(self, f"merge{stage}")(x)
                taps.append(x)
            for i in range(depth):
                x = getattr(self, f"stage{stage}_block{i}")(x)
        return [*taps, self.norm(x)]


class Fusion(nn.Module):
    """Multi-scale combination: pools the chosen taps to one grid and joins them."""

    def __init__(self, o: dict[str, Any]) -> None:
        super().__init__()
        self.taps, self.grid, self.pooling = tuple(o["taps"]), o["grid"], o["pooling"]
        for tap in self.taps:
            channels = o["backbone_width"] * (2, 4, 8, 8)[tap - 1]
            self.add_module(f"tap{tap - 1}", nn.Conv2d(channels, o["width"], 3, padding=1))
        self.fuse = nn.Linear(len(self.taps) * o["width"], o["width"])

    def forward(self, taps: list[Tensor]) -> Tensor:
        """The taps [b, h, w, c] -> F [b, h, w, d]."""
        grid = (self.grid, self.grid) if self.grid else taps[-1].shape[1:3]
        pool = F.adaptive_max_pool2d if self.pooling == "max" else F.adaptive_avg_pool2d
        scales = [
            getattr(self, f"tap{tap - 1}")(pool(taps[tap - 1].permute(0, 3, 1, 2), grid))
            for tap in self.taps
        ]
        return self.fuse(torch.cat(scales, 1).permute(0, 2, 3, 1))


class Refinement(nn.Module):
    """DAIR: one attention-refined map for each of n units, whose parameters are stacked."""

    def __init__(self, o: dict[str, Any], n: int) -> None:
        super().__init__()
        d, kind = o["width"], o["refinement"]
        self.sigmoid, self.branches, r = o["spatial_sigmoid"], n, max(1, d // o["reduction"])
        self.prefixes = ()
        if kind in ("both", "channel"):
            self.prefixes = ("", "") if o["channel_mlp"] == "shared" else ("", "average_")
        for prefix in {*self.prefixes}:
            for name, shape in (("squeeze", (n, d, r)), ("excite", (n, r, d))):
                self.register_parameter(prefix + name, nn.Parameter(torch.zeros(shape)))
                bias = nn.Parameter(torch.zeros(n, shape[-1]))
                self.register_parameter(f"{prefix}{name}_bias", bias)
        self.has_spatial = kind in ("both", "spatial")
        if self.has_spatial:
            self.spatial = nn.Parameter(torch.zeros(n, 3, 3, 2))
            self.spatial_bias = nn.Parameter(torch.zeros(n))

    def _mlp(self, x: Tensor, prefix: str) -> Tensor:
        w1, w2 = (getattr(self, prefix + name) for name in ("squeeze", "excite"))
        b1, b2 = (getattr(self, f"{prefix}{name}_bias") for name in ("squeeze", "excite"))
        hidden = torch.relu(torch.einsum("bd,ndr->bnr", x, w1) + b1)
        return torch.einsum("bnr,nrd->bnd", hidden, w2) + b2

    def forward(self, stem: Tensor) -> tuple[Tensor, Tensor]:
        """F [b, h, w, d] -> F_i [b, n, h, w, d], spatial maps [b, n, h, w]."""
        n = self.branches
        x = stem[:, None].expand(-1, n, -1, -1, -1)
        if self.prefixes:
            pooled = stem.amax((1, 2)), stem.mean((1, 2))
            scores = [self._mlp(y, name) for y, name in zip(pooled, self.prefixes, strict=True)]
            x = x * torch.sigmoid(sum(scores))[:, :, None, None]
        if not self.has_spatial:
            return x, torch.ones_like(x[..., 0])
        pooled = torch.stack([x.amax(-1), x.mean(-1)], 2).flatten(1, 2)
        kernel = self.spatial.permute(0, 3, 1, 2)
        maps = F.conv2d(pooled, kernel, self.spatial_bias, padding=1, groups=n)
        maps = torch.sigmoid(maps) if self.sigmoid else maps
        return x * maps[..., None], maps


class Classifier(nn.Module):
    """A linear logit for each unit, of its map's mean and of the context, if there is one."""

    def __init__(self, d: int, n: int, context: bool) -> None:
        super().__init__()
        self.kernel, self.bias = nn.Parameter(torch.zeros(n, d)), nn.Parameter(torch.zeros(n))
        if context:
            self.context_kernel = nn.Parameter(torch.zeros(n, d))

    def forward(self, refined: Tensor, context: Tensor | None) -> Tensor:
        logits = (refined.mean((2, 3)) * self.kernel).sum(-1) + self.bias
        return logits if context is None else logits + context @ self.context_kernel.t()


State = tuple[Tensor, Tensor]  # hidden and cell, both [b, n, hidden]
Memory = tuple[Tensor, ...]  # features, their keys, the gates of all words, and those added to all


class Captioner(nn.Module):
    """A word-level LSTM with soft attention (after arXiv 1502.03044), of some `units` or the face.

    Rows are [b, n]: n maps of each face, each with its own decoder where they are stacked.
    """

    def __init__(self, o: dict[str, Any], words: int, units: int = 0) -> None:
        super().__init__()
        d, e, h, a = o["width"], o["word_embedding"], o["hidden"], o["attention"]
        self.stacked = bool(units) and o["local_captioner"] == "per_au"
        self.told = bool(units) and o["told_scores"]
        lead = (units,) if self.stacked else ()
        size = {"words": e, "context": d, "features": d, "mean": d, "hidden": h, "cell": h}
        size |= {"attention": a, "gates": 4 * h, "logits": words}
        ends = {"gates": ("words", "context", "hidden"), "attention": ("features", "hidden")}
        ends |= {"hidden": ("mean",), "cell": ("mean",), "logits": ("hidden",)}
        shapes = {f"{i}_to_{o}": [size[i], size[o]] for o, inputs in ends.items() for i in inputs}
        biases = ("gates", "attention", "hidden", "cell", "logits")
        shapes |= {f"{name}_bias": [size[name]] for name in biases}
        shapes |= {"words": [words, e], "attention_to_score": [a]}
        shapes |= {"score": [e]} if self.told else {}
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(*lead, *shape)))
        self.aus = nn.Parameter(torch.zeros(units, e)) if units and o["au_embedding"] else None

    def _linear(self, x: Tensor, name: str, bias: str = "") -> Tensor:
        """X [b, n, ..., i] times a matrix [i, o] or matrices [n, i, o]."""
        matrix = getattr(self, name)
        y = torch.einsum("bn...i,nio->bn...o" if self.stacked else "bn...i,io->bn...o", x, matrix)
        return y + self._bias(y, bias) if bias else y

    def _bias(self, y: Tensor, name: str) -> Tensor:
        bias = getattr(self, name)
        return bias.reshape(-1, *(1,) * (y.ndim - 3), bias.shape[-1]) if self.stacked else bias

    def start(self, features: Tensor, told: Tensor | None) -> tuple[Memory, State]:
        """What words of maps [b, n, p, d] attend to, of which they are told [b, n], and a state."""
        keys = self._linear(features, "features_to_attention", "attention_bias")
        mean = features.mean(2)
        state = [self._linear(mean, f"mean_to_{x}", f"{x}_bias") for x in ("hidden", "cell")]
        gates = self.words @ self.words_to_gates + self.gates_bias[..., None, :]
        added = torch.zeros(()) if self.aus is None else self.aus @ self.words_to_gates
        if self.told:
            vector = self.score.unsqueeze(-2) @ self.words_to_gates  # [1, 4h], or [n, 1, 4h]
            added = added + told[..., None] * vector.flatten(0, -2)
        return (features, keys, gates, added), tuple(state)

    def step(self, memory: Memory, state: State, word: Tensor) -> tuple[State, Tensor, Tensor]:
        """One step after words [b, n]: state, logits of the next [b, n, v], attention [b, n, p]."""
        features, keys, gates, added = memory
        hidden, cell = state
        query = self._linear(hidden, "hidden_to_attention")
        scores = torch.relu(query[:, :, None] + keys) * self._bias(keys, "attention_to_score")
        weights = scores.sum(-1).softmax(-1)
        context = (weights[..., None] * features).sum(2)
        own = (torch.arange(len(gates), device=word.device), word) if self.stacked else word
        x = self._linear(context, "context_to_gates") + self._linear(hidden, "hidden_to_gates")
        x = x + gates[own] + added
        i, f, g, o = x.chunk(4, -1)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        hidden = torch.sigmoid(o) * torch.tanh(cell)
        return (hidden, cell), self._linear(hidden, "hidden_to_logits", "logits_bias"), weights

    def forward(self, features: Tensor, tokens: Tensor, told: Tensor | None) -> tuple[Tensor, ...]:
        """Teacher forcing along tokens [b, n, t]: logits [b, n, t-1, v], attention [..., p]."""
        memory, state = self.start(features, told)
        steps = []
        for word in tokens[..., :-1].unbind(-1):
            state, *step = self.step(memory, state, word)
            steps.append(step)
        return tuple(torch.stack(values, 2) for values in zip(*steps, strict=True))

    @torch.no_grad()
    def greedy(self, features: Tensor, steps: int, told: Tensor | None) -> tuple[Tensor, ...]:
        """The likeliest word each time, at most `steps` with <end>.

        Tokens [b, n, steps], padded after <end>; their attention [b, n, steps, p]; the mean
        log-probability of the words [b, n].
        """
        memory, state = self.start(features, told)
        b, n, p, _ = features.shape
        word = torch.full((b, n), START, device=features.device)
        tokens = torch.full((b, n, steps), PAD, device=features.device)
        attention = features.new_zeros(b, n, steps, p)
        total, count, ended = features.new_zeros(b, n), features.new_zeros(b, n), word == END
        for t in range(steps):
            if ended.all():
                break
            state, logits, weights = self.step(memory, state, word)
            allowed = logits.clone()
            allowed[..., [PAD, START, UNK]] = -torch.inf
            best, word = allowed.max(-1)
            word = word.masked_fill(ended, PAD)
            tokens[:, :, t] = word
            attention[:, :, t] = weights.masked_fill(ended[..., None], 0.0)
            total += (best - logits.logsumexp(-1)).masked_fill(ended, 0.0)
            count += ~ended
            ended = ended | (word == END)
        return tokens, attention, total / count.clamp(min=1)


@dataclass
class Outputs:
    """Of a pass: au_logits [b, n], spatial_maps [b, n, h, w], F, F_i.

    For given sentences also the logits of their words [b, n, t-1, v], [b, t'-1, v].
    """

    au_logits: Tensor
    spatial_maps: Tensor
    stem: Tensor
    refined: Tensor
    local_logits: Tensor | None = None
    global_logits: Tensor | None = None


def scored(au_logits: Tensor) -> Tensor:
    """What a sentence hears of its unit: 1 where it is scored active (p >= 0.5), else -1."""
    return torch.where(au_logits >= 0, 1.0, -1.0)


class VLFAU(nn.Module):
    """The network that a config.json describes."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.options = o = config["model"]
        self.units = n = len(config["aus"])
        self.lengths, words = config["sentence_lengths"], config["vocabulary_size"]
        self.backbone = Swin(o, config["image_size"])
        self.fusion, self.refinement = Fusion(o), Refinement(o, n)
        self.classifier = Classifier(o["width"], n, o["global_context"])
        self.local_captioner = Captioner(o, words, n) if o["local_captions"] else None
        self.global_captioner = Captioner(o, words) if o["global_captions"] else None
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(config["normalisation"][name]), False)

    def normalise(self, faces: Tensor) -> Tensor:
        """RGB uint8 [b, h, w, 3] -> what `forward` takes, float32 [b, 3, h, w]."""
        return ((faces.float() / 255 - self.mean) / self.std).permute(0, 3, 1, 2)

    def forward(
        self,
        pixel_values: Tensor,
        local_tokens: Tensor | None = None,
        global_tokens: Tensor | None = None,
        told: Tensor | None = None,
    ) -> Outputs:
        """Logits of units, of normalised [b, 3, h, w], and of the words of given sentences.

        Those are [b, n, t] and [b, t'], with <start> and <end>. With `told_scores`, `told` [b, n]
        is what a unit's sentence hears: 1 active, -1 inactive, 0 nothing; None is what is scored.
        """
        stem = self.fusion(self.backbone(pixel_values))
        refined, maps = self.refinement(stem)
        context = self._own_context(stem) if self.options["global_context"] else None
        outputs = Outputs(self.classifier(refined, context), maps, stem, refined)
        if local_tokens is not None:
            told = scored(outputs.au_logits) if told is None else told
            features = refined.flatten(2, 3)
            outputs.local_logits, _ = self.local_captioner(features, local_tokens, told)
        if global_tokens is not None:
            rows = stem.flatten(1, 2)[:, None], global_tokens[:, None]
            outputs.global_logits = self.global_captioner(*rows, None)[0][:, 0]
        return outputs

    def _own_context(self, stem: Tensor) -> Tensor:
        """The global decoder's mean context over the words of its own greedy sentence."""
        features = stem.flatten(1, 2)[:, None]
        tokens, _, _ = self.global_captioner.greedy(features, OWN_LENGTH, None)
        words = torch.cat([torch.full_like(tokens[..., :1], START), tokens], -1)
        _, attention = self.global_captioner(features, words, None)  # which has a gradient
        said = (tokens != PAD)[..., None]
        return (((attention * said).sum(2) / said.sum(2))[..., None] * features).sum((1, 2))

    @torch.no_grad()
    def describe(self, faces: Tensor) -> dict[str, Tensor]:
        """The arrays that config.json lists under program.outputs, of uint8 [b, h, w, 3]."""
        outputs = self(self.normalise(faces))
        maps = {"spatial_maps": outputs.spatial_maps} if self.refinement.has_spatial else {}
        answers = {"au_probabilities": torch.sigmoid(outputs.au_logits), **maps}
        for name, captioner, features in (
            ("local", self.local_captioner, outputs.refined.flatten(2, 3)),
            ("global", self.global_captioner, outputs.stem.flatten(1, 2)[:, None]),
        ):
            if captioner is None:
                continue
            told = scored(outputs.au_logits) if name == "local" else None
            tokens, attention, scores = captioner.greedy(features, self.lengths[name], told)
            attention = attention.unflatten(-1, outputs.stem.shape[1:3])
            found = {"tokens": tokens.int(), "attention": attention, "scores": scores}
            rows = slice(None) if name == "local" else 0
            answers |= {f"{name}_{key}": value[:, rows] for key, value in found.items()}
        return answers
