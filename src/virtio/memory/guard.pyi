"""The SIGBUS guard: what happens when a mapped file shrinks under us. It has no face in Python."""
