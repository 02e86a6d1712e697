"""Verbs of models: export, warm_start, import_backbone and predict."""

from __future__ import annotations

import sys
from typing import Annotated

from absl import flags
from pydantic import Field

from vlfau_jax.cli.verb import BEAMS, CHECKPOINT, WORKDIR, Flag, Later, verb
from vlfau_jax.options import Name, option_kinds

_PREDICT = "vlfau_jax.inference.predict_options"
Batch = Annotated[int, Field(ge=1, le=4096)]
Smooth = Annotated[float, Field(ge=0, le=60)]
Camera = Annotated[int, Field(ge=-1, le=99)]
Seconds = Annotated[float, Field(gt=0, le=86400)]
Every = Annotated[int, Field(ge=1, le=10**6)]

WEIGHTS = Flag("out", str, "safetensors file to create", required=True)


@verb(
    WORKDIR,
    CHECKPOINT,
    Flag("out", str, "model folder to create", required=True),
    Flag("overwrite", bool, "replace an older model there", False),
    BEAMS,
    imports=("vlfau_jax.inference.export",),
    keeps_programs=True,
)
def export(fv: flags.FlagValues, _: list[str]) -> None:
    """Write a run's network as a self-contained model folder."""
    from vlfau_jax.inference.export import export

    export(fv.workdir, fv.out, overwrite=fv.overwrite, beams=fv.beams, checkpoint=fv.checkpoint)


@verb(WORKDIR, CHECKPOINT, WEIGHTS, imports=("vlfau_jax.inference.warm_start",))
def warm_start(fv: flags.FlagValues, _: list[str]) -> None:
    """Write a run's parameters as a small file for train.warm_start."""
    from vlfau_jax.inference.warm_start import write_warm_start

    write_warm_start(fv.workdir, fv.out, checkpoint=fv.checkpoint)


@verb(
    Flag("source", str, "folder with config.json and model.safetensors", required=True),
    WEIGHTS,
    imports=("vlfau_jax.train.huggingface",),
)
def import_backbone(fv: flags.FlagValues, _: list[str]) -> None:
    """Write a Hugging Face Swin's parameters as a file for model.backbone_weights."""
    from vlfau_jax.train.huggingface import import_backbone

    import_backbone(fv.source, fv.out)


@verb(
    Flag("model", str, "a model folder that export wrote", required=True),
    Flag("out", str, "folder for predictions.csv and .jsonl", required=True),
    Flag("overwrite", bool, "replace predictions that are there", False),
    Flag("resume", bool, "go on after the finished rows of an interrupted run", False),
    Flag("crop_file", str, "the model or table that the model's crop rule reads", ""),
    Flag("verify", str, "the SHA-256 of the model folder, as export printed it", ""),
    Flag("min_confidence", float, "of the face finder, 0-1; below it a face is doubtful", 0.0),
    Flag("min_face_pixels", float, "along the crop's side; fewer are doubtful", 40.0),
    Flag("min_sharpness", float, "of the crop; 0.1 is usual, 0.01 blurred", 0.015),
    Flag("min_contrast", float, "standard deviation of grey levels, 0-255", 10.0),
    Flag(
        "faces", str, "of a picture: all, or the largest", "all", choices=Later(_PREDICT, "FACES")
    ),
    Flag("finder", Name, Later("vlfau_jax.data.crop.registry", "finder_help"), "auto"),
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
    Flag(
        "batch_size",
        Annotated[int, Field(ge=1, le=4096)],
        "faces in each run of the program, at most",
        32,
    ),
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
        fv.out,
        PredictOptions(**options),
        overwrite=fv.overwrite,
        resume=fv.resume,
        crop_file=fv.crop_file,
        verify=fv.verify,
        limits=Limits(fv.min_confidence, fv.min_face_pixels, fv.min_sharpness, fv.min_contrast),
    )
