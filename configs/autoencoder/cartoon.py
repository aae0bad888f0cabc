"""The picture codec of the cartoon model: 128x128 pixels to 8x8 latents of 16 channels.

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
            steps=1700,
            batch_size=3,  # stories: 15 pictures
            log_every=100,
            save_every=300,
            sample_every=300,
            optimizer=OptimizerConfig(
                name="muon",
                learning_rate=3e-3,
                weight_decay=0.0,
                warmup_steps=60,
                schedule="cosine",
                final_fraction=0.02,
            ),
            ema=EmaConfig(decay=0.995),
        ),
    )
