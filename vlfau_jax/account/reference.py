"""The reference in PyTorch (tests/reference) as something to time: same weights, same work."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np

import vlfau_jax
from vlfau_jax.data.read.batch import Batch
from vlfau_jax.errors import UserError
from vlfau_jax.losses.joint import ObjectiveOptions
from vlfau_jax.model.vlfau import IMAGE_MEAN, IMAGE_STD, VLFAU
from vlfau_jax.train.optimizer import OptimizerOptions, decayed
from vlfau_jax.train.rounding import cpu_cores

VARIANTS = ("eager", "compiled")
_WANTED = "run in a checkout with requirements-test.txt installed"


def reference_modules() -> tuple[ModuleType, ...]:
    """PyTorch, and the reference's network, losses and weights; UserError where they are missing.

    They are the checkout's own, beside this package: a folder `tests` elsewhere is not imported.
    """
    root = Path(vlfau_jax.__file__).resolve().parents[1]
    if not (root / "tests/reference/network.py").is_file():
        raise UserError(f"--reference: {root} has no tests/reference; {_WANTED}")
    names = "torch", *(f"tests.reference.{name}" for name in ("network", "losses", "weights"))
    try:
        modules = tuple(importlib.import_module(name) for name in names)
    except ImportError as error:
        raise UserError(f"--reference: {error}; {_WANTED}") from None
    if Path(modules[1].__file__).resolve().parent != root / "tests/reference":
        raise UserError(f"--reference: {modules[1].__file__} is not this checkout's; {_WANTED}")
    return modules


class Reference:
    """The reference with given weights: a training step, recognition and describing.

    PyTorch has all cores, oneDNN, scaled-dot-product attention (transformers' choice for Swin),
    `inference_mode`, and AdamW fused. On a GPU bfloat16 is `torch.autocast`, as ours: parameters
    and optimizer stay float32. As variant "compiled", `encode` (backbone, MSC, DAIR and
    classifier) and the captioner's step are under torch.compile, each alone: the loop over words is
    Python, which a whole graph would unroll some 400 times.
    """

    def __init__(
        self,
        variant: str,
        model: VLFAU,
        params: Mapping[str, Any],
        batch: Batch,
        *,
        class_weights: np.ndarray,
        objective: ObjectiveOptions,
        optimizer: OptimizerOptions,
        max_words: tuple[int, int],
    ) -> None:
        self._torch, network, self._losses, weights = reference_modules()
        torch = self._torch
        self._device = torch.device("cuda" if jax.default_backend() == "gpu" else "cpu")
        if self._device.type == "cuda" and not torch.cuda.is_available():
            raise UserError(
                "--reference: JAX computes on a GPU, PyTorch finds none; install its CUDA build"
            )
        torch.set_num_threads(cpu_cores())
        torch.set_float32_matmul_precision("high")  # TF32 on GPUs, as XLA's default there
        self._dtype = model.options.dtype
        self._objective, self._max_words = objective, max_words
        self._au_loss, self._clip = objective.au_loss, optimizer.clip_norm
        self._class_weights = self._tensor(class_weights)
        self._batch = {name: self._tensor(value) for name, value in batch.items()}
        for name in ("local_tokens", "global_tokens"):
            self._batch[name] = self._batch[name].long()
        self._mean, self._std = (
            self._tensor(np.array(x, np.float32)).reshape(3, 1, 1) for x in (IMAGE_MEAN, IMAGE_STD)
        )
        try:
            net = network.VLFAU(model.options, model.au_count, model.vocabulary_size)
        except NotImplementedError as error:
            raise UserError(f"--reference: {error}") from None
        net.load_state_dict(weights.reference_state(params, model), strict=True)
        self._net = net.eval().to(self._device)  # evaluation: no dropout
        flags = jax.tree.map(lambda x, on: np.full_like(x, on), params, decayed(params))
        self._adam = self._optimizer(weights.reference_state(flags, model), optimizer)
        if variant == "compiled":
            self._net.encode = torch.compile(self._net.encode)
            for captioner in (*getattr(net, "local", ()), getattr(net, "whole", None)):
                if captioner is not None:
                    captioner.step = torch.compile(captioner.step)

    def _tensor(self, value: np.ndarray) -> Any:
        return self._torch.from_numpy(np.array(value)).to(self._device)

    def _optimizer(self, decayed: Mapping[str, Any], options: OptimizerOptions) -> Any:
        """AdamW; `decayed` is 1 where weight decay applies, in the shapes of the parameters."""
        groups: dict[bool, list] = {True: [], False: []}
        for name, parameter in self._net.named_parameters():
            if name.partition(".")[0] in options.frozen:
                parameter.requires_grad_(False)
            else:
                groups[bool(decayed[name].any())].append(parameter)
        return self._torch.optim.AdamW(
            [
                {"params": groups[True], "weight_decay": options.weight_decay},
                {"params": groups[False], "weight_decay": 0.0},
            ],
            lr=options.learning_rate,
            betas=(options.b1, options.b2),
            fused=True,
        )

    def _images(self) -> Any:
        """uint8 [b, h, w, 3] -> normalised float32 [b, 3, h, w], as ours does in its programs."""
        image = self._batch["image"].permute(0, 3, 1, 2).float().div_(255.0).contiguous()
        return image.sub_(self._mean).div_(self._std)

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """Where new tensors go, and the dtype of products; free of charge for float32 on a CPU."""
        with ExitStack() as stack:
            if self._device.type != "cpu":  # on a CPU, each operation would pay for the context
                stack.enter_context(self._device)
            if self._dtype == "bfloat16":
                stack.enter_context(self._torch.autocast(self._device.type, self._torch.bfloat16))
            yield

    def training(self) -> dict[str, float]:
        """Forward, backward and optimizer of one step; returns its loss and gradient norm."""
        with self._computing():
            tokens = (self._batch[name] for name in ("local_tokens", "global_tokens"))
            outputs = self._net(self._images(), *tokens)
            terms = self._losses.joint_loss(
                outputs, self._batch, self._class_weights, self._au_loss
            )
            loss = self._losses.total(terms, self._objective.weights(0))
        loss.backward()
        norm = self._torch.nn.utils.clip_grad_norm_(self._net.parameters(), self._clip)
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        self._wait()
        return {"total": loss.item(), "grad_norm": norm.item()}

    def recognition(self) -> np.ndarray:
        """AU logits float32 [b, n]."""
        with self._torch.inference_mode(), self._computing():
            logits = self._net.encode(self._images())[3]
        self._wait()
        return logits.float().cpu().numpy()

    def describing(self) -> dict[str, np.ndarray]:
        """Greedy sentences: `local_tokens` int [b, n, t] and `global_tokens` [b, t]."""
        with self._torch.inference_mode(), self._computing():
            local, whole = self._net.describe(self._images(), *self._max_words)
        self._wait()
        found = {}
        if local is not None:
            found["local_tokens"] = self._torch.stack([one.tokens for one in local], 1)
        if whole is not None:
            found["global_tokens"] = whole.tokens
        return {name: tokens.cpu().numpy() for name, tokens in found.items()}

    def _wait(self) -> None:
        if self._device.type == "cuda":
            self._torch.cuda.synchronize()

    @property
    def graph_breaks(self) -> int:
        """Graph breaks that torch.compile has counted in this process."""
        return sum(self._torch._dynamo.utils.counters["graph_break"].values())
