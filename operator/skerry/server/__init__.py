"""What runs in the inference pod: Open Inference Protocol v2 for one mounted variant."""
