"""The embedded faces: a procedural face renderer and raw BP4D and DISFA trees of its pictures."""
