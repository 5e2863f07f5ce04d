# aioxide: every chore of the repository. Needs python3 (3.11 or newer), cargo and make; everything else is
# put into a local virtual environment ($(VENV)), never into the user's own site-packages.
#
# Another Python:  make test PYTHON=python3.13 VENV=.venvs/3.13

PYTHON ?= python3
VENV ?= .venv
TEST_REQUIREMENTS ?= requirements/test.txt
PYTEST_ARGS ?=
HISTORY_ARGS ?=
BENCH_ARGS ?=
CONFORMANCE_ARGS ?=
ECOSYSTEM_ARGS ?=
PYTHONS ?= python3.11 python3.12 python3.13 python3.14 python3.15
SUITE_ARGS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
# A quiet pip, and one that never falls back to the user's site-packages.
PIP := $(BIN)/python -m pip --quiet --require-virtualenv --disable-pip-version-check install

RUST_SOURCES := Cargo.toml $(wildcard Cargo.lock) pyproject.toml \
	$(shell find crates -name '*.rs' -not -path '*/tests/*' -not -path '*/examples/*' -o -name Cargo.toml -o -name '*.c')
BENCH_SOURCES := $(shell find bench/loadgen bench/floor -name '*.rs' -o -name Cargo.toml 2>/dev/null)
PYTHON_CODE := python examples bench tests docs

