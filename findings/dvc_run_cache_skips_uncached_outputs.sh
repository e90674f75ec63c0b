#!/usr/bin/env bash
# DVC: one output with `cache: false` keeps a stage out of the run cache, without a word, unless that output is a metric or a plot.
# So going back to earlier values runs the stage again, although its large outputs still lie in the cache under the very inputs.
# Exits 0 as long as DVC behaves like that, 1 when it changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check 'dvc==3.67.1'
export PATH="$folder/venv/bin:$PATH" DVC_NO_ANALYTICS=1

mkdir project && cd project
git init --quiet -b main
dvc init --quiet
cat > dvc.yaml <<'YAML'
stages:
  all_cached:
    cmd: cp value large_1 && cp value small_1
    deps: [value]
    outs: [large_1, small_1]
  small_metric_in_git:
    cmd: cp value large_2 && cp value small_2.yaml
    deps: [value]
    outs: [large_2]
    metrics:
      - small_2.yaml: {cache: false}
  small_output_in_git:
    cmd: cp value large_3 && cp value small_3
    deps: [value]
    outs:
      - large_3
      - small_3: {cache: false}
YAML
for value in 1 2; do
    echo "$value" > value
    dvc repro --quiet
done
echo 1 > value # back to the first
dvc repro > printed 2>&1

dvc --version
echo "expected: all three stages come from the run cache"
grep -E "^(Stage|Running stage) '" printed
grep -q "Stage 'all_cached' is cached" printed
grep -q "Stage 'small_metric_in_git' is cached" printed
grep -q "Running stage 'small_output_in_git'" printed
