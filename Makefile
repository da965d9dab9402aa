# The one entry point. Every target sets up what it needs; `make setup` is quiet when all is there.
CARGO ?= cargo
SHELL := /bin/sh
TARGET := $(or $(CARGO_TARGET_DIR),target)
# The configuration in the enclave image: a file, or a directory of it and the files it names.
CONFIG ?= deploy/nodeseal-enclave.toml
# What people run, always built together: so each dependency is built once.
PROGRAMS := --package nodeseal --package nodeseal-tpm --package nodeseal-sim

.PHONY: help setup demo test check bench image image-test clean

help: ## what there is to make
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what this machine lacks
	@tests/setup.sh

demo: setup ## seal a node's keys to a software TPM, start a real node from them, see every attack refused
	$(CARGO) build --locked --release $(PROGRAMS)
	$(CARGO) build --locked --release --package nodeseal-harness --bin demo
	@$(TARGET)/release/demo

# The programs first: tests start them as processes. Together with the tests, so that every dependency is built once.
# nextest runs the same tests, where it is installed, faster.
test: setup ## everything that can be tested on this machine
	$(CARGO) build --locked --workspace --bins --tests
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
	    echo '$(CARGO) nextest run --workspace' && \
	    $(CARGO) nextest run --locked --workspace --no-fail-fast --status-level fail --final-status-level fail && \
	    $(CARGO) test --locked --workspace --doc --quiet; \
	else \
	    echo '$(CARGO) test --workspace' && \
	    $(CARGO) test --locked --workspace --no-fail-fast --quiet; \
	fi

# The benchmark of attestation documents is a workspace of its own, which no other target builds: its lock file may not lag.
check: setup ## formatting, lints, documentation, licences and bans, architecture
	$(CARGO) fmt --all --check
	$(CARGO) update --locked --workspace --quiet --manifest-path benches/attestation-peer/Cargo.toml
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' $(CARGO) doc --locked --workspace --no-deps --document-private-items --quiet
	@deny=$$(tests/setup.sh deny) && echo "cargo deny check" && $$deny --locked check --hide-inclusion-graph bans licenses sources
	$(CARGO) test --locked --workspace --test architecture

bench: setup ## compare with other tools on the same TPM and document, and with floors; writes target/bench/results.json
	@tests/setup.sh bench
	$(CARGO) build --locked --release --workspace --bins --benches
	$(CARGO) bench --locked --workspace --bench tpm --bench aws
	CARGO_TARGET_DIR=$(TARGET)/attestation-peer $(CARGO) run --locked --release \
	    --manifest-path benches/attestation-peer/Cargo.toml -- target/bench/results.json

image: ## build the enclave image from CONFIG=PATH (docs/nitro.md): target/image/nodeseal.eif, measurements.json
	@tests/setup.sh image
	@enclave/image/build.sh $(CONFIG) target/image

image-test: image ## build the image twice, boot it in QEMU, seal and open through it, see every attack on it refused
	@tests/setup.sh image-test
	@tests/image-reproducible.sh $(CONFIG) target/image
	$(CARGO) build --locked --release $(PROGRAMS)
	$(CARGO) build --locked --release --package nodeseal-harness --bin image-test
	@$(TARGET)/release/image-test

clean: ## remove everything built or installed into the checkout
	$(CARGO) clean
	rm -rf target