.PHONY: help
help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-25s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# ---------------------------------------------------------------------------------------------- set-up

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "aioxide needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Name one: make PYTHON=python3.13 ..."; exit 1; }
	@command -v cargo > /dev/null || { echo "aioxide needs Rust's cargo on the PATH (1.86 or newer)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/build-tools: requirements/build.txt $(STAMPS)/venv
	$(PIP) -r requirements/build.txt
	@touch $@

$(STAMPS)/test-tools: $(TEST_REQUIREMENTS) $(STAMPS)/venv
	$(PIP) -r $(TEST_REQUIREMENTS)
	@touch $@

$(STAMPS)/check-tools: requirements/check.txt requirements/test.txt $(STAMPS)/venv
	$(PIP) -r requirements/check.txt
	@touch $@

# The package is installed in place, so that only a change of Rust code needs another build.
$(STAMPS)/native: $(RUST_SOURCES) $(STAMPS)/build-tools
	env -u CONDA_PREFIX VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/maturin develop --profile develop
	@touch $@

.PHONY: develop
develop: $(STAMPS)/native  ## Build the native module and install the package in place, into $(VENV)

# ------------------------------------------------------------------------------------------ the main job

.PHONY: history
history: $(STAMPS)/native  ## Run every style of the history of async, and draw history.html (HISTORY_ARGS="--requests 1000")
	$(BIN)/python -m aioxide history $(HISTORY_ARGS)

# ------------------------------------------------------------------------------------------------- tests

.PHONY: test test-python free-threaded free-threaded-lock test-free-threaded conformance-free-threaded test-rust
test: test-python test-rust  ## Run the tests: Python's under -X dev -W error, then the engine's own

test-python: $(STAMPS)/native $(STAMPS)/test-tools
	$(BIN)/python -X dev -W error -m pytest $(PYTEST_ARGS)

# PyO3 0.28.3 is the last that builds for free-threaded 3.13: a copy of the tree has a lock file with that.
FREE_THREADED := .venvs/free-threaded
FREE_THREADED_PYO3 := 0.28.3
IS_FREE := import sys, aioxide._native; assert not sys._is_gil_enabled(), "the GIL is on"

free-threaded:
	@$(PYTHON) -c 'import sys; sys.exit(getattr(sys, "_is_gil_enabled", lambda: True)())' \
		|| { echo "$(PYTHON) is no free-threaded build: name one, as in make test-free-threaded PYTHON=python3.13t"; exit 1; }
	@mkdir -p $(FREE_THREADED)
	@find $(FREE_THREADED) -mindepth 1 -maxdepth 1 ! -name target ! -name .venv ! -name 'Cargo.lock*' -exec rm -rf {} +
	tar -c --exclude=./.git --exclude=./Cargo.lock --exclude=target --exclude='.venv*' --exclude='*.so' . | tar -x -C $(FREE_THREADED)
	@cmp -s Cargo.lock $(FREE_THREADED)/Cargo.lock.newest || $(MAKE) free-threaded-lock
	@rm -f $(FREE_THREADED)/.venv/stamps/native
	$(MAKE) -C $(FREE_THREADED) develop PYTHON=$(PYTHON) VENV=.venv
	$(FREE_THREADED)/.venv/bin/python -c '$(IS_FREE)'

test-free-threaded: free-threaded  ## The same tests on a free-threaded Python with the GIL off (PYTHON=python3.13t)
	$(MAKE) -C $(FREE_THREADED) test-python PYTHON=$(PYTHON) VENV=.venv TEST_REQUIREMENTS=requirements/test-free-threaded.txt

conformance-free-threaded: free-threaded  ## CPython's own test_asyncio with the GIL off (PYTHON=python3.13t)
	$(MAKE) -C $(FREE_THREADED) conformance PYTHON=$(PYTHON) VENV=.venv

free-threaded-lock:
	cp Cargo.lock $(FREE_THREADED)/
	newest=$$(sed -n '/^name = "pyo3"$$/{n;s/.*"\(.*\)"/\1/p}' Cargo.lock) && cd $(FREE_THREADED) \
		&& cargo update --package pyo3 --precise $(FREE_THREADED_PYO3) \
		&& cargo update --package pyo3-build-config@$$newest --precise $(FREE_THREADED_PYO3)
	cp Cargo.lock $(FREE_THREADED)/Cargo.lock.newest

test-rust:
	cargo test --package aioxide --features tls-rustls --all-targets
	cargo test --package aioxide --features tls-rustls --doc

# Connections by the ten thousand, a gigabyte through flow control, cancelling and failing everywhere.
STRESS_ROUNDS ?= 20

.PHONY: stress
stress: $(STAMPS)/native $(STAMPS)/test-tools  ## Run the loop's and the client's stress tests for longer (STRESS_ROUNDS=100), seeds printed
	AIOXIDE_STRESS_ROUNDS=$(STRESS_ROUNDS) $(BIN)/python -X dev -W error -m pytest tests/loop/stress tests/http/test_stress.py -rP --timeout 3600
	AIOXIDE_STRESS_ROUNDS=$(STRESS_ROUNDS) cargo test --release --package aioxide --test http_stress

.PHONY: loom
loom:  ## Try what crosses threads in every order of steps (models in crates/engine/loom)
	cd crates/engine/loom && RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=$(CURDIR)/target/loom cargo test --release

# Not under ThreadSanitizer: without a standard library that is built for it, it sees races where a lock is.
MEMCHECK := valgrind --quiet --error-exitcode=1 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite --fair-sched=yes

.PHONY: memcheck
memcheck:  ## Run the engine's tests of what crosses threads under valgrind
	cargo test --package aioxide --test threads --config 'target."cfg(unix)".runner = "$(MEMCHECK)"'

.PHONY: conformance
conformance: $(STAMPS)/native  ## Run the interpreter's own test_asyncio on aioxide and on stock asyncio, and compare
	$(BIN)/python tests/conformance/run.py $(CONFORMANCE_ARGS)

# Each gets an environment of its own. All are tried, even after one has failed.
.PHONY: test-versions
test-versions:  ## Run Python's tests and the conformance on every version (PYTHONS="python3.11 python3.13")
	@failed=; for python in $(PYTHONS); do \
		version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2] + sys.abiflags)') \
			|| { echo "test-versions: $$python does not run here"; failed="$$failed $$python"; continue; }; \
		echo "test-versions: Python $$version ($$python), in .venvs/$$version"; \
		$(MAKE) --no-print-directory --keep-going test-python conformance PYTHON=$$python VENV=.venvs/$$version \
			|| failed="$$failed $$python"; \
	done; \
	if [ -n "$$failed" ]; then echo "test-versions: failed on$$failed"; exit 1; fi; \
	echo "test-versions: passed on $(PYTHONS)"

