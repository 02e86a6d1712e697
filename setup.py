"""Puts configs/ into the wheel as vlfau_jax/shipped_configs; all else is in pyproject.toml."""

from setuptools import find_namespace_packages, setup

setup(
    packages=[*find_namespace_packages(include=["vlfau_jax*"]), "vlfau_jax.shipped_configs"],
    package_dir={"vlfau_jax.shipped_configs": "configs"},
)
