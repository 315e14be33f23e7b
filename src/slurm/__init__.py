"""SLURM as what starts the jobs."""