# These packages bring plugins for pytest, so they get an environment of their own. It is of the same Python, and takes
# aioxide from the tree: so do the servers that the tests start.
ECOSYSTEM := $(VENV)/ecosystem

$(ECOSYSTEM)/stamp: requirements/ecosystem.txt requirements/test.txt $(STAMPS)/venv
	$(BIN)/python -m venv $(ECOSYSTEM)
	$(ECOSYSTEM)/bin/python -m pip --quiet --require-virtualenv --disable-pip-version-check install -r requirements/ecosystem.txt
	@touch $@

.PHONY: ecosystem
ecosystem: $(STAMPS)/native $(ECOSYSTEM)/stamp  ## Run FastAPI, aiohttp, Twisted, asyncpg and more on the loop, for real (ECOSYSTEM_ARGS="-k redis")
	PYTHONPATH=$(abspath python) $(ECOSYSTEM)/bin/python -m pytest $(ECOSYSTEM_ARGS) tests/ecosystem

# Other projects' own tests bring plugins along, too.
SUITES := $(VENV)/suites

$(SUITES)/stamp: requirements/suites.txt $(STAMPS)/venv
	$(BIN)/python -m venv $(SUITES)
	$(SUITES)/bin/python -m pip --quiet --require-virtualenv --disable-pip-version-check install -r requirements/suites.txt
	@touch $@

.PHONY: httpx-suite tornado-suite
httpx-suite: $(STAMPS)/native $(SUITES)/stamp  ## Run httpx's own tests against aioxide.http
	$(SUITES)/bin/python tests/suites/run.py httpx $(SUITE_ARGS)

tornado-suite: $(STAMPS)/native $(SUITES)/stamp  ## Run Tornado's own client tests against aioxide's client for Tornado
	$(SUITES)/bin/python tests/suites/run.py tornado $(SUITE_ARGS)

# ----------------------------------------------------------------------------------------- documentation

# The theme and its plugins get an environment of their own. `make ecosystem` runs the pages' code blocks.
DOCS := $(VENV)/docs

$(DOCS)/stamp: requirements/docs.txt $(STAMPS)/venv
	$(BIN)/python -m venv $(DOCS)
	$(DOCS)/bin/python -m pip --quiet --require-virtualenv --disable-pip-version-check install -r requirements/docs.txt
	@touch $@

.PHONY: docs docs-pictures
docs: $(DOCS)/stamp  ## Build the documentation's site into target/site; every link of it must lead somewhere
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict
	RUSTDOCFLAGS="-D warnings" cargo doc --quiet --package aioxide --features tls-rustls --no-deps
	@rm -rf target/site/rust && cp -r target/doc target/site/rust
	@echo "docs: target/site/index.html"

docs-pictures: $(STAMPS)/native  ## Record the history's chapters anew, for the pictures of docs/history.md
	@for chapter in examples/history/[01]*.py; do \
		slug=$$(basename $$chapter .py | cut -c 4-); \
		$(BIN)/python -m aioxide history --chapters $$slug --out $(STAMPS)/chapter.html \
			--svg docs/images/history/$$slug.svg > /dev/null || exit 1; \
	done

# ------------------------------------------------------------------------------------------------ checks

.PHONY: check check-rust check-python check-stubs check-tidy
check: check-rust check-python check-stubs check-tidy  ## Formatting, lints, types, stubs against the binary, docs, house rules

check-rust:
	cargo fmt --all --check
	PYO3_PYTHON=$(PYTHON) cargo clippy --workspace --features aioxide/tls-rustls --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --package aioxide --features tls-rustls --no-deps
	# The binding's modules are all private, and its readers are those who work on it.
	PYO3_PYTHON=$(PYTHON) RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" \
		cargo doc --package aioxide-native --no-deps --document-private-items

check-python: $(STAMPS)/native $(STAMPS)/check-tools
	$(BIN)/ruff check $(wildcard $(PYTHON_CODE))
	$(BIN)/ruff format --check $(wildcard $(PYTHON_CODE))
	$(BIN)/mypy

