"""Metrics that see with transformers: name -> "module:class"; each class is made by its `open(**options)`."""

METRICS = {
    "clip_t": "storyjax.evals.clip_scores:ClipT",
    "clip_i": "storyjax.evals.clip_scores:ClipI",
    "r_precision": "storyjax.evals.r_precision:RPrecision",
    "pick_score": "storyjax.evals.clip_scores:PickScore",
    "dreamsim": "storyjax.evals.dreamsim:DreamSim",
    "accs": "storyjax.evals.character_consistency:ACCS",
    "afid": "storyjax.evals.character_consistency:AFID",
}
