"""Puts configs/ into the wheel as vlfau_jax/shipped_configs, which pyproject.toml cannot say.

There setuptools finds packages or has them listed, not both; a list would leave a new room out.
"""

from setuptools import find_namespace_packages, setup

setup(
    packages=[*find_namespace_packages(include=["vlfau_jax*"]), "vlfau_jax.shipped_configs"],
    package_dir={"vlfau_jax.shipped_configs": "configs"},
)
