#!/usr/bin/env bash
# A sweep as a Slurm job: Ray on all of the job's nodes, and `prunesweep run` on the first. docs/cluster.md, "On Slurm":
#
#   sbatch --nodes 4 docker/slurm.sh sweeps/budgets.yaml --store /nfs/results
#
#SBATCH --job-name=prunesweep
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --no-kill

set -euo pipefail

fail() {
    echo "error: $*" >&2
    exit 2
}

run=
asked= # by which signal to stop
heard=
# shellcheck disable=SC2329
ask() {
    asked=$1
    heard=yes
    [ -z "$run" ] || kill -TERM "$run" 2> /dev/null || true
}
for signal in TERM INT HUP USR1 USR2; do # the #SBATCH line above asks for USR1, two minutes before the time limit
    # shellcheck disable=SC2064
    trap "ask $signal" "$signal"
done

: "${SLURM_JOB_ID:?start this with sbatch}"
command -v prunesweep > /dev/null || fail "prunesweep is not on the PATH: activate its environment before sbatch"
[ $# -gt 0 ] || fail "name a sweep file: sbatch docker/slurm.sh FILE --store PLACE"

mapfile -t nodes <<< "$(scontrol show hostnames "$SLURM_JOB_NODELIST")"
cpus=${SLURM_CPUS_PER_TASK:-1}
port=$((20000 + SLURM_JOB_ID % 6000 * 2)) # two of the job alone, below those that systems hand out; Ray finds the rest
head=${nodes[0]}:$port

# A token of this job's own, where all nodes see it. One from the environment would go before it.
shared=$(mktemp --directory "${PRUNESWEEP_SHARED:-$PWD}/.prunesweep-$SLURM_JOB_ID-XXXXXX")
(umask 077 && python -c 'import secrets; print(secrets.token_hex(32))' > "$shared/token")
unset RAY_AUTH_TOKEN RAY_ADDRESS
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$shared/token
# Slurm signals all processes of a step at once: a node that waits for the others to take over its work waits in vain.
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0

# Runs on each node, as a step of the job.
# shellcheck disable=SC2329
node() {
    local folder ray
    folder=$(mktemp --directory /tmp/ps-XXXXXX) # short: paths of sockets may have 107 characters
    ray start --block --temp-dir "$folder" --disable-usage-stats --object-store-memory 134217728 \
        --dashboard-agent-listen-port 0 --min-worker-port 0 --max-worker-port 0 "$@" > /dev/null &
    ray=$!
    trap 'kill -TERM "$ray" 2> /dev/null || true' TERM
    while kill -0 "$ray" 2> /dev/null; do
        wait "$ray" || true
    done
    rm -rf "$folder"
}

steps=()
step() { # NODE OPTIONS...: the options are those of `ray start`
    local where=$1
    shift
    srun --no-kill --nodes=1 --ntasks=1 --nodelist="$where" --cpus-per-task="$cpus" \
        bash -c "$(declare -f node); node \"\$@\"" node --num-cpus "$cpus" "$@" &
    steps+=($!)
}

end() {
    trap '' TERM INT HUP USR1 USR2
    local looks=0 number
    while [ ${#steps[@]} -gt 0 ] && [ "$looks" -lt 300 ]; do
        # Its steps alone: srun, told to end, would kill them. Again after 5 s, for a step that was only just starting.
        [ $((looks++ % 50)) -ne 0 ] || scancel --signal=TERM "$SLURM_JOB_ID" || true
        sleep 0.1
        for number in "${!steps[@]}"; do
            kill -0 "${steps[number]}" 2> /dev/null || unset "steps[number]"
        done
    done
    [ ${#steps[@]} -eq 0 ] || kill -KILL "${steps[@]}" || true
    steps=()
    rm -rf "$shared"
}
trap end EXIT

# Exits with the code of what was run. A job whose time is over goes back into the queue; one that is cancelled does not.
leave() {
    [ -z "$asked" ] || [ "$1" -ne 143 ] || set -- 130 # SIGTERM while Python started
    if [ "$1" -eq 130 ] && [[ $asked == USR? ]]; then
        end
        echo "the time is over; what is finished is kept, and the job continues when it gets its next turn"
        scontrol requeue "$SLURM_JOB_ID" || fail "Slurm does not requeue the job: submit it again, and it continues"
    fi
    exit "$1"
}

answers() {
    timeout 10 ray health-check --address "$head" > /dev/null 2>&1
}

# Waits for the end of $run, whose exit code becomes $code. bash's `wait` for a process that still runs may hang where that
# ends while a trap does, so it is asked once the process is gone; a signal interrupts it even then.
await() {
    while kill -0 "$run" 2> /dev/null; do
        sleep 0.5
    done
    while true; do
        heard=
        wait "$run" && code=0 || code=$?
        [ -n "$heard" ] || break
    done
}

step "${nodes[0]}" --head --port "$port" --include-dashboard false --ray-client-server-port $((port + 1))
until answers; do
    [ -z "$asked" ] || leave 130
    { kill -0 "${steps[0]}" 2> /dev/null && [ "$SECONDS" -lt 300 ]; } || fail "Ray does not come up on ${nodes[0]}"
done
for ((i = 1; i < ${#nodes[@]}; i++)); do
    step "${nodes[i]}" --address "$head"
done

# A run starts with the nodes that it finds, and those that come later join it. One that never comes does not stop it.
python - "$head" "${#nodes[@]}" << 'END' &
import sys
import time

import ray

ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
wanted, deadline = int(sys.argv[2]), time.monotonic() + 120
while (up := sum(node["Alive"] for node in ray.nodes())) < wanted and time.monotonic() < deadline:
    time.sleep(0.5)
print(f"{up} of {wanted} nodes are up", flush=True)
END
run=$!
await
[ -z "$asked" ] || leave 130

prunesweep run "$@" --address "$head" &
run=$!
[ -z "$asked" ] || kill -TERM "$run"
await
leave "$code"
