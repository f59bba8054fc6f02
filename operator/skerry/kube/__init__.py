"""The only place with a Kubernetes client."""
