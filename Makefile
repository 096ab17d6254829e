# Everything that a newcomer or CI needs. Each target does its own set-up.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready

.PHONY: demo test test-ckan test-chaos check lint types bench clean

demo: $(READY)            ## the whole service at work; API_URL=... RESOURCE=... for a real CKAN
	@rm -rf .demo
	$(BIN)/ckanpackager demo --output .demo $(if $(API_URL),--api-url $(API_URL)) $(if $(RESOURCE),-r $(RESOURCE)) $(if $(TASK),--task $(TASK))

test: $(READY)            ## the tests; TESTS=tests/test_job.py for some of them
	$(BIN)/python -m pytest -n 2 --dist loadfile $(TESTS)

test-ckan: $(READY)       ## the service against a real CKAN of our own; CKAN_VERSION=2.11.6 for another one, 2.9.11 with CKAN_PYTHON=python3.8
	$(BIN)/python -m pytest $(or $(TESTS),tests/ckan)

test-chaos: $(READY)      ## a thousand jobs under three hundred kills and other troubles; CHAOS_JOBS=100 CHAOS_SEED=7
	$(BIN)/python -m pytest -s --tb=short tests/chaos

check: lint types test    ## lint, types and tests

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

bench: $(READY)           ## the figures that the README quotes
	$(BIN)/python -m benchmarks.reading
	$(BIN)/python -m benchmarks.dwca
	$(BIN)/python -m benchmarks.load
	$(BIN)/python -m benchmarks.dump 2.12.0 2.11.6

$(READY): setup.cfg setup.py
	@echo "Making a virtual environment in $(VENV) and installing ckanpackager into it ..."
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'ckanpackager needs Python 3.11 or newer: make PYTHON=python3.13')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo,test,check]'
	@touch $@

clean:                    ## what the other targets have made
	rm -rf $(VENV) .ckan .demo build *.egg-info
