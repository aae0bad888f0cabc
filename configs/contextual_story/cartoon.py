"""ContextualStory on the cartoon stories: the model that ships as "cartoon".

    storyjax data build cartoon_stories
    storyjax train configs/contextual_story/cartoon.py --workdir runs/cartoon

Codec first, then text encoder and story UNet together. Steps, hours, machine and the metrics reached are in the model card
(docs/cartoon_model.md). Add `--set story.contextualizer_layers=0` for the ablation without the storyline contextualizer.
"""

from configs.autoencoder import cartoon as codec
from storyjax.data.config import DataConfig
from storyjax.diffusion.noise import NoisePrior
from storyjax.diffusion.samplers import Sampler
from storyjax.diffusion.schedule import ScheduleConfig
from storyjax.models.clip_text import CLIPTextConfig
from storyjax.models.unet import UNetConfig
from storyjax.systems.contextual_story.config import ContextualStoryConfig
from storyjax.systems.contextual_story.experiment import ContextualStoryRun
from storyjax.systems.contextual_story.objective import StoryLoss
from storyjax.systems.contextual_story.pipeline import Defaults
from storyjax.train.config import EmaConfig, OptimizerConfig, TrainConfig

TOKENS, WIDTH = 32, 128


def get_config() -> ContextualStoryRun:
    return ContextualStoryRun(
        data=DataConfig(train_split="train[:12000]"),
        codec=codec.get_config(),
        story=ContextualStoryConfig(
            unet=UNetConfig(
                in_channels=16,
                out_channels=16,
                block_out_channels=(80, 160),
                attention=(False, True),
                heads=(4, 8),
                layers_per_block=1,
                cross_attention_dim=WIDTH,
                norm_groups=8,
            ),
            temporal_heads=8,
            temporal_norm_groups=8,
            contextualizer_layers=2,
            contextualizer_heads=4,
            contextualizer_positions=TOKENS,
            alpha_start=0.5,
        ),
        text_encoder=CLIPTextConfig(
            vocab_size=1200, width=WIDTH, layers=2, heads=4, mlp_width=512, positions=TOKENS, activation="gelu"
        ),
        loss=StoryLoss(
            schedule=ScheduleConfig(kind="linear", prediction="v", set_alpha_to_one=True, spacing="trailing"),
            prior=NoisePrior("mixed", 1.0),
            gamma=None,  # v prediction alone weighs small pictures well: min-SNR would hardly teach the noisiest steps
            clean_first_frame=0.15,
        ),
        train=TrainConfig(
            steps=12_000,
            batch_size=16,
            log_every=50,
            save_every=200,
            sample_every=500,
            optimizer=OptimizerConfig(
                name="muon",
                learning_rate=2e-3,
                weight_decay=0.01,
                decay_mask="matrices",
                warmup_steps=200,
                schedule="cosine",
                final_fraction=0.05,
            ),
            ema=EmaConfig(decay=0.998),
        ),
        defaults=Defaults(num_inference_steps=30, guidance_scale=3.0, sampler=Sampler("ddim")),
    )
