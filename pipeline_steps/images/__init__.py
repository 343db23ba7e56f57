"""Images: what goes into them, what names them, who builds them. Registries' API is in oci, charts
in charts.
"""
