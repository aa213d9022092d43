# Two commands: `make demo` audits the embedded model, `make test` checks everything.
PYTHON ?= python3
TORCH_OPTIONS ?=
# Test files run side by side, each process on one thread.
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
PANGO := libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0 fontconfig
PANGO_CHECK := $(BIN)/python -c 'from reports.pdf import check_pdf_libraries; check_pdf_libraries()'
TOOLS := poppler-utils chromium openssl qpdf softhsm2 nodejs npm
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test check lint types contracts tests cards examples catalogue install dev pango tools clean
.DEFAULT_GOAL := check

demo: install pango
	$(BIN)/affidavit demo

test: check

check: lint types contracts tests

lint: dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: dev
	$(BIN)/mypy

contracts: dev
	$(BIN)/lint-imports

tests: dev pango tools
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile

# The data cards in docs/data-cards; the tests compare them with the suites.
cards: install
	for suite in healthcare finance defense cross_domain; do $(BIN)/affidavit suites card $$suite > docs/data-cards/$$suite.md || exit 1; done

# The template of translations; the tests compare it with the messages that the reports print.
catalogue: install
	$(BIN)/python -m tests.reports.catalogue

# The reports of both demonstrations, as they are handed out; docs/examples/README.md says what they are.
EXAMPLES := docs/examples
examples: install pango
	rm -rf build/examples && mkdir -p build/examples
	cd build/examples && $(abspath $(BIN))/affidavit demo --out audit
	cd build/examples && $(abspath $(BIN))/affidavit demo --diff --base audit --out changes
	for kind in pdf html; do \
		cp build/examples/audit/report.$$kind $(EXAMPLES)/demo-audit.$$kind; \
		cp build/examples/changes/difference-dosing_error/report.$$kind $(EXAMPLES)/demo-diff.$$kind; \
	done
	cp build/examples/affidavit-demo-key/certificate.pem $(EXAMPLES)/demo-certificate.pem

install: $(VENV)/.installed

dev: $(VENV)/.dev

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("affidavit needs Python 3.11 or newer, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || $(MAKE) --no-print-directory apt WANT=python3-venv
	$(PYTHON) -m venv $(VENV)

# torch first and by its exact version: a range would pull the newest build. Where the package index serves a build with GPU libraries
# for it, TORCH_OPTIONS takes the pip options that choose an index with the CPU build.
$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet $(TORCH_OPTIONS) --constraint constraints.txt "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps dictionary-learning
	touch $@

# WeasyPrint needs these shared libraries, which pip cannot bring.
pango: install
	@$(PANGO_CHECK) >/dev/null 2>&1 || $(MAKE) --no-print-directory apt WANT='$(PANGO)'
	@$(PANGO_CHECK)

tools:
	@missing=; for tool in pdfsig chromium openssl qpdf softhsm2-util npm; do command -v $$tool >/dev/null || missing=1; done; \
	[ -z "$$missing" ] || $(MAKE) --no-print-directory apt WANT='$(TOOLS)'

.PHONY: apt
apt:
	@command -v apt-get >/dev/null || { echo "install with your package manager: $(WANT)"; exit 4; }
	@if [ "$$(id -u)" = 0 ]; then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(WANT) >/dev/null; \
	else echo "missing system libraries; run:  sudo apt-get install -y $(WANT)"; exit 4; fi

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
