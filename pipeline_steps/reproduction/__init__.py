"""What was recorded, made again and compared: what `reproduce` stands on."""
