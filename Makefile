# Every target works as the first command after a clone: it creates .venv and installs what it needs, once.
# PYTHON=/path/to/python chooses the interpreter (3.11 or newer); otherwise the first suitable one is taken.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
STAMP := .venv/.installed
# One thread per library in tests: the cores belong to the test processes, not to each one's BLAS.
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
SOURCES := simulator policies envs training optimizer tests benchmarks $(wildcard examples)

.DEFAULT_GOAL := help
.PHONY: help demo test slow-tests spark-tests ray-tests focus-validator-tests browser-tests image-tests lint bench policy-figures policy-ablations champion service-champion clean

help:  ## show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "spotwise needs Python 3.11 or newer: make PYTHON=/path/to/python" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[train,dev]'
	@touch $@

demo: $(STAMP)  ## the whole loop on embedded data; ends with demo-report/report.html
	$(BIN)/spotwise demo --out demo-report

test: $(STAMP)  ## the tests, without the heavy ones, in two processes
	$(TEST) -n 2 --dist loadfile $(PYTEST_ARGS)

slow-tests: $(STAMP)  ## the heavy tests
	$(TEST) -m slow $(PYTEST_ARGS)

spark-tests: $(STAMP)  ## the ledger's expressions on Spark in local mode; needs Java 17
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt pyspark
	$(TEST) -m spark tests/optimizer/billing/test_spark.py $(PYTEST_ARGS)

ray-tests: $(STAMP)  ## spotwise tune on a Ray of this machine
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt ray
	$(TEST) -m ray tests/training/tune $(PYTEST_ARGS)

focus-validator-tests: $(STAMP)  ## the official FOCUS validator on ledgers; makes .venv-focus
	test -x .venv-focus/bin/python || $(PYTHON) -m venv .venv-focus
	.venv-focus/bin/python -m pip install --disable-pip-version-check -q --ignore-requires-python \
		'focus-validator==2.2.1' 'pyarrow<22'
	$(TEST) -m focus_validator tests/optimizer/billing/test_focus_validator.py $(PYTEST_ARGS)

browser-tests: $(STAMP)  ## pages in headless Chromium (Debian: apt-get install chromium)
	$(TEST) -m browser $(PYTEST_ARGS)

image-tests: $(STAMP)  ## build and run the container image, without a registry of images; needs root and Debian's packages
	apt-get install -y -q --no-install-recommends buildah podman crun debootstrap
	$(TEST) -m image tests/optimizer/controller/test_image.py $(PYTEST_ARGS)

lint: $(STAMP)  ## ruff, mypy --strict, import-linter
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict $(SOURCES)
	$(BIN)/lint-imports

bench: $(STAMP)  ## speed; prints one JSON object
	@$(BIN)/python benchmarks/run.py

TRACES ?= ../shared/data/traces/skypilot_spot_traces/availability/1-node/aws-02-15-2023
TRAINING_ZONES := us-east-1a us-east-1c us-east-1f us-east-2a us-west-2b us-west-2c
HELD_OUT_ZONES := us-west-2a us-east-1d us-east-2b
MARKET := $(BIN)/spotwise market build --format skypilot --spot-price 0.9731 --on-demand-price 3.06

define CHAMPION_MARKETS
$(MARKET) $(TRAINING_ZONES:%=$(TRACES)/%_v100_1.json) --tick-seconds 195 --out markets/champion-training.npz
$(MARKET) $(HELD_OUT_ZONES:%=$(TRACES)/%_v100_1.json) --tick-seconds 600 --out markets/champion-held-out.npz
endef

policy-figures: $(STAMP)  ## the tables of docs/policies.md on held-out zones and on left-out training zones
	$(CHAMPION_MARKETS)
	$(BIN)/python -m training.champion.figures markets/champion-training.npz markets/champion-held-out.npz
	$(BIN)/python -m training.champion.model_choice markets/champion-training.npz

policy-ablations: $(STAMP)  ## train the champion's recipe with one part left out at a time: twelve networks
	$(CHAMPION_MARKETS)
	$(BIN)/python -m training.champion.ablations markets/champion-training.npz markets/champion-held-out.npz

champion: $(STAMP)  ## train and judge the shipped deadline policy again; about 30 minutes on two cores
	$(CHAMPION_MARKETS)
	$(BIN)/python -m policies.planner.fit markets/champion-training.npz
	$(BIN)/python -m training.champion --market markets/champion-training.npz --out runs/champion/deadline.policy
	$(BIN)/spotwise promote runs/champion/deadline.policy --market markets/champion-held-out.npz \
		--out policies/champions/deadline-champion.policy

SERVICE_MARKET := $(BIN)/spotwise market build --format skypilot --tick-seconds 30 --spot-price 1 --on-demand-price 3
SERVICE_SPLIT := 2023-03-14T07:00Z
PREEMPTIONS ?= ../shared/data/traces/skypilot_spot_traces/preemption/4-node/aws-08-03-2023

service-champion: $(STAMP)  ## fit and judge the shipped service policy again; a minute
	$(SERVICE_MARKET) $(TRACES)/*.json --unit-capacity unlimited --end $(SERVICE_SPLIT) \
		--out markets/service-training.npz
	$(SERVICE_MARKET) $(TRACES)/*.json --unit-capacity unlimited --start $(SERVICE_SPLIT) \
		--out markets/service-held-out.npz
	$(SERVICE_MARKET) $(PREEMPTIONS)/*.json --out markets/v100x4.npz
	$(BIN)/python -m training.service.champion markets/service-training.npz --out runs/champion/service.policy
	$(BIN)/spotwise promote runs/champion/service.policy --workload service --market markets/service-held-out.npz \
		--market markets/v100x4.npz --out policies/champions/service-champion.policy

clean:  ## remove caches, build products and what the demo wrote; keeps .venv
	rm -rf dist build demo-report .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +
