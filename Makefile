# Everything a fresh machine needs: Python 3.11+, make, git.  `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DOCS := .venv-docs
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test check serve bench torture mutants wheel lock page reference docs clean browser screenshots pictures

# Tests run in so many processes beside each other: they also wait, for servers and clocks.
PROCESSES ?= $(shell expr $$(nproc 2>/dev/null || echo 2) + 1)

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Keybroker needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

# Marker files: one install per change of the lock, not per run.
$(VENV)/.server: requirements.lock requirements-build.lock pyproject.toml | $(VENV)/bin/python
	@echo "Installing the pinned dependencies into $(VENV) …"
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock -r requirements-build.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.server
	@echo "Installing the pinned test tools into $(VENV) …"
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

# The generator of the documents' site shares nothing with the software, so it stands apart.
$(DOCS)/.docs: requirements-docs.lock
	$(PYTHON) -m venv $(DOCS)
	@echo "Installing the pinned generator of the site into $(DOCS) …"
	$(DOCS)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-docs.lock
	@touch $@

demo: $(VENV)/.server ## play the whole story against the bundled sandbox, then keep serving (ARGS=--exit ends)
	$(BIN)/broker demo $(ARGS)

serve: $(VENV)/.server ## run the broker on its embedded default (state under ./var)
	$(BIN)/broker serve $(ARGS)

test: $(VENV)/.dev $(DOCS)/.docs browser ## check, then every test (ARGS=tests/proxy: only those, in one process)
	$(MAKE) --no-print-directory check
	$(BIN)/python -m pytest $(or $(ARGS),-n $(PROCESSES) --dist worksteal --durations 20)

check: $(VENV)/.dev ## ruff, mypy (strict) and the import contracts, in less than a minute
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev ## benchmarks side by side with their peers (ARGS="lease --json")
	$(BIN)/python -m tests.bench $(ARGS)

torture: $(VENV)/.dev ## three brokers under faults for minutes, their history checked (ARGS="--seconds 600 --seed 7")
	$(BIN)/python -m tests.torture $(ARGS)

screenshots: $(VENV)/.dev browser ## every page of the console as a picture, under screenshots/, for people to look at
	$(BIN)/python -m tests.console.shots screenshots

pictures: $(VENV)/.dev browser ## the README's pictures of the console, taken anew
	$(BIN)/python -m tests.console.shots docs/pictures

mutants: $(VENV)/.dev ## make each kept one-line change and see a test fail (ARGS="-n 4 proxy leases/leasing")
	$(BIN)/python -m tests.mutants $(ARGS)

# The intake page is tested in a real browser; alert rules, nginx sites and the unit by the tools that will read them,
# an example by the tools that it uses, and the log by the Go team's code.  Sign-in is tested with a real provider.
# Only root on Debian can install them here; elsewhere those tests say that they were skipped and why.  A service that
# a package brings along is stopped again.
browser:
	@for tool in chromium:chromium jq:jq promtool:prometheus nginx:nginx-light systemd-analyze:systemd \
	  go:golang-go,golang-golang-x-mod-dev; do packages="$$(echo "$${tool#*:}" | tr , ' ')"; \
	  command -v $${tool%:*} >/dev/null \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && echo "Installing $$packages …" \
	  && apt-get update -qq && apt-get install -y -qq --no-install-recommends $$packages >/dev/null \
	  && { ! [ -d /run/systemd/system ] || systemctl disable --quiet --now $${tool%:*} $$packages 2>/dev/null || true; }; } \
	  || echo "No $${tool%:*} here: the tests that need it will be skipped."; done
	@[ -d tests/openid/node_modules ] || (cd tests/openid && npm ci --ignore-scripts --silent --no-audit --no-fund) \
	  || echo "No oidc-provider here: sign-in by a real OpenID provider will not be tested."

# The job's side alone has another name than the whole: `broker` is a package of somebody else's, too.
WHEEL := $(BIN)/pip wheel --quiet --disable-pip-version-check --no-index --no-deps --no-build-isolation --wheel-dir dist
wheel: $(VENV)/.server ## build dist/: the whole (keybroker), and the job's side alone (keybroker-client, imported as keybroker)
	$(WHEEL) .
	$(WHEEL) ./client
	@ls dist/*.whl

# What pins is pinned itself.  requirements-cli.lock is for those who install the commands without the server's parts,
# requirements-client.lock for those who install keybroker-client.
PIN := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url
lock: $(VENV)/bin/python ## pin the dependencies again, with hashes and without any registry address
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock
	$(PIN) --extra server pyproject.toml -o requirements.lock
	$(PIN) -c requirements.lock pyproject.toml -o requirements-cli.lock
	$(PIN) -c requirements.lock client/pyproject.toml -o requirements-client.lock
	$(PIN) --group build -c requirements.lock -o requirements-build.lock
	$(PIN) --group lock -o requirements-uv.lock
	$(PIN) --group docs -c requirements.lock -o requirements-docs.lock
	$(PIN) --extra server --group build --group dev -c requirements.lock pyproject.toml -o requirements-dev.lock

page: ## rebuild the intake page's script and its licences (needs Node; running the broker does not)
	cd broker/web/pages/script && npm ci --ignore-scripts --silent && npm run --silent build

docs: $(DOCS)/.docs ## build the documents into ./site, searchable, with every link checked
	$(DOCS)/bin/sphinx-build --fail-on-warning --keep-going --quiet --conf-dir docs . site
	@echo "The site begins at site/index.html, and needs no server."

reference: $(VENV)/.dev ## make docs/reference again from the code
	$(BIN)/python -m tests.reference

clean: ## remove the virtual environment and all local state
	rm -rf $(VENV) $(DOCS) site var
