"""The stage audit checks its configuration before it reads anything."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from ppdl.config import CONF, Workspace
from ppdl.errors import ConfigError
from stages import audit


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("audit.num_queries=0", "audit.num_queries: must be >= 1, got 0"),
        ("+audit.num_querys=3", "did you mean 'num_queries'"),
        ("audit.num_scored=0", "audit.num_scored: must be >= 1, got 0"),
        ("+attacks.ratio.num_scored=0", "attacks.ratio.num_scored: must be >= 1, got 0"),
        ("+attacks.ratio.num_score=3", "did you mean 'num_scored'"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, override: str, message: str):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", overrides=["branch=opaque", override])
    with pytest.raises(ConfigError) as error:
        audit.run(cfg, Workspace(inputs=tmp_path, outputs=tmp_path))
    assert message in str(error.value)
