#!/usr/bin/env bash
# What every host of every cluster runs: `host.sh tpu train CONFIG --workdir W` is `storyjax train CONFIG --workdir W` with the
# environment of environment.sh. In the images it is the entry point.
set -euo pipefail

if [ "$#" -lt 2 ]; then
  echo "usage: host.sh tpu|gpu WORDS..., such as: host.sh gpu train CONFIG --workdir /shared/runs/first" >&2
  exit 2
fi
accelerator=$1
shift
launch=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=environment.sh
source "$launch/environment.sh"
cd -- "$launch/.."
# A checkout has an environment of its own; in an image the command is on the PATH.
if [ -x .venv/bin/storyjax ]; then
  PATH=$PWD/.venv/bin:$PATH
fi
if [ -z "${STORYJAX_STOPPED_STATUS:-}" ]; then
  exec storyjax "$@"
fi

# A training that is told to stop saves and ends with status 0, which Kubernetes takes for finished. So that it starts the
# training again, the status is then STORYJAX_STOPPED_STATUS.
stopped=
storyjax "$@" &
child=$!
trap 'stopped=yes; kill -TERM "$child" 2> /dev/null || true' TERM INT
status=0
wait "$child" || status=$?
while kill -0 "$child" 2> /dev/null; do # the signal has ended `wait`, not the training
  status=0
  wait "$child" || status=$?
done
if [ -n "$stopped" ] && [ "$status" = 0 ]; then
  status=$STORYJAX_STOPPED_STATUS
fi
exit "$status"
