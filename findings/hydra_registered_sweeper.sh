#!/usr/bin/env bash
# Hydra: `Plugins.instance().register` takes a Sweeper of any module, and lists it; a sweep with it is then refused, for its module is not
# below hydra_plugins. So a package cannot bring its own sweeper without files in that shared folder.
# Exits 0 as long as Hydra behaves like that, 1 when it changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check 'hydra-core==1.3.8'
cat > mine.py <<'PY'
from hydra.plugins.sweeper import Sweeper


class Mine(Sweeper):
    def setup(self, *, hydra_context, task_function, config):
        pass

    def sweep(self, arguments):
        print("the sweep ran")
PY
cat > app.py <<'PY'
import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper

from mine import Mine

Plugins.instance().register(Mine)
print("registered:", Mine in Plugins.instance().discover(Sweeper))
ConfigStore.instance().store(group="hydra/sweeper", name="mine", node={"_target_": "mine.Mine"})


@hydra.main(version_base=None, config_path=None)
def main(cfg):
    pass


main()
PY

echo "expected: what could be registered can be used"
said=$(venv/bin/python app.py -m hydra/sweeper=mine 2>&1) || true
echo "$said" | grep -E "^registered|RuntimeError"
[[ "$said" == *"registered: True"* && "$said" == *"Invalid plugin 'mine.Mine': not the hydra_plugins package"* ]]
