"""The language of pipeline.yaml: its types, files and overlays. No network. Its JSON Schema:
tools/reference.
"""
