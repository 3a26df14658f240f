# Everything here needs only python3 (3.11 or newer) and make; everything else is set up in .venv.
PYTHON ?= python3
BIN := .venv/bin
DOCS := build/docs
CHART := build/chart/schemas
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
export PYTHONDONTWRITEBYTECODE := 1

.DEFAULT_GOAL := help
# `dashboards` and `bench` are also folders.
.PHONY: help run lab lab-vm demo dashboards pictures values bench scale league setup setup-rebalance setup-libvirt setup-dev test lint types contracts audit unit cpu mutants wheel image container e2e e2e-slow vm-image e2e-vm workflows kind notes publish push-image push-chart push-vm-image sign-image docs docs-version chart man lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "Settings pass through the environment: LOADBAND_DURATION=15s make run"

run: setup ## hold 60..70 % of this machine's CPUs, live, until Ctrl-C
	@exec $(BIN)/loadband

lab: setup-rebalance ## overload, alert, move, balance, judged in 90 s; needs prometheus and prometheus-alertmanager
	@exec $(BIN)/loadband rebalance run $(SCENARIO) --out build/lab/$$(date +%Y%m%d-%H%M%S) $(RUN)
SCENARIO ?= hot-host

lab-vm: setup-libvirt ## the same with virtual machines that migrate live; needs libvirt and QEMU, too: docs/rebalance/libvirt.md
	@exec $(BIN)/loadband rebalance run $(SCENARIO) --platform libvirt --out build/lab/$$(date +%Y%m%d-%H%M%S)-vm $(RUN)

demo: lab

dashboards: setup-dev ## generate the Grafana dashboards from their code
	@$(BIN)/python -m dashboards

values: setup-dev ## write the chart's table of values from its schema, and the changes in Chart.yaml from CHANGELOG.md
	@$(BIN)/python tests/support/chart_texts.py

pictures: setup-dev ## draw the dashboards for docs/ from a real Prometheus: 4 minutes of an idle machine; KEPT=1: draw again
	@$(BIN)/python -m bench.pictures $(if $(KEPT),--again)

bench: setup-dev ## benchmark loadband and its peers: more than an hour of an idle machine; see SCENES, TOOLS, SECONDS, REPEATS, OUT
	@$(BIN)/python -m bench $(if $(SCENES),--scenes "$(SCENES)") $(if $(TOOLS),--tools "$(TOOLS)") \
		$(if $(SECONDS),--seconds "$(SECONDS)") $(if $(REPEATS),--repeats "$(REPEATS)") $(if $(OUT),--out "$(OUT)") $(if $(ANYWAY),--anyway)

scale: setup-dev ## simulate machines of 1 to 512 CPUs and up to 64 regulators on a host, for docs/benchmark
	@$(BIN)/python tests/support/scale.py

# Those whose rows are asked for; without ROWS, those that are set up already.
RIVALS = $(foreach tool,watcher proxlb,$(if $(if $(ROWS),$(findstring $(tool),$(ROWS)),$(wildcard build/tools/$(tool)/.made)),$(tool)))

league: setup-rebalance $(RIVALS:%=build/tools/%/.made) ## rebalancers through the same scenarios, hours of an idle machine, resumable; see ROWS, SCENARIOS, REPEATS, OUT
	@for tool in $(RIVALS); do build/tools/$$tool/bin/python -W ignore -m unittest bench.adapters.check_$$tool || exit 1; done
	@exec $(BIN)/python -m bench.league $(if $(ROWS),--rows "$(ROWS)") $(if $(SCENARIOS),--scenarios "$(SCENARIOS)") \
		$(if $(REPEATS),--repeats "$(REPEATS)") $(if $(OUT),--out "$(OUT)")

# Other projects' rebalancers, each in a venv of its own.
build/tools/%/.made: requirements/%.txt
	@echo "setting up $* ..." >&2
	@$(PYTHON) -m venv --clear build/tools/$*
	@build/tools/$*/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r $<
	@touch $@

setup: .venv/.run ## set up .venv with loadband in it

setup-rebalance: .venv/.rebalance

setup-libvirt: .venv/.libvirt

setup-dev: .venv/.dev ## add what the tests need to .venv

test: lint types contracts workflows unit cpu wheel container ## run all tests; tests whose tools are missing are skipped, with a reason

