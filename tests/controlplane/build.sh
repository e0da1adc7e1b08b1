#!/usr/bin/env bash
# Builds the control plane and the fake kubelet of the cluster tests, and prints the folder that holds them.
#
# The programs are kept outside the source tree, in a folder named after the content of everything that goes into them,
# so that they are built once per machine and again only when an input changes. Cold: about ten minutes on two cores.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=v1.37.2 # The k8s.io/kubernetes version in go.mod: what the API server reports.

source "$here/../support/built.sh"
need_go "the cluster tests"
need_version k8s.io/kubernetes "$version"

if ! is_built controlplane go.mod go.sum main.go; then
	echo "building the test control plane (Kubernetes $version, etcd, kwok) into $out; about ten minutes the first time" >&2
	mkdir -p "$out"
	cd "$here"
	module=k8s.io/component-base/version
	go build -trimpath -o "$out/controlplane" -ldflags \
		"-s -w -X $module.gitVersion=$version -X $module.gitMajor=1 -X $module.gitMinor=37" . >&2
	go build -trimpath -ldflags "-s -w" -o "$out/kwok" sigs.k8s.io/kwok/cmd/kwok >&2
	# The stages tell kwok how a node and a pod become ready; they are files of its own module.
	stages=$(go list -m -f '{{.Dir}}' sigs.k8s.io/kwok)/kustomize/stage
	for stage in "$stages"/node/fast/*.yaml "$stages"/node/heartbeat-with-lease/*.yaml "$stages"/pod/fast/*.yaml; do
		case "$stage" in
		*/kustomization.yaml) ;;
		*)
			cat "$stage"
			echo '---'
			;;
		esac
	done >"$out/stages.yaml"
	touch "$out/complete"
fi
echo "$out"
