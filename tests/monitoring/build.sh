#!/usr/bin/env bash
# Makes the CustomResourceDefinitions of Prometheus's operator for the kinds in manifests/monitoring from its own Go types, as its
# releases do, and prints the folder that holds them.
#
# They are kept outside the source tree, in a folder named after the content of everything that goes into them, so that
# they are made once per machine and again only when an input changes. Cold: under a minute on two cores.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
types=github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1

if ! command -v go >/dev/null; then
	echo "error: the test of manifests/monitoring needs the Go toolchain (1.26 or newer) to make its kinds, and 'go' is not on the PATH." >&2
	echo "       Install Go from your package manager or from go.dev, then run this again." >&2
	exit 1
fi

inputs=$(cat "$here/go.mod" "$here/go.sum" "$here/kinds.go" "$here/build.sh" <(go env GOVERSION GOOS GOARCH) | sha256sum | cut -c1-16)
cache="${GPU_METRICS_ADAPTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/gpu-metrics-adapter}"
out="$cache/monitoring-$inputs"
mkdir -p "$cache"

# Two test runs at once must not make the same thing twice.
exec 9>"$cache/monitoring.lock"
flock 9
if [ ! -e "$out/complete" ]; then
	echo "making the kinds of Prometheus's operator in $out; under a minute the first time" >&2
	mkdir -p "$out"
	cd "$here"
	nice -n 5 go build -trimpath -o "$out/controller-gen" sigs.k8s.io/controller-tools/cmd/controller-gen >&2
	nice -n 5 "$out/controller-gen" crd paths="$types" output:crd:dir="$out/all" >&2
	cp "$out"/all/*_servicemonitors.yaml "$out"/all/*_prometheusrules.yaml "$out"
	rm -r "$out/all" "$out/controller-gen"
	touch "$out/complete"
fi
echo "$out"
