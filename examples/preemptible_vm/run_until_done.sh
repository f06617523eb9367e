#!/usr/bin/env bash
# The same without systemd (a container, a notebook's terminal): run a training again until it is done.
#
#   examples/preemptible_vm/run_until_done.sh .venv/bin/python run_glue.py args/distilbart-mnli-12-6.json
#
# The first run starts from scratch, each later one from the newest whole checkpoint. TERM or INT (Ctrl-C) to this shell
# becomes TERM to the training, which saves and ends with 143; the same command goes on later.
#
#   ATTEMPTS=5   failures in a row before it gives up        PAUSE=60   seconds between them

set -uo pipefail
attempts=${ATTEMPTS:-5}
asked_to_stop=false
stop() {
    asked_to_stop=true
    # Not INT: Ctrl-C reaches the training by itself, and a second INT ends it without a checkpoint.
    [[ -n ${training:-} ]] && kill -TERM "$training" 2>/dev/null
}
trap stop TERM INT

for ((attempt = 1; attempt <= attempts; attempt++)); do
    "$@" --resume_from_checkpoint true &
    training=$!
    # `wait` also returns when a trap has run, while the training still saves.
    while wait "$training" && code=0 || code=$?; kill -0 "$training" 2>/dev/null; do :; done
    case $code in
        0) exit 0 ;;           # done
        2 | 3) exit "$code" ;; # bad input, or the Hub refused: the same would happen again
    esac
    $asked_to_stop && exit "$code"
    echo "ended with $code; attempt $attempt of $attempts" >&2
    ((attempt < attempts)) && sleep "${PAUSE:-60}"
done
exit "$code"
