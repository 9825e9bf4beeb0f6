"""What mnemoduck is made of: read from the lock file, told as an SBOM, and checked (SECURITY.md)."""
