"""One of several processes that draw a story and read its pictures while the parameters are divided among them.

    python -m tests.parallel.draw_in_processes PEERS MESH

As training does for its samples and evaluations. Prints the mean of every frame, what it read, and the mean of a picture redrawn by
the codec.
"""

import json
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from storyjax.data.labels import Labels
from storyjax.evals.networks.recogniser import Recogniser, RecogniserConfig, recogniser_maker
from storyjax.parallel import distributed, rules
from storyjax.parallel.placement import Placement
from storyjax.systems.contextual_story.pipeline import ContextualStoryPipeline
from storyjax.train.autoencoder import AutoencoderLoss, autoencoder_task
from tests import tiny


def main(peers: str, mesh: str) -> None:
    distributed.start(peers, answer=60)
    rules.WHOLE = 8
    placement = Placement.of(mesh)
    with tempfile.TemporaryDirectory() as folder, tiny.quick_compiles(), placement.current():
        alone = tiny.pipeline(tiny.tokenizer_folder(Path(folder) / "tokenizer"))
        params = placement.put(alone.params)
        assert any(not leaf.is_fully_replicated for leaf in jax.tree.leaves(params)) == (jax.process_count() > 1)
        shared = ContextualStoryPipeline(alone.config, params, alone.tokenizer, alone.motion)
        frames = shared(list(tiny.SENTENCES), seed=3, output_type="np").images
        task = autoencoder_task(tiny.CODEC, AutoencoderLoss(), frames)
        task.sample({"vae": params["vae"]}, Path(folder), 0)
        redrawn = np.asarray(Image.open(Path(folder) / "reconstructions.png"))
        config = RecogniserConfig(
            Labels(("Ada", "Bob"), ("lake", "home"), ("sun",), ("swims", "sleeps")), 32, channels=(8,), norm_groups=2
        )
        reader = placement.put(tiny.network(recogniser_maker(config))[1])
        read = Recogniser(config, reader, name="tiny", content_hash="").read(frames)
        print(
            json.dumps(
                {
                    "frames": _means(frames),
                    "redrawn": _means(redrawn[None]),
                    "action": read.action.tolist(),
                    "place": read.place.tolist(),
                }
            )
        )


def _means(frames: np.ndarray) -> list[float]:
    return np.mean(frames, axis=(1, 2, 3)).tolist()


if __name__ == "__main__":
    main(*sys.argv[1:])
