"""The recogniser that `storyjax evaluate` shows generated cartoon frames to.

    storyjax data build cartoon_stories
    storyjax train configs/recogniser/cartoon.py --workdir runs/cartoon_recogniser

Hardware: two CPU cores, about 12 CPU-minutes. Expect every accuracy on real test frames at 0.99 or above.
"""

from storyjax.data.config import DataConfig
from storyjax.evals.networks.recogniser import RecogniserConfig
from storyjax.train.config import EmaConfig, OptimizerConfig, TrainConfig
from storyjax.train.recogniser import RecogniserRun


def get_config() -> RecogniserRun:
    return RecogniserRun(
        data=DataConfig(),
        network=RecogniserConfig(),
        train=TrainConfig(
            steps=1500,
            batch_size=12,  # stories: 60 frames
            log_every=50,
            save_every=250,
            evaluate_every=500,
            optimizer=OptimizerConfig(
                learning_rate=3e-3, weight_decay=0.02, warmup_steps=100, schedule="cosine", final_fraction=0.01
            ),
            ema=EmaConfig(decay=0.99),
        ),
    )
