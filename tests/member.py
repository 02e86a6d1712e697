"""`python -m vlfau_jax`, quick to start again and again: its programs come from JAX's cache.

Of several processes only the first writes that cache, and on CPU the keys of the others differ, by
a fingerprint that tells the processes apart: they would compile everything in every run.
"""

import runpy
import sys

from jax._src import cache_key


def main() -> None:
    """Runs the command line with the arguments of this process."""
    cache_key._hash_accelerator_config = cache_key._hash_devices
    sys.modules["torch"] = None  # tensorboardX imports it where it is: seconds, and for nothing
    runpy.run_module("vlfau_jax", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
