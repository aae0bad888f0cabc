"""The classifier of PororoSV's nine characters, which Char-F1 and Frm-Acc look with (Maharana et al. 2021, 2022).

    storyjax train configs/character_classifier/pororo.py --workdir runs/pororo_characters

Starts from torchvision's inception_v3_google-0cc3c7bd.pth, which has to lie in the weights' folder. Adam at 1e-5 as the
authors' README says; two passes over the 10,191 stories show about as many frames as ten epochs of their loader, which takes
one frame a story. Hardware: one GPU, about an hour (not measured).
"""

from storyjax.data.config import DataConfig
from storyjax.train.character_classifier import CharacterClassifierRun
from storyjax.train.config import EmaConfig, OptimizerConfig, TrainConfig


def get_config() -> CharacterClassifierRun:
    return CharacterClassifierRun(
        data=DataConfig(name="pororo_sv", size=299, threads=8),
        train=TrainConfig(
            steps=3400,
            batch_size=6,  # stories: 30 frames
            log_every=50,
            save_every=500,
            evaluate_every=500,
            optimizer=OptimizerConfig(learning_rate=1e-5, weight_decay=0.0, clip_norm=None),
            ema=EmaConfig(decay=0.0),
        ),
    )
