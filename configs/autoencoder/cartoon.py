"""The picture codec of the cartoon model: 128x128 pixels to 8x8 latents of 12 channels.

    storyjax data build cartoon_stories
    storyjax train configs/autoencoder/cartoon.py --workdir runs/cartoon_vae

`configs/contextual_story/cartoon.py` runs this by itself as its first stage.
"""

from storyjax.data.config import DataConfig
from storyjax.models.vae import VAEConfig
from storyjax.train.autoencoder import AutoencoderLoss, AutoencoderRun
from storyjax.train.config import EmaConfig, OptimizerConfig, TrainConfig


def get_config() -> AutoencoderRun:
    return AutoencoderRun(
        data=DataConfig(),
        vae=VAEConfig(block_out_channels=(96, 144), layers_per_block=1, latent_channels=16, norm_groups=8, patch=8),
        loss=AutoencoderLoss(),
        train=TrainConfig(
            steps=4500,
            batch_size=2,  # stories: 10 pictures
            log_every=100,
            save_every=500,
            sample_every=500,
            optimizer=OptimizerConfig(
                learning_rate=1.2e-3, weight_decay=0.0, warmup_steps=200, schedule="cosine", final_fraction=0.03
            ),
            ema=EmaConfig(decay=0.998),
        ),
    )
