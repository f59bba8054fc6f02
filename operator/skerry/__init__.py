"""Skerry: one AI model in, measured and gated variants on every accelerator of an edge site out."""
