# `make help` lists the targets. Everything lives in .venv and in the user's cache folder.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export PYTHONPATH := operator:.

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements/dev.txt pyproject.toml
	@echo "== installing the development environment into $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

.PHONY: install
install: $(STAMP) ## install what development needs

.PHONY: demo
demo: $(STAMP) ## the main job on real input: cluster, Skerry, a model optimized, gated, served and asked
	$(BIN)/python examples/digits/demo.py

.work/digits/digits.onnx: examples/digits/train.py | $(STAMP)
	$(BIN)/python examples/digits/train.py .work/digits

.PHONY: optimize
optimize: $(STAMP) .work/digits/digits.onnx ## the same optimization on this machine alone, without a cluster
	$(BIN)/skerry optimize .work/digits/digits.onnx --data .work/digits/digits-test.npz \
	  --calibration .work/digits/digits-calibration.npz --out .work/digits/result

.PHONY: test
test: lint test-unit test-chart test-registry test-tools test-cluster ## everything but what test-all has

.PHONY: test-all
test-all: test test-images ## everything: the tools of all images as well, which takes 10 GB and half an hour more

.PHONY: lint
lint: $(STAMP) ## style, types, layers, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy operator/skerry devcluster tests examples benchmarks
	$(BIN)/lint-imports
	$(BIN)/python -m skerry.api.generate --check crds charts/skerry/files/crds
	$(BIN)/python -m skerry.accelerators.generate --check charts/skerry
	$(BIN)/python -m skerry.probe.plugin.generate --check

.PHONY: format
format: $(STAMP) ## put the style right where that can be done by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: test-unit
test-unit: $(STAMP) ## fast tests that need no cluster
	$(BIN)/pytest tests/unit tests/golden

.PHONY: test-tools
test-tools: $(STAMP) ## QNN and LiteRT, whose packages are installed into the cache folder once
	$(BIN)/pytest tests/tools

.PHONY: test-chart
test-chart: $(STAMP) ## the Helm chart, rendered
	$(BIN)/pytest tests/chart

.PHONY: test-registry
test-registry: $(STAMP) ## the artifact store against a real registry and a real S3 server
	$(BIN)/pytest tests/registry

.PHONY: test-images
test-images: $(STAMP) ## optimization tools and servers that run in images of their own
	$(BIN)/pytest tests/images

.PHONY: test-cluster
test-cluster: $(STAMP) ## the API server, the cluster and Skerry installed on it
	$(BIN)/pytest tests/apiserver tests/cluster

.PHONY: cluster
cluster: $(STAMP) ## make the development cluster, or mend it
	$(BIN)/python -m devcluster up

.PHONY: cluster-down
cluster-down: $(STAMP) ## remove the development cluster
	$(BIN)/python -m devcluster down

.PHONY: generate
generate: $(STAMP) ## write what follows from the API's models and from the catalogue
	$(BIN)/python -m skerry.api.generate crds charts/skerry/files/crds
	$(BIN)/python -m skerry.accelerators.generate charts/skerry
	$(BIN)/python -m skerry.probe.plugin.generate

.PHONY: lock
lock: ## pin all dependencies with hashes
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet uv
	@for extra in operator probe server server-llamacpp optimizer-openvino optimizer-llamacpp optimizer-mlx optimizer-qnn \
	    optimizer-aimet optimizer-litert optimizer-olive optimizer-tensorrt dev; do \
	  oldest=3.11 without=/dev/null; \
	  case $$extra in \
	    optimizer-litert | optimizer-tensorrt) oldest=3.12;; \
	    optimizer-aimet | optimizer-olive) oldest=3.13 without=requirements/$$extra.excludes.txt;; \
	  esac; \
	  $(BIN)/uv pip compile pyproject.toml --extra $$extra --generate-hashes --universal --python-version $$oldest \
	    --excludes $$without \
	    --no-emit-index-url --no-emit-find-links --no-header --quiet --upgrade --output-file requirements/$$extra.txt || exit 1; \
	done
