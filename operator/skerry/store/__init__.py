"""Where models and data come from and where variants go: registries, HTTP, S3, the hub, claims; digests, unpacking."""
