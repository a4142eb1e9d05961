"""What all sides of the KV-cache pool agree on: keys, blocks and codecs. No gRPC, no Redis; see docs/kv-format.md."""
