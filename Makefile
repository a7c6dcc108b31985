# Everything runs from a clean clone with python3, make and git only: `make help`.
VENV := .venv
UV := $(VENV)/tools/bin/uv
PY := $(VENV)/bin/python
export UV_PROJECT_ENVIRONMENT := $(abspath $(VENV))
# Machines with a slow or proxied index get more time than uv's 30 s.
export UV_HTTP_TIMEOUT ?= 180
# Trust what the machine trusts: institutes have certificate authorities of their own.
export UV_SYSTEM_CERTS ?= true

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

# uv lives in an environment of its own inside .venv: `uv sync` would remove it from .venv itself.
$(UV):
	@echo "Preparing $(VENV) (a few minutes on the first run) ..."
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "QuakeGrid needs Python 3.11 or newer; python3 is $$(python3 --version)"; exit 2; }
	@python3 -m venv $(VENV)/tools
	@$(VENV)/tools/bin/pip install --quiet --disable-pip-version-check 'uv>=0.5,<1'

$(VENV)/.installed: $(UV) pyproject.toml uv.lock
	@$(UV) venv --quiet --allow-existing --python "$$(command -v python3)" $(VENV)
	@$(UV) sync --quiet --frozen --compile-bytecode --extra engine --extra engine-optional
	@touch $@

.PHONY: install
install: $(VENV)/.installed ## Install QuakeGrid, the engine and what tests need into .venv

# Where `make install-system` installs; nodes may have it from a file server. With `EXTRAS=` it is without the
# engine, for clusters that run functions of their own.
PREFIX ?= /opt/quakegrid
EXTRAS ?= engine engine-optional

.PHONY: install-system
install-system: $(UV) ## Install QuakeGrid and the engine into PREFIX/venv, for `quakegrid install` (as root)
	@$(UV) venv --quiet --allow-existing --python "$$(command -v python3)" $(PREFIX)/venv
	@UV_PROJECT_ENVIRONMENT=$(PREFIX)/venv $(UV) sync --quiet --frozen --no-dev --no-editable \
		--compile-bytecode --link-mode copy $(addprefix --extra ,$(EXTRAS))

.PHONY: demo
demo: install ## Run a first real calculation on this machine
	@$(VENV)/bin/quakegrid demo

.PHONY: protos
protos: install ## Generate quakegrid/api, internal and wire from protos/, and lock what was added to the contracts
	@$(PY) -m grpc_tools.protoc -I protos --python_out=. --grpc_python_out=. \
		--mypy_out=quiet:. --mypy_grpc_out=quiet:. \
		--plugin=protoc-gen-mypy=$(VENV)/bin/protoc-gen-mypy \
		--plugin=protoc-gen-mypy_grpc=$(VENV)/bin/protoc-gen-mypy_grpc \
		$$(find protos -name '*.proto' | sort)
	@find quakegrid/wire -name '*_pb2_grpc.py*' -delete
	@$(VENV)/bin/buf breaking protos --against protos/lock.json || \
		{ echo "This breaks programs that know the locked contracts (protos/lock.json). Reserve the name and the number"; \
		echo "of what you remove. If it must break: raise API_VERSION, or PROTOCOL_VERSION for lanes, and run"; \
		echo "'make protos-lock'."; exit 1; }
	@$(PY) protos/lock.py

.PHONY: protos-lock
protos-lock: install ## Lock the contracts as they are now, also what breaks those that were locked
	@$(PY) protos/lock.py

.PHONY: release
release: install ## Commit, tag (TAG=no: not yet) and build VERSION in this checkout; nothing is pushed or published
	@$(PY) -m deploy.release $(VERSION) $(if $(filter no,$(TAG)),--no-tag)

.PHONY: docs
docs: install ## Build the manual into build/docs, strictly
	@UV_PROJECT_ENVIRONMENT=$(abspath $(VENV))/docs $(UV) sync --quiet --frozen --only-group docs
	@NO_MKDOCS_2_WARNING=1 $(VENV)/docs/bin/mkdocs build --strict
	@echo "The manual is in build/docs/index.html"

.PHONY: reference
reference: install ## Write docs/reference, the tables of CONTRIBUTING.md and deploy/systemd anew from the code
	@$(PY) -m tests.manual.reference
	@$(PY) -m quakegrid.install.units deploy/systemd
	@$(PY) -m tests.unit.house.where_things_are
	@$(PY) -m benchmarks.headlines

