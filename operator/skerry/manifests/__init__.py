"""Desired Kubernetes objects, as pure functions."""
