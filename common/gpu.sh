#!/usr/bin/env bash
# gpu.sh N COMMAND…  runs COMMAND on the first of N GPUs that no other COMMAND of this user has, and
# waits for one if need be. The command itself holds the lock, which ends with it, however that is.
set -eu
count=$1
shift
busy=75
command -v flock > /dev/null || { echo "gpu.sh: needs flock, of util-linux; install it" >&2; exit 1; }
# Empty, as a cluster sets it where it gave none, is not unset. Names: 0, GPU-8f3…, MIG-GPU-8f3…/1/0.
IFS=', ' read -ra gpus <<< "${CUDA_VISIBLE_DEVICES-$(seq -s, 0 $((count - 1)))}"
if [[ ! ${gpus[*]-} || ${gpus[0]} == -1 ]]; then
    echo "GPUS=$count, but CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES-} leaves no GPU; leave GPUS out, or unset it" >&2
    exit 1
fi
while :; do
    for gpu in "${gpus[@]:0:count}"; do
        lock=${TMPDIR:-/tmp}/basins-$(id -u)-gpu-${gpu//\//_}
        exec 8> "$lock"
        status=0
        why=$(flock -n -E $busy 8 2>&1) || status=$?
        case $status in
            0) CUDA_VISIBLE_DEVICES=$gpu exec "$@" ;;
            $busy) ;;
            *)
                echo "$lock: cannot be locked (${why##*: }); set TMPDIR to a folder on a disk of this machine" >&2
                exit 1
                ;;
        esac
    done
    sleep 0.2
done
