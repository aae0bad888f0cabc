# shellcheck shell=bash
# The environment of every host that trains, in one place. `host.sh` sources it, with `accelerator` set to tpu or gpu.
# What is set already stays as it is, and flags of the caller come last, so that they win over those here. To try a flag:
# LIBTPU_INIT_ARGS=--flag=value or XLA_FLAGS=--flag=value before the command. An unknown flag ends the process at its start.

# --- all hosts

# Log lines appear when they are written, also where the output is no terminal.
export PYTHONUNBUFFERED=1

# Compiled programs survive the host: after a restart the first step starts in seconds. One host writes, all read.
if [ -n "${STORYJAX_SHARED:-}" ]; then
  export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$STORYJAX_SHARED/.cache/compiled}"
fi

case ${accelerator:-} in
  tpu)
    # --- TPU hosts: LIBTPU_INIT_ARGS reaches the TPU compiler, which XLA_FLAGS does not.

    # A host that finds no TPU says so, and does not train on its CPU while the others wait.
    export JAX_PLATFORMS="${JAX_PLATFORMS:-tpu,cpu}"

    flags=(
      # Gathers and reductions run beside the computations that do not need them ...
      --xla_tpu_enable_async_collective_fusion=true
      # ... with fsdp these are above all the gathers of parameters,
      --xla_tpu_enable_async_collective_fusion_fuse_all_gather=true
      # which may stretch over several computations.
      --xla_tpu_enable_async_collective_fusion_multiple_steps=true
      # Computations and collectives share the tensor core's time.
      --xla_tpu_overlap_compute_collective_tc=true
      # Gathers start early and are waited for late.
      --xla_enable_async_all_gather=true
      # With data parallelism, gradients of several layers are reduced together, while the backward pass goes on,
      --xla_tpu_enable_data_parallel_all_reduce_opt=true
      # also when they differ in size.
      --xla_tpu_data_parallel_opt_different_sized_ops=true
    )
    export LIBTPU_INIT_ARGS="${flags[*]} ${LIBTPU_INIT_ARGS:-}"
    ;;
  gpu)
    # --- GPU hosts

    # A host that finds no GPU says so, and does not train on its CPU while the others wait.
    export JAX_PLATFORMS="${JAX_PLATFORMS:-cuda,cpu}"

    # Of the memory of each GPU; JAX takes three quarters unless told, the rest is for NCCL and cuDNN.
    export XLA_PYTHON_CLIENT_MEM_FRACTION="${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.9}"

    # NCCL says which network failed; silent otherwise. (NCCL_SOCKET_IFNAME names the network where the wrong one is chosen.)
    export NCCL_DEBUG="${NCCL_DEBUG:-WARN}"

    flags=(
      # Collectives start early and are waited for late, so that they run beside computations.
      --xla_gpu_enable_latency_hiding_scheduler=true
    )
    export XLA_FLAGS="${flags[*]} ${XLA_FLAGS:-}"
    ;;
  *)
    echo "environment.sh: expected accelerator=tpu or accelerator=gpu, got '${accelerator:-}'" >&2
    exit 2
    ;;
esac
unset flags
