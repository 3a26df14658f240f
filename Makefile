# Everything here needs python3 (3.11 or newer) and make only; the rest is set up in .venv.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
export PYTHONDONTWRITEBYTECODE := 1

.DEFAULT_GOAL := help
# `demo`, `dashboards` and `bench` are folders, too.
.PHONY: help run demo dashboards bench setup setup-rebalance setup-dev test lint types contracts unit cpu wheel image container e2e vm-image e2e-vm lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "Settings pass through the environment: LOADBAND_DURATION=15s make run"

run: setup ## hold 60..70 % of this machine's CPUs, live, until Ctrl-C
	@exec $(BIN)/loadband

demo: setup-dev ## real load fires a real alert, live; needs prometheus and prometheus-alertmanager
	@$(BIN)/python -m demo

dashboards: setup-dev ## make the Grafana dashboards anew from their code
	@$(BIN)/python -m dashboards

bench: setup-dev ## loadband beside its peers: 20 minutes on an idle machine; SCENES, TOOLS, SECONDS choose, OUT names where to
	@$(BIN)/python -m bench $(if $(SCENES),--scenes "$(SCENES)") $(if $(TOOLS),--tools "$(TOOLS)") \
		$(if $(SECONDS),--seconds "$(SECONDS)") $(if $(OUT),--out "$(OUT)") $(if $(ANYWAY),--anyway)

setup: .venv/.run ## make .venv with loadband in it

setup-rebalance: .venv/.rebalance

setup-dev: .venv/.dev

test: lint types contracts unit cpu wheel container ## all tests; what is not installed here is skipped with a reason

lint: setup-dev ## ruff: rules and format
	@echo "== lint"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .

types: setup-dev ## mypy --strict
	@echo "== types"
	@$(BIN)/mypy

contracts: setup-dev ## the direction of the imports
	@echo "== import contracts"
	@$(BIN)/lint-imports --no-cache

unit: setup-dev ## tests that don't burn, with coverage and its floor
	@echo "== unit and property tests"
	@rm -f .coverage .coverage.*
	@$(BIN)/coverage run -m pytest --numprocesses auto -m "not cpu and not container and not e2e and not vm" $(PYTEST)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

cpu: setup-dev ## tests on real CPUs: some minutes, on an otherwise idle machine
	@echo "== tests on real CPUs"
	@$(BIN)/pytest -m "cpu and not container" $(PYTEST) || $(BIN)/pytest $(AGAIN) -m "cpu and not container" $(PYTEST)
# Somebody else's work on the machine fails a measurement once; a broken law fails it twice.
AGAIN := --last-failed --last-failed-no-failures none

wheel: setup-dev ## the wheel, built, installed into a clean environment and tried
	@echo "== the wheel"
	@rm -rf build/wheel && $(BIN)/python -m build --wheel --no-isolation --outdir build/wheel . >/dev/null
	@$(PYTHON) -m venv --clear build/wheel/venv
	@build/wheel/venv/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/run.txt
	@build/wheel/venv/bin/python -m pip --disable-pip-version-check --quiet install --no-deps build/wheel/loadband-*.whl
	@cd build/wheel && LOADBAND_DURATION=4s LOADBAND_MIN=5 LOADBAND_MAX=95 LOADBAND_LISTEN=off venv/bin/loadband
	@echo "the wheel holds a band for 4 s"

image: ## the container image loadband:VERSION; IMAGE names another, BUILDER is docker, podman or buildah
	@test "$(BUILDER)" || { echo "neither docker, podman nor buildah works here" >&2; exit 1; }
	@$(BUILDER) build $(DATES) $(IMAGE_FLAGS) --tag $(IMAGE) --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) .
IMAGE ?= loadband:$(VERSION)
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
REVISION = $(shell git describe --always --abbrev=40 --dirty --exclude='*' 2>/dev/null)
BUILDER ?= $(shell for tool in docker podman buildah; do $$tool info >/dev/null 2>&1 && echo $$tool && break; done)
# One date for every file and none of the build: the same sources and packages make the same image.
DATES = $(if $(filter podman buildah,$(notdir $(BUILDER))),--layers --timestamp 0)

container: setup-dev ## the image in real containers, on podman
	@echo "== tests in containers"
	@$(BIN)/pytest -m container $(PYTEST) || $(BIN)/pytest $(AGAIN) -m container $(PYTEST)

e2e: setup-dev ## the chart on the cluster of KUBECONFIG with LOADBAND_IMAGE; the command LOAD_IMAGE copies it to the nodes
	@echo "== tests on a cluster"
	@$(BIN)/pytest -s -m e2e $(PYTEST) || $(BIN)/pytest $(AGAIN) -s -m e2e $(PYTEST)

vm-image: setup-dev ## the machine image build/vm/loadband-VERSION.qcow2; VM_CACHE names where the next build finds its tools
	@rm -rf build/vm/wheels && $(BIN)/python -m build --wheel --no-isolation --outdir build/vm/wheels . >/dev/null
	@$(PIP) download --require-hashes --only-binary :all: --python-version 3.13 --platform manylinux_2_28_x86_64 \
		--platform manylinux2014_x86_64 --dest build/vm/wheels -r requirements/run.txt
	@vm/build $(VERSION) build/vm/wheels build/vm $(VM_CACHE)
	@ls -lh $(VM_IMAGE)
VM_CACHE ?= build/vm/cache
VM_IMAGE ?= build/vm/loadband-$(VERSION).qcow2

e2e-vm: setup-dev ## VM_IMAGE in real virtual machines, on QEMU; some minutes, on an otherwise idle machine
	@echo "== tests in virtual machines"
	@VM_IMAGE=$(VM_IMAGE) $(BIN)/pytest -s -m vm $(PYTEST)

lock: .venv/.made ## resolve the dependencies anew into requirements/
	@$(PIP) install uv
	@$(BIN)/uv pip compile $(UV) pyproject.toml -o requirements/run.txt
	@$(BIN)/uv pip compile $(UV) --group build -o requirements/build.txt
	@$(BIN)/uv pip compile $(UV) pyproject.toml --extra rebalance -o requirements/rebalance.txt
	@$(BIN)/uv pip compile $(UV) pyproject.toml --extra rebalance --group dev -o requirements/dev.txt
UV := --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command "make lock"

clean: ## remove all that was made
	rm -rf .venv build dist .coverage* .*_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "loadband needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "this Python came without venv: install it (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@echo "setting up .venv ..." >&2
	@$(PYTHON) -m venv --clear .venv
	@touch $@

.venv/.run: .venv/.made pyproject.toml requirements/run.txt requirements/build.txt
	@$(PIP) install --require-hashes -r requirements/run.txt -r requirements/build.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.rebalance: .venv/.run requirements/rebalance.txt
	@echo "setting up loadband rebalance ..." >&2
	@$(PIP) install --require-hashes -r requirements/rebalance.txt
	@touch $@

.venv/.dev: .venv/.rebalance requirements/dev.txt
	@echo "setting up the tools for the tests ..." >&2
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@