lint: setup-dev ## check rules and format (ruff)
	@echo "== lint"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .

types: setup-dev ## check types (mypy --strict)
	@echo "== types"
	@$(BIN)/mypy

contracts: setup-dev ## check the direction of imports
	@echo "== import contracts"
	@$(BIN)/lint-imports --no-cache

audit: setup-dev ## look the packages that a user installs up among known vulnerabilities (pip-audit)
	@$(PIP) install --upgrade --target build/audit pip-audit
	@for file in run rebalance kubernetes; do echo "== requirements/$$file.txt"; \
		PYTHONPATH=build/audit $(BIN)/python -m pip_audit --strict --disable-pip --require-hashes \
			--progress-spinner off --requirement requirements/$$file.txt || exit 1; done

workflows: setup-dev ## check .github/workflows (actionlint, zizmor); actionlint is built by go, unless ACTIONLINT names one
	@echo "== workflows"
	@$(BIN)/zizmor --offline --quiet --no-progress .github/workflows
	@if [ "$(ACTIONLINT)" ] || command -v go >/dev/null; then \
		$(or $(ACTIONLINT),go run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12); \
	else echo "skipped actionlint: go isn't installed"; test ! "$(NO_SKIP)"; fi

unit: setup-dev ## run tests that burn no CPU, with a floor on coverage
	@echo "== unit and property tests"
	@rm -f .coverage .coverage.*
	@$(BIN)/coverage run -m pytest --numprocesses auto $(UNIT) $(PYTEST) || $(BIN)/coverage run -m pytest $(AGAIN) $(UNIT) $(PYTEST)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report $(if $(NO_SKIP),,--fail-under 0)
# The floor holds where no test is skipped (NO_SKIP): without promtool or helm, less is covered, and nothing is wrong.
UNIT := -m "not cpu and not container and not e2e and not vm"

cpu: setup-dev ## run tests on real CPUs: some minutes, on an otherwise idle machine
	@echo "== tests on real CPUs"
	@$(BIN)/pytest -m "cpu and not container" $(PYTEST) || $(BIN)/pytest $(AGAIN) -m "cpu and not container" $(PYTEST)
# Other work on the machine may fail a measurement once; a broken law fails it twice.
AGAIN := --last-failed --last-failed-no-failures none

mutants: setup-dev ## mutation tests of one part, an hour of one CPU; lists what survives; see PART
	@rm -rf $(MUTANTS) && mkdir -p $(MUTANTS)/tree
	@$(BIN)/python tests/support/mutants.py $(PART) > $(MUTANTS)/part.toml
	@test -d build/mutants/tool || $(PIP) install --target build/mutants/tool cosmic-ray
	@cp -r src tests bench docs scenarios pyproject.toml $(MUTANTS)/tree/
	@cd $(MUTANTS)/tree && export PATH="$(CURDIR)/$(BIN):$$PATH" PYTHONPATH="src:$(CURDIR)/build/mutants/tool" && \
		$(MUTATE) init ../part.toml ../session.sqlite && \
		python -m cosmic_ray.tools.filters.operators_filter ../session.sqlite ../part.toml && \
		$(MUTATE) baseline ../part.toml && \
		$(MUTATE) exec ../part.toml ../session.sqlite; \
		python -m cosmic_ray.tools.report --show-diff --surviving-only ../session.sqlite
# proof: what judges a run; of the regulator: law, loop, sensor, workers.
PART ?= proof
MUTANTS := build/mutants/$(PART)
MUTATE := python -m cosmic_ray.cli

