"""The catalogue of accelerators: hardware as data."""
