# The targets a person needs. All run from any folder (make -C), without a terminal and without stdin.
#
#   make run          the quickstart: gateway, echo backends and five curl lines to try
#   make test         everything that continuous integration checks
#   make cluster      the programs of the Kubernetes cluster that tests start (once; 25 minutes of a processor)
#   make fuzz         what reads octets from outside, fed with whatever a fuzzer thinks of
#   make lint         formatting, clippy, documentation, house rules, licences
#   make image        a static binary, packed as an OCI image -> target/image/gatehouse.tar
#   make deb          the same binary as a Debian package -> target/image/gatehouse.deb
#   make bench        gatehouse beside nginx, HAProxy and Envoy -> loadtest/results/
#   make bench-scale  10 000 Ingress hosts: start, change, memory -> loadtest/results/scale.md
#   make bench-cluster  20 000 Ingresses and Routes on a real API server -> loadtest/results/cluster.md
#   make chaos        gatehouse beside HAProxy and Envoy, backends that fail -> loadtest/results/chaos.md
#   make bench-forwarding  TCP and UDP passed on, beside rules by hand, HAProxy and nginx -> loadtest/results/forwarding.md
#   make bench-failover  gatehouse beside keepalived, the owner of an address struck -> loadtest/results/failover.md
#
# BENCH_ARGS is passed on: make bench BENCH_ARGS='--quick --only plain,tls'; likewise CHAOS_ARGS: '--only kill,hang',
# FAILOVER_ARGS: '--trials 10 --only kill,term', or '--vips 1000' for a thousand addresses at once, SCALE_ARGS, CLUSTER_ARGS
# and FORWARDING_ARGS. FUZZ_SECONDS is how long make fuzz runs each target (10), FUZZ_TARGETS which of them (all in
# vip/fuzz/fuzz_targets).

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

CARGO ?= cargo
CARGO_TARGET_DIR ?= target
TARGET := $(abspath $(CARGO_TARGET_DIR))
TOOLS := $(TARGET)/tools
BENCH_ARGS ?=
SCALE_ARGS ?=
CLUSTER_ARGS ?=
CHAOS_ARGS ?=
FORWARDING_ARGS ?=
FAILOVER_ARGS ?=
FUZZ_SECONDS ?= 10
FUZZ_TARGETS ?=
export CARGO_TARGET_DIR := $(TARGET)
export CARGO_TERM_PROGRESS_WHEN ?= never

.PHONY: help run test fuzz lint cluster image deb bench bench-scale bench-cluster chaos bench-failover bench-forwarding
.NOTPARALLEL:

help:
	@sed -n 's/^#   //p' Makefile

run:
	$(CARGO) build --profile quick -p gatehouse -p gatehouse-loadtest
	exec $(TARGET)/quick/gatehouse-loadtest quickstart --gatehouse $(TARGET)/quick/gatehouse --manifests examples/quickstart \
	  --access-log $(TARGET)/quickstart-access.log

# Tests start the echo backend and the node agent from the same target folder: both have a test of their own, so they are
# built before any test runs. Compilers of Go and of Rust want all processors and up to 3 GB: one after the other.
test: cluster lint
	$(CARGO) test --workspace
	$(TARGET)/debug/gatehouse-loadtest chaos --quick --gatehouse $(TARGET)/debug/gatehouse
	CARGO=$(CARGO) vip/fuzz/run 2

cluster:
	TOOLS=$(TOOLS) .ci/setup cluster

fuzz:
	CARGO=$(CARGO) vip/fuzz/run $(FUZZ_SECONDS) $(FUZZ_TARGETS)

lint:
	TOOLS=$(TOOLS) .ci/setup test
	.ci/checks
	.ci/imports
	PATH="$(TOOLS)/cargo-deny/bin:$$PATH" $(CARGO) deny --log-level error check licenses bans
	$(CARGO) fmt --all -- --check
	$(CARGO) fmt --manifest-path vip/fuzz/Cargo.toml -- --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --document-private-items

# A target of its own: the flags are for the program, not for what runs while it is built.
image deb: HOST = $(shell $(CARGO) -vV | sed -n 's/^host: //p')
image:
	RUSTFLAGS='-C target-feature=+crt-static' $(CARGO) build --release --locked --target $(HOST) -p gatehouse
	CARGO=$(CARGO) deploy/image --binary $(TARGET)/$(HOST)/release/gatehouse --output $(TARGET)/image/gatehouse.tar \
	  --sbom $(TARGET)/image/gatehouse.cdx.json --revision "$$(git rev-parse HEAD 2>/dev/null || true)"
	deploy/try-image $(TARGET)/image/gatehouse.tar

# A Debian package of the same binary, with the unit of a bare host.
deb: image
	CARGO=$(CARGO) deploy/deb --binary $(TARGET)/$(HOST)/release/gatehouse --output $(TARGET)/image/gatehouse.deb

bench:
	TOOLS=$(TOOLS) .ci/setup bench
	$(CARGO) build --release -p gatehouse -p gatehouse-loadtest
	$(TARGET)/release/gatehouse-loadtest bench --gatehouse $(TARGET)/release/gatehouse --tools $(TOOLS) --results loadtest/results $(BENCH_ARGS)

bench-scale:
	TOOLS=$(TOOLS) .ci/setup test
	$(CARGO) build --release -p gatehouse -p gatehouse-loadtest
	$(TARGET)/release/gatehouse-loadtest scale --gatehouse $(TARGET)/release/gatehouse --results loadtest/results $(SCALE_ARGS)

bench-cluster: cluster
	$(CARGO) build --release -p gatehouse -p gatehouse-loadtest
	$(TARGET)/release/gatehouse-loadtest cluster --gatehouse $(TARGET)/release/gatehouse --results loadtest/results $(CLUSTER_ARGS)

chaos:
	TOOLS=$(TOOLS) .ci/setup chaos
	$(CARGO) build --release -p gatehouse -p gatehouse-loadtest
	$(TARGET)/release/gatehouse-loadtest chaos --gatehouse $(TARGET)/release/gatehouse --tools $(TOOLS) --results loadtest/results $(CHAOS_ARGS)

bench-forwarding:
	TOOLS=$(TOOLS) .ci/setup test
	$(CARGO) build --release -p gatehouse -p gatehouse-loadtest
	$(TARGET)/release/gatehouse-loadtest forwarding --gatehouse $(TARGET)/release/gatehouse --results loadtest/results $(FORWARDING_ARGS)

bench-failover:
	.ci/setup failover
	$(CARGO) build --release -p gatehouse -p gatehouse-loadtest
	$(TARGET)/release/gatehouse-loadtest failover --gatehouse $(TARGET)/release/gatehouse --results loadtest/results $(FAILOVER_ARGS)
