"""The services of the mesh, run from a checkout or an image: `python -m services.<name>`."""
