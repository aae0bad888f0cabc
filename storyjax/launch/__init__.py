"""Starting a training on a cluster: what `launch/` holds, filled in and handed to gcloud, kubectl, xpk or sbatch."""
