"""Verbs of models: export, warm_start, import_backbone, predict, explain and serve."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Annotated

from absl import flags
from pydantic import Field

from vlfau_jax.cli.verb import BEAMS, CHECKPOINT, WORKDIR, Flag, Later, verb
from vlfau_jax.options import Name, option_kinds

_PREDICT = "vlfau_jax.inference.predict_options"
_PREDICTED = "predicted"
Smooth = Annotated[float, Field(ge=0, le=60)]
Camera = Annotated[int, Field(ge=-1, le=99)]
Seconds = Annotated[float, Field(gt=0, le=86400)]
Every = Annotated[int, Field(ge=1, le=10**6)]

_FramesPerSecond = Annotated[float, Field(ge=0, le=1000)]
_BatchSize = Annotated[int, Field(ge=1, le=4096)]

FACES = Flag(
    "faces", str, "of a picture: all, or the largest", "all", choices=Later(_PREDICT, "FACES")
)
FINDER = Flag("finder", Name, Later("vlfau_jax.data.crop.registry", "finder_help"), "auto")
MODEL = Flag("model", str, "a model folder that export wrote; when absent the one that ships")
WEIGHTS = Flag("out", str, "safetensors file to create", required=True)
AVERAGE = Flag(
    "average",
    str,
    "another run of the same network: the weights are the mean of all runs'; repeatable",
    repeated=True,
    bucket=True,
)


@contextmanager
def _runs(fv: flags.FlagValues) -> Iterator[list[Path]]:
    """The run of --workdir and those of --average, on the local disk."""
    from vlfau_jax.train.bucket_workdir import local_workdir

    with ExitStack() as stack:
        yield [
            stack.enter_context(local_workdir(run, writes=False))
            for run in (fv.workdir, *(fv.average or ()))
        ]


@verb(
    WORKDIR,
    CHECKPOINT,
    Flag("out", str, "model folder to create", required=True),
    Flag("overwrite", bool, "replace an older model there", False),
    BEAMS,
    Flag(
        "format",
        str,
        "formats, separated by commas: stablehlo, which is always there, onnx and pytorch",
        "stablehlo",
    ),
    Flag("weights", str, "their precision: float32, bfloat16 or int8", "float32"),
    AVERAGE,
    Flag("shifts", str, 'JSON file {"shifts": {"1": 0.8, ...}}, added to the units\' logits', ""),
    imports=("vlfau_jax.inference.export",),
    keeps_programs=True,
)
def export(fv: flags.FlagValues, _: list[str]) -> None:
    """Write a run's network as a self-contained model folder."""
    from vlfau_jax.inference.export import export

    with _runs(fv) as (workdir, *others):
        export(
            workdir,
            fv.out,
            overwrite=fv.overwrite,
            beams=fv.beams,
            checkpoint=fv.checkpoint,
            formats=fv.format,
            weights=fv.weights,
            average=others,
            shifts=fv.shifts,
        )


@verb(WORKDIR, CHECKPOINT, WEIGHTS, AVERAGE, imports=("vlfau_jax.inference.warm_start",))
def warm_start(fv: flags.FlagValues, _: list[str]) -> None:
    """Write a run's parameters as a small file for train.warm_start."""
    from vlfau_jax.inference.warm_start import write_warm_start

    with _runs(fv) as (workdir, *others):
        write_warm_start(workdir, fv.out, checkpoint=fv.checkpoint, average=others)


@verb(
    Flag(
        "source",
        str,
        "folder with config.json and model.safetensors, or a safetensors file of timm's or "
        "Microsoft's names",
        required=True,
    ),
    WEIGHTS,
    imports=("vlfau_jax.train.huggingface",),
)
def import_backbone(fv: flags.FlagValues, _: list[str]) -> None:
    """Write a Swin of transformers, timm or Microsoft as a file for model.backbone_weights."""
    from vlfau_jax.train.huggingface import import_backbone

    import_backbone(fv.source, fv.out)


