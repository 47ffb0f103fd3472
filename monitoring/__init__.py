"""What watches: profiles, detectors, sequential tests, reports, alert delivery."""
