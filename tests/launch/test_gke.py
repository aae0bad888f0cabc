"""The JobSet: Kubernetes would take it, and it asks for the nodes of the slice."""

import pydantic
import pytest
import yaml

from storyjax.launch.accelerators import SLICES
from storyjax.launch.start import plan
from tests.launch.examples import ON, TRAINING, XPK
from tests.launch.manifests import JobSet


def manifest(*on):
    return yaml.safe_load(plan("gke", TRAINING, (*ON["gke"], *on)).file)


def pod(read):
    return read.spec.replicatedJobs[0].template.spec.template.spec


@pytest.mark.parametrize("accelerator", ["v6e-1", "v5litepod-16", "v4-64", "v5p-128"])
@pytest.mark.parametrize("spot", ["true", "false"])
def test_kubernetes_would_take_the_manifest(accelerator, spot):
    read = JobSet.model_validate(manifest(f"accelerator={accelerator}", f"spot={spot}"))
    part, job = SLICES[accelerator], read.spec.replicatedJobs[0].template.spec
    assert job.parallelism == job.completions == part.hosts
    assert pod(read).nodeSelector["cloud.google.com/gke-tpu-accelerator"] == part.kind
    assert pod(read).nodeSelector["cloud.google.com/gke-tpu-topology"] == part.topology
    assert pod(read).containers[0].resources.limits == {"google.com/tpu": part.chips // part.hosts}
    assert ("cloud.google.com/gke-spot" in pod(read).nodeSelector) == (spot == "true")


@pytest.mark.parametrize(
    "path",
    [
        ("metadata", "labels"),
        ("spec", "maxRestarts"),
        ("spec", "replicatedJobs", 0, "template", "spec", "template", "spec", "nodeselector"),
    ],
)
def test_the_schema_sees_a_field_that_does_not_exist(path):
    broken = manifest()
    place = broken
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = {}
    with pytest.raises(pydantic.ValidationError, match="Extra inputs are not permitted"):
        JobSet.model_validate(broken)


def test_the_schema_sees_a_number_where_text_belongs():
    broken = manifest()
    broken["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"][0]["env"][1]["value"] = (
        143
    )
    with pytest.raises(pydantic.ValidationError, match="valid string"):
        JobSet.model_validate(broken)


def test_names_that_belong_together_do():
    read = JobSet.model_validate(manifest("name=second", "namespace=team-7"))
    assert (read.metadata.name, read.metadata.namespace) == ("second", "team-7")
    volumes = {volume.name: volume.persistentVolumeClaim.claimName for volume in pod(read).volumes}
    assert volumes == {"shared": "shared"}
    (container,) = pod(read).containers
    assert [(mount.name, mount.mountPath) for mount in container.volumeMounts] == [("shared", "/shared")]
    assert {variable.name: variable.value for variable in container.env} == {
        "STORYJAX_SHARED": "/shared",
        "STORYJAX_STOPPED_STATUS": "143",
    }


def test_pods_look_for_each_other_only_where_there_are_several():
    def args(accelerator):
        return pod(JobSet.model_validate(manifest(f"accelerator={accelerator}"))).containers[0].args

    assert args("v6e-8")[-2:] == ["--distributed", "auto"]
    assert "--distributed" not in args("v6e-4")


def test_xpk_gets_the_same_training():
    words = plan("gke", TRAINING, XPK).words
    assert words[:3] == ("xpk", "workload", "create")
    assert "--tpu-type=v5litepod-16" in words
    command = next(word for word in words if word.startswith("--command="))
    assert command == f"--command=exec bash /storyjax/launch/host.sh tpu {' '.join(TRAINING.words(distributed=True))}"


@pytest.mark.parametrize(
    ("name", "chips", "workers", "hosts"),
    [
        ("v5litepod-1", 1, 1, 1),
        ("v5litepod-8", 8, 1, 2),
        ("v5litepod-16", 16, 4, 4),
        ("v6e-256", 256, 64, 64),
        ("v4-8", 4, 1, 1),
        ("v4-32", 16, 4, 4),
        ("v5p-4096", 2048, 512, 512),
    ],
)
def test_a_slice_has_its_chips_and_hosts(name, chips, workers, hosts):
    part = SLICES[name]
    assert (part.chips, part.workers, part.hosts) == (chips, workers, hosts)
