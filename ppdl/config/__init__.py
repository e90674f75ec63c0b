"""Configuration: conf/ composed by Hydra, params.yaml in step with it, and the frame that every stage runs in."""

from ppdl.config.built_for import check_built_for, differing, read_built_for, shown, write_built_for
from ppdl.config.components import branch, build, construct, plain, with_values
from ppdl.config.compose import compose_params, keep_in_step, main, private_dir, read_params
from ppdl.config.frame import stage
from ppdl.config.place import CONF, PARAMS, PROJECT, Workspace, checkout

__all__ = [
    "CONF",
    "PARAMS",
    "PROJECT",
    "Workspace",
    "branch",
    "build",
    "check_built_for",
    "checkout",
    "compose_params",
    "construct",
    "differing",
    "keep_in_step",
    "main",
    "plain",
    "private_dir",
    "read_built_for",
    "read_params",
    "shown",
    "stage",
    "with_values",
    "write_built_for",
]
