"""What answers: the gateway and its controller."""
