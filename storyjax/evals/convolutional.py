"""The metrics of convolutional networks by name: "module:class", imported when asked for, opened with `open(**options)`."""

METRICS = {
    "fid": "storyjax.evals.fid:FID",
    "fid_torchvision": "storyjax.evals.fid:FIDTorchvision",
    "inception_score": "storyjax.evals.fid:InceptionScore",
    "fsd": "storyjax.evals.story_distance:FSD",
    "fsd_corrected": "storyjax.evals.story_distance:FSDCorrected",
    "fvd": "storyjax.evals.story_distance:FVD",
    "ssim": "storyjax.evals.frame_distance:SSIM",
    "lpips": "storyjax.evals.frame_distance:LPIPSMetric",
    "char_f1": "storyjax.evals.character_metrics:CharF1",
    "char_f1_macro": "storyjax.evals.character_metrics:CharF1Macro",
    "frm_acc": "storyjax.evals.character_metrics:FrmAcc",
}
