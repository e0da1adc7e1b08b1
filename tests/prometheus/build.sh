#!/usr/bin/env bash
# Builds the Prometheus and the promtool that the PromQL tests compare with, and prints the folder that holds them.
#
# The programs are kept outside the source tree, in a folder named after the content of everything that goes into them,
# so that they are built once per machine and again only when an input changes. Cold: about five minutes on two cores.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=3.14.0 # What the server reports.
module_version=v0.314.0 # The same release as a Go module, in go.mod.

if ! command -v go >/dev/null; then
	echo "error: the PromQL tests need the Go toolchain (1.26 or newer) to build a Prometheus, and 'go' is not on the PATH." >&2
	echo "       Install Go from your package manager or from go.dev, then run this again." >&2
	exit 1
fi
if ! grep -q "github.com/prometheus/prometheus $module_version\( //.*\)\?\$" "$here/go.mod"; then
	echo "error: $here/build.sh says Prometheus $module_version and go.mod says something else; change both together." >&2
	exit 1
fi

inputs=$(cat "$here/go.mod" "$here/go.sum" "$here/build.sh" <(go env GOVERSION GOOS GOARCH) | sha256sum | cut -c1-16)
cache="${GPU_METRICS_ADAPTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/gpu-metrics-adapter}"
out="$cache/prometheus-$inputs"
mkdir -p "$cache"

# Two test runs at once must not build the same thing twice.
exec 9>"$cache/prometheus.lock"
flock 9
if [ ! -e "$out/complete" ]; then
	echo "building Prometheus $version and promtool into $out; about five minutes the first time" >&2
	mkdir -p "$out"
	cd "$here"
	# No web pages (they are no part of the module), and no service discovery but files: that halves the build.
	for program in prometheus promtool; do
		nice -n 5 go build -trimpath -tags netgo,remove_all_sd -o "$out/$program" -ldflags \
			"-s -w -X github.com/prometheus/common/version.Version=$version" \
			"github.com/prometheus/prometheus/cmd/$program" >&2
	done
	touch "$out/complete"
fi
echo "$out"
