"""The language of pipeline.yaml: its types, its files and overlays, its JSON Schema. No network."""
