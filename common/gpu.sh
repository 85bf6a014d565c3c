#!/usr/bin/env bash
# gpu.sh N COMMAND…  runs COMMAND on the first of N GPUs that no other COMMAND of this user has, and
# waits for one if need be. The command itself holds the lock, which ends with it, however that is.
set -eu
count=$1
shift
IFS=, read -ra gpus <<< "${CUDA_VISIBLE_DEVICES:-$(seq -s, 0 $((count - 1)))}"
while :; do
    for gpu in "${gpus[@]:0:count}"; do
        exec 8> "${TMPDIR:-/tmp}/basins-$(id -u)-gpu-$gpu"
        if flock -n 8; then CUDA_VISIBLE_DEVICES=$gpu exec "$@"; fi
    done
    sleep 0.2
done
