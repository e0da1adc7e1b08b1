# Sourced by the scripts that build what tests run from Go modules.
#
# What they build is kept outside the source tree, in a folder named after the content of everything that goes into it, so that
# it is built once per machine and again only when an input changes.
# shellcheck shell=bash

# Ends the script where there is no Go, which $1 need.
need_go() {
	if ! command -v go >/dev/null; then
		echo "error: $1 need the Go toolchain (1.26 or newer), and 'go' is not on the PATH." >&2
		echo "       Install Go from your package manager or from go.dev, then run this again." >&2
		exit 1
	fi
}

# Ends the script where its go.mod does not have the module $1 in the version $2, as the script has it.
need_version() {
	if ! grep -q "$1 $2\( //.*\)\?\$" "$here/go.mod"; then
		echo "error: $here/build.sh says $1 $2 and go.mod says something else; change both together." >&2
		exit 1
	fi
}

# Whether $1 is built. `out` is its folder then, or the one to build it in; the files that follow, beside the script, are its inputs.
is_built() {
	local name=$1 inputs cache
	shift
	inputs=$(cat "${@/#/$here/}" "$here/build.sh" "${BASH_SOURCE[0]}" <(go env GOVERSION GOOS GOARCH) | sha256sum | cut -c1-16)
	cache="${GPU_METRICS_ADAPTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/gpu-metrics-adapter}"
	out="$cache/$name-$inputs"
	mkdir -p "$cache"
	# Two test runs at once must not build the same thing twice.
	exec 9>"$cache/$name.lock"
	flock 9
	[ -e "$out/complete" ]
}
