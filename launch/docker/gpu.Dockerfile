# The image of GPU hosts, for Slurm with Pyxis and for single machines. From the checkout:
#   docker build --file launch/docker/gpu.Dockerfile --tag IMAGE . && docker push IMAGE
FROM python:3.11.14-slim-bookworm

# NCCL talks InfiniBand through these; CUDA itself comes with JAX, the driver from the host.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ibverbs-providers libibverbs1 librdmacm1 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /storyjax
# Libraries first: they change less often than the code. The lock names the version of JAX, and JAX that of CUDA's libraries.
COPY requirements.lock ./
RUN pip install --no-cache-dir -r requirements.lock "jax[cuda12]"
COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY storyjax ./storyjax
COPY configs ./configs
COPY tfds_builders ./tfds_builders
COPY launch ./launch
RUN pip install --no-cache-dir --no-deps --no-build-isolation --editable .

ENTRYPOINT ["bash", "/storyjax/launch/host.sh", "gpu"]
CMD ["train", "--help"]
