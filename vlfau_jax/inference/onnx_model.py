"""The network as an ONNX graph: the arrays of `outputs.OUTPUTS`, its sentences found greedily.

Written out operator by operator from the options, for float32: neither jax nor another framework is
in the way, and every operator is one that all runtimes have. The sentences are made by a `Loop` in
the graph. The parameters keep the names of the weights file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from vlfau_jax.data.text.vocabulary import END, PAD, START
from vlfau_jax.inference.onnx_graph import Graph, Value
from vlfau_jax.inference.weights import SCALE
from vlfau_jax.model import windows
from vlfau_jax.model.decoding import NEVER_GENERATED
from vlfau_jax.model.fusion import pooling_cells, pooling_matrix
from vlfau_jax.model.options import ModelOptions
from vlfau_jax.model.swin import NORM_EPSILON
from vlfau_jax.model.vlfau import IMAGE_MEAN, IMAGE_STD

IMAGE, SENTENCES = "image", "sentences"  # the names of its inputs


class OnnxModel:
    """Builds the graph; feature maps are [b, h, w, c] as in `model`, with h, w, c known."""

    def __init__(
        self, options: ModelOptions, weights: Mapping[str, np.ndarray], units: int, size: int
    ) -> None:
        self.options, self.weights, self.units, self.size = options, weights, units, size
        self.graph = Graph()

    def build(self, lengths: Mapping[str, int], own_length: int, words: int) -> onnx.ModelProto:
        """The model for sentences of `lengths` tokens, "local" and "global", <end> counted.

        `own_length` is that of the sentence that `options.global_context` generates.
        """
        g, o, n = self.graph, self.options, self.units
        never = np.zeros(words, np.float32)
        never[list(NEVER_GENERATED)] = -np.inf
        self.never = g.constant(never)
        scaled = g.Div(g.cast(IMAGE, "float32"), 255.0)
        mean, std = np.float32(IMAGE_MEAN), np.float32(IMAGE_STD)
        stem, h, w = self._fusion(self._swin(g.Div(g.Sub(scaled, mean), std)))
        refined, maps = self._refinement(stem, h, w)
        whole = g.reshape(stem, 0, 1, h * w, o.width)
        context = self._own_context(whole, own_length, h * w) if o.global_context else None
        logits = self._classifier(refined, context)
        outputs = {"au_probabilities": (g.Sigmoid(logits), "float32", ("b", n))}
        if maps is not None:
            outputs["spatial_maps"] = (maps, "float32", ("b", n, h, w))
        asked = g.cast(SENTENCES, "int64") if o.captions else ""
        for name, features, rows in (
            ("local", g.reshape(refined, 0, n, h * w, o.width), (n,)),
            ("global", whole, ()),
        ):
            if name not in o.captions:
                continue
            t = lengths[name]
            steps = g.Mul(asked, t)
            # Only the decoder of local sentences has a vector for it, with `told_scores`.
            told = g.Where(g.GreaterOrEqual(logits, 0.0), 1.0, -1.0)
            found = self._greedy(
                f"{name}_captioner", features, steps, t, n if rows else 1, h * w, told
            )
            for key, value, dtype, shape in zip(
                ("tokens", "attention", "scores"),
                found,
                ("int32", "float32", "float32"),
                ((t,), (t, h, w), ()),
                strict=True,
            ):
                value = g.reshape(value, 0, *rows, *shape)
                # Of no face, where no sentence is asked for.
                outputs[f"{name}_{key}"] = (value, dtype, (f"{name}_b", *rows, *shape))
        inputs = {IMAGE: ("uint8", ("b", self.size, self.size, 3))}
        if o.captions:
            inputs[SENTENCES] = ("bool", ())
        return g.model(inputs, outputs, "VL-FAU; config.json and README.md say what it gives")

    def _weight(self, name: str) -> Value:
        """A parameter in float32, whatever the file holds."""
        g, value = self.graph, self.weights[name]
        g.constant(value, name)
        if value.dtype == np.int8:
            # The scales are those of the last axis, and for stacked matrices of the first one, too.
            g.constant(self.weights[name + SCALE], name + SCALE)
            return g.Mul(g.cast(name, "float32"), name + SCALE)
        return name if value.dtype == np.float32 else g.cast(name, "float32")

    def _linear(self, x: Value, name: str, bias: bool = True) -> Value:
        g = self.graph
        y = g.MatMul(x, self._weight(f"{name}/kernel"))
        return g.Add(y, self._weight(f"{name}/bias")) if bias else y

    def _layer_norm(self, x: Value, name: str) -> Value:
        return self.graph.LayerNormalization(
            x,
            self._weight(f"{name}/scale"),
            self._weight(f"{name}/bias"),
            axis=-1,
            epsilon=NORM_EPSILON,
        )

    def _convolution(self, x: Value, name: str, stride: int = 1, pad: int = 1) -> Value:
        """Of [b, c, h, w]."""
        g = self.graph
        kernel = g.Transpose(self._weight(f"{name}/kernel"), perm=[3, 2, 0, 1])
        sides = {"strides": [stride] * 2, "pads": [pad] * 4}
        return g.Conv(x, kernel, self._weight(f"{name}/bias"), **sides)

    def _pad(self, x: Value, h: int, w: int, multiple: int) -> tuple[Value, int, int]:
        """Zeros below and right; the new height and width."""
        below, right = -h % multiple, -w % multiple
        if below or right:
            x = self.graph.Pad(x, [0, 0, 0, 0, 0, below, right, 0])
        return x, h + below, w + right

    def _swin(self, image: Value) -> list[tuple[Value, int, int]]:
        """The backbone's taps, each with its height and width."""
        o = self.options
        x, h, w = self._embedding(image)
        taps = []
        for stage, depth in enumerate(o.depths):
            if stage:
                x, h, w = self._merge(x, h, w, f"backbone/merge{stage}")
                taps.append((x, h, w))
            window = min(o.window, h, w)
            shift = window // 2 if min(h, w) > o.window else 0
            for i in range(depth):
                name = f"backbone/stage{stage}_block{i}"
                x = self._block(x, h, w, name, stage, window, shift * (i % 2))
        return [*taps, (self._layer_norm(x, "backbone/norm"), h, w)]

    def _embedding(self, image: Value) -> tuple[Value, int, int]:
        g, o = self.graph, self.options
        x, h, w = self._pad(image, self.size, self.size, o.patch)
        x = g.Transpose(x, perm=[0, 3, 1, 2])
        if o.stem == "patch":
            x = self._convolution(x, "backbone/embedding/project", o.patch, 0)
        else:
            for i in range(o.patch.bit_length() - 1):
                x = self._convolution(x, f"backbone/embedding/conv{i}", 2)
                x = g.GroupNormalization(
                    x,
                    self._weight(f"backbone/embedding/norm{i}/scale"),
                    self._weight(f"backbone/embedding/norm{i}/bias"),
                    num_groups=1,
                    epsilon=NORM_EPSILON,
                )
                x = g.Gelu(x, approximate="tanh")
            x = self._convolution(x, "backbone/embedding/project")
        x = self._layer_norm(g.Transpose(x, perm=[0, 2, 3, 1]), "backbone/embedding/norm")
        return x, h // o.patch, w // o.patch

    def _merge(self, x: Value, h: int, w: int, name: str) -> tuple[Value, int, int]:
        g = self.graph
        x, h, w = self._pad(x, h, w, 2)
        parts = [g.slice(g.slice(x, 1, i, h, 2), 2, j, w, 2) for j in (0, 1) for i in (0, 1)]
        x = self._layer_norm(g.Concat(*parts, axis=-1), f"{name}/norm")
        return self._linear(x, f"{name}/reduce", bias=False), h // 2, w // 2

    def _block(
        self, x: Value, h: int, w: int, name: str, stage: int, window: int, shift: int
    ) -> Value:
        g = self.graph
        y, high, wide = self._pad(self._layer_norm(x, f"{name}/norm_attention"), h, w, window)
        y = self._attention(y, high, wide, f"{name}/attention", stage, window, shift)
        if (high, wide) != (h, w):
            y = g.slice(g.slice(y, 1, 0, h), 2, 0, w)
        x = g.Add(x, y)
        y = g.Gelu(self._linear(self._layer_norm(x, f"{name}/norm_mlp"), f"{name}/mlp_in"))
        return g.Add(x, self._linear(y, f"{name}/mlp_out"))

    def _roll(self, x: Value, axis: int, size: int, shift: int) -> Value:
        """Moves cells `shift` to the left, around; negative to the right."""
        g = self.graph
        first = shift % size
        return g.Concat(g.slice(x, axis, first, size), g.slice(x, axis, 0, first), axis=axis)

    def _attention(
        self, x: Value, h: int, w: int, name: str, stage: int, window: int, shift: int
    ) -> Value:
        g, heads = self.graph, self.options.heads[stage]
        c, n = self.options.backbone_width << stage, window * window
        if shift:
            x = self._roll(self._roll(x, 1, h, shift), 2, w, shift)
        x = g.reshape(x, -1, h // window, window, w // window, window, c)
        x = g.reshape(g.Transpose(x, perm=[0, 1, 3, 2, 4, 5]), -1, n, c)
        q, k, v = (
            g.Transpose(
                g.reshape(self._linear(x, f"{name}/{part}"), -1, n, heads, c // heads),
                perm=[0, 2, 3, 1] if part == "key" else [0, 2, 1, 3],
            )
            for part in ("query", "key", "value")
        )
        scores = g.MatMul(g.Mul(q, (c // heads) ** -0.5), k)
        index = windows.relative_position_index(window).astype(np.int64)
        bias = g.Gather(self._weight(f"{name}/relative_position_bias"), index, axis=0)
        scores = g.Add(scores, g.Transpose(bias, perm=[2, 0, 1]))
        if shift:
            mask = windows.shift_mask(h, w, window, shift)[None, :, None]
            scores = g.Add(g.reshape(scores, -1, mask.shape[1], heads, n, n), mask)
            scores = g.reshape(scores, -1, heads, n, n)
        x = g.Transpose(g.MatMul(g.Softmax(scores, axis=-1), v), perm=[0, 2, 1, 3])
        x = self._linear(g.reshape(x, -1, n, c), f"{name}/output")
        x = g.reshape(x, -1, h // window, w // window, window, window, c)
        x = g.reshape(g.Transpose(x, perm=[0, 1, 3, 2, 4, 5]), -1, h, w, c)
        return self._roll(self._roll(x, 1, h, -shift), 2, w, -shift) if shift else x

    def _fusion(self, taps: list[tuple[Value, int, int]]) -> tuple[Value, int, int]:
        """F, and its height and width."""
        g, o = self.graph, self.options
        high, wide = (o.grid, o.grid) if o.grid else taps[-1][1:]
        pool = {"average": self._average_pool, "max": self._max_pool}[o.pooling]
        scales = []
        for tap in o.taps:
            x, h, w = taps[tap - 1]
            x = pool(g.Transpose(x, perm=[0, 3, 1, 2]), h, w, high, wide)
            scales.append(self._convolution(x, f"fusion/tap{tap - 1}"))
        x = g.Transpose(g.Concat(*scales, axis=1), perm=[0, 2, 3, 1])
        return self._linear(x, "fusion/fuse"), high, wide

    def _average_pool(self, x: Value, h: int, w: int, high: int, wide: int) -> Value:
        g = self.graph
        if (h, w) == (high, wide):
            return x
        return g.MatMul(pooling_matrix(h, high), g.MatMul(x, pooling_matrix(w, wide).T.copy()))

    def _max_pool(self, x: Value, h: int, w: int, high: int, wide: int) -> Value:
        g = self.graph
        for axis, size, cells in ((2, h, high), (3, w, wide)):
            if size != cells:
                spans = pooling_cells(size, cells)
                parts = [g.ReduceMax(g.slice(x, axis, *span), [axis]) for span in spans]
                x = g.Concat(*parts, axis=axis)
        return x

    def _refinement(self, stem: Value, h: int, w: int) -> tuple[Value, Value | None]:
        """F_i [b, n, h, w, d], and the spatial maps [b, n, h, w] where there are some."""
        g, o, n = self.graph, self.options, self.units
        x = g.Unsqueeze(stem, [1])
        if o.refinement in ("both", "channel"):
            highest, mean = (pool(stem, [1, 2], keepdims=0) for pool in (g.ReduceMax, g.ReduceMean))
            prefix = "" if o.channel_mlp == "shared" else "average_"
            a = g.Sigmoid(g.Add(self._mlp(highest, ""), self._mlp(mean, prefix)))
            x = g.Mul(x, g.Unsqueeze(a, [2, 3]))
        else:
            x = g.Mul(x, np.ones((1, n, 1, 1, 1), np.float32))
        if o.refinement in ("channel", "none"):
            return x, None
        pooled = g.Concat(g.ReduceMax(x, [-1]), g.ReduceMean(x, [-1]), axis=-1)
        pooled = g.reshape(g.Transpose(pooled, perm=[0, 1, 4, 2, 3]), -1, 2 * n, h, w)
        kernel = g.Transpose(self._weight("refinement/spatial"), perm=[0, 3, 1, 2])
        bias = self._weight("refinement/spatial_bias")
        maps = g.Conv(pooled, kernel, bias, pads=[1] * 4, group=n)
        maps = g.Sigmoid(maps) if o.spatial_sigmoid else maps
        return g.Mul(x, g.Unsqueeze(maps, [-1])), maps

    def _mlp(self, x: Value, prefix: str) -> Value:
        """Each unit's MLP of pooled features [b, d]: [b, n, d]."""
        g = self.graph
        p = {
            name: self._weight(f"refinement/{prefix}{name}")
            for name in ("squeeze", "squeeze_bias", "excite", "excite_bias")
        }
        x = g.MatMul(g.Unsqueeze(x, [1, 2]), p["squeeze"])  # [b, n, 1, r]
        x = g.Relu(g.Add(x, g.Unsqueeze(p["squeeze_bias"], [1])))
        return g.Add(g.Squeeze(g.MatMul(x, p["excite"]), [2]), p["excite_bias"])

    def _classifier(self, refined: Value, context: Value | None) -> Value:
        g = self.graph
        pooled = g.ReduceMean(refined, [2, 3], keepdims=0)
        products = g.Mul(pooled, self._weight("classifier/kernel"))
        logits = g.Add(g.ReduceSum(products, [-1], keepdims=0), self._weight("classifier/bias"))
        if context is None:
            return logits
        kernel = g.Transpose(self._weight("classifier/context_kernel"), perm=[1, 0])
        return g.Add(logits, g.MatMul(context, kernel))

    def _own_context(self, features: Value, steps: int, positions: int) -> Value:
        """Mean context over the words of the global decoder's own sentence, [b, d]."""
        g = self.graph
        asked = g.constant(steps)
        found = self._greedy("global_captioner", features, asked, steps, 1, positions)
        tokens, attention, _ = found
        said = g.cast(g.Not(g.Equal(tokens, np.int32(PAD))), "float32")
        mean = g.Div(g.ReduceSum(attention, [2], keepdims=0), g.ReduceSum(said, [2]))
        return g.Squeeze(g.MatMul(mean, g.Squeeze(features, [1])), [1])

    def _greedy(
        self,
        room: str,
        features: Value,
        asked: Value,
        steps: int,
        n: int,
        positions: int,
        told: Value = "",
    ) -> tuple[Value, Value, Value]:
        """The greedy sentences of maps [b, n, p, d]: tokens, attention, scores (`Generated`).

        A decoder that is told a unit's score hears `told` [b, n].
        """
        g = self.graph
        # Of all decoders or of one for each unit.
        p = {name.rpartition("/")[2]: name for name in self.weights if name.startswith(f"{room}/")}
        p = {leaf: self._weight(name) for leaf, name in p.items() if not name.endswith(SCALE)}
        stacked = self.weights[f"{room}/words"].ndim == 3

        def linear(g: Graph, x: Value, name: str, bias: str = "") -> Value:  # [b, n, i]
            if stacked:
                y = g.Squeeze(g.MatMul(g.Unsqueeze(x, [2]), p[name]), [2])
            else:
                y = g.MatMul(x, p[name])
            return g.Add(y, p[bias]) if bias else y

        keys = g.MatMul(features, p["features_to_attention"])
        rows = {name: g.Unsqueeze(p[name], [-2]) for name in ("attention_bias", "gates_bias")}
        keys = g.Add(keys, rows["attention_bias"])
        mean = g.ReduceMean(features, [2], keepdims=0)
        hidden = linear(g, mean, "mean_to_hidden", "hidden_bias")
        cell = linear(g, mean, "mean_to_cell", "cell_bias")
        gates = g.Add(g.MatMul(p["words"], p["words_to_gates"]), rows["gates_bias"])
        gates = g.reshape(gates, -1, 4 * self.options.hidden)  # of every decoder's words
        first = np.arange(n)[None] * (self.weights[f"{room}/words"].shape[1] if stacked else 0)
        added = [g.MatMul(p["aus"], p["words_to_gates"])] if "aus" in p else []
        if "score" in p:
            vector = g.MatMul(g.Unsqueeze(p["score"], [-2]), p["words_to_gates"])
            vector = g.reshape(vector, -1, 4 * self.options.hidden)
            added.append(g.Mul(g.Unsqueeze(told, [-1]), vector))
        to_score = g.Unsqueeze(p["attention_to_score"], [-1])
        shape = g.Concat(g.Shape(features, start=0, end=1), [n], axis=0)
        word = g.Expand(START, shape)
        zeros = g.Expand(0.0, shape)

        def body(g: Graph, state: list[Value]) -> tuple[Value, list[Value], list]:
            hidden, cell, word, total, count = state
            ended = g.Or(g.Equal(word, END), g.Equal(word, PAD))
            query = g.Unsqueeze(linear(g, hidden, "hidden_to_attention"), [2])
            scores = g.Squeeze(g.MatMul(g.Relu(g.Add(query, keys)), to_score), [-1])
            weights = g.Softmax(scores, axis=-1)
            context = g.Squeeze(g.MatMul(g.Unsqueeze(weights, [2]), features), [2])
            x = g.Add(g.Gather(gates, g.Add(word, first)), linear(g, context, "context_to_gates"))
            x = g.Add(x, linear(g, hidden, "hidden_to_gates"))
            for gates_of_unit in added:
                x = g.Add(x, gates_of_unit)
            i, f, c, o = g.split(x, 4)
            cell = g.Add(g.Mul(g.Sigmoid(f), cell), g.Mul(g.Sigmoid(i), g.Tanh(c)))
            hidden = g.Mul(g.Sigmoid(o), g.Tanh(cell))
            logits = linear(g, hidden, "hidden_to_logits", "logits_bias")
            allowed = g.Add(logits, self.never)
            chosen = g.ArgMax(allowed, axis=-1, keepdims=0)
            word = g.Where(ended, PAD, chosen)
            best = g.ReduceMax(allowed, [-1], keepdims=0)
            log_p = g.Sub(best, g.ReduceLogSumExp(logits, [-1], keepdims=0))
            total = g.Add(total, g.Where(ended, 0.0, log_p))
            count = g.Add(count, g.cast(g.Not(ended), "float32"))
            going = g.Not(g.Or(g.Equal(word, END), g.Equal(word, PAD)))
            going = g.cast(g.ReduceMax(g.cast(going, "int32"), keepdims=0), "bool")
            weights = g.Where(g.Unsqueeze(ended, [-1]), 0.0, weights)
            left = [
                (g.cast(word, "int32"), "int32", ("b", n)),
                (weights, "float32", ("b", n, positions)),
            ]
            return going, [hidden, cell, word, total, count], left

        dtypes = ("float32", "float32", "int64", "float32", "float32")
        state = list(zip((hidden, cell, word, zeros, zeros), dtypes, strict=True))
        *_, total, count, tokens, attention = g.loop(asked, state, body)
        tokens = g.Transpose(tokens, perm=[1, 2, 0])
        missing = g.Sub([steps], g.Shape(tokens, start=2, end=3))
        tokens = g.Pad(tokens, g.Concat([0] * 5, missing, axis=0), np.int32(PAD))
        pads = g.Concat([0] * 6, missing, [0], axis=0)
        attention = g.Pad(g.Transpose(attention, perm=[1, 2, 0, 3]), pads)
        scores = g.Div(total, g.Max(count, 1.0))
        return tokens, attention, scores


def onnx_model(
    options: ModelOptions,
    weights: Mapping[str, np.ndarray],
    *,
    units: int,
    words: int,
    image_size: int,
    lengths: Mapping[str, int],
    own_length: int,
) -> Any:
    """The network with these weights as an `onnx.ModelProto`, for any number of faces.

    Inputs: `image` uint8 RGB [b, size, size, 3]; `sentences` bool [], of networks that write some:
    False saves their time, and their arrays have no row. Outputs are those of `outputs_of`.

    Args:
        options: the network's; its compute dtype is float32 here.
        weights: the parameters as `weights.stored` gives them, looped.
        units: n.
        words: size of the vocabulary.
        image_size: pixels of a face's side.
        lengths: tokens of a "local" and of the "global" sentence, <end> counted.
        own_length: the same of the sentence of `options.global_context`.
    """
    return OnnxModel(options, weights, units, image_size).build(lengths, own_length, words)
