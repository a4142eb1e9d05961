"""Generated code of the mesh's own protos (`protos/stagemesh/v1`), by protos/generate.py."""
