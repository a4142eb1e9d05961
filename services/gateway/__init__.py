"""The one door of the mesh: names, routes, deadlines; it opens no tensor."""
