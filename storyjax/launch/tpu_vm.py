"""TPU VMs: one command on all workers of a slice."""

import dataclasses

from storyjax.launch.accelerators import tpu_slice
from storyjax.launch.plan import SHARED, Plan, render
from storyjax.launch.target import check_name, check_needed, check_plain
from storyjax.launch.training import Training

_REGISTRIES = (".pkg.dev", "gcr.io")  # of Google Cloud: docker asks gcloud for the password


@dataclasses.dataclass(frozen=True)
class TpuVm:
    """A TPU VM, made if it does not exist. `nfs`: HOST:/SHARE of the file server that every worker mounts as /shared."""

    zone: str = ""
    project: str = ""
    image: str = ""
    accelerator: str = "v5litepod-16"
    name: str = "storyjax"
    nfs: str = ""
    spot: bool = False
    network: str = ""
    runtime: str = ""

    @property
    def version(self) -> str:
        """The system of the TPU VM."""
        return self.runtime or tpu_slice(self.accelerator).generation.version

    @property
    def registry(self) -> str:
        """Where the image lies, if that is a registry of Google Cloud."""
        host = self.image.partition("/")[0]
        return host if host.endswith(_REGISTRIES) else ""

    def plan(self, training: Training, command: str) -> Plan:
        """A script that makes the TPU VM and starts the image on all of its workers, or follows the one that runs."""
        needed = {"zone": "us-west4-a", "project": "my-project", "image": "us-docker.pkg.dev/my-project/storyjax/tpu:1"}
        workers = tpu_slice(self.accelerator).workers
        if workers > 1:
            needed["nfs"] = "10.0.0.2:/share"
        check_needed(self, "tpu-vm", **needed)
        check_name(self.name, "name")
        check_plain(self)
        training.check(devices=tpu_slice(self.accelerator).chips, hosts=workers, shared=SHARED)
        values = {
            "command": command,
            "target": self,
            "shared": SHARED,
            "words": training.words(distributed=workers > 1),
        }
        return Plan(("bash", "-s"), ("bash", "gcloud"), render("tpu_vm/train.sh.j2", values))
