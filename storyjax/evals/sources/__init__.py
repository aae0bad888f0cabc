"""Where generated pictures come from: drawn by a model, or read from a folder in one of several layouts."""
