"""What agents come in by: a server of vmstate's own tools, and a gate in front of any other."""
