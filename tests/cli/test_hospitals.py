"""What `ppdl hospitals call` refuses before any party does any work."""

import pytest
from click.testing import CliRunner

from ppdl import config
from ppdl.cli.hospitals.call import call
from ppdl.errors import ConfigError
from ppdl.serving.hospitals.party import make_party


def test_a_run_over_a_network_promises_no_privacy(monkeypatch, tmp_path):
    values = config.read_params()
    values["heads"]["pooled_head"]["pooling"]["privacy"] = {"epsilon": 8}
    monkeypatch.setattr(config, "read_params", lambda: values)
    make_party(tmp_path / "pool", {"role": "key-holder", "name": "key-holder"}, tmp_path / "project")
    arguments = [str(tmp_path / "pool"), str(tmp_path / "invitation"), "--card", str(tmp_path / "pool/card.json")]
    with pytest.raises(ConfigError, match=r"heads.pooled_head.pooling.privacy: parties on machines of their own add no noise"):
        CliRunner().invoke(call, arguments, catch_exceptions=False)


def test_a_federation_must_be_in_params(tmp_path):
    make_party(tmp_path / "pool", {"role": "key-holder", "name": "key-holder"}, tmp_path / "project")
    arguments = [str(tmp_path / "pool"), str(tmp_path / "invitation"), "--card", str(tmp_path / "pool/card.json"), "--federation", "x"]
    with pytest.raises(ConfigError, match=r"params\.yaml has no federations\.x: `ppdl keep \+experiment=federated` adds one"):
        CliRunner().invoke(call, arguments, catch_exceptions=False)