.PHONY: pictures
pictures: install ## Make the manual's pictures anew: pages in Chromium, terminals, figures (a minute)
	@$(PY) -m tests.manual.pictures

.PHONY: check
check: install ## Format, lint, types, contracts, container file, generated code, spelling and prose
	@$(VENV)/bin/ruff format --check --quiet .
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/buf lint protos
	@$(VENV)/bin/hadolint deploy/Dockerfile
	@$(VENV)/bin/codespell
	@$(PY) -m tests.manual.prose --check
	@$(MAKE) --no-print-directory protos
	@git diff --exit-code --stat -- quakegrid/api quakegrid/internal quakegrid/wire protos/lock.json || \
		{ echo "generated code differs from protos/: run 'make protos' and commit"; exit 1; }

# Tests over network namespaces, and of pages in a browser, skip where one of these is missing.
.PHONY: test-tools
test-tools: ## Install what tests of networks and pages need (iproute2, nftables, chromium), as root on Debian
	@PATH="$$PATH:/usr/sbin:/sbin"; command -v ip >/dev/null && command -v nft >/dev/null && command -v chromium >/dev/null || \
		{ apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
			iproute2 nftables chromium fonts-dejavu-core >/dev/null; }

.PHONY: test-unit
test-unit: install ## Test what needs no service: unit and property tests, on two cores
	@$(PY) -m pytest -n 2 tests/unit tests/property

.PHONY: test
test: check ## Check, then all tests that are quick
	@$(PY) -m tests

.PHONY: coverage
coverage: install ## Run the tests of `make test`, and measure which lines and branches they cover
	@$(PY) -m tests --measure

.PHONY: test-all
test-all: check ## Check, then all tests, with every case of the engine
	@$(PY) -m tests --full

.PHONY: test-resume
test-resume: install ## Test calculations that are killed, with every kind of them (half an hour; part of `make test-all`)
	@$(PY) -m pytest -n 3 --full tests/unit/journals tests/property/test_journals.py tests/faults/resume tests/people/resume

# The engines before the newest one that are tested; each has an environment of its own.
ENGINES := 3.23 3.24 3.25

$(VENV)/engines/%/.installed: $(UV) pyproject.toml uv.lock
	@$(UV) venv --quiet --allow-existing --python "$$(command -v python3)" $(VENV)/engines/$*
	@UV_PROJECT_ENVIRONMENT=$(abspath $(VENV))/engines/$* $(UV) sync --quiet --frozen \
		--extra engine-$(subst .,-,$*) --extra engine-optional
	@touch $@

.PHONY: test-docs
test-docs: docs ## Run every command of the manual and compare what it prints (some minutes; part of `make test-all`)
	@$(PY) -m pytest --full --durations=5 tests/manual tests/unit/manual

.PHONY: test-versions
test-versions: install $(ENGINES:%=$(VENV)/engines/%/.installed) ## Compare 15 calculations, and 3 with served files, with the plain engine of each known version
	@for engine in $(PY) $(ENGINES:%=$(VENV)/engines/%/bin/python); do \
		echo "--- $$($$engine -c 'from importlib.metadata import version; print(version("openquake.engine"))')"; \
		$$engine -m pytest --full tests/engine/test_same_numbers.py || exit; done

# The engine's own data: CASES chooses job files by patterns, MODE is empty, nofs or chaos (root only), ENGINE is
# empty, 3.23, 3.24 or 3.25.
CASES ?=
MODE ?=
ENGINE ?=
QA_PY = $(if $(ENGINE),$(VENV)/engines/$(ENGINE)/bin/python,$(PY))

.PHONY: test-qa
test-qa: install $(if $(ENGINE),$(VENV)/engines/$(ENGINE)/.installed) ## Compare all QA data of the engine with the plain engine (CASES, MODE=nofs|chaos, ENGINE)
	@$(QA_PY) -m tests.qa --cases '$(CASES)' $(addprefix --,$(MODE))

.PHONY: test-people
test-people: install ## Test with several accounts on one machine (needs root; part of `make test` where it is)
	@$(PY) -m pytest -rs tests/people

.PHONY: test-nofs
test-nofs: install ## Test clusters whose machines share no files (needs root; a part belongs to `make test`)
	@$(PY) -m pytest -rs --full tests/nofs

