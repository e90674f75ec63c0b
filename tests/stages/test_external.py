"""Stage `external` where no other hospital is named."""

import json

from omegaconf import OmegaConf

from ppdl.config import PARAMS, Workspace
from ppdl.experiment.experiment import EXTERNAL
from stages import external


def test_without_a_set_the_folder_is_not_empty(tmp_path):
    cfg = OmegaConf.load(PARAMS)
    cfg.evaluation.external = {}
    external.run(cfg, Workspace(tmp_path, tmp_path))
    (file,) = (tmp_path / EXTERNAL).iterdir()  # DVC 3.67 warns of an empty folder each time that it meets one
    assert json.loads(file.read_text()) == []
