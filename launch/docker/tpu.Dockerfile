# The image of TPU hosts, for TPU VMs and GKE. From the checkout:
#   docker build --file launch/docker/tpu.Dockerfile --tag IMAGE . && docker push IMAGE
FROM python:3.11.14-slim-bookworm

WORKDIR /storyjax
# Libraries first: they change less often than the code. The lock names the version of JAX, and JAX that of libtpu.
COPY requirements.lock ./
RUN pip install --no-cache-dir -r requirements.lock "jax[tpu]"
COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY storyjax ./storyjax
COPY configs ./configs
COPY tfds_builders ./tfds_builders
COPY launch ./launch
RUN pip install --no-cache-dir --no-deps --no-build-isolation --editable .

ENTRYPOINT ["bash", "/storyjax/launch/host.sh", "tpu"]
CMD ["train", "--help"]
