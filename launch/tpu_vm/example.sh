#!/usr/bin/env bash
# storyjax launch tpu-vm configs/contextual_story/cartoon.py --workdir /shared/runs/first --mesh data=4,fsdp=4 --set data.data_dir=/shared/data train.batch_size=64 --on zone=us-west4-a project=my-project image=us-docker.pkg.dev/my-project/storyjax/tpu:1 accelerator=v5litepod-16 nfs=10.0.0.2:/share spot=true
#
# Makes the TPU VM unless it exists, then runs one command on all of its workers: they find each other by the metadata of the
# TPU. Needs gcloud, logged in; the image is that of launch/docker/tpu.Dockerfile.
set -euo pipefail

name=storyjax
place=(--zone=us-west4-a --project=my-project)

state=$(gcloud compute tpus tpu-vm describe "$name" "${place[@]}" --format='value(state)' < /dev/null 2> /dev/null || echo MISSING)
if [ "$state" = PREEMPTED ] || [ "$state" = TERMINATED ]; then # what is left of a TPU VM that was taken away
  gcloud compute tpus tpu-vm delete "$name" "${place[@]}" --quiet < /dev/null
  state=MISSING
fi
if [ "$state" = MISSING ]; then
  gcloud compute tpus tpu-vm create "$name" "${place[@]}" --quiet \
    --accelerator-type=v5litepod-16 --version=v2-alpha-tpuv5-lite --spot < /dev/null
fi

read -r -d '' on_every_worker << 'END_OF_WORKER' || true
set -euo pipefail
# The shared folder, the same one on every worker.
if ! mountpoint --quiet /shared; then
  command -v mount.nfs > /dev/null || { sudo apt-get update --quiet && sudo apt-get install --quiet --yes nfs-common; }
  sudo mkdir --parents /shared
  sudo mount --types nfs 10.0.0.2:/share /shared
fi
sudo gcloud auth configure-docker --quiet us-docker.pkg.dev
# A container that still runs is followed, not started a second time.
if [ -z "$(sudo docker ps --quiet --filter 'name=^storyjax$')" ]; then
  sudo docker rm --force storyjax > /dev/null 2>&1 || true
  sudo docker run --detach --name=storyjax --privileged --network=host --stop-timeout=300 \
    --volume=/shared:/shared --env=STORYJAX_SHARED=/shared \
    us-docker.pkg.dev/my-project/storyjax/tpu:1 \
    train configs/contextual_story/cartoon.py --workdir /shared/runs/first --mesh data=4,fsdp=4 --distributed auto --set data.data_dir=/shared/data train.batch_size=64
fi
sudo docker logs --follow storyjax &
status=$(sudo docker wait storyjax)
wait
exit "$status"
END_OF_WORKER

gcloud compute tpus tpu-vm ssh "$name" "${place[@]}" --quiet --worker=all --command="$on_every_worker" < /dev/null
