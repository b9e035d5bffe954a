"""The architecture: filters, mixers, blocks, backbone, heads, and model files."""
