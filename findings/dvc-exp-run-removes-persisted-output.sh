#!/usr/bin/env bash
# DVC: `dvc exp run` deletes an output with `persist: true` when its stage was renamed, before the stage runs; `dvc repro` keeps it.
# So a stage that keeps what it finds (a key pair, a database) starts anew, although dvc.yaml says that the output persists.
# Exits 0 as long as DVC behaves like that, 1 when it changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check 'dvc==3.67.1'
export PATH="$folder/venv/bin:$PATH" DVC_NO_ANALYTICS=1
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org

stage() { # of a name, whose output is made once and kept
    cat <<YAML
stages:
  $1:
    cmd: python make.py
    params: [value]
    outs:
      - kept: {persist: true}
YAML
}

mkdir project && cd project
git init --quiet -b main
dvc init --quiet
echo 'value: 1' > params.yaml
cat > make.py <<'PY'
from pathlib import Path
path = Path("kept")
path.write_text("kept from before" if path.exists() else "made anew")
PY
stage first > dvc.yaml
dvc repro --quiet
git add -A && git commit --quiet -m start
stage renamed > dvc.yaml
cp -r ../project ../second
dvc repro --quiet
after_repro=$(cat kept)
cd ../second
dvc exp run --quiet
after_exp_run=$(cat kept)

dvc --version
echo "expected: with persist: true both commands find the output of before"
echo "dvc repro:   $after_repro"
echo "dvc exp run: $after_exp_run"
[ "$after_repro" = "kept from before" ] && [ "$after_exp_run" = "made anew" ]
