# make demo   the whole chain on simulated events, in an environment of its own
# make quick  tests that start no cluster, server or notebook: minutes, while you work
# make test   style, types and tests, as CI runs them
# make install-tests   the package in empty environments: installs everything, twice
# make lazy   the tests of dask-awkward, with the old dask that it needs, in a second environment

VENV := .venv
INSTALLED := $(VENV)/.installed
LAZY := .venv-lazy
# processes of pytest, one thread of BLAS each; a test may start two Dask workers of its own
WORKERS ?= 2

.PHONY: help demo quick test lazy install-tests clean
help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo: $(INSTALLED)
	$(VENV)/bin/calib demo

quick: $(INSTALLED)
	OPENBLAS_NUM_THREADS=1 $(VENV)/bin/pytest -n $(WORKERS) --dist loadscope -m "not whole and not slow and not install"

test: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check --quiet .
	$(VENV)/bin/mypy
	OPENBLAS_NUM_THREADS=1 $(VENV)/bin/pytest -n $(WORKERS) --dist loadscope -m "not install"

install-tests: $(INSTALLED)
	$(VENV)/bin/pytest -m install

lazy: $(LAZY)/.installed
	$(LAZY)/bin/python -m pytest -m lazy tests/notebook

clean:
	rm -rf $(VENV) $(LAZY) build *.egg-info

# The first Python that runs, is new enough and can make environments. It is asked, since a name
# on the path may be a stub of a version manager. PYTHON=... on the command line overrides.
$(INSTALLED): pyproject.toml constraints.txt
	@found=; for python in $(PYTHON) python3.13 python3.12 python3.11 python3 python; do \
	  if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
	    >/dev/null 2>&1; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "dimucal needs Python 3.11 or newer with its venv module; found:" \
	    "$$(python3 --version 2>/dev/null || echo none). Install one (Debian: python3 python3-venv)," \
	    "or name it: make PYTHON=/path/to/python3" >&2; \
	  exit 1; \
	fi; \
	echo "installing into $(VENV), with $$($$found --version); this is done once"; \
	$$found -m venv --clear $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
	  -c constraints.txt -e '.[test]'
	@touch $@

$(LAZY)/.installed: $(INSTALLED) constraints-lazy.txt
	@echo "installing into $(LAZY) what dask-awkward needs; this is done once"
	@$(VENV)/bin/python -m venv --clear $(LAZY)
	@$(LAZY)/bin/python -m pip install --quiet --disable-pip-version-check \
	  -c constraints-lazy.txt -e '.[lazy]' pytest pytest-timeout hypothesis
	@touch $@
