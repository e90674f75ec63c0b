#!/usr/bin/env bash
# Hydra: a plugin module below hydra_plugins/ runs before it stands in sys.modules, so a dataclass in it, after
# `from __future__ import annotations`, ends every Hydra app of the environment with an AttributeError that names neither file nor plugin.
# Exits 0 as long as Hydra behaves like that, 1 when it changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check 'hydra-core==1.3.8'
mkdir hydra_plugins
cat > hydra_plugins/mine.py <<'PY'
from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Settings:
    number: int = 1
PY
cat > app.py <<'PY'
import hydra


@hydra.main(version_base=None, config_path=None)
def main(cfg):
    print("the app ran")


main()
PY

echo "expected: Python imports the module, and the app runs beside it"
venv/bin/python -c 'import hydra_plugins.mine; print("imported")'
said=$(venv/bin/python app.py 2>&1 | tail -1) || true
echo "seen:     $said"
[[ "$said" == "AttributeError: 'NoneType' object has no attribute '__dict__'"* ]]
