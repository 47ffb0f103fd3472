"""What acts: Prefect flows and their deployments."""
