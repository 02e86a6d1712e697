"""A report of compile_only with plausible numbers, for what only reads it."""

import json
from typing import Any

from vlfau_jax.account.step_report import StepReport


def example_report(**changes: Any) -> StepReport:
    """Four chips of TPU v5e, 32 images each, on a data-parallel mesh; keywords replace fields."""
    values = {
        "topology": "v5e:2x2",
        "device_kind": "TPU v5 lite",
        "devices": 4,
        "mesh": {"data": 4, "fsdp": 1, "tensor": 1},
        "batch_size": 128,
        "per_chip": 32.0,
        "dtype": "bfloat16",
        "micro_batches": 1,
        "fits": True,
        "over_gb": 0.0,
        "memory_gb": 16.9,
        "parameters": 110_000_000,
        "parameters_gb": 0.44,
        "optimizer_gb": 0.88,
        "temporaries_gb": 6.0,
        "peak_gb": 7.5,
        "gflop_per_image": 100.0,
        "hbm_gb_per_image": 0.6,
        "collectives": {"all-reduce": {"times": 3, "gb": 0.24, "formula_gb": 0.24}},
        "sent_gb": 0.36,
        "parts": {"MSC": {"training_gflop": 100.0, "backward_hbm_mb": 600.0}},
        "roofline_images_per_second": 1365.0,
        "roofline_mfu": 0.69,
        "bound": "memory",
        "compile_seconds": 120.0,
        "compile_cpu_seconds": 118.0,
        "lower_seconds": 20.0,
        "versions": {"jax": "0.10.2"},
        "config_digest": "0" * 64,
    }
    return StepReport.model_validate_json(json.dumps(values | changes))
