"""What runs on every node and tells what the node has. Standard library only: it must stay small."""
