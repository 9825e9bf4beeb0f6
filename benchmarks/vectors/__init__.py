"""How vectors are stored: the scan that a search makes, by type and compression, and what it costs others."""
