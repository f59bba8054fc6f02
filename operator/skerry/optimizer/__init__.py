"""What runs in the optimization Job, and behind `skerry optimize`: from a source model to a measured, gated variant."""
