"""Durable jobs: knows states, leases and tiers, and nothing of video."""
