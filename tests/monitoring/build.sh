#!/usr/bin/env bash
# Makes the CustomResourceDefinitions of Prometheus's operator for the kinds in manifests/monitoring from its own Go types, as its
# releases do, and prints the folder that holds them.
#
# They are kept outside the source tree, in a folder named after the content of everything that goes into them, so that
# they are made once per machine and again only when an input changes. Cold: under a minute on two cores.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
types=github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1

source "$here/../support/built.sh"
need_go "the tests of manifests/monitoring"

if ! is_built monitoring go.mod go.sum kinds.go; then
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
