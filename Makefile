# make demo   tokenize the bundled clip, draw what was chosen, fit a tiny model on it and ask it
# make test   run the test suite
# make lint   check style, format and types
# make release-check   build sdist and wheel, use the wheel in an environment that has nothing else (5 GB while it runs)
# All make .venv first (the registry's torch is about 5 GB) and can be run again.
# make clients test with vLLM's server and with lmms-eval, each in an environment of its own (.venv-vllm 2.6 GB, .venv-eval 1.7 GB)
# make lowest run it in .venv-lowest, with the lowest version of everything that pyproject.toml allows (7 GB)
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test clients client-environments lowest lint bench release-check clean

demo: $(INSTALLED)
	$(BIN)/ov2kit demo --out demo_out

test: $(INSTALLED)
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadscope --no-loadscope-reorder

# each environment has one of the two: what the other one needs is skipped, and counted
clients: client-environments
	.venv-vllm/bin/python -m pytest tests/recipes/clients/test_vllm_*.py --require vllm
	.venv-eval/bin/python -m pytest tests/recipes/clients/test_lmms_*.py --require lmms_eval

client-environments:
	$(PYTHON) .ci/clients.py vllm
	$(PYTHON) .ci/clients.py eval

lowest:
	test -x .venv-lowest/bin/python || $(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python .ci/lowest.py pyproject.toml > .venv-lowest/constraints.txt
	.venv-lowest/bin/python -m pip install --quiet --constraint .venv-lowest/constraints.txt --editable ".[dev,recipes]"
	.venv-lowest/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadscope --no-loadscope-reorder

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED)
	$(BIN)/python -m pytest benchmarks --benchmark-only

release-check: $(INSTALLED)
	$(BIN)/python .ci/release_check.py

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,recipes,peft,scale]"
	touch $@

clean:
	rm -rf .venv .venv-lowest .venv-vllm .venv-eval demo_out