wheel: setup-dev ## build wheel and sdist twice, compare and check them, test the sdist, install the wheel and run it
	@echo "== wheel and sdist"
	@rm -rf $(WHEEL) && mkdir -p $(WHEEL)/unpacked
	@$(BIN)/python -m build --quiet --no-isolation --outdir $(WHEEL)/first . >/dev/null
	@umask 077 && tar --extract --no-same-permissions --touch --strip-components 1 --directory $(WHEEL)/unpacked \
		--file $(WHEEL)/first/*.tar.gz
	@umask 077 && TZ=Asia/Kathmandu LC_ALL=C PYTHONHASHSEED=1 \
		$(BIN)/python -m build --quiet --no-isolation --outdir $(WHEEL)/second $(WHEEL)/unpacked >/dev/null
	@cd $(WHEEL)/first && for file in *; do cmp $$file ../second/$$file || exit 1; done
	@echo "built again elsewhere, from the sdist: the same bytes"
	@$(BIN)/validate-pyproject pyproject.toml
	@$(BIN)/twine --no-color check --strict $(WHEEL)/first/*
	@$(BIN)/check-wheel-contents $(WHEEL)/first
	@cd $(WHEEL)/unpacked && PYTHONPATH=src $(CURDIR)/$(BIN)/pytest --quiet --no-header -p no:cacheprovider $(SDIST_TESTS)
	@$(PYTHON) -m venv --clear $(WHEEL)/venv
	@$(WHEEL)/venv/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/run.txt
	@$(WHEEL)/venv/bin/python -m pip --disable-pip-version-check --quiet install --no-deps $(WHEEL)/first/loadband-*.whl
	@cd $(WHEEL) && test "$$(venv/bin/loadband --version)" = "loadband $(VERSION)"
	@cd $(WHEEL) && LOADBAND_DURATION=4s LOADBAND_MIN=5 LOADBAND_MAX=95 LOADBAND_LISTEN=off venv/bin/loadband
	@echo "the wheel holds a band for 4 s"
	@$(WHEEL)/venv/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/rebalance.txt
	@cd $(WHEEL) && venv/bin/loadband rebalance check hot-host | head -1
WHEEL := build/wheel
# What the sdist's own tests are held to here: those that read the tree (links, rules, scenarios), and the settings.
SDIST_TESTS := tests/unit/test_docs.py tests/unit/test_scenario.py tests/unit/test_settings.py

image: ## build the image loadband:VERSION; TARGET=rebalance: loadband:VERSION-rebalance; see IMAGE, BUILDER
	@test "$(BUILDER)" || { echo "neither docker, podman nor buildah works here" >&2; exit 1; }
	@$(BUILDER) build $(DATES) $(IMAGE_FLAGS) $(if $(TARGET),--target $(TARGET)) --tag $(IMAGE) --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) .
IMAGE ?= loadband:$(VERSION)$(if $(TARGET),-$(TARGET))
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
REVISION = $(shell git describe --always --abbrev=40 --dirty --exclude='*' 2>/dev/null)
BUILDER ?= $(shell for tool in docker podman buildah; do $$tool info >/dev/null 2>&1 && echo $$tool && break; done)
# A fixed date for every file: the same sources and packages make the same image.
DATES = $(if $(filter podman buildah,$(notdir $(BUILDER))),--layers --timestamp 0)

container: setup-dev ## test the image in real containers, on podman
	@echo "== tests in containers"
	@$(BIN)/pytest -m container $(PYTEST) || $(BIN)/pytest $(AGAIN) -m container $(PYTEST)

e2e: setup-dev ## test the chart on the cluster of KUBECONFIG; see LOADBAND_IMAGE, LOAD_IMAGE in docs/kubernetes.md
	@echo "== tests on a cluster"
	@$(BIN)/pytest -s -m "e2e and not slow" $(PYTEST) || $(BIN)/pytest $(AGAIN) -s -m "e2e and not slow" $(PYTEST)

e2e-slow: setup-dev ## the same cluster with other rebalancers, controls and outages: a quarter of an hour; see TRIMARAN, REPAIR
	@$(BIN)/pytest -s -m "e2e and slow" $(PYTEST)

kind: ## make the cluster build/kind.kubeconfig for `make e2e`: two nodes with half of the CPUs each, on kind and docker
	@kind create cluster --name loadband --config tests/e2e/kind.yaml --kubeconfig build/kind.kubeconfig --wait 2m
	@half=$$(( $$(nproc) / 2 )) && docker update --cpuset-cpus 0-$$(( half - 1 )) loadband-worker && \
		docker update --cpuset-cpus $$half-$$(( $$(nproc) - 1 )) loadband-worker2

vm-image: setup-dev ## build the machine image build/vm/loadband-VERSION.qcow2; VM_CACHE keeps the tools for the next build
	@rm -rf build/vm/wheels && $(BIN)/python -m build --wheel --no-isolation --outdir build/vm/wheels . >/dev/null
	@$(PIP) download --require-hashes --only-binary :all: --python-version 3.13 --platform manylinux_2_28_x86_64 \
		--platform manylinux2014_x86_64 --dest build/vm/wheels -r requirements/run.txt
	@vm/build $(VERSION) build/vm/wheels build/vm $(VM_CACHE)
	@ls -lh $(VM_IMAGE)
VM_CACHE ?= build/vm/cache
VM_IMAGE ?= build/vm/loadband-$(VERSION).qcow2

# All of it again: the tests of a machine build on each other. Those of live migration don't, and need no image.
e2e-vm: setup-dev ## test VM_IMAGE in real virtual machines, and live migration, on QEMU: some minutes, on an otherwise idle machine
	@echo "== tests in virtual machines"
	@VM_IMAGE=$(VM_IMAGE) $(BIN)/pytest -s -m vm --ignore $(MIGRATION) $(PYTEST) || \
		VM_IMAGE=$(VM_IMAGE) $(BIN)/pytest -s -m vm --ignore $(MIGRATION) $(PYTEST)
	@$(MAKE) --no-print-directory setup-libvirt || true
	@$(BIN)/pytest -s -m vm $(MIGRATION) $(PYTEST) || $(BIN)/pytest $(AGAIN) -s -m vm $(MIGRATION) $(PYTEST)
MIGRATION := tests/vm/test_vm_migration.py

docs: $(DOCS)/venv/.made ## make the documents a site, build/docs/site; fails at a link or an anchor that leads nowhere
	@echo "== documents"
	@rm -rf $(DOCS)/source && mkdir -p $(DOCS)/source
	@cp -r $(SITE) $(DOCS)/source
	@NO_MKDOCS_2_WARNING=1 $(DOCS)/venv/bin/mkdocs build --strict --clean --config-file mkdocs.yaml
	@echo "$(DOCS)/site/index.html"

docs-version: docs ## add the site to those of other versions, on the branch gh-pages of this clone
	@export PATH="$(CURDIR)/$(DOCS)/venv/bin:$$PATH" NO_MKDOCS_2_WARNING=1 && \
		mike deploy --update-aliases $(VERSION) latest && mike set-default latest

# What the site shows, and what its pages link to.
SITE := *.md LICENSE compose compose.yaml dashboards docs helm scenarios vm

$(DOCS)/venv/.made: requirements/docs.txt
	@$(PYTHON) -m venv --clear $(DOCS)/venv
	@$(DOCS)/venv/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/docs.txt
	@touch $@

chart: $(CHART)/venv/.made ## check what the chart renders against the schemas of KUBERNETES, without a cluster; needs helm
	@echo "== chart on Kubernetes $(KUBERNETES)"
	@for file in helm/loadband/ci/*-values.yaml; do \
		helm template one helm/loadband --namespace space --values $$file >$(CHART)/$${file##*/} || exit 1; done
	@for version in $(KUBERNETES); do \
		$(CHART)/venv/bin/kubernetes-validate --strict --kubernetes-version $$version $(CHART)/*-values.yaml >$(CHART)/said || \
			{ grep ^ERROR $(CHART)/said; exit 1; }; \
		grep "find schema" $(CHART)/said | grep -v " monitoring.coreos.com/v1 " && exit 1; done; \
		echo "$$(grep -c ^INFO $(CHART)/said) objects of $$(ls $(CHART)/*-values.yaml | wc -l) files are valid in each"
KUBERNETES ?= 1.25 1.26 1.27 1.28 1.29 1.30 1.31 1.32 1.33 1.34 1.35 1.36 1.37

$(CHART)/venv/.made: requirements/chart.txt
	@$(PYTHON) -m venv --clear $(CHART)/venv
	@$(CHART)/venv/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/chart.txt
	@touch $@

man: setup-dev ## write the man page, docs/loadband.1, from the commands' own --help
	@mkdir -p build && SOURCE_DATE_EPOCH=0 $(BIN)/argparse-manpage --module loadband.completion --function whole --prog loadband \
		--project-name loadband --version "$(VERSION)" --manual-title "User Commands" --format single-commands-section \
		--description "holds a machine's CPU utilization inside a band" --output build/loadband.1
	@sed '1s/1970.-01.-01//' build/loadband.1 >docs/loadband.1

notes: ## print what CHANGELOG.md says about this version; fails if TAG is another one, or the section is unreleased
	@test "$(TAG)" = "v$(VERSION)" || { echo "TAG=$(TAG) isn't the tag of version $(VERSION)" >&2; exit 1; }
	@awk '/^## / { here = index($$0, "## [$(VERSION)]") == 1; if (here && /unreleased/) { early = 1; exit } next } \
		here { print; found += NF } END { exit early || !found }' CHANGELOG.md || \
		{ echo "CHANGELOG.md has no section of a released $(VERSION)" >&2; exit 1; }

publish: setup-dev ## upload what `make wheel` built, from a workflow that is a trusted publisher
	@$(BIN)/twine upload --non-interactive $(WHEEL)/first/*

push-image: ## build IMAGE for PLATFORMS with SBOM and provenance, and push it, on docker's buildx
	@mkdir -p build
	@docker buildx build --platform $(PLATFORMS) --sbom=true --provenance=mode=max --push --tag $(IMAGE) \
		--metadata-file build/pushed.json --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) .
PLATFORMS ?= linux/amd64,linux/arm64

push-vm-image: ## push VM_IMAGE as the containerDisk IMAGE, on docker's buildx
	@mkdir -p build/vm/containerdisk && cp $(VM_IMAGE) build/vm/containerdisk/loadband.qcow2
	@docker buildx build --push --tag $(IMAGE) --metadata-file build/pushed.json --file vm/containerdisk/Dockerfile \
		build/vm/containerdisk

push-chart: ## package the chart, push it to CHARTS, and sign it by cosign without a key
	@helm package helm/loadband --destination build/chart
	@helm push build/chart/loadband-$(VERSION).tgz oci://$(CHARTS) 2>&1 | tee build/chart/push.log
	@cosign sign --yes $(CHARTS)/loadband@$$(sed -n 's/^Digest: //p' build/chart/push.log | grep .)

sign-image: ## sign what was just pushed as IMAGE, by cosign without a key
	@cosign sign --yes --recursive $(IMAGE)@$$(jq --exit-status --raw-output '."containerimage.digest"' build/pushed.json)

lock: .venv/.made ## resolve the dependencies again into requirements/
	@$(PIP) install uv
	@$(BIN)/uv pip compile $(UV) pyproject.toml -o requirements/run.txt
	@$(BIN)/uv pip compile $(UV) --group build -o requirements/build.txt
	@$(BIN)/uv pip compile $(UV) pyproject.toml --extra rebalance -o requirements/rebalance.txt
	@$(BIN)/uv pip compile $(UV) pyproject.toml --extra kubernetes -o requirements/kubernetes.txt
	@$(BIN)/uv pip compile $(UV) pyproject.toml --extra libvirt -o requirements/libvirt.txt
	@$(BIN)/uv pip compile $(UV) --group docs -o requirements/docs.txt
	@$(BIN)/uv pip compile $(UV) --group chart -o requirements/chart.txt
	@$(BIN)/uv pip compile $(UV) pyproject.toml --extra completion --extra kubernetes --group dev -o requirements/dev.txt
	@echo python-watcher | $(BIN)/uv pip compile $(UV) - -o requirements/watcher.txt
	@printf "proxlb\ncheroot\nwerkzeug\ncryptography\n" | $(BIN)/uv pip compile $(UV) - -o requirements/proxlb.txt
UV := --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command "make lock"

clean: ## remove everything that was built
	rm -rf .venv build dist .coverage* .*_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "loadband needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "this Python has no venv: install it (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
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

# Compiled: python3-libvirt of the system serves as well, in a .venv that sees it.
.venv/.libvirt: .venv/.rebalance requirements/libvirt.txt
	@$(BIN)/python -c 'import libvirt' 2>/dev/null || { pkg-config --exists libvirt && command -v gcc; } >/dev/null 2>&1 || { \
		echo "the binding of libvirt can't be compiled: on Debian and Ubuntu, apt install libvirt-dev pkg-config gcc python3-dev" >&2; exit 1; }
	@$(BIN)/python -c 'import libvirt' 2>/dev/null || { echo "compiling the binding of libvirt ..." >&2; \
		$(PIP) install --require-hashes -r requirements/libvirt.txt; }
	@touch $@

.venv/.dev: .venv/.rebalance requirements/dev.txt
	@echo "setting up the tools for the tests ..." >&2
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@
