"""Real load, real Prometheus, real Alertmanager: from a raised band to the notification and back, with the times."""
