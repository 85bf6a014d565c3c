#!/usr/bin/env bash
# make container: builds the image, then runs quick tests and the smoke study in it without network, on a read-only file system, as a user it
# does not know. The engine is a Docker that runs, else one started for this (root, dockerd), else podman, else buildah; else it says skipped.
#   ENGINE                  this one instead, with its own flags: ENGINE="podman --runtime runc"
#   INSTALL=1               as root on Debian: installs docker.io where there is no engine
#   BASE_IMAGE              what the image starts from; BASE_ARCHIVE, a root file system as .tar, becomes it first
#   BUILD_FLAGS RUN_FLAGS   more flags for the engine, such as RUN_FLAGS="--gpus all"
set -eu -o pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'set +e; finish' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

finish() {
    [ ! "${box:-}" ] || $engine rm "$box" > /dev/null
    [ ! "${base:-}" ] || $engine rm "$base" > /dev/null
    [ ! -s "$work/dockerd.pid" ] || { kill "$(< "$work/dockerd.pid")"; wait; umount "$work"/exec/netns/* 2> /dev/null; }
    rm -rf "$work"
}

have() { command -v "$1" > /dev/null; }

own_docker() {
    [ "$(id -u)" = 0 ] && have dockerd && have docker || return 1
    export DOCKER_HOST=unix://$work/docker.sock
    echo '{}' > "$work/daemon.json"
    dockerd --config-file "$work/daemon.json" --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/dockerd.pid" --host "$DOCKER_HOST" \
        --iptables=false --ip6tables=false --ip-forward=false --bridge=none > "$work/log" 2>&1 &
    for _ in $(seq 100); do sleep 0.3; docker info > /dev/null 2>&1 && return; done
    tail -n 3 "$work/log" >&2
    return 1
}

timed() { # WHAT COMMAND…
    local began=${EPOCHREALTIME/./} tenths
    "${@:2}"
    tenths=$(( (${EPOCHREALTIME/./} - began) / 100000 ))
    echo "$1: $((tenths / 10)).$((tenths % 10)) s"
}

build() { # FOLDER
    # shellcheck disable=SC2086
    $engine build ${BUILD_FLAGS:-} ${own:-} ${BASE_IMAGE:+--build-arg BASE_IMAGE="$BASE_IMAGE"} -t basins "$1" > "$work/build.log" 2>&1 || { tail -n 20 "$work/build.log" >&2; exit 1; }
}

run() { # COMMAND…
    # shellcheck disable=SC2086
    if [ "$kind" = buildah ]; then # which has no read-only root, and no network of its own in a chroot
        box=${box:-$($engine from basins)}
        $engine run --isolation chroot --user 12345 ${RUN_FLAGS:-} -v "$work/artifacts:/study/artifacts" "$box" -- "$@"
    else
        $engine run --rm ${init:-} --network none --read-only --user 12345 ${RUN_FLAGS:-} -v "$work/artifacts:/study/artifacts" basins "$@"
    fi
}

if [ "${INSTALL:-}" ] && [ "$(id -u)" = 0 ] && ! have docker; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends docker.io > /dev/null
fi
if [ "${ENGINE:-}" ]; then engine=$ENGINE
elif docker info > /dev/null 2>&1; then engine=docker
elif own_docker; then engine=docker own='--network host' # its build has no bridge
elif have podman; then engine=podman
elif have buildah; then engine=buildah
else echo 'skipped: neither Docker nor podman nor buildah works here'; exit 0; fi
$engine --version
kind=${engine%% *}
[ "$kind" != buildah ] || own=--layers # else it keeps none
[ "$kind" != docker ] || init=--init # podman's is a package of its own

if [ "${BASE_ARCHIVE:-}" ]; then
    BASE_IMAGE=localhost/base:latest
    if [ "$kind" = buildah ]; then
        base=$($engine from scratch) && $engine add -q "$base" "$BASE_ARCHIVE" / > /dev/null && $engine commit -q "$base" "$BASE_IMAGE" > /dev/null
    else
        $engine import "$BASE_ARCHIVE" "$BASE_IMAGE" > /dev/null
    fi
fi
mkdir -m 777 "$work/artifacts" "$work/code"
git ls-files -z | xargs -0 tar -c --ignore-failed-read | tar -x -C "$work/code"
echo '# other code' >> "$work/code/common/cli.py"
timed 'built' build "$work/code"
timed 'built again after a change of code' build .
[ "$kind" = buildah ] || $engine image inspect basins --format '{{.Size}}' | awk '{printf "size: %.2f GB\n", $1 / 1e9}'
timed 'quick tests' run make quick
timed 'smoke study' run make all PROFILE=smoke
timed 'smoke study, asked for again' run make all PROFILE=smoke
run make check PROFILE=smoke
