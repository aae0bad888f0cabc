"""One process of an evaluation of the toy world, which may be killed at any moment.

    python -m tests.evals.draw_and_measure PEERS FOLDER STORIES BATCH PAUSE

PEERS as in `storyjax evaluate --distributed`, or "" for one process. Every story that is drawn or measured is noted, one line each,
in FOLDER/log.txt. Prints the numbers.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

from storyjax.evals.sources.drawing import draw_stories
from storyjax.evals.sources.picture_folders import PictureFolder
from storyjax.evals.story_evaluator import StoryEvaluator
from storyjax.parallel import distributed
from tests.evals.toy_metrics import FRAMES, SIZE, Brightness, Plain, Sets, noise


def note(folder: Path, *words: object) -> None:
    line = " ".join(map(str, words)) + "\n"
    file = os.open(folder / "log.txt", os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(file, line.encode())
    os.close(file)


def main(peers: str, place: str, stories: str, batch: str, pause: str) -> None:
    distributed.start(peers, answer=60)
    folder, source = Path(place), Plain(int(stories))
    folder.mkdir(parents=True, exist_ok=True)

    def draw(sentences: list, seeds: list, first: None) -> np.ndarray:
        time.sleep(float(pause))
        for story, *_ in sentences:
            note(folder, "drew", story.split()[1])
        return np.stack([noise(FRAMES, SIZE, seed) for seed in seeds])

    class Slow(Brightness):
        def measure(self, stories):
            time.sleep(float(pause))
            for story in stories:
                note(folder, "measured", story.story_id)
            return super().measure(stories)

    draw_stories(source, draw, folder / "pictures", batch_size=int(batch), progress=False)
    evaluator = StoryEvaluator(source, {"brightness": Slow(), "sets": Sets()})
    found = evaluator.run(PictureFolder(folder / "pictures").of(source), folder, progress=False)
    told = {name: [score.value, score.low, score.high] for name, score in found.metrics.items()}
    print(json.dumps(told | {"pictures": found.about["pictures_hash"]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
