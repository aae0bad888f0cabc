"""The public functions behind the command: load a model, draw a story into a folder, score a model.

pipeline = storyjax.load("cartoon")
frames = pipeline(["One night, Poppy reads a book in the forest.", ...]).images
"""

from storyjax.api.evaluation import evaluate
from storyjax.api.images import generate_image
from storyjax.api.models import SHIPPED, load, model_folder
from storyjax.api.stories import generate_story

__all__ = ["SHIPPED", "evaluate", "generate_image", "generate_story", "load", "model_folder"]
