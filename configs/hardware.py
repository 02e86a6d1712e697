"""Keys by kind of device, for any experiment: `train --hardware=configs/hardware.py`.

The first row whose pattern is the whole of `jax.devices()[0].device_kind` overrides the
experiment; `--config.key=value` on the command line overrides both. Scores depend on it only by
rounding: the global batch stays `train.batch_size`.

Where the numbers come from. `device_batch` is a number of images that a device computes at once,
well within its memory. For kinds of device that nobody here owns, their compilers said so of the
step of configs/bp4d.py, Swin-B at 224 px with captions (account/README.md):

    python -m vlfau_jax compile_only --config=bp4d --topology=v6e:2x2 --per_chip=128 \
        --config.model.remat=dots

and `--search_batch` finds the most that fit. GB of a device that the step takes, and has:

    TPU v5e, 64 images, "dots"       7.2 of 16.9
    TPU v6e, 128 images, "dots"     12.5 of 33.5
    TPU v4, 128 images, "dots"      12.8 of 33.0
    TPU v5p, 256 images, "dots"     23.2 of 102.8
    TPU7x, 256 images, "dots"       19.2 of 101.7
    H100, 64 images, "none"         14.7 of 63.6, JAX's three quarters

The H100's 13.4 GB of temporaries are 0.21 GB an image. XLA plans alike for all NVIDIA GPUs: their
batches are that times 0.21 GB and 1.8 GB of state, in three quarters of the memory; only the H100's
program was compiled. Swin-L or 384 px need a smaller batch.

mesh: 1.8 GB are at most a ninth of any of these memories, so parameters need not be split, and
pure data parallelism moves the fewest bytes: one sum of the gradients in a step.
remat: "dots" nearly halves a TPU's memory traffic, as compiled for v5e with 32 images: 0.57 GB an
image instead of 0.98. On a GPU nothing could be measured, and nothing is computed twice.
dtype: bfloat16 where the chip multiplies it faster; XLA's CPU code does not (measured), and needs
twice the bytes in float32.
"""

from ml_collections import ConfigDict

DATA_PARALLEL = {"data": -1, "fsdp": 1, "tensor": 1}

ROWS = (
    # device kind, mesh, device_batch, remat, dtype
    ("TPU v5 lite|TPU v5e", DATA_PARALLEL, 64, "dots", "bfloat16"),  # 16 GB
    ("TPU v4|TPU v6 lite|TPU v6e", DATA_PARALLEL, 128, "dots", "bfloat16"),  # 32 GB
    ("TPU v5p?|TPU7x?", DATA_PARALLEL, 256, "dots", "bfloat16"),  # 95 GB
    ("NVIDIA A100.*40GB.*", DATA_PARALLEL, 96, "none", "bfloat16"),
    ("NVIDIA (A100|H100).*", DATA_PARALLEL, 192, "none", "bfloat16"),  # 80 GB
    ("NVIDIA H200.*", DATA_PARALLEL, 384, "none", "bfloat16"),  # 141 GB
    ("NVIDIA (A10|A10G|L4|GeForce RTX [34]090)", DATA_PARALLEL, 64, "none", "bfloat16"),  # 24 GB
    ("cpu", DATA_PARALLEL, 8, "none", "float32"),  # about 5 GB of the machine's memory
)


def get_config():
    return ConfigDict(
        {
            "rows": tuple(
                ConfigDict(
                    {
                        "device_kind": kind,
                        "mesh": mesh,
                        "train": {"device_batch": device_batch},
                        "model": {"remat": remat, "dtype": dtype},
                    }
                )
                for kind, mesh, device_batch, remat, dtype in ROWS
            )
        }
    )
