"""Keys by kind of device, for any experiment: `train --hardware=configs/hardware.py`.

The first row whose pattern is the whole of `jax.devices()[0].device_kind` overrides the
experiment; `--config.key=value` on the command line overrides both. Scores depend on it only by
rounding: the global batch stays `train.batch_size`.

Where the numbers come from. `device_batch` is the most images that a device computes at once. For a
kind of device that nobody here owns, its compiler says it (account/README.md):

    for topology in v5e:2x2 v4:2x2x1 v6e:2x2 v5p:2x2x1 v7x:2x2x1 h100:1 a100:1 h200:1; do
        python -m vlfau_jax compile_only --config=bp4d --topology=$topology --search_batch \
            --per_chip=32 --out=batch-$topology.json
    done

For v5e, 64 images and remat="dots" take 6.3 GB of 16.9 with BP4D's captions. The other rows are not
yet from there: they are ESTIMATES, 0.22 GB * device_batch + 1.8 GB for three
quarters of a device's memory. One training step of Swin-B at 224 px in bfloat16, 64 images a
device, compiled for TPU v5e, needs 12.9 GB of temporaries (measured, from XLA's memory analysis):
0.2 GB an image, to which sentences add about a tenth (estimated from their largest array).
Parameters, gradients and two moments of the whole network, 110 million parameters in float32, are
1.8 GB. Swin-L or 384 px need a smaller batch.

mesh: 1.8 GB are at most a ninth of any of these memories, so parameters need not be split, and
pure data parallelism moves the fewest bytes: one sum of the gradients in a step.
remat: micro-batches bound the memory without computing anything twice; v5e's figure is with "dots".
dtype: bfloat16 where the chip multiplies it faster; XLA's CPU code does not (measured), and needs
twice the bytes in float32.
"""

from ml_collections import ConfigDict

DATA_PARALLEL = {"data": -1, "fsdp": 1, "tensor": 1}

ROWS = (
    # device kind, mesh, device_batch, remat, dtype
    ("TPU v5 lite|TPU v5e", DATA_PARALLEL, 64, "dots", "bfloat16"),  # 16 GB; no estimate
    ("TPU v4|TPU v6 lite|TPU v6e", DATA_PARALLEL, 96, "none", "bfloat16"),  # 32 GB
    ("TPU v5p?|TPU7x?", DATA_PARALLEL, 256, "none", "bfloat16"),  # 95 GB
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
