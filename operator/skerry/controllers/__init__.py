"""The only place with kopf: what wakes the reconcilers, the watchdog, metrics, settings."""
