# The command surface of the project. `make` alone prints it.
#
# Anything longer than a line lives in scripts/. Variables are given on the command line:
# make climb D=url-shortener QUICK=1

D      ?= url-shortener
URL    ?= http://127.0.0.1:$(or $(PORT),8080)
TARGET := $(or $(CARGO_TARGET_DIR),target)
LAB    := $(TARGET)/release/lab

# What docker/compose.yaml asks for by default. A server without keys does not look at it.
API_KEY ?= loadbearing-local
up load: export API_KEY := $(API_KEY)

.DEFAULT_GOAL := help
.PHONY: help climb profile planted numbers keys run load up logs down test deps check bench ratios report tools

help: ## this list
	@echo "usage: make TARGET [D=design, default $(D)]"
	@awk -F ':[^#]*## ' '/^[a-z]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

climb: tools ## load every stage of a design until it gives: knee, bottleneck, violations (QUICK=1, ARGS=...)
	cargo build --release --locked -p lab -p $(D)
	$(LAB) climb $(D) $(if $(QUICK),--quick) $(ARGS)

profile: tools ## a flame graph of a design's server at its knee, into the target folder (S=stage, ARGS=...)
	cargo build --release --locked -p lab -p $(D)
	$(LAB) climb $(D) $(if $(S),--stages $(S)) --quick --profile $(TARGET)/profiles $(ARGS)

planted: tools ## check the lab itself: faults that are known, each to be named and proven, about half an hour (ARGS=...)
	cargo build --release --locked -p lab -p planted
	$(LAB) planted $(ARGS)

numbers: tools ## what this machine does: memory, locks, disk, databases, HTTP, all of it in under a minute (ARGS=...)
	cargo build --release --locked -p lab
	$(LAB) numbers $(ARGS)

keys: tools ## what a primary key costs: five kinds, a million rows each, in SQLite and Postgres (ARGS=...)
	cargo build --release --locked -p lab
	$(LAB) keys $(ARGS)

run: tools ## start a design's server (S=stage, ARGS=...); its data stays in the target folder
	cargo build --release --locked -p $(D)
	mkdir -p $(TARGET)/run/$(D)/$(or $(S),default)
	$(TARGET)/release/$(D) $(if $(S),--stage $(S)) --data-dir $(TARGET)/run/$(D)/$(or $(S),default) $(ARGS)

load: tools ## load a running server with a design's workload (URL=http://127.0.0.1:8080, several for several nodes, ARGS=...)
	cargo build --release --locked -p lab
	$(LAB) load $(D) $(addprefix --url ,$(URL)) $(ARGS)

up: ## start a design's server in Docker (S=stage, PORT=8080, ADMIN_PORT=8090, BIND=127.0.0.1, API_KEY=...)
	@scripts/docker up $(D) $(S)

logs: ## what the server in Docker and its engines said (ARGS=--follow)
	@scripts/docker logs $(D) $(ARGS)

down: ## take the server in Docker away, its engines and all data with it
	@scripts/docker down $(D)

test: tools ## all that this machine can prove, real Redis and Postgres included
	@scripts/deps || echo "going on: a test that cannot have its engine fails and says so" >&2
	@scripts/test

deps: ## what the tests need and what of it is here; as root on Debian, installs the rest
	@scripts/deps

check: tools ## format, lints, documentation, house rules, reports against their runs
	@scripts/check

bench: tools ## micro-benchmarks of the idea files, the ledger and the caches
	cargo bench --locked -p micro

ratios: tools ## redirects beside a bare axum route, creates beside fdatasync: medians of interleaved rounds
	@scripts/ratios

report: tools ## rewrite the tables and pictures in a design's README from the newest committed runs
	@scripts/report $(D)

tools:
	@scripts/tools
