"""The devices: one module or folder for each type, all of the same shape."""
