"""One service a kind: observe, decide, apply, report."""