@verb(
    MODEL,
    Flag("out", str, f"folder for predictions.csv and .jsonl; {_PREDICTED} when absent"),
    Flag("overwrite", bool, "replace predictions that are there", False),
    Flag("resume", bool, "go on after the finished rows of an interrupted run", False),
    Flag("crop_file", str, "the model or table that the model's crop rule reads", ""),
    Flag("verify", str, "the SHA-256 of the model folder, as export printed it", ""),
    Flag("min_confidence", float, "of the face finder, 0-1; below it a face is doubtful", 0.0),
    Flag("min_face_pixels", float, "along the crop's side; fewer are doubtful", 40.0),
    Flag("min_sharpness", float, "of the crop; 0.1 is usual, 0.01 blurred", 0.015),
    Flag("min_contrast", float, "standard deviation of grey levels, 0-255", 10.0),
    Flag("max_flat", float, "share of the face without any change, 0-1; more is drawn", 0.2),
    FACES,
    FINDER,
    Flag("every", Every, "of a video, the first frame and each n-th after it", 1),
    Flag(
        "captions",
        str,
        "sentences: always; changes, in videos where a person's active units change; never",
        "always",
        choices=Later(_PREDICT, "CAPTIONS"),
    ),
    Flag("camera", Camera, "number of a webcam from 0, instead of INPUT", -1),
    Flag("seconds", Seconds, "how long the webcam is looked at", 10.0),
    Flag("smooth", Smooth, "seconds of a video over which probabilities are averaged", 0.0),
    Flag(
        "baseline",
        str,
        "median: in videos, probabilities less the person's median",
        "none",
        choices=Later(_PREDICT, "BASELINES"),
    ),
    Flag("format", Name, "more files: parquet, pyfeat (py-feat's columns), or both with ,", ""),
    Flag("overlay", bool, "draw boxes, units, maps and sentences into OUT/overlay", False),
    Flag("keep_doubtful", bool, "describe doubtful faces, too; their rows say why", False),
    Flag("batch_size", _BatchSize, "faces in each run of the program, at most", 32),
    imports=("vlfau_jax.inference.predict",),
    inputs=" INPUT...",
    keeps_programs=True,
)
def predict(fv: flags.FlagValues, inputs: list[str]) -> None:
    """Label pictures, videos and folders of them with an exported model."""
    from vlfau_jax.inference.faces import Limits
    from vlfau_jax.inference.pictures import named_inputs
    from vlfau_jax.inference.predict import predict
    from vlfau_jax.inference.predict_options import PredictOptions

    options = {name: fv[name].value for name in option_kinds(PredictOptions)}

    predict(
        fv.model,
        named_inputs(inputs, sys.stdin.buffer),
        fv.out or _PREDICTED,
        PredictOptions(**options),
        overwrite=fv.overwrite,
        resume=fv.resume,
        crop_file=fv.crop_file,
        verify=fv.verify,
        limits=Limits(*(fv[field.name].value for field in fields(Limits))),
    )


@verb(
    MODEL,
    Flag("out", str, "page to create, an .html file", required=True),
    Flag("fps", _FramesPerSecond, "frames a second of a clip whose frames the pictures are", 0.0),
    Flag("every", Every, "of a clip, the first frame and each n-th after it", 1),
    FACES,
    FINDER,
    Flag("crop_file", str, "the model or table that the model's crop rule reads", ""),
    Flag("verify", str, "the SHA-256 of the model folder, as export printed it", ""),
    Flag("batch_size", _BatchSize, "faces in each run of the program, at most", 8),
    imports=("vlfau_jax.report.explain",),
    inputs=" INPUT...",
    keeps_programs=True,
)
def explain(fv: flags.FlagValues, inputs: list[str]) -> None:
    """Write a page that shows why a model says what it says of pictures or of a video."""
    from vlfau_jax.report.explain import explain

    explain(
        fv.model,
        inputs,
        fv.out,
        frames_per_second=fv.fps,
        every=fv.every,
        faces=fv.faces,
        finder=fv.finder,
        batch_size=fv.batch_size,
        crop_file=fv.crop_file,
        verify=fv.verify,
    )


@verb(
    MODEL,
    Flag("host", str, "address to listen on; another than 127.0.0.1 lets others call", "127.0.0.1"),
    Flag("port", int, "port to listen on; 0 takes a free one", 8000),
    Flag("allow_host", str, "a name by which browsers may call it; repeatable", repeated=True),
    Flag("crop_file", str, "the model or table that the model's crop rule reads", ""),
    Flag("verify", str, "the SHA-256 of the model folder, as export printed it", ""),
    FACES,
    FINDER,
    Flag("batch_size", int, "faces in each run of the program, at most", 8),
    Flag("queue", int, "requests that are under way at a time; others are refused", 64),
    Flag("most_megabytes", int, "of a picture's file", 16),
    Flag("timeout", float, "seconds for a request and its answer", 60.0),
    Flag("header_timeout", float, "seconds for a request's headers, or to take an answer", 10.0),
    imports=("vlfau_jax.serve.server",),
    keeps_programs=True,
)
def serve(fv: flags.FlagValues, _: list[str]) -> None:
    """Serve a local web page and a JSON endpoint for an exported model."""
    from vlfau_jax.serve.options import ServeOptions
    from vlfau_jax.serve.server import serve

    options = ServeOptions(
        host=fv.host,
        port=fv.port,
        allow_host=tuple(fv.allow_host or ()),
        queue=fv.queue,
        most_megabytes=fv.most_megabytes,
        timeout=fv.timeout,
        header_timeout=fv.header_timeout,
        batch_size=fv.batch_size,
        faces=fv.faces,
        finder=fv.finder,
    )
    serve(fv.model, options, crop_file=fv.crop_file, verify=fv.verify)
