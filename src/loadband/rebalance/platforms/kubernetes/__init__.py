"""Platform *kubernetes*: hosts are nodes, slices are pods of their own ReplicaSets, a move is a pod and its successor.

`cluster` is what is needed of the API server, and `api` is that, with lightkube; `manifests` says what is made there,
`states` what its objects mean, and `pods` turns what is seen of pods into moves; `meters` reads the regulators'
counters; `platform` puts them together.
"""
