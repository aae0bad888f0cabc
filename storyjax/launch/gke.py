"""TPU slices of Google Kubernetes Engine: a JobSet for kubectl, or a workload of XPK."""

import dataclasses
from typing import Literal

from storyjax.launch import shell
from storyjax.launch.accelerators import Slice, tpu_slice
from storyjax.launch.plan import IN_IMAGE, SHARED, Plan, render
from storyjax.launch.target import check_name, check_needed, check_plain, check_positive
from storyjax.launch.training import Training


@dataclasses.dataclass(frozen=True)
class Gke:
    """A slice of a cluster. `volume`: the claim (kubectl) or storage (xpk) that pods see as /shared."""

    image: str = ""
    volume: str = ""
    accelerator: str = "v5litepod-16"
    name: str = "storyjax"
    via: Literal["kubectl", "xpk"] = "kubectl"
    namespace: str = "default"
    spot: bool = False
    restarts: int = 20
    cluster: str = ""
    zone: str = ""
    project: str = ""

    def plan(self, training: Training, command: str) -> Plan:
        """`kubectl apply` of a manifest, or `xpk workload create`."""
        needed = {"image": "us-docker.pkg.dev/my-project/storyjax/tpu:1", "volume": "shared"}
        if self.via == "xpk":
            needed |= {"cluster": "my-cluster", "zone": "us-west4-a", "project": "my-project"}
        check_needed(self, f"gke by {self.via}", **needed)
        for what in ("name", "namespace", "volume"):
            check_name(getattr(self, what), what)
        check_plain(self)
        check_positive(self, "restarts")
        part = tpu_slice(self.accelerator)
        training.check(devices=part.chips, hosts=part.hosts, shared=SHARED)
        words = training.words(distributed=part.hosts > 1)
        return self._xpk(words) if self.via == "xpk" else self._kubectl(part, words, command)

    def _kubectl(self, part: Slice, words: list[str], command: str) -> Plan:
        values = {
            "command": command,
            "target": self,
            "slice": part,
            "shared": SHARED,
            "arguments": [shell.kubernetes(word) for word in words],
        }
        manifest = render("gke/jobset.yaml.j2", values)
        return Plan(("kubectl", "apply", "--filename=-"), ("kubectl",), manifest)

    def _xpk(self, words: list[str]) -> Plan:
        """XPK writes the manifest itself; the command goes through bash in the container, and through Kubernetes before."""
        line = shell.join(["exec", "bash", f"{IN_IMAGE}/launch/host.sh", "tpu", *words])
        return Plan(
            (
                *("xpk", "workload", "create", f"--workload={self.name}", f"--cluster={self.cluster}"),
                *(f"--zone={self.zone}", f"--project={self.project}", f"--tpu-type={self.accelerator}"),
                *(["--spot"] if self.spot else []),
                *(f"--docker-image={self.image}", f"--storage={self.volume}", f"--max-restarts={self.restarts}"),
                *("--termination-grace-period-seconds=300", f"--env=STORYJAX_SHARED={SHARED}"),
                *("--env=STORYJAX_STOPPED_STATUS=143", f"--command={shell.kubernetes(line)}"),
            ),
            ("xpk", "kubectl", "gcloud"),
        )
