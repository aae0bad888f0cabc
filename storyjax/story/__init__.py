"""Stories in and storyboards out: the file a person writes, and the pictures, page and manifest they get back."""

from storyjax.story.animation import write_gif, write_mp4
from storyjax.story.comic import draw_comic
from storyjax.story.manifest import FirstPicture, Manifest, model_sha256, pixels_sha256
from storyjax.story.page import render_page
from storyjax.story.pictures import Picture, read_picture
from storyjax.story.story import (
    Character,
    Frame,
    Story,
    check_length,
    story_from_mapping,
    story_from_sentences,
    story_to_mapping,
)
from storyjax.story.story_file import load_story, save_story, with_first_picture
from storyjax.story.storyboard import check_folder, write_storyboard
from storyjax.story.strip import draw_strip

__all__ = [
    "Character",
    "FirstPicture",
    "Frame",
    "Manifest",
    "Picture",
    "Story",
    "check_folder",
    "check_length",
    "draw_comic",
    "draw_strip",
    "load_story",
    "model_sha256",
    "pixels_sha256",
    "read_picture",
    "render_page",
    "save_story",
    "story_from_mapping",
    "story_from_sentences",
    "story_to_mapping",
    "with_first_picture",
    "write_gif",
    "write_mp4",
    "write_storyboard",
]