.PHONY: test-compose
test-compose: install ## Test the cluster of docker-compose.yml (needs Docker, or root, who starts one in a network of its own)
	@tests/system/with_docker.sh $(PY) -m pytest --compose tests/system/test_compose.py

.PHONY: test-slurm
test-slurm: install ## Test agents in allocations of SLURM (needs root and Debian's slurm-wlm and munge)
	@$(PY) -m pytest --slurm -rs tests/system/test_slurm.py

.PHONY: test-vm
test-vm: install ## Test services of a Debian with systemd in emulated machines (needs root, QEMU, debootstrap; slow)
	@$(PY) -m pytest --vm -rs -s tests/system/test_vm.py

# Seeds of a simulation, the first of them, a seed to run again with all that happens, and bugs by their names.
SEEDS ?= 1000
FIRST ?= 1
REPLAY ?=
MUTANTS ?=

.PHONY: simulate
simulate: install ## Simulate the cluster whole, in virtual time: SEEDS (1000) worlds, FIRST (1), or REPLAY=SEED
	@$(PY) -m tests.simulation --seeds $(SEEDS) --first $(FIRST) $(if $(REPLAY),--replay $(REPLAY))

.PHONY: simulate-mutants
simulate-mutants: install ## Put bugs into the code in memory (all, or MUTANTS), and show which of SEEDS (1000) finds each
	@$(PY) -m tests.simulation --seeds $(SEEDS) --mutants $(MUTANTS)

.PHONY: chaos
chaos: install ## Break a cluster of namespaces by a seed while it works (SEED, SEEDS, JOBS, SESSIONS, MINUTES, RATE; root only)
	@$(PY) -m tests.faults.harness

.PHONY: fuzz
fuzz: install ## Send bad input to every door of the services (MINUTES and INPUTS a door, SEED, DOOR, FIRST, BATCH)
	@$(PY) -m tests.fuzz

.PHONY: bench-first
bench-first: install ## Measure a first calculation against the plain engine (some minutes)
	@$(PY) benchmarks/bench_first.py

.PHONY: bench-compare
bench-compare: install ## Compare what benchmarks measured last with the commit before (NAMES="first web")
	@$(PY) -m benchmarks.compare $(NAMES)

.PHONY: bench-medium
bench-medium: install ## Measure calculations of a minute against the plain engine (half an hour)
	@$(PY) -m benchmarks.bench_medium

.PHONY: bench-dbserver
bench-dbserver: install ## Measure the dbserver against upstream's DbServer (some minutes)
	@$(PY) -m benchmarks.bench_dbserver

.PHONY: bench-broker
bench-broker: install ## Measure tasks through the lanes against others (some minutes)
	@$(PY) benchmarks/bench_broker.py; code=$$?; $(PY) -m benchmarks.simulate_lane && exit $$code

.PHONY: bench-fleet
bench-fleet: install ## Measure the broker's fleet core with 100 and with 1,000 nodes (two minutes)
	@$(PY) -m benchmarks.bench_fleet

.PHONY: bench-agent
bench-agent: install ## Measure the agent: workers that start and are killed, and what it costs (two minutes)
	@$(PY) benchmarks/bench_agent.py

.PHONY: bench-crowd
bench-crowd: install ## Measure a thousand real workers on this machine (some minutes, 8 GB of memory)
	@$(PY) -m benchmarks.bench_crowd

.PHONY: bench-resume
bench-resume: install ## Measure what journals cost, and what they save when a calculation is killed (ten minutes)
	@$(PY) -m benchmarks.bench_resume

.PHONY: bench-nofs
bench-nofs: install ## Measure calculations whose files are served against shared files (ROUNDS=3, some minutes)
	@$(PY) -m benchmarks.nofs

.PHONY: bench-web
bench-web: install ## Measure the web service with many open pages (a minute)
	@$(PY) -m benchmarks.bench_web

.PHONY: bench-neighbours
bench-neighbours: install ## Install what bench-broker can compare with, apart from .venv's own packages
	@$(UV) venv --quiet --allow-existing --python $(PY) $(VENV)/neighbours
	@$(UV) pip install --quiet --python $(VENV)/neighbours -r benchmarks/neighbours.txt

.PHONY: bench-simulation
bench-simulation: install ## Simulate the scheduling core with thousands of cores (half a minute)
	@$(PY) -m benchmarks.simulate_lane

.PHONY: clean
clean: ## Remove what make made
	@rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis
