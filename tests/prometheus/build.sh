#!/usr/bin/env bash
# Builds the Prometheus and the promtool that the PromQL tests compare with, and prints the folder that holds them.
#
# The programs are kept outside the source tree, in a folder named after the content of everything that goes into them,
# so that they are built once per machine and again only when an input changes. Cold: about five minutes on two cores.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=3.14.0 # What the server reports.
module_version=v0.314.0 # The same release as a Go module, in go.mod.

source "$here/../support/built.sh"
need_go "the PromQL tests"
need_version github.com/prometheus/prometheus "$module_version"

if ! is_built prometheus go.mod go.sum; then
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
