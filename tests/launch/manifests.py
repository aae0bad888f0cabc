"""The part of Kubernetes' schema that a JobSet of ours uses, as strict as `kubectl --validate=strict`: no field unknown."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Label = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
Quantity = Annotated[int, Field(ge=1)] | Annotated[str, Field(pattern=r"^\d+(\.\d+)?([KMGT]i?|m)?$")]
Path = Annotated[str, Field(pattern=r"^/")]
# What is read as a string must be one: kubectl refuses `value: 143` and `gke-spot: true`.
Strings = dict[str, str]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class EnvVar(_Strict):
    name: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")]
    value: str


class ContainerPort(_Strict):
    containerPort: Annotated[int, Field(ge=1, le=65535)]


class Resources(_Strict):
    limits: dict[str, Quantity]


class VolumeMount(_Strict):
    name: Label
    mountPath: Path


class Container(_Strict):
    name: Label
    image: Annotated[str, Field(pattern=r"^[\w.:@/-]+$")]
    args: list[str]
    env: list[EnvVar]
    ports: list[ContainerPort]
    resources: Resources
    volumeMounts: list[VolumeMount]


class Claim(_Strict):
    claimName: Label


class Volume(_Strict):
    name: Label
    persistentVolumeClaim: Claim


class PodSpec(_Strict):
    restartPolicy: Literal["Never", "OnFailure"]
    terminationGracePeriodSeconds: Annotated[int, Field(ge=0)]
    nodeSelector: Strings
    containers: Annotated[list[Container], Field(min_length=1)]
    volumes: list[Volume]


class PodTemplate(_Strict):
    spec: PodSpec


class JobSpec(_Strict):
    parallelism: Annotated[int, Field(ge=1)]
    completions: Annotated[int, Field(ge=1)]
    backoffLimit: Annotated[int, Field(ge=0)]
    template: PodTemplate


class JobTemplate(_Strict):
    spec: JobSpec


class ReplicatedJob(_Strict):
    name: Label
    replicas: Annotated[int, Field(ge=1)]
    template: JobTemplate


class FailurePolicy(_Strict):
    maxRestarts: Annotated[int, Field(ge=0)]


class JobSetSpec(_Strict):
    ttlSecondsAfterFinished: Annotated[int, Field(ge=0)]
    failurePolicy: FailurePolicy
    replicatedJobs: Annotated[list[ReplicatedJob], Field(min_length=1)]


class Metadata(_Strict):
    name: Label
    namespace: Label
    annotations: Strings


class JobSet(_Strict):
    apiVersion: Literal["jobset.x-k8s.io/v1alpha2"]
    kind: Literal["JobSet"]
    metadata: Metadata
    spec: JobSetSpec
