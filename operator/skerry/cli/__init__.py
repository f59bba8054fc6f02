"""`skerry`, also as `kubectl skerry`: artifacts and optimization from a terminal."""
