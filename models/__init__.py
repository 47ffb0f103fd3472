"""What learns: learners, training, replay memory, artifacts."""
