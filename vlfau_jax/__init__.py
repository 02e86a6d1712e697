"""VL-FAU in JAX: facial action units with a sentence for each and a map of where it looked."""

__version__ = "0.1.0"
