#!/bin/sh
# `docker run IMAGE plan FILE` is `prunesweep plan FILE`; the programs that a cluster starts are themselves.
set -eu
case "${1-}" in
    prunesweep | ray | python | bash | sh | /*) exec "$@" ;;
    *) exec prunesweep "$@" ;;
esac
