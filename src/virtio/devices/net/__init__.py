"""The network device (virtio 1.4, 5.1)."""