check-stubs: $(STAMPS)/native $(STAMPS)/check-tools
	$(BIN)/stubtest aioxide._native --mypy-config-file pyproject.toml

check-tidy: $(STAMPS)/test-tools
	$(BIN)/python -m pytest --quiet tests/tidy

.PHONY: format
format: $(STAMPS)/check-tools  ## Format Rust and Python, and apply the lints' safe fixes
	cargo fmt --all
	$(BIN)/ruff check --fix $(wildcard $(PYTHON_CODE))
	$(BIN)/ruff format $(wildcard $(PYTHON_CODE))

# ------------------------------------------------------------------------------------------------ releases

# DIST_ARGS="--zig --compatibility manylinux_2_17" (with ziglang installed) builds for older systems than this one.
DIST_ARGS ?=

.PHONY: dist release-check audit
dist: $(STAMPS)/build-tools  ## Build the wheel for this Python and the source distribution, into dist/
	@rm -rf dist
	env -u CONDA_PREFIX $(BIN)/maturin build --release --locked --interpreter $(BIN)/python --out dist $(DIST_ARGS)
	$(BIN)/maturin sdist --out dist

release-check: dist  ## Install the wheel where nothing else is, run the examples, uninstall: nothing may be left
	$(BIN)/python tests/release/check.py dist

audit:  ## Compare what we build on with the published advisories (needs cargo-deny and pip-audit)
	cargo deny --workspace check
	pip-audit --requirement requirements/build.txt
	pip-audit --requirement requirements/ecosystem.txt

# -------------------------------------------------------------------------------------------- benchmarks

# Python 3.13 where there is one, since that is what the published numbers are measured on.
BENCH_PYTHON ?= $(shell sh bench/find-python.sh 3.13 $(PYTHON))
BENCH_VENV := bench/.venv
BENCH_BIN := $(BENCH_VENV)/bin
BENCH_STAMPS := $(BENCH_VENV)/stamps
# urllib3 stays what it is beside niquests.
BENCH_PIP := URLLIB3_NO_OVERRIDE=1 $(BENCH_BIN)/python -m pip --quiet --require-virtualenv --disable-pip-version-check install

$(BENCH_STAMPS)/venv:
	$(BENCH_PYTHON) -m venv $(BENCH_VENV)
	@mkdir -p $(BENCH_STAMPS) && touch $@

$(BENCH_STAMPS)/peers: requirements/build.txt requirements/bench.txt requirements/bench-optional.txt $(BENCH_STAMPS)/venv
	$(BENCH_PIP) -r requirements/build.txt -r requirements/bench.txt
	@grep -v '^#' requirements/bench-optional.txt | while read peer; do \
		$(BENCH_PIP) "$$peer" > /dev/null 2>&1 || echo "$$peer does not install here; its column is left out"; done
	@touch $@

$(BENCH_STAMPS)/native: $(RUST_SOURCES) $(BENCH_STAMPS)/peers
	env -u CONDA_PREFIX VIRTUAL_ENV=$(abspath $(BENCH_VENV)) $(BENCH_BIN)/maturin develop --release
	@touch $@

$(BENCH_STAMPS)/programs: $(BENCH_SOURCES) $(BENCH_STAMPS)/venv
	cargo build --release --package aioxide-loadgen --package aioxide-floor
	@touch $@

.PHONY: bench
bench: $(BENCH_STAMPS)/native $(BENCH_STAMPS)/programs  ## Measure aioxide beside asyncio, uvloop and others (BENCH_ARGS="--only call_soon --rounds 9")
	$(BENCH_BIN)/python -m bench $(BENCH_ARGS)

# --------------------------------------------------------------------------------------------- tidying up

.PHONY: clean
clean:  ## Remove everything that was built or installed here
	rm -rf $(VENV) .venvs bench/.venv target dist history.html history.json
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -f python/aioxide/_native*.so
	find $(wildcard $(PYTHON_CODE)) -name __pycache__ -prune -exec rm -rf {} +
