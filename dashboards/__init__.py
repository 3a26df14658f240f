"""The Grafana dashboards: the code that generates the JSON in helm/loadband/files/dashboards."""
