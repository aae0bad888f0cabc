"""The metrics themselves; their common form is `storyjax.evals.metric`, their names are in `storyjax.evals.registry`."""
