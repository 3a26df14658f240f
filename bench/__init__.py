"""The benchmark: runs loadband and its peers through the same scenes, with a meter outside of them all."""
