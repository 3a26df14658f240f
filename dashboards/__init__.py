"""The Grafana dashboards: code that gives the JSON in helm/loadband/files/dashboards."""
