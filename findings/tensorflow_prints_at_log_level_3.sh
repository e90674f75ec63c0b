#!/usr/bin/env bash
# TensorFlow: on a machine without CUDA, `import tensorflow` prints INFO lines to stderr although TF_CPP_MIN_LOG_LEVEL=3 asks for fatal ones only.
# They are written by Abseil before its logging is set up, so each process of a pipeline starts with them, and no variable leaves them out.
# Exits 0 as long as TensorFlow behaves like that, 1 when it changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check 'tensorflow==2.21.0'
venv/bin/python -c 'from importlib.metadata import version; print("tensorflow", version("tensorflow"))'
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python -c 'import tensorflow' 2> printed

echo "expected: nothing on stderr"
echo "seen:     $(wc -l < printed) lines, $(grep -c '^I[0-9]\{4\} ' printed) of them INFO:"
sed 's/^/  /' printed
grep -q '^I[0-9]\{4\} ' printed
