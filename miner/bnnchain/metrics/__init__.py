"""What a node tells Prometheus, and whoever asks whether it is well; read off the node's own objects."""
