"""Judge a model folder's program: run as a process of its own, which ends whatever happens to it.

    python -m vlfau_jax.inference.program_check < REQUEST

Reading a program is the work of compilers' parsers, which trust their input: a hostile one can end
the process that reads it, or fill its memory. So this process reads it first, within limits. It
exits with 0, or with `REFUSED` and a line on stdout that says what is wrong.

The request is a line of JSON, see `Request`, and then the program's bytes.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
from flax.traverse_util import unflatten_dict
from jax import export
from jax._src.interpreters.mlir import refine_polymorphic_shapes

from vlfau_jax.errors import UserError
from vlfau_jax.inference.model_folder import MOST_WORDS, PLATFORMS
from vlfau_jax.inference.outputs import describe
from vlfau_jax.inference.program_cost import Cost, Refused, cost
from vlfau_jax.inference.stored_options import read_options
from vlfau_jax.inference.weights import in_float32
from vlfau_jax.model.options import ModelOptions
from vlfau_jax.model.vlfau import VLFAU
from vlfau_jax.records import Record, parse_record
from vlfau_jax.train.tensor_files import listed

REFUSED = 3

# What a program may take beyond twice what the network of its options takes, as this version would
# export it: other versions of JAX and of this package wrote other operations.
_SLACK = Cost(
    operations=1000,
    executed=50_000,
    largest=16 << 20,
    live=64 << 20,
    work=10**8,
    constant=10**7,
)
_SECONDS = 5
_MEMORY = 1 << 30


class Request(Record):
    """What the program should be.

    Attributes:
        options: ModelOptions, as config.json holds them.
        units: how many action units.
        vocabulary: how many tokens.
        max_words: of a local and of the global sentence; None where the folder does not say it.
        beams: width of the search.
        image_size: pixels of a face's side.
        batch_size: faces in each run.
        platform: what it will run on.
        weights: the parameters by their names in the weights file: dtype and shape.
    """

    options: dict[str, Any]
    units: int
    vocabulary: int
    max_words: tuple[int, int] | None
    beams: int
    image_size: int
    batch_size: int
    platform: str
    weights: dict[str, tuple[str, tuple[int, ...]]]


def main() -> int:
    """Checks the program of stdin; returns the exit code."""
    request = parse_record(sys.stdin.buffer.readline(), Request, "stdin")
    try:
        check(request, sys.stdin.buffer.read())
    except (UserError, Refused) as error:
        print(" ".join(str(error).split()))
        return REFUSED
    except MemoryError:
        print("takes too much memory to be read")
        return REFUSED
    return 0


def check(request: Request, content: bytes) -> None:
    """Raises UserError or Refused, with what is wrong, unless the program may run."""
    _limit_memory()
    with _seconds(_SECONDS):
        program = _deserialised(content)
    _check_facts(program, request.platform)
    batch = _check_arguments(program, request)
    max_words = request.max_words or _words_of(program)
    options = read_options(ModelOptions, request.options, "config.json")
    model = VLFAU(options, request.units, request.vocabulary)
    size = request.image_size
    image = jax.ShapeDtypeStruct((request.batch_size, size, size, 3), "uint8")
    weights = {
        name: jax.ShapeDtypeStruct(shape, dtype) for name, (dtype, shape) in request.weights.items()
    }

    def network(weights: dict[str, jax.Array], image: jax.Array) -> dict[str, jax.Array]:
        params = unflatten_dict(in_float32(weights), sep="/")
        return describe(model, params, image, max_words, request.beams)

    start = time.process_time()
    try:
        ours = export.export(jax.jit(network), platforms=[request.platform])(weights, image)
    except Exception as error:  # flax and jax have no class in common for shapes that do not fit
        raise Refused(f"the weights are not of the network of config.json: {error}") from error
    _check_results(program, _results(ours), batch)
    limit = _cost(ours, weights, image, request.platform)
    with _seconds(_SECONDS + 2 * (time.process_time() - start)):
        try:
            found = _cost(program, weights, image, request.platform)
        except (Refused, MemoryError):
            raise
        except Exception as error:  # whatever a compiler's passes find
            reason = error.__cause__ or error
            raise Refused(f"cannot be compiled: {type(reason).__name__}: {reason}") from error
    if excess := found.excess(limit, _SLACK):
        raise Refused(f"takes more than a network of these options: {excess}")


def _deserialised(content: bytes) -> export.Exported:
    try:
        return export.deserialize(bytearray(content))
    except MemoryError:
        raise
    except Exception as error:  # the reader trusts its input: any exception can arise in it
        raise Refused(f"cannot be read: {type(error).__name__}: {error}") from error


def _check_facts(program: export.Exported, platform: str) -> None:
    if platform not in program.platforms or not set(program.platforms) <= set(PLATFORMS):
        raise Refused(
            f"is for the platforms {', '.join(program.platforms)}, expected some of "
            f"{', '.join(PLATFORMS)} and among them {platform}"
        )
    for name, wanted in (
        ("nr_devices", 1),
        ("ordered_effects", ()),
        ("unordered_effects", ()),
        ("disabled_safety_checks", ()),
    ):
        if (found := getattr(program, name)) != wanted:
            raise Refused(f"has {name} {found}, expected {wanted}")
    lowest, highest = (
        getattr(export, f"{end}_supported_calling_convention_version")
        for end in ("minimum", "maximum")
    )
    version = program.calling_convention_version
    if not lowest <= version <= highest:
        raise Refused(f"has the calling convention {version}, expected {lowest} to {highest}")


def _check_arguments(program: export.Exported, request: Request) -> Any:
    """Returns the symbol for the size of a batch."""
    wanted = {name: _text(*tensor) for name, tensor in request.weights.items()}
    size = request.image_size
    try:
        (weights, image), others = jax.tree.unflatten(program.in_tree, program.in_avals)
        found = {name: _text(str(aval.dtype), aval.shape) for name, aval in weights.items()}
        given = _text(str(image.dtype), image.shape)
    except (TypeError, ValueError, AttributeError) as error:
        raise Refused("takes other arguments than weights and images") from error
    expected = _text("uint8", (*image.shape[:1], size, size, 3))
    if others or given != expected or isinstance(image.shape[0], int):
        raise Refused(f"takes images {given}, expected uint8 [b, {size}, {size}, 3]")
    for what, names in (
        ("missing in the file", found.keys() - wanted.keys()),
        ("not in the program", wanted.keys() - found.keys()),
    ):
        if names:
            raise Refused(
                f"takes other weights than the file holds; {what}: {listed(sorted(names), ', ')}"
            )
    for name, text in wanted.items():
        if found[name] != text:
            raise Refused(
                f"takes other weights than the file holds: {name} is {found[name]} in the program "
                f"and {text} in the file"
            )
    return image.shape[0]


def _check_results(program: export.Exported, expected: dict[str, Any], batch: Any) -> None:
    found = _results(program)
    # The first programs gave no scores of sentences.
    early = {name for name in expected if not name.endswith("_scores")}
    if found.keys() not in (expected.keys(), early):
        raise Refused(
            f"a model of these options gives {', '.join(expected)}, but the program gives "
            f"{', '.join(found)}; export the model again"
        )
    for name, aval in found.items():
        given = _text(str(aval.dtype), aval.shape)
        wanted = _text(str(expected[name].dtype), (batch, *expected[name].shape[1:]))
        if given != wanted:
            raise Refused(f"gives {name} as {given}, expected {wanted}")


def _results(program: export.Exported) -> dict[str, Any]:
    results = jax.tree.unflatten(program.out_tree, program.out_avals)
    if not isinstance(results, dict) or not all(hasattr(r, "shape") for r in results.values()):
        raise Refused("gives other results than arrays by name")
    return results


def _words_of(program: export.Exported) -> tuple[int, int]:
    """The most words of a local and of the global sentence, from the rows of tokens it gives."""
    results = _results(program)
    words = []
    for kind in ("local", "global"):
        tokens = results.get(f"{kind}_tokens")
        length = 2 if tokens is None else tokens.shape[-1]
        if not (isinstance(length, int) and 2 <= length <= MOST_WORDS + 1):
            raise Refused(f"gives {kind}_tokens of {length} words")
        words.append(length - 1)
    return words[0], words[1]


def _text(dtype: str, shape: Any) -> str:
    return f"{dtype} [{', '.join(map(str, shape))}]"


def _cost(program: export.Exported, weights: Any, image: Any, platform: str) -> Cost:
    """What a program takes on a platform, all shapes known and all functions inlined."""
    lowered = jax.jit(program.call).trace(weights, image).lower(lowering_platforms=(platform,))
    module = lowered.compiler_ir("stablehlo")
    with module.context:
        module = refine_polymorphic_shapes(module)
    return cost(module)


def _limit_memory() -> None:
    # Address space would also count what JAX reserves and never uses. A thread has a stack.
    sizes = Path("/proc/self/statm")
    pages = int(sizes.read_text().split()[5]) if sizes.exists() else 0
    used = pages * resource.getpagesize()
    limit = used + _MEMORY + (os.cpu_count() or 1) * (16 << 20)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


@contextmanager
def _seconds(seconds: float) -> Iterator[None]:
    """Ends the process where the body takes more seconds of all processors than given."""
    before = soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
    limit = int(time.process_time() + seconds) + 1
    if soft == resource.RLIM_INFINITY or limit < soft:
        resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CPU, before)


if __name__ == "__main__":
    sys.exit(main())
