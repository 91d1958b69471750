# The commands of this project. `make` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# `make demo KEEP=1` leaves the demo running.
KEEP ?=
# Figures that `make bench` measures, all when empty. SERVER=postgres and KAFKA=real measure on those of scripts/real.
FIGURES ?=
keep := $(if $(filter-out 0 no false,$(KEEP)),--keep)

# `make fuzz TARGET=ticket_avro SECONDS=600` fuzzes one target for so long; `make mutate MUTATIONS=1000000` so many records.
TARGET ?= all
SECONDS ?= 30
MUTATIONS ?= 1000000

# The binary that `make build` makes; a shell's words.
worker = "$$(cargo metadata --locked --no-deps --format-version 1 | \
	sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/debug/worker-agents"

.PHONY: help setup build demo test mutate fuzz chaos outages bench fmt fmt-check clippy lint deny advisories docs clean

help: ## Lists the targets.
	@awk -F ':[^#]*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

setup: ## Brings the Temporal CLI and test server into .tools/, once.
	@scripts/setup

# With one of the tests, cargo resolves features as for all of them, development dependencies included. Without, the
# demo would be a second build of Temporal's and Kafka's crates beside that of `make test`.
build: ## Builds the worker, debug profile.
	cargo build --locked --workspace --bins --test architecture

demo: setup build ## Runs one worker with embedded Kafka and Temporal and sends it tickets; KEEP=1 leaves it running.
	@$(worker) demo $(keep)

test: setup ## Runs all tests, those of the documentation too.
	@status=0; \
	cargo test --locked --workspace --all-targets --no-fail-fast </dev/null || status=$$?; \
	cargo test --locked --workspace --doc --no-fail-fast </dev/null || status=$$?; \
	exit $$status

mutate: ## Decodes a million damaged records; MUTATIONS=number.
	MUTATIONS=$(MUTATIONS) cargo test --locked --package ticket-schemas --test mutations -- --nocapture

fuzz: ## Fuzzes the decoders; TARGET=ticket_avro|ticket_json|parameter_view|dlq_envelope SECONDS=number.
	@scripts/fuzz $(TARGET) $(SECONDS) || [ $$? -eq 77 ]

# Settings of these two are variables: `make chaos DELIVERIES=10000 KILLS=100 SEED=7`. All: scripts/chaos/README.md.
chaos: setup build ## Kills workers, Temporal and a real Kafka under load and accounts for every record; DELIVERIES, KILLS, SEED, WORKERS.
	@WORKER_AGENTS=$(worker) scripts/chaos/run || [ $$? -eq 77 ]

outages: setup build ## Takes Kafka, Temporal and the registry away under load, alone and in pairs; SECONDS, CASES, RATE.
	@WORKER_AGENTS=$(worker) scripts/chaos/run outages || [ $$? -eq 77 ]

bench: setup ## Measures the throughput, release profile.
	cargo bench --locked --bench throughput -- $(FIGURES)

.PHONY: bench-logs
bench-logs: setup ## Writes 50 MB/s into the log of a ticket, release profile, and measures how old the last line is that the server knows.
	LOG_RATE_MB=50 cargo test --locked --release --test end_to_end logs::fresh -- --nocapture

.PHONY: test-kafka
test-kafka: setup ## Runs the tests on a real Kafka and Schema Registry; FULL=1: more of everything.
	@scripts/test-kafka || [ $$? -eq 77 ]

.PHONY: test-vault
test-vault: setup ## Runs the tests on a real OpenBao, which hands out the credentials of a real Kafka.
	@VAULT=1 scripts/test-kafka || [ $$? -eq 77 ]

.PHONY: test-docker
test-docker: setup ## Runs the tests on a real Docker engine, which needs root.
	@scripts/test-docker || [ $$? -eq 77 ]

.PHONY: test-k8s
test-k8s: setup ## Runs the tests on a real Kubernetes cluster, which needs root, and Go to build it once (15 CPU minutes).
	@scripts/test-k8s || [ $$? -eq 77 ]

.PHONY: test-lambda
test-lambda: setup ## Runs the tests on a stand-in of AWS, which needs Python.
	@scripts/test-lambda || [ $$? -eq 77 ]

.PHONY: test-all
test-all: test test-kafka test-vault test-docker test-k8s test-lambda test-api ## Runs all tests, those on real peers too, as far as this machine can have them.

.PHONY: test-api
test-api: setup build ## Tests the HTTP API of a running worker against its OpenAPI document; SEED, EXAMPLES.
	@WORKER_AGENTS=$(worker) scripts/test-api || [ $$? -eq 77 ]

.PHONY: test-spiffe
test-spiffe: ## Runs the tests of SPIFFE alone, those of who may do what among them; they are part of `make test`.
	cargo test --locked --workspace --lib -- spiffe jwt inc_30 inc_31 inc_50

fmt: ## Formats the code.
	cargo fmt --all

fmt-check: ## Says what is not formatted.
	cargo fmt --all --check

# The second one is the image's configuration: without the development stack, and with the features it gets without
# development dependencies.
clippy: ## Runs clippy on everything, and on what is shipped.
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo clippy --locked --package worker-agents --no-default-features --features docker,kubernetes,lambda -- -D warnings

lint: fmt-check clippy ## Checks format and lints.

# Temporal's crates have no licence field; deny.toml names their licence by the hash of its text.
deny: ## Checks licences, banned and duplicate crates, and sources (deny.toml).
	@deny=$$(scripts/cargo-deny); \
	"$$deny" --locked check --allow no-license-field bans licenses sources

advisories: ## Checks for known vulnerabilities, where their database can be reached.
	@scripts/advisories || [ $$? -eq 77 ]

docs: ## Builds the API documentation; a broken link is an error.
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps

clean: ## Removes what was built; keeps .tools/.
	cargo clean
