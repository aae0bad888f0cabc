"""The user's own pictures as a data set: a folder with `stories.json`, or one folder a story with captions beside."""
