"""What a workload needs, found without having it: memory, multiplying, smaller sizes that fit."""
