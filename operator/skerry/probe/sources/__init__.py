"""Where the probe learns what a node has: one small module a source, each reading below a root folder."""
