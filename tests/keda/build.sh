#!/usr/bin/env bash
# Builds KEDA's operator and its metrics server, which the cluster tests put behind the adapter, and prints the folder that
# holds them and KEDA's own manifests.
#
# The programs are kept outside the source tree, in a folder named after the content of everything that goes into them,
# so that they are built once per machine and again only when an input changes. Cold: about ten minutes on two cores, since
# KEDA has every scaler in both. KEDA is under the Apache License 2.0; nothing of it is in this repository or in what it releases.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=v2.21.0 # The module's version in go.mod: what the programs say that they are.

source "$here/../support/built.sh"
need_go "the tests beside KEDA"
need_version github.com/kedacore/keda/v2 "$version"

if ! is_built keda go.mod go.sum; then
	echo "building KEDA $version into $out; about ten minutes the first time" >&2
	rm -rf "$out"
	mkdir -p "$out/source"
	cd "$here"
	module=github.com/kedacore/keda/v2
	go mod download "$module" >&2
	source=$(go list -m -f '{{.Dir}}' "$module")
	# The metrics server's own metrics are on every address, whatever its flags: here on loopback, as all servers of a test.
	every='fmt.Sprintf(":%v", metricsAPIServerPort)'
	loopback='fmt.Sprintf("127.0.0.1:%v", metricsAPIServerPort)'
	sed "s/$every/$loopback/" "$source/cmd/adapter/main.go" >"$out/source/main.go"
	if ! grep -qF "$loopback" "$out/source/main.go"; then
		echo "error: KEDA $version listens with its metrics in another way than $here/build.sh knows; change that line there." >&2
		exit 1
	fi
	flags=(-trimpath -ldflags "-s -w -X $module/version.Version=$version")
	nice -n 5 go build "${flags[@]}" -o "$out/keda" "$module/cmd/operator" >&2
	nice -n 5 go build "${flags[@]}" -o "$out/keda-adapter" "$out/source/main.go" >&2
	# The kinds, the rights and the accounts, as they are installed.
	cp -r "$source/config" "$out/config"
	chmod -R u+w "$out/config"
	touch "$out/complete"
fi
echo "$out"
