"""Runs over many images on a Ray cluster, and a server with replicas on one."""
