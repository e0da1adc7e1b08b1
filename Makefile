# Two commands for a newcomer: `make demo` and `make test`. Both need Rust (rustup reads rust-toolchain.toml), a C compiler
# for Rust's linker, and make; `make test` also needs Go and VictoriaMetrics (a Debian package). Nothing is installed outside this folder but:
#   - Rust crates into Cargo's own cache and target/,
#   - for `make test`, Go modules into Go's own cache, and what is built from them into
#     $XDG_CACHE_HOME/gpu-metrics-adapter (a Kubernetes control plane, a Prometheus, and the kinds of Prometheus's operator; about 0.6 GB, built once, about
#     fifteen minutes on two cores). `make keda` adds a KEDA to that: 0.3 GB, about ten minutes more.

CARGO ?= cargo
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test check unit peer cluster keda bench bench-fleet bench-schedules clean-cache

help: ## Show what can be made.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

demo: need-rust ## Show the main job on this machine, no cluster needed; two minutes.
	@$(CARGO) run --locked -- demo

test: check unit peer cluster ## Everything: format, lints, unit tests, tests over TLS, a real Prometheus, a real control plane.

check: need-rust ## Format and lints.
	@$(CARGO) fmt --version >/dev/null 2>&1 || { echo "error: rustfmt is missing; run: rustup component add rustfmt" >&2; exit 1; }
	@$(CARGO) clippy --version >/dev/null 2>&1 || { echo "error: clippy is missing; run: rustup component add clippy" >&2; exit 1; }
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- --deny warnings

unit: need-rust ## Tests that need no cluster.
	$(CARGO) test --locked

peer: need-rust need-go need-victoria ## PromQL, scraping and rules held against a real Prometheus and VictoriaMetrics on loopback.
	tests/prometheus/build.sh >/dev/null
	$(CARGO) test --locked --test promql_peer --test scrape_peer --test backends -- --include-ignored

cluster: need-rust need-go need-victoria ## Tests against a real Kubernetes control plane on loopback.
	tests/prometheus/build.sh >/dev/null
	tests/controlplane/build.sh >/dev/null
	tests/monitoring/build.sh >/dev/null
	$(CARGO) test --locked --test cluster -- --include-ignored --skip measured --skip beside_keda

keda: need-rust need-go ## KEDA itself beside the adapter, on the same control plane; the first time it builds KEDA, about ten minutes.
	tests/controlplane/build.sh >/dev/null
	tests/keda/build.sh >/dev/null
	$(CARGO) test --locked --test cluster -- --include-ignored beside_keda

bench: need-rust need-go ## Benchmarks, one of them beside a real Prometheus; see docs/benchmarks.md.
	GPU_METRICS_ADAPTER_PROMETHEUS="$$(tests/prometheus/build.sh)" $(CARGO) bench --locked --bench answer --bench backends --bench exposition --bench promql --bench requests

bench-fleet: need-rust need-go ## A fleet of 1,000 and of 5,000 nodes, scraped by the adapter and by others; half an hour.
	GPU_METRICS_ADAPTER_PROMETHEUS="$$(tests/prometheus/build.sh)" $(CARGO) bench --locked --bench fleet

bench-schedules: need-rust need-go ## 2,000 schedules on a real control plane on loopback; ten minutes.
	tests/controlplane/build.sh >/dev/null
	$(CARGO) test --locked --release --test cluster -- --include-ignored --nocapture measured

clean-cache: ## Remove what was built for tests: control plane, Prometheus, KEDA.
	rm -rf "$${GPU_METRICS_ADAPTER_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/gpu-metrics-adapter}"

.PHONY: need-rust need-go need-victoria
need-rust:
	@command -v $(CARGO) >/dev/null || { echo "error: cargo is not on the PATH; install Rust with rustup (rustup.rs)" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "error: there is no C compiler (cc), which Rust links with; install gcc or clang" >&2; exit 1; }

need-go:
	@command -v go >/dev/null || { echo "error: go is not on the PATH; the tests build Kubernetes and Prometheus with it; install Go 1.26 or newer" >&2; exit 1; }

need-victoria:
	@command -v victoria-metrics >/dev/null || { echo "error: victoria-metrics is not on the PATH; rules are tested against it; install the Debian package of that name" >&2; exit 1; }
