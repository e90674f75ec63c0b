"""What `ppdl hospitals call` refuses before any party does any work."""

import pytest
from click.testing import CliRunner

from ppdl import config
from ppdl.cli.hospitals.call import call
from ppdl.errors import ConfigError


def test_a_run_over_a_network_promises_no_privacy(monkeypatch, tmp_path):
    values = config.read_params()
    values["heads"]["pooled_head"]["pooling"]["privacy"] = {"epsilon": 8}
    monkeypatch.setattr(config, "read_params", lambda: values)
    (tmp_path / "card.json").touch()
    arguments = [str(tmp_path), str(tmp_path / "invitation"), "--card", str(tmp_path / "card.json")]
    with pytest.raises(ConfigError, match=r"heads.pooled_head.pooling.privacy: parties on machines of their own add no noise"):
        CliRunner().invoke(call, arguments, catch_exceptions=False)
