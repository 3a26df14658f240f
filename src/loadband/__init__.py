"""loadband holds a machine's CPU utilization inside a band and says truthfully what it does."""
