"""The API: models of the four kinds, and the contracts between Skerry's parts. Imports nothing else of Skerry."""
