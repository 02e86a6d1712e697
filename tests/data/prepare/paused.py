"""`python -m vlfau_jax prepare` whose worker waits before one sequence, for tests that stop it.

The environment names the sequence, PAUSED_AT, and the file that then states the worker, PAUSED.
"""

import os
import signal
import sys
from pathlib import Path

from vlfau_jax.data.prepare import shards


def write_shard(job: shards.ShardJob) -> shards.ShardFacts:
    if job.sequence.name == os.environ["PAUSED_AT"]:
        whole = Path(os.environ["PAUSED"])
        partial = whole.with_suffix(".partial")
        partial.write_text(str(os.getpid()))
        partial.rename(whole)
        while True:
            signal.pause()
    return shards.write_shard(job)


if __name__ == "__main__":
    from tests.data.prepare import paused
    from vlfau_jax.__main__ import command
    from vlfau_jax.data.prepare import prepare

    prepare.write_shard = paused.write_shard  # named by a module that workers can import
    sys.exit(command())
