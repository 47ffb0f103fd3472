"""What remembers: MLflow versions and the lifecycle database."""
