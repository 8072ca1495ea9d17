"""What ``medisync up`` starts, watches and stops."""
