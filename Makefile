# make repro   set up if needed, then rebuild the experiment        make test   set up if needed, then run the tests
# make ui      browse the MLflow runs; it prints the address         make lint   ruff, import-linter, deptry, mypy, params.yaml and docs/reference.md in step
PYTHON ?= python3
PORT ?= 5000
ARGS ?=
export PATH := $(CURDIR)/.venv/bin:$(PATH)
INSTALLED := .venv/.installed
TEST_INSTALLED := .venv/.test-installed
SOAK_INSTALLED := .venv/.soak
HOSPITALS := .venv-hospitals

.PHONY: repro test hospitals hospitals-setup lint ui docs setup lock lowest clean-venv soak audit-deps

repro: $(INSTALLED)
	ppdl repro $(ARGS)

test: $(TEST_INSTALLED)
	python -m pytest -n 2 --dist loadfile $(ARGS)

# Parties of a pooled head as processes of an environment of their own, with Flower, which does not fit the others' pins: docs/howto/hospitals.md.
hospitals: $(TEST_INSTALLED) $(HOSPITALS)/.installed
	python -m pytest tests/serving/hospitals/test_processes.py $(ARGS)

lint: $(TEST_INSTALLED)
	ruff check .
	ruff format --check .
	lint-imports
	deptry .
	mypy
	bandit --quiet -c pyproject.toml -r ppdl stages
	python -m ppdl.config --check
	python -m ppdl.config.reference --check
	python -m ppdl.config.schema --check

ui: $(INSTALLED)
	ppdl ui --port $(PORT)

# The site, into build/site; a broken link fails.
docs: $(TEST_INSTALLED)
	mkdocs build --strict --quiet

setup: $(INSTALLED)

# uv takes 1.5 minutes where pip takes 5.7; it reads no pip.conf, so where only that names the package index, pip does the rest.
LOCKED = $(1)/bin/uv pip install --quiet --python $(1) --compile-bytecode --require-hashes -r $(2) || $(1)/bin/python -m pip install --quiet --require-hashes -r $(2)
# An environment in the folder $(1) with the pins of $(2) and this package. Its stamp is newer than what it was made from, so a second call does nothing.
define ENVIRONMENT
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else \
	  f"ppdl needs Python 3.11 to 3.13, and {sys.executable} is {v[0]}.{v[1]}: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(1)
	@sed -n '/^uv==/,/[^\\]$$/p' $(2) > $(1)/uv.txt
	$(1)/bin/python -m pip install --quiet --require-hashes -r $(1)/uv.txt
	$(call LOCKED,$(1),$(2))
	$(1)/bin/uv pip install --quiet --python $(1) --no-deps -e . || $(1)/bin/python -m pip install --quiet --no-deps -e .
	@touch $@
endef

$(INSTALLED): requirements.lock pyproject.toml
	$(call ENVIRONMENT,.venv,requirements.lock)

# What the tests, the checks and the documentation need beside it, in the same versions.
$(TEST_INSTALLED): $(INSTALLED) requirements-test.lock
	$(call LOCKED,.venv,requirements-test.lock)
	@touch $(TEST_INSTALLED)

hospitals-setup: $(HOSPITALS)/.installed

$(HOSPITALS)/.installed: requirements-hospitals.lock pyproject.toml
	$(call ENVIRONMENT,$(HOSPITALS),requirements-hospitals.lock)

# Pins anew, with the uv of `make setup`: requirements.lock for `make repro`, requirements-test.lock with all of it for `make test`,
# requirements-hospitals.lock for `make hospitals`; one version of
# each package for Python 3.11 to 3.13 (fewest). Extras stay in a lock: without them, pip with --require-hashes takes what asks for coverage[toml]
# for not pinned once a newer coverage is out.
PIN := uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes --no-strip-extras \
  --no-annotate --no-header
LOCK := $(PIN) --group install --extra train --extra serve --extra dicom --extra kaggle --extra sweep
lock:
	$(LOCK) -o requirements.lock
	$(LOCK) --extra privacy --extra postgres --extra ray --extra s3 --group docs --group dev -c requirements.lock -o requirements-test.lock
	$(PIN) --group install --extra hospitals -o requirements-hospitals.lock

# The lowest versions that pyproject.toml admits, into build/lowest.txt.
lowest:
	@mkdir -p build
	uv pip compile pyproject.toml --quiet --python-version 3.11 --resolution lowest-direct --no-annotate --no-header \
	  --extra train --extra serve --extra dicom --extra kaggle --extra sweep --extra privacy -o build/lowest.txt

# mutmut and atheris, which only the soak needs, are not in the lock.
$(SOAK_INSTALLED): $(TEST_INSTALLED)
	.venv/bin/uv pip install --quiet --python .venv --group soak
	@touch $(SOAK_INSTALLED)

# An hour and a half of faults, damaged input, growing sets and fresh clones; .ci/run takes a small sample of each. make soak KILLS=5 CASES=1000 MUTANTS=20:
# less of it; it needs a folder of its own, SOAK=/tmp/soak, for docs/reliability.md shows the whole. On Linux only.
SOAK ?= tests/soak/results
KILLS ?= 50
CASES ?= 100000
MUTANTS ?= 400
soak: $(SOAK_INSTALLED) $(HOSPITALS)/.installed
	python -m tests.soak.fuzz --cases $(CASES) --out $(SOAK)/fuzz.json
	python -m tests.soak.guided all --out $(SOAK)/guided.json
	python -m tests.soak.kills --num $(KILLS) --out $(SOAK)/kills.json
	python -m tests.soak.first_store --out $(SOAK)/first_store.json
	python -m tests.soak.pool_kills --out $(SOAK)/pool_kills.json
	python -m tests.soak.hospital_kills --out $(SOAK)/hospital_kills.json
	python -m tests.soak.mutants --num $(MUTANTS) --out $(SOAK)/mutants.json
	python -m tests.soak.kernel_mutants --out $(SOAK)/kernel_mutants.json
	python -m tests.soak.promises --out $(SOAK)/promises.json
	python -m benchmarks.scale --anew --json $(SOAK)/scale.json
	python -m tests.soak.repro --out $(SOAK)/repro.json
	python -m tests.soak.table --write
	python -m tests.soak.covered --out $(SOAK)/coverage.json
	python -m tests.soak.table --write

# Known vulnerabilities of the pinned dependencies. Fails where the advisory database does not answer.
audit-deps: $(TEST_INSTALLED)
	python .ci/audit_deps.py --required

clean-venv:
	rm -rf .venv $(HOSPITALS)
