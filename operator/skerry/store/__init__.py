"""Where models and data come from and where variants go: OCI registries, HTTP, claims; digests and safe unpacking."""
