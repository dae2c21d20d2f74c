# Verbs, not logic: each calls one script. CONTRIBUTING.md lists the same commands without make.
.DEFAULT_GOAL := help
.PHONY: help demo test ci soak longload e2e gameday lab gate check fix lock regen fork bench clean
PYTHON = .venv/bin/python
LAB_BUILD = .venv/bin/slipway lab build

ifdef PYTHONDONTWRITEBYTECODE # each process that tests or the demo start would compile all that it imports
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX ?= $(CURDIR)/.tools/bytecode
endif

help: ## show the verbs
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "%-8s %s\n", $$1, $$2 }' Makefile

demo: ## train, bundle, verify and serve churn, release a mistake, see the alert fire and resolve
	@started=$$(date +%s) && sh scripts/setup.sh demo && SLIPWAY_DEMO_STARTED=$$started $(PYTHON) scripts/demo.py

test: check ## everything that must hold: static checks, then all tests
	@sh scripts/system-packages.sh
	@$(PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

ci: ## make test, then as much of make e2e as fits into 80 minutes; one count of all
	@began=$$(date +%s) && sh scripts/setup.sh dev && $(PYTHON) scripts/ci.py --began "$$began" </dev/null

soak: ## faults under load (SOAK_S=60 seconds each) and during a release: killed and hung processes, full disks, slow clients
	@sh scripts/setup.sh dev && sh scripts/system-packages.sh && { $(LAB_BUILD) >/dev/null || true; } # without it tests of the lab skip
	@$(PYTHON) -m pytest -m soak --timeout 1200 -s tests/chaos tests/lab $(ARGS)

longload: ## churn under load for long: nobody failed, no worker grows (LOAD_S=1800 seconds)
	@sh scripts/setup.sh dev
	@LOAD_S=$${LOAD_S:-1800} $(PYTHON) -m pytest -m soak -s tests/chaos/test_chaos_long_load.py $(ARGS)

e2e: ## every alert fired by its fault, every panel and runbook asked, images run, a fork: real programs, minutes
	@sh scripts/setup.sh dev && sh scripts/system-packages.sh && sh scripts/cosign.sh && sh scripts/actionlint.sh && { $(LAB_BUILD) >/dev/null || true; } # without it tests of the lab skip
	@$(PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "e2e and not alone" --timeout 900 $(ARGS) || [ $$? = 5 ] # 5: ARGS left none
	@$(PYTHON) -m pytest -m "e2e and alone" --timeout 900 $(ARGS) || [ $$? = 5 ]

gameday: ## inject each of the known failures, follow its playbook as written, and see the alert resolve
	@sh scripts/setup.sh dev
	@sh scripts/system-packages.sh
	@$(PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m gameday --timeout 900 tests/gameday $(ARGS)

lab: ## a real Kubernetes on this machine, built from source the first time (docs/lab.md)
	@sh scripts/setup.sh dev && sh scripts/system-packages.sh
	@.venv/bin/slipway lab up --reuse $(ARGS)

gate: ## is churn as good as before this change? (SLIPWAY_BASE_COMMIT=origin/main)
	@sh scripts/setup.sh dev
	@$(PYTHON) scripts/gate_change.py $(ARGS)

check: ## static checks only: lock, lint, format, types, boundaries
	@sh scripts/setup.sh dev
	@sh scripts/check.sh

fix: ## let ruff repair what it can
	@sh scripts/setup.sh dev
	@.venv/bin/ruff format --quiet . && .venv/bin/ruff check --fix --quiet . && .venv/bin/ruff format .

lock: ## refresh requirements.lock (ARGS=--upgrade for newer versions)
	@"$$(sh scripts/setup.sh uv)" run --quiet --no-project --python '>=3.11' scripts/lock.py $(ARGS)

regen: ## write the pages that are made from the code
	@sh scripts/setup.sh dev
	@$(PYTHON) scripts/regen.py

fork: ## rename the repository: make fork NAME=acme
	@"$$(sh scripts/setup.sh uv)" run --quiet --no-project --python '>=3.11' scripts/fork.py $(NAME)

bench: ## the figures of README.md, on this machine
	@sh scripts/setup.sh dev
	@PATH="$(CURDIR)/.venv/bin:$$PATH" bash benchmarks/setup.sh
	@$(PYTHON) benchmarks/serving.py $(ARGS)

clean: ## remove what the other verbs made in this folder
	@rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
